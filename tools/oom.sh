#!/bin/sh
# tools/oom.sh [RUNS]: unit tests with one allocation of the library failing, another one each run (RUNS a program, default 400).
# A test may then fail, and must not crash. oom_scenario goes through the public header and must not leak either.
set -eu
. tools/lib.sh

runs=${1:-400}
build_preset oom tests oom_scenario
exec python3 tools/oom.py build/oom "$runs" "${ERN_OOM_SECONDS:-0}"

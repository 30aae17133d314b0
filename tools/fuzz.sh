#!/bin/sh
# tools/fuzz.sh [SECONDS [MUTATIONS]]: each fuzz target for SECONDS (default 60) from its seeds in tests/corpus, then every prefix
# and MUTATIONS random damages (default 40000: a million over all) of each model file. Finds are left in build/fuzz/finds.
# --smoke: the corpus once and 3 seconds a target, for ./run test.
set -eu
. tools/lib.sh

seconds=${1:-60}
smoke=false
if [ "$seconds" = --smoke ]; then
    smoke=true
    seconds=${ERN_FUZZ_SECONDS:-3}
fi
build_preset fuzz -DERN_WERROR=ON
finds=$PWD/build/fuzz/finds
mkdir -p "$finds"
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}"

# One target: its seeds replayed, then new inputs; the corpus it grows stays in build/ and is used again.
fuzz_one() {
    name=$1
    seeds=tests/corpus/$name
    grown=build/fuzz/corpus/$name
    mkdir -p "$grown" "$seeds"
    "build/fuzz/$name" -rss_limit_mb=2048 -timeout=20 -max_total_time="$seconds" -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="$finds/$name-" "$grown" "$seeds" >"build/fuzz/$name.log" 2>&1
}

passed=0 failed=0
for path in build/fuzz/*_fuzz; do
    [ -x "$path" ] || continue
    name=$(basename "$path")
    if fuzz_one "$name"; then
        passed=$((passed + 1))
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz/$name.log")
        seeds=$(find "tests/corpus/$name" -type f | wc -l)
        echo "$name: $seeds seeds, ${runs:-?} inputs, no finds"
    else
        failed=$((failed + 1))
        echo "---- $name"
        grep -v '^#' "build/fuzz/$name.log" | tail -n 40
    fi
done
if [ "$smoke" = false ]; then
    build_preset debug mutate
    build/debug/mutate --mutations "${2:-40000}" --prefixes 100000000 --seed "$(date +%s)" --save "$finds" || failed=$((failed + 1))
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

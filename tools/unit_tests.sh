#!/bin/sh
# tools/unit_tests.sh BUILD [NAME...]: run the unit test programs of a build folder, one a core, and count their test functions.
# What a test says about itself ("# ...") and what it skips is repeated here.
set -eu
. tools/lib.sh

build=$1
shift
logs=$build/test-logs.part

# One program: its TAP output in a file, a line of our own when it ends by a signal or says nothing.
run_one() {
    name=$1
    log=$logs/$name.tap
    begin=$(date +%s)
    status=0
    CMOCKA_MESSAGE_OUTPUT=tap timeout -k 5 "${ERN_TEST_TIMEOUT:-600}" "$build/$name" >"$log" 2>&1 </dev/null || status=$?
    failed=$(grep -c '^not ok [0-9][0-9]* \(- \|[^#]\)' "$log" || true)
    if [ "$status" -eq 77 ]; then
        echo "not ok 0 # SKIP $name" >>"$log"
    elif [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
        echo "not ok 0 - $name ended with status $status" >>"$log"
    elif ! grep -q '^ok \|^not ok ' "$log"; then
        echo "ok 0 - $name" >>"$log"
    fi
    echo "$(($(date +%s) - begin)) s  $name" >>"$logs/times"
}

if [ "${1:-}" = --one ]; then
    run_one "$2"
    exit 0
fi

names=$(ctest --test-dir "$build" -N | sed -n 's/^ *Test *#[0-9]*: \(.*_test\)$/\1/p' | sort)
[ $# -eq 0 ] || names=$*
rm -rf "$logs"
mkdir -p "$logs"
# shellcheck disable=SC2086
printf '%s\n' $names | xargs -P "$(jobs_wanted)" -I NAME "$0" "$build" --one NAME
rm -rf "$build/test-logs"
mv "$logs" "$build/test-logs"
logs=$build/test-logs

passed=0 failed=0 skipped=0
for log in "$logs"/*.tap; do
    p=$(grep -c '^ok ' "$log" || true)
    s=$(grep -c '^not ok [0-9]* # SKIP' "$log" || true)
    f=$(($(grep -c '^not ok [0-9]' "$log" || true) - s))
    if [ "$f" -gt 0 ]; then
        echo "---- $(basename "$log" .tap)"
        tail -n 60 "$log"
    fi
    if [ "$s" -gt 0 ]; then
        if grep -q '^SKIP ' "$log"; then grep '^SKIP ' "$log"; else sed -n 's/^not ok [0-9]* # SKIP \(.*\)/SKIP \1/p' "$log"; fi
    fi
    grep '^# [A-Za-z].*[0-9]' "$log" | grep -v '^# /' || true
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]

#!/bin/sh
# tools/arm_test.sh: the kernels built by the Debian cross compiler for 64-bit Arm, their tests under qemu-user CPUs
# without the dot-product instructions. Prints SKIP and counts when the tools are missing.
set -eu
cd "$(dirname "$0")/.."

compiler=aarch64-linux-gnu-gcc emulator=qemu-aarch64
tests="kernels_test attention_test matmul_test matrix_test"
for tool in $compiler $emulator; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "SKIP $tool is not installed: $(echo "$tests" | wc -w) tests of the Arm kernels"
        echo "0 passed, 0 failed, $(echo "$tests" | wc -w) skipped"
        exit 0
    fi
done

build=build/arm
mkdir -p $build
warnings="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -fno-strict-aliasing"
common="-std=c11 -O2 -D_GNU_SOURCE -Itests/arm -Isrc -Iinclude -Itests -pthread $warnings"

# One object a file, several at once; a file's name tells its flags as in tools/layers.cmake.
compile() {
    object=$build/$(echo "$1" | tr / _).o
    case $1 in
    */scalar/* | src/tensor/*) flags=-ffp-contract=off ;;
    *_dotprod.c) flags=-march=armv8.2-a+dotprod ;;
    *_i8mm.c) flags=-march=armv8.2-a+dotprod+i8mm ;;
    *) flags= ;;
    esac
    # shellcheck disable=SC2086
    $compiler $common $flags -c "$1" -o "$object"
}

if [ "${1:-}" = --compile ]; then
    compile "$2"
    exit 0
fi

sources=$(find src/base src/tensor src/kernels -name '*.c' ! -name '*_test.c' ! -name '*_fuzz.c' ! -path '*/x86/*' | sort)
programs=
for test in $tests; do
    programs="$programs $(find src/kernels -name "$test.c")"
done
# shellcheck disable=SC2086
printf '%s\n' $sources $programs | xargs -P "$(nproc)" -I FILE "$0" --compile FILE

objects=$(for source in $sources; do echo "$build/$(echo "$source" | tr / _).o"; done)
passed=0 failed=0
for program in $programs; do
    name=$(basename "$program" .c)
    # shellcheck disable=SC2086
    $compiler -static -pthread "$build/$(echo "$program" | tr / _).o" $objects -lm -o "$build/$name"
    cpus=max
    [ "$name" != matmul_test ] || cpus="cortex-a53 max"
    for cpu in $cpus; do
        if timeout 900 $emulator -cpu "$cpu" "$build/$name" >"$build/$name.$cpu.log" 2>&1; then
            passed=$((passed + $(grep -c '^ok ' "$build/$name.$cpu.log")))
        else
            failed=$((failed + 1))
            echo "---- $name on $cpu"
            tail -n 20 "$build/$name.$cpu.log"
        fi
    done
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]

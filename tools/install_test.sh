#!/bin/sh
# Install into an empty folder, then build examples/hello.c against it through pkg-config, shared and static, and run it.
set -u
. tools/lib.sh

passed=0 failed=0 skipped=0
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT

expect() {
    label=$1
    shift
    if "$@" >"$prefix/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf -- '---- %s\n' "$label"
        cat "$prefix/log"
    fi
}

has_file() { [ -s "$prefix/$1" ] || { echo "$1: not installed"; return 1; }; }
pages_are_clean() {
    for page in "$prefix"/share/man/man1/*.1; do
        warnings=$(LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -l "$page" 2>&1 >/dev/null)
        [ -z "$warnings" ] || { echo "$page: $warnings"; return 1; }
    done
}
version_runs() { LD_LIBRARY_PATH='' "$prefix/bin/ernie" --version; }

build_shared() {
    flags=$(pkg-config --cflags --libs libernie) || return 1
    # shellcheck disable=SC2086
    cc -std=c11 -Wall -Wextra -Werror examples/hello.c $flags -o "$prefix/hello_shared"
}

# What libernie.pc names for static linking, the library itself by its file.
build_static() {
    flags=$(pkg-config --static --cflags --libs libernie | sed "s|-lernie|$libdir/libernie.a|") || return 1
    # shellcheck disable=SC2086
    cc -std=c11 -Wall -Wextra -Werror examples/hello.c $flags -o "$prefix/hello_static"
}

# hello says what is wrong with a missing model, and needs libernie.so only in the shared build.
hello_refuses() {
    LD_LIBRARY_PATH=$libdir "$prefix/$1" "$prefix/no-model" 'Hello' 2>"$prefix/err" && return 1
    grep -q no-model "$prefix/err"
}
static_is_static() { ! ldd "$prefix/hello_static" | grep -q libernie; }

expect 'cmake --install' cmake --install build/release --prefix "$prefix"
pc=$(find "$prefix" -name libernie.pc)
libdir=$(dirname "$(dirname "${pc:-/none/none/none}")")
PKG_CONFIG_PATH=$libdir/pkgconfig
export PKG_CONFIG_PATH
for file in include/ern.h bin/ernie share/man/man1/ernie.1 share/bash-completion/completions/ernie \
    share/zsh/site-functions/_ernie share/fish/vendor_completions.d/ernie.fish; do
    expect "$file" has_file "$file"
done
expect 'ernie --version' version_runs
expect 'manual pages' pages_are_clean
expect 'hello.c, shared' build_shared
expect 'hello.c, static' build_static
expect 'static' static_is_static
for hello in hello_shared hello_static; do
    expect "$hello refuses" hello_refuses $hello
done
if has_smollm2; then
    expect 'hello answers' env LD_LIBRARY_PATH="$libdir" "$prefix/hello_shared" "$(smollm2_path)" 'What is a library?'
else
    skipped=$((skipped + 1))
    echo "SKIP hello answers: no model"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]

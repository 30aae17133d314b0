#!/bin/sh
# The rules that scripts can check: layers, style, headers that stand alone, names and state of the library, shell scripts.
# Needs build/release. The last line counts the checks.
set -u
. tools/lib.sh

passed=0 failed=0 skipped=0

check() {
    label=$1
    shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf -- '---- %s\n%s\n' "$label" "$output"
    fi
}

# Every header compiles alone, as C11 by both compilers; the public one as C++ too where there is a C++ compiler.
headers_alone() {
    bad=0
    flags="-std=c11 -D_GNU_SOURCE -Iinclude -Isrc -Wall -Wextra -Wpedantic -Werror -fsyntax-only"
    flags="$flags $(pkg-config --cflags jansson icu-uc libpcre2-8)"
    for header in include/*.h $(find src -name '*.h' | sort); do
        grep -q '^#ifndef' "$header" || continue        # without a guard: the body of a function family, included with its words defined
        compilers='gcc clang-14' more=''
        case $header in
            */x86/*) [ "$(uname -m)" = x86_64 ] || continue
                more='-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni' ;;
            */arm/*) compilers=aarch64-linux-gnu-gcc more='-march=armv8.2-a+dotprod+i8mm+fp16' ;;
        esac
        printf '#include "%s"\n' "$PWD/$header" >build/header.c
        for compiler in $compilers; do
            command -v "$compiler" >/dev/null 2>&1 || continue
            # shellcheck disable=SC2086
            "$compiler" $flags $more build/header.c || { echo "$header: does not compile alone with $compiler"; bad=1; }
        done
    done
    rm -f build/header.c
    return $bad
}

public_header_is_cxx() {
    command -v g++ >/dev/null 2>&1 || return 0
    echo '#include "ern.h"' | g++ -xc++ -std=c++11 -Iinclude -Wall -Wextra -Werror -fsyntax-only -
}

# Everything that would be global lives in an engine or a session: no object of the library has writable data. (The program has
# the mark that ctrl-C sets.)
no_mutable_globals() {
    library_archives=$(find build/release -maxdepth 1 -name 'libern_*.a' ! -name libern_cli.a)
    # shellcheck disable=SC2086
    found=$(nm -A $library_archives 2>/dev/null | awk '$2 ~ /^[bBdDcCsSgG]$/ || $3 ~ /^[bBdDcCsSgG]$/ { print }')
    # Tables of pointers land in .data.rel.ro (nm: d) and are read-only once loaded; name those by section instead.
    [ -z "$found" ] && return 0
    # shellcheck disable=SC2086
    bad=$(objdump -t $library_archives 2>/dev/null | awk '
        /^[^ ]+\.o:/ { file = $1 }
        / O / && ($0 ~ /[ \t]\.(data|bss)(\.[^r][^ \t]*)?[ \t]/ && $0 !~ /\.data\.rel\.ro/ || $0 ~ /\*COM\*/) { print file, $NF }')
    [ -z "$bad" ] || { echo "writable global data:"; echo "$bad"; return 1; }
}

# libernie.a and libernie.so give out ern_* and nothing else.
only_public_names() {
    bad=$(
        nm -g --defined-only build/release/libernie.a | awk 'NF == 3 && $3 !~ /^ern_/ { print "libernie.a", $3 }'
        nm -D --defined-only build/release/libernie.so | awk 'NF == 3 && $3 !~ /^ern_/ && $3 !~ /^(_init|_fini)$/ { print "libernie.so", $3 }'
    )
    [ -z "$bad" ] || { echo "$bad"; return 1; }
}

shell_scripts() {
    # shellcheck disable=SC2046
    shellcheck -x run .ci/run $(find tools tests -name '*.sh')
}

check layers tools/check_layers
check style tools/check_style
check 'headers compile alone' headers_alone
check 'ern.h is C++ too' public_header_is_cxx
check 'no mutable globals' no_mutable_globals
check 'only ern_* names' only_public_names
check 'shell scripts' shell_scripts
[ ! -x tools/check_docs ] || check 'documents' tools/check_docs
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]

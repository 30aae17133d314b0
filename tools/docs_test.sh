#!/bin/sh
# Runs every fenced block marked "sh ci" of the documents, each file's blocks in one shell in an empty folder, with the built
# `ernie` first in PATH, $MODEL a small real model and $TINY a tiny one of the reference files.
set -u
. tools/lib.sh

passed=0 failed=0 skipped=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
repository=$PWD
export repository
PATH=$PWD/build/release:$PATH
export PATH
TINY=$PWD/tests/reference/moe
export TINY
MODEL=''
if has_smollm2; then MODEL=$(smollm2_path); fi
export MODEL

# Prints "LINE-NUMBER<TAB>FIRST LINE" per block and writes the blocks to $work/blocks/N.sh.
split_blocks() {
    rm -rf "$work/blocks" "$work/here"
    mkdir -p "$work/blocks" "$work/here"
    awk -v dir="$work/blocks" '
        /^```sh ci/ { inside = 1; n++; file = sprintf("%s/%03d.sh", dir, n); print "# line " NR > file; next }
        /^```/ { if (inside) close(file); inside = 0; next }
        inside { print > file }' "$1"
}

for document in README.md README.zh-CN.md MODEL.md FORMATS.md CONTRIBUTING.md docs/en/*.md docs/zh/*.md; do
    [ -f "$document" ] || continue
    split_blocks "$document"
    for block in "$work"/blocks/*.sh; do
        [ -f "$block" ] || continue
        if [ -z "$MODEL" ] && grep -q MODEL "$block"; then
            skipped=$((skipped + 1))
            echo "SKIP $document: $(head -n 1 "$block"): no model"
            continue
        fi
        if (cd "$work/here" && timeout 120 sh -eu "$block") >"$work/log" 2>&1 </dev/null; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            echo "---- $document, $(head -n 1 "$block")"
            cat "$block" "$work/log"
        fi
    done
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]

#!/bin/sh
# tools/make_man.sh ERNIE FOLDER: manual pages and completion scripts, printed by the program from its own tables.
set -eu

ernie=$1
out=$2
mkdir -p "$out/man" "$out/completions"
LC_ALL=C
export LC_ALL
"$ernie" help --man >"$out/man/ernie.1"
# shellcheck disable=SC2013
for name in $(sed -n '/^#define CLI_COMMAND_MAP/,/^$/p' "$(dirname "$0")/../src/cli/commands.h" | grep -o 'X([a-z_]*)' | sed 's/X(\(.*\))/\1/'); do
    [ "$name" = X ] || "$ernie" help --man "$name" >"$out/man/ernie-$name.1"
done
"$ernie" help --completion bash >"$out/completions/ernie"
"$ernie" help --completion zsh >"$out/completions/_ernie"
"$ernie" help --completion fish >"$out/completions/ernie.fish"

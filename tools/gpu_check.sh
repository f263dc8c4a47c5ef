#!/usr/bin/env bash
# What a graphics card says of this program, in one command of at most eight minutes. The machine needs the card, its
# driver, CUDA 13, g++ and a Python with PyTorch and the headers of Python, and no network: what it lacks is carried along.
#
#   tools/gpu_check.sh --carry 3.12       with a network: fetch the packages for a Python 3.12 into tools/wheels
#   tools/gpu_check.sh FOLDER             with a card: run every step; FOLDER/gpu_check.json grows with each
#   DEVICE=cpu tools/gpu_check.sh FOLDER  the same without a card, as a rehearsal: a small model, small pictures
#
# PYTHON names the Python that has PyTorch (python3), SECONDS_LEFT the time that all steps may take together (450; with
# more each step may take longer, which a rehearsal that compiles operators on two cores needs),
# STEPS those that are to be run, with commas between (all), CACHE a folder in whose .cache/jittor are operators that have
# been compiled before; without it all is compiled anew, and thrown away.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python3}"
# What a machine with PyTorch usually lacks. Its own NumPy, SciPy, Pillow, matplotlib and the like are used as they are.
PACKAGES=(jittor==1.3.11.0 astunparse onednn-cpu-gomp==2022.2.1 onednn-devel-cpu-gomp==2022.2.1 simplejpeg
          faster-coco-eval "hotcoco>=1.3,<2" defusedxml)
LARGEST=64  # MB

if test "${1:-}" = --carry; then
    version="${2:?give the version of the Python that has PyTorch on the machine with the card, such as 3.12}"
    rm -rf tools/wheels
    "$PYTHON" -m pip wheel -q --no-deps -w tools/wheels "${PACKAGES[0]}"  # which comes as source only
    "$PYTHON" -m pip download -q --no-deps --only-binary=:all: --python-version "$version" -d tools/wheels \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux2014_x86_64 \
        "${PACKAGES[@]:1}"
    du -sh tools/wheels
    test "$(du -sm tools/wheels | cut -f 1)" -le $LARGEST || { echo "That is more than $LARGEST MB." >&2; exit 1; }
    exit
fi

folder="$(realpath -m "${1:?give the folder for what is found}")"
mkdir -p "$folder"
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
# An environment of its own, which sees the packages of that Python too: nothing that is installed changes.
"$PYTHON" -m venv --without-pip "$place/venv"
site="$("$place/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
"$PYTHON" -c 'import sys; print("\n".join(p for p in sys.path if p.endswith("-packages")))' > "$site/theirs.pth"
if test -d tools/wheels; then
    "$PYTHON" -m pip --python "$place/venv/bin/python" install -q --no-index --no-deps tools/wheels/*.whl
fi
# HOME and not JITTOR_HOME, which the processes in which Jittor compiles would write into the user's own home
unset JITTOR_HOME
export PYTHONPATH="$PWD" HOME="${CACHE:-$place}" DEVICE="${DEVICE:-cuda}"
"$place/venv/bin/python" tools/gpu_steps.py "$folder" "${SECONDS_LEFT:-450}" "${STEPS:-}"

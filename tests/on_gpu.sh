#!/bin/sh
# Weft on this machine's GPU, all in one go: builds for it, runs the tests, the kernels' once more under compute-sanitizer, the
# benchmarks, and these against PyTorch where python3 has it and diffusers. Goes on where a part fails, and says at the end which did.
#     sh tests/on_gpu.sh [BUILD_FOLDER]        # what it builds with, examples/setup.sh installs; PYTHON names another python3
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$top/build-gpu}
python=${PYTHON:-python3}
failed=

part() {        # part NAME COMMAND …
    name=$1
    shift
    echo "== $name: $*"
    began=$(date +%s)
    "$@" || failed="$failed $name"
    echo "== $name: $(($(date +%s) - began)) s"
}

command -v nvidia-smi >/dev/null || { echo "there is no NVIDIA driver on this machine"; exit 1; }
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
part configure cmake -S "$top" -B "$build" -DCMAKE_BUILD_TYPE=Release -DWEFT_CUDA=ON -DWEFT_CUDA_ARCHITECTURES="$capability"
part build cmake --build "$build" --parallel "$(nproc)"
cd "$build" || exit 1
part tests ctest -L gpu -j 4 --output-on-failure
part bench ./weft bench --device cuda
if "$python" -c 'import torch, diffusers' 2>/dev/null; then
    part pytorch "$python" "$top/tests/bench/pytorch.py" --weft ./weft --device cuda sd15-unet sd15-sample sdxl-unet vae-decode
    part compiled "$python" "$top/tests/bench/pytorch.py" --weft ./weft --device cuda --compile sd15-unet vae-decode
    part picture "$python" "$top/tests/bench/pipeline.py" --weft ./weft --device cuda --steps 20
else
    echo "== no comparison: $python has no torch or no diffusers"
fi
if command -v compute-sanitizer >/dev/null; then
    WEFT_TEST_UNDER="compute-sanitizer --error-exitcode 9"
    export WEFT_TEST_UNDER
    part memcheck ctest -L gpu -R kernels -j 4 --output-on-failure
    WEFT_TEST_UNDER="compute-sanitizer --tool racecheck --error-exitcode 9"
    part racecheck ctest -R 'kernels_(attention|norms|products)_gpu' -j 4 --output-on-failure
else
    echo "== no memcheck: there is no compute-sanitizer"
fi
[ -z "$failed" ] || echo "failed:$failed"
[ -z "$failed" ]

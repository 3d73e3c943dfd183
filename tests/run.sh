#!/bin/sh
# Sets Weft up from nothing and runs all of its tests: the release build, then the same tests once more under AddressSanitizer and
# UndefinedBehaviorSanitizer (skipped by WEFT_TEST_SANITIZE=0). CUDA's kernels, where nvcc is there, are built for one
# compute capability only, that of the machine's GPU if it has one; tests run them on the CPU, and on that GPU.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)

capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .) || capability=
sh "$top/examples/setup.sh" "$top/build-test" -DCMAKE_BUILD_TYPE=Release -DWEFT_WERROR=ON -DWEFT_TESTS=ON \
    -DWEFT_CUDA_ARCHITECTURES="${capability:-90}"
if [ "${WEFT_TEST_SANITIZE:-1}" != 0 ]; then
    sh "$top/examples/setup.sh" "$top/build-sanitize" -DCMAKE_BUILD_TYPE=Release -DWEFT_WERROR=ON -DWEFT_SANITIZE=ON -DWEFT_TESTS=ON \
        -DWEFT_CUDA=OFF
    echo "== under AddressSanitizer and UndefinedBehaviorSanitizer"
    (cd "$top/build-sanitize" && ctest -j "$(nproc)" --output-on-failure)
fi
echo "== release"
cd "$top/build-test" && ctest -j "$(nproc)" --output-on-failure

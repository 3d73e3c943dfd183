#!/bin/sh
# Sets Weft up from nothing and shows what it does: installs packages that are missing, builds a release, runs the main job.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
sh "$top/examples/setup.sh" "$top/build" -DCMAKE_BUILD_TYPE=Release -DWEFT_TESTS=OFF
echo "Built: $top/build/weft"
"$top/build/weft" bench

#!/bin/sh
# Sets Weft up from nothing and shows what it does: installs packages that are missing, builds a release, runs the main job.
# The main job, for now, is one step of each model of Stable Diffusion 1.5, with weights made from a seed: no model is shipped or fetched.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
sh "$top/examples/setup.sh" "$top/build" -DCMAKE_BUILD_TYPE=Release -DWEFT_TESTS=OFF
echo "Built $top/build/weft. Timing Stable Diffusion 1.5's models on this machine:"
"$top/build/weft" bench sd15-text sd15-unet vae-decode --dtype f16 --runs 1
cat <<END

To draw a picture, put a Stable Diffusion 1.x checkpoint (.safetensors) into models/checkpoints and run
    $top/build/weft run $top/graphs/txt2img.json --set 4.ckpt_name=NAME.safetensors --set 6.text="what it shows"
Its path is printed; \`weft run\` on that picture draws it again.
END

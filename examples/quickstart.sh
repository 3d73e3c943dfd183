#!/bin/sh
# Sets Weft up from nothing and shows what it does: installs packages that are missing, builds a release, runs the main job: a picture from a text, by
# a graph, with the small model in examples/models that Weft trained itself.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
sh "$top/examples/setup.sh" "$top/build" -DCMAKE_BUILD_TYPE=Release -DWEFT_TESTS=OFF
echo "Built $top/build/weft. Drawing \"a red circle above a blue square\":"
"$top/build/weft" run "$top/graphs/shapes.json" --models "$top/examples/models" --output "$top/output"
cat <<END

The same with another text and another seed:
    $top/build/weft run $top/graphs/shapes.json --models $top/examples/models --set 2.text="a yellow star left of a green triangle on a black background" --set 5.seed=7
With a Stable Diffusion 1.x checkpoint (.safetensors) in models/checkpoints:
    $top/build/weft run $top/graphs/txt2img.json --set 4.ckpt_name=NAME.safetensors --set 6.text="what it shows"
Its path is printed; \`weft run\` on that picture draws it again. How fast this machine is: $top/build/weft bench sd15-unet vae-decode
END

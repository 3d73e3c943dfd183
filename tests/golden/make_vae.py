"""Writes vae.safetensors: outputs of diffusers' AutoencoderKL on tiny models, and of its conversion to pixels.

Run: python3 tests/golden/make_vae.py     (torch 2.15, diffusers 0.42.1, safetensors 0.8)

Weights and inputs come from golden_weights.py; the file holds results only, NHWC, computed in float64.
  metadata   "config.MODEL": its config.json
  MODEL.encode.CASE.mean, .logvar, .sample (with given noise), MODEL.encode.CASE.size (2: height, width of the picture)
  MODEL.decode.CASE.out
  pixels.x, pixels.u8: values at and around the ties of the rounding; pixels.back: u8 0…255 as float
"""
import json
import os

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.image_processor import VaeImageProcessor
from safetensors.numpy import save_file

import golden_weights

CONFIGS = {
    "sd": dict(
        block_out_channels=[16, 32, 32, 32], down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=2, latent_channels=4, norm_num_groups=8),
    # What the first leaves at its usual value.
    "odd": dict(
        in_channels=4, out_channels=5, block_out_channels=[12, 24, 20], down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3, layers_per_block=1, latent_channels=3, norm_num_groups=4, use_quant_conv=False,
        use_post_quant_conv=False, mid_block_add_attention=False, scaling_factor=0.3611, shift_factor=0.1159),
}
ENCODE = {"sd": [(1, 16, 16), (2, 24, 40), (1, 27, 45), (1, 8, 9)], "odd": [(2, 9, 14)]}
DECODE = {"sd": [(1, 2, 2), (2, 3, 1), (1, 3, 4)], "odd": [(2, 3, 5)]}


def nhwc(t):
    return np.ascontiguousarray(t.permute(0, 2, 3, 1).to(torch.float32).numpy())


def given(name, exponent, *shape):
    return torch.from_numpy(golden_weights.values(name, exponent, shape)).double()


def pixels(out):
    tie = (2 * np.arange(255, dtype=np.float64) + 1) / 255 - 1
    x = tie.astype(np.float32)
    x = np.concatenate([x, np.nextafter(x, np.float32(2)), np.nextafter(x, np.float32(-2)), np.float32([-1.5, -1, 0, 1, 7])])
    x = np.concatenate([x, np.zeros(-len(x) % 3, np.float32)]).reshape(1, -1, 1, 3)
    shown = VaeImageProcessor.denormalize(torch.from_numpy(x).permute(0, 3, 1, 2))
    picture = VaeImageProcessor.numpy_to_pil(VaeImageProcessor.pt_to_numpy(shown))[0]
    out["pixels.x"] = x
    out["pixels.u8"] = np.asarray(picture)[None]
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    back = VaeImageProcessor(do_resize=False, do_convert_grayscale=True).preprocess(
        VaeImageProcessor.numpy_to_pil((ramp[None, :, :, None] / 255.0).astype(np.float32)))
    out["pixels.back"] = np.ascontiguousarray(back.numpy().reshape(1, 256, 1, 1))


def main():
    out, metadata = {}, {}
    for name, config in CONFIGS.items():
        model = golden_weights.fill(AutoencoderKL(**config).double().eval())
        metadata[f"config.{name}"] = json.dumps(json.loads(model.to_json_string()), sort_keys=True)
        metadata[f"tensors.{name}"] = str(len(model.state_dict()))
        with torch.no_grad():
            for case, (n, height, width) in enumerate(ENCODE[name]):
                key = f"{name}.encode.{case}"
                p = model.encode(given(f"{key}.image", 7, n, model.config.in_channels, height, width)).latent_dist
                noise = given(f"{key}.noise", 6, *p.mean.shape)
                out[f"{key}.mean"], out[f"{key}.logvar"] = nhwc(p.mean), nhwc(p.logvar)
                out[f"{key}.sample"] = nhwc(p.mean + p.std * noise)
                out[f"{key}.size"] = np.array([height, width], dtype=np.int64)
            for case, (n, height, width) in enumerate(DECODE[name]):
                key = f"{name}.decode.{case}"
                out[f"{key}.out"] = nhwc(model.decode(given(f"{key}.latent", 6, n, model.config.latent_channels, height, width)).sample)
    pixels(out)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vae.safetensors")
    save_file(out, path, metadata=metadata)
    os.chmod(path, 0o644)
    print(path, os.path.getsize(path), "bytes")
    for key, value in out.items():
        print(key, value.shape, value.dtype, "range", value.min(), value.max(), "std", value.std())


if __name__ == "__main__":
    main()

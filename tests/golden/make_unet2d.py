"""Writes unet2d.safetensors: what diffusers' UNet2DModel answers, on tiny models.

Run: python3 tests/golden/make_unet2d.py        (torch 2.15, diffusers 0.42.1, safetensors 0.8)

Weights and inputs come from golden_weights.py; all is computed in float64 (diffusers computes the sinusoids of the time
in float32 always).
  metadata  "config.MODEL": its config.json; "tensors.MODEL": how many weights it has
  MODEL.CASE.out (NHWC), MODEL.CASE.timesteps; the sample is "MODEL.CASE.sample" (N, channels, H, W)
"""
import json
import os

import numpy as np
import torch
from diffusers import UNet2DModel
from safetensors.numpy import save_file

import golden_weights

MODELS = {
    # As google/ddpm-cat-256 is built: one head, padding at two sides, the old order of sines.
    "ddpm": dict(block_out_channels=[16, 32, 32], layers_per_block=2, attention_head_dim=None, norm_num_groups=8,
                 norm_eps=1e-6, flip_sin_to_cos=False, freq_shift=1, downsample_padding=0,
                 down_block_types=["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
                 up_block_types=["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]),
    # As diffusers' training tutorial: several heads.
    "heads": dict(in_channels=1, out_channels=2, block_out_channels=[16, 24], layers_per_block=1, norm_num_groups=8,
                  attention_head_dim=8, attn_norm_num_groups=4, center_input_sample=True, time_embedding_dim=40,
                  down_block_types=["AttnDownBlock2D", "AttnDownBlock2D"],
                  up_block_types=["AttnUpBlock2D", "UpBlock2D"]),
    "resnets": dict(block_out_channels=[8, 16], layers_per_block=1, norm_num_groups=4, add_attention=False,
                    down_block_types=["DownBlock2D", "DownBlock2D"], up_block_types=["UpBlock2D", "UpBlock2D"]),
    "none": dict(block_out_channels=[8], layers_per_block=1, norm_num_groups=4, mid_block_type=None,
                 down_block_types=["DownBlock2D"], up_block_types=["AttnUpBlock2D"]),
}
CASES = [(8, 8, [999]), (16, 4, [0, 500])]      # height, width, timesteps


def main():
    out, metadata = {}, {}
    for name, config in MODELS.items():
        model = golden_weights.fill(UNet2DModel(**config).double().eval())
        metadata[f"config.{name}"] = json.dumps(json.loads(model.to_json_string()), sort_keys=True)
        metadata[f"tensors.{name}"] = str(len(model.state_dict()))
        for case, (height, width, timesteps) in enumerate(CASES):
            shape = (len(timesteps), model.config.in_channels, height, width)
            sample = torch.from_numpy(golden_weights.values(f"{name}.{case}.sample", 6, shape)).double()
            with torch.no_grad():
                y = model(sample, torch.tensor(timesteps, dtype=torch.float64)).sample
            out[f"{name}.{case}.out"] = np.ascontiguousarray(y.permute(0, 2, 3, 1).float().numpy())
            out[f"{name}.{case}.timesteps"] = np.array(timesteps, dtype=np.float32)
            print(name, case, y.shape, float(y.std()))
    save_file(out, os.path.join(os.path.dirname(os.path.abspath(__file__)), "unet2d.safetensors"), metadata)


if __name__ == "__main__":
    main()

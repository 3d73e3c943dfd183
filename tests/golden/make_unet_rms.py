"""Writes unet_rms.safetensors: outputs of denoising_diffusion_pytorch's Unet on tiny models.

Run: python3 tests/golden/make_unet_rms.py     (torch 2.15, denoising-diffusion-pytorch 2.3.4, safetensors 0.8)

Weights and inputs come from golden_weights.py; the file holds results only, NHWC. The models run in float64.
  metadata   "config.MODEL": the constructor's arguments; "shapes.MODEL": "NAME [SIZE, …]" of the state dict, a line each
  MODEL.CASE.timesteps (N), MODEL.CASE.out
"""
import json
import os

import numpy as np
import torch
from denoising_diffusion_pytorch import Unet
from safetensors.numpy import save_file

import golden_weights

CONFIGS = {
    "plain": dict(dim=16, dim_mults=[1, 2, 4], channels=3),
    "self": dict(dim=8, init_dim=12, out_dim=5, dim_mults=[2, 1], channels=4, self_condition=True, attn_heads=[2, 3],
                 attn_dim_head=[8, 5], full_attn=[True, False], sinusoidal_pos_emb_theta=1000),
    "one": dict(dim=6, dim_mults=[1], channels=1),
    "learned": dict(dim=6, dim_mults=[1, 2], channels=2, learned_sinusoidal_cond=True, learned_sinusoidal_dim=6),
    "random": dict(dim=5, dim_mults=[1], channels=2, random_fourier_features=True),
}
CASES = {        # model: (height, width, timesteps, with an estimate)
    "plain": [(8, 12, [17, 999], False), (4, 4, [0], False)],
    "self": [(6, 4, [3, 500, 2], True), (2, 2, [1], False)],
    "one": [(5, 3, [900], False)],
    "learned": [(4, 6, [0.25, -3.5], False)],
    "random": [(3, 3, [7.75], False)],
}


def main():
    torch.set_grad_enabled(False)
    out, metadata = {}, {}
    for name, config in CONFIGS.items():
        arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
        model = golden_weights.fill(Unet(**arguments).double().eval())
        metadata[f"config.{name}"] = json.dumps(config)
        for k, (height, width, timesteps, estimate) in enumerate(CASES[name]):
            shape = (len(timesteps), config["channels"], height, width)
            given = lambda what: torch.from_numpy(golden_weights.values(f"{name}.{k}.{what}", 6, shape)).double()
            y = model(given("sample"), torch.tensor(timesteps, dtype=torch.float64), given("estimate") if estimate else None)
            out[f"{name}.{k}.out"] = np.ascontiguousarray(y.permute(0, 2, 3, 1).to(torch.float32).numpy())
            out[f"{name}.{k}.timesteps"] = np.array(timesteps, np.float32)
        metadata[f"shapes.{name}"] = "".join(f"{key} {list(t.shape)}\n" for key, t in sorted(model.state_dict().items()))
    save_file(out, os.path.join(os.path.dirname(os.path.abspath(__file__)), "unet_rms.safetensors"), metadata)


if __name__ == "__main__":
    main()

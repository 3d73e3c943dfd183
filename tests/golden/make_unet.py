"""Writes unet.safetensors: outputs of diffusers' UNet2DConditionModel on tiny models.

Run: python3 tests/golden/make_unet.py     (torch 2.15, diffusers 0.42.1, safetensors 0.8)

Weights and inputs come from golden_weights.py; the file holds results only, NHWC. The models run in float64 (but for the sinusoids
of the time, which diffusers computes in float32 always), so the results are good to the last bit of float32.
  metadata   "config.MODEL": its config.json
  MODEL.CASE.timesteps (N), MODEL.CASE.tokens (1)   what the case is; sizes are the output's
  MODEL.CASE.out, MODEL.CASE.at.PLACE
"""
import json
import os

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from safetensors.numpy import save_file

import golden_weights

CROSS3 = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
UP3 = ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
CONFIGS = {
    "sd1": dict(
        in_channels=4, out_channels=4, down_block_types=CROSS3, up_block_types=UP3, block_out_channels=[32, 64, 64, 64],
        layers_per_block=2, attention_head_dim=8, cross_attention_dim=32, norm_num_groups=32),
    "sd2": dict(
        in_channels=4, out_channels=4, down_block_types=CROSS3, up_block_types=UP3, block_out_channels=[32, 64, 96, 96],
        layers_per_block=2, attention_head_dim=[2, 4, 6, 3], cross_attention_dim=48, norm_num_groups=8,
        use_linear_projection=True, upcast_attention=True),
    "sdxl": dict(
        in_channels=4, out_channels=4, down_block_types=["DownBlock2D"] + ["CrossAttnDownBlock2D"] * 2,
        up_block_types=["CrossAttnUpBlock2D"] * 2 + ["UpBlock2D"], block_out_channels=[32, 64, 64], layers_per_block=2,
        attention_head_dim=[2, 4, 8], transformer_layers_per_block=[1, 2, 3], cross_attention_dim=64, norm_num_groups=16,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=72),
    # What the others leave at its usual value.
    "odd": dict(
        in_channels=9, out_channels=5, down_block_types=["CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], mid_block_type=None, block_out_channels=[24, 32, 40],
        layers_per_block=[1, 2, 1], attention_head_dim=4, cross_attention_dim=20, norm_num_groups=4, norm_eps=1e-3,
        downsample_padding=0, conv_in_kernel=5, conv_out_kernel=1, center_input_sample=True, flip_sin_to_cos=False, freq_shift=1,
        time_embedding_dim=56, time_cond_proj_dim=12),
    "mid": dict(
        in_channels=4, out_channels=4, down_block_types=["DownBlock2D", "DownBlock2D"], up_block_types=["UpBlock2D", "UpBlock2D"],
        mid_block_type="UNetMidBlock2D", block_out_channels=[16, 32], layers_per_block=1, attention_head_dim=4,
        cross_attention_dim=8, norm_num_groups=8),
}
# model: (height, width, tokens, timesteps)
CASES = {
    "sd1": [(8, 8, 77, [500]), (16, 8, 1, [0, 981]), (12, 20, 154, [1, 999, 333.25]), (7, 9, 77, [981])],
    "sd2": [(8, 8, 77, [981, 1]), (9, 7, 5, [0])],
    "sdxl": [(8, 8, 77, [999]), (5, 12, 154, [500, 0])],
    "odd": [(8, 12, 7, [1, 999]), (7, 13, 3, [500])],
    "mid": [(6, 10, 2, [500])],
}
WATCHED = ("sd1", "sdxl")      # whose first case also shows what comes out of each block


def nhwc(t):
    return np.ascontiguousarray(t.permute(0, 2, 3, 1).to(torch.float32).numpy())


def run(name, model, case, height, width, tokens, timesteps, out):
    config = model.config
    n = len(timesteps)

    def given(what, exponent, *shape):
        return torch.from_numpy(golden_weights.values(f"{name}.{case}.{what}", exponent, shape)).double()

    added = None
    if config.addition_embed_type:
        added = {"text_embeds": given("text_embeds", 6, n, 24), "time_ids": given("time_ids", 0, n, 6).abs() * 8}
    seen = {}
    hooks = []
    if case == 0 and name in WATCHED:
        places = {"conv_in": model.conv_in, "mid_block": model.mid_block}
        places |= {f"down_blocks.{i}": b for i, b in enumerate(model.down_blocks)}
        places |= {f"up_blocks.{i}": b for i, b in enumerate(model.up_blocks)}
        for place, module in places.items():
            if module is None:
                continue

            def look(_, __, result, place=place):
                seen[place] = result[0] if isinstance(result, tuple) else result

            hooks.append(module.register_forward_hook(look))
    with torch.no_grad():
        y = model(
            given("sample", 6, n, config.in_channels, height, width), torch.tensor(timesteps, dtype=torch.float64),
            given("context", 6, n, tokens, config.cross_attention_dim),
            timestep_cond=given("timestep_cond", 6, n, config.time_cond_proj_dim) if config.time_cond_proj_dim else None,
            added_cond_kwargs=added).sample
    for hook in hooks:
        hook.remove()
    key = f"{name}.{case}"
    out[f"{key}.out"] = nhwc(y)
    out[f"{key}.timesteps"] = np.array(timesteps, dtype=np.float32)
    out[f"{key}.tokens"] = np.array([tokens], dtype=np.int64)
    for place, t in seen.items():
        out[f"{key}.at.{place}"] = nhwc(t)


def main():
    out, metadata = {}, {}
    for name, config in CONFIGS.items():
        model = golden_weights.fill(UNet2DConditionModel(**config).double().eval())
        # As a file would have it: with all the keys that diffusers writes.
        metadata[f"config.{name}"] = json.dumps(json.loads(model.to_json_string()), sort_keys=True)
        metadata[f"tensors.{name}"] = str(len(model.state_dict()))
        for case, what in enumerate(CASES[name]):
            run(name, model, case, *what, out)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "unet.safetensors")
    save_file(out, path, metadata=metadata)
    os.chmod(path, 0o644)
    print(path, os.path.getsize(path), "bytes")
    for key, value in out.items():
        if key.endswith("out"):
            print(key, value.shape, "range", value.min(), value.max(), "std", value.std())


if __name__ == "__main__":
    main()

"""Writes lora_kohya.safetensors and lora_diffusers.safetensors, two LoRAs for the tiny sd1 of make_checkpoint.py, and
lora.safetensors, what diffusers' models answer with them.

Run: python3 tests/golden/make_lora.py        (torch 2.15, diffusers 0.42.1, peft 0.21, transformers 5.23)

"a" has kohya's names: linear layers, convolutions of 1×1 and 3×3, alphas other than the rank; "b" diffusers' (PEFT's)
names and two ranks, without alphas. Both are read by load_lora_weights(), which must find a place for every tensor.
  CASE.unet (NHWC), CASE.text: final states at tokens 0, 1, 2, 7, 76; CASE is plain, or strengths of a and b: "a1", "ab"
Inputs by golden_weights.py: "lora.sample" (2, 4, 8, 8), "lora.context" (2, 9, 128); timesteps 981, 20; ids are
49406, then 320 + 37·i for i = 1 … 12, then 49407. Models run in float64.
"""
import os
import re

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

import golden_weights
from make_checkpoint import TOKENS, given, model_of, nhwc

FOLDER = os.path.dirname(os.path.abspath(__file__))
UNET_A = [r"(down_blocks\.0|up_blocks\.2)\.attentions\.1\.(proj_in|proj_out)",
          r"(down_blocks\.0|up_blocks\.2)\.attentions\.1\.transformer_blocks\.0\..*",
          r"mid_block\.attentions\.0\.transformer_blocks\.0\.attn2\..*", r"down_blocks\.1\.resnets\.0\..*",
          r"down_blocks\.0\.downsamplers\.0\.conv", r"up_blocks\.1\.upsamplers\.0\.conv", r"time_embedding\.linear_1",
          r"up_blocks\.3\.resnets\.2\.(conv1|conv_shortcut)", "conv_in", "conv_out"]
UNET_B = [r"(down_blocks\.[01]|up_blocks\.3)\.attentions\.0\..*attn[12]\.to_(q|k|v|out\.0)"]
CASES = {"plain": (0, 0), "a1": (1, 0), "a0.5": (0.5, 0), "a-0.7": (-0.7, 0), "b1": (0, 1), "ab": (0.8, 0.6)}
rng = torch.Generator().manual_seed(5)


def pairs(model, patterns, rank_of):
    """Random (down, up) for the layers whose whole name fits a pattern; about a third as large as the weight."""
    out = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)) or not any(re.fullmatch(p, name) for p in patterns):
            continue
        w, rank = layer.weight, rank_of(name)
        down = torch.randn(rank, *w.shape[1:], generator=rng) / w[0].numel() ** 0.5
        up = torch.randn(w.shape[0], rank, *[1] * (w.ndim - 2), generator=rng) / (3 * rank ** 0.5)
        out[name] = (down.half(), up.half())
    return out


def write_kohya(path, unet, text):
    tensors = {}
    for start, layers in (("lora_unet_", unet), ("lora_te_text_model_", text)):
        for i, (name, (down, up)) in enumerate(layers.items()):
            key = start + name.replace(".", "_")
            alpha = 3 if i % 5 == 0 else 1.5
            tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(alpha)}
    save_file(tensors, path, {"ss_network_module": "networks.lora"})
    return tensors


def write_diffusers(path, unet, text):
    tensors = {}
    for start, layers in (("unet.", unet), ("text_encoder.text_model.", text)):
        for name, (down, up) in layers.items():
            tensors |= {f"{start}{name}.lora_A.weight": down, f"{start}{name}.lora_B.weight": up}
    save_file(tensors, path, {"format": "pt"})
    return tensors


def taken(pipe, adapter):
    """The tensors of an adapter that the models hold."""
    modules = list(pipe.unet.named_modules()) + list(pipe.text_encoder.named_modules())
    return sum(2 for _, m in modules if adapter in getattr(m, "lora_A", {}))


def set_alphas(model, start, tensors):
    """diffusers 0.42.1 loses the alphas that differ from the most frequent one, of attention and of text: names them,
    and gives each layer its own."""
    for name, module in model.named_modules():
        key = start + name.replace(".", "_")
        if "a" in getattr(module, "lora_A", {}):
            alpha = float(tensors[f"{key}.alpha"])
            if module.lora_alpha["a"] != alpha:
                print("alpha of", name, "was", module.lora_alpha["a"])
            module.lora_alpha["a"] = alpha


def main():
    text, unet = model_of("sd1", "text_encoder"), model_of("sd1", "unet")
    files = {"a": f"{FOLDER}/lora_kohya.safetensors", "b": f"{FOLDER}/lora_diffusers.safetensors"}
    a = write_kohya(files["a"], pairs(unet, UNET_A, lambda name: 2),
                    pairs(text, [r"encoder\.layers\..*"], lambda name: 2))
    b = write_diffusers(files["b"], pairs(unet, UNET_B, lambda name: 3 if "to_v" in name else 2),
                        pairs(text, [r"encoder\.layers\..*\.[qv]_proj"], lambda name: 2))
    pipe = StableDiffusionPipeline(vae=None, text_encoder=text, tokenizer=None, unet=unet, scheduler=DDIMScheduler(),
                                   safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    for name, path in files.items():
        pipe.load_lora_weights(load_file(path), adapter_name=name)
    assert taken(pipe, "a") == sum(".alpha" not in k for k in a), (taken(pipe, "a"), len(a))
    assert taken(pipe, "b") == len(b), (taken(pipe, "b"), len(b))
    set_alphas(unet, "lora_unet_", a)
    set_alphas(text, "lora_te_text_model_", a)
    unet.double()
    text.double()
    ids = torch.tensor([[49406] + [320 + 37 * i for i in range(1, 13)] + [49407] * 64])
    sample, context = given("lora.sample", 6, 2, 4, 8, 8), given("lora.context", 6, 2, 9, 128)
    timesteps, out = torch.tensor([981.0, 20.0], dtype=torch.float64), {}
    for case, strengths in CASES.items():
        on = [(name, s) for name, s in zip("ab", strengths) if s]
        if on:
            pipe.enable_lora()
            pipe.set_adapters([name for name, _ in on], [s for _, s in on])
        else:
            pipe.disable_lora()
        with torch.no_grad():
            out[f"{case}.unet"] = torch.from_numpy(nhwc(unet(sample, timesteps, context).sample))
            out[f"{case}.text"] = text(ids).last_hidden_state[0, TOKENS].float()
    for case in CASES:
        for part in ("unet", "text"):
            x, plain = out[f"{case}.{part}"], out[f"plain.{part}"]
            print(case, part, float((x - plain).square().mean().sqrt() / plain.square().mean().sqrt()))
    save_file(out, f"{FOLDER}/lora.safetensors")


if __name__ == "__main__":
    main()

"""Writes checkpoint.safetensors: the names of Stable Diffusion's tensors in both worlds, and what tiny models of its build
answer.

Run: python3 tests/golden/make_checkpoint.py bpe_simple_vocab_16e6.txt.gz
     (torch 2.15, diffusers 0.42.1, transformers 5.23, safetensors 0.8; the vocabulary is OpenAI's, from their CLIP
     repository)

Weights and inputs come from golden_weights.py, by diffusers' names; the file holds no weights: the test writes the
checkpoints itself. LDM names are made here, backwards from diffusers' names, and held against diffusers' own converters.
  metadata
    "names.FAMILY.PART"      a line a tensor: LDM name, diffusers name, tiny shape, full shape ("320x4x3x3", "-": it has
                             none); FAMILY sd1, sd2. The UNets of both have the same names, so names.sd1.unet has a
                             fifth column, the full shape of sd2
    "config.FAMILY.PART"     config.json of the tiny model; PART text_encoder, unet, vae
    "full.FAMILY.PART"       of the full one
    "scheduler.CLASS"        the defaults of a scheduler's constructor
    "prompt.K"
  ids (K, 77) i64; FAMILY.text.LAYER (K, 5, width): the states at tokens 0, 1, 2, 7, 76; FAMILY.text.final the same
                             behind the final norm
  FAMILY.unet.CASE.out (NHWC), FAMILY.unet.CASE.timesteps; picture k of a batch has prompt k as its context
  vae.CASE.mean, vae.CASE.logvar, vae.CASE.decoded
Models run in float64 (diffusers computes the sinusoids of the time in float32 always).
"""
import gzip
import inspect
import json
import os
import re
import sys
import tempfile

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (convert_ldm_clip_checkpoint, convert_ldm_unet_checkpoint,
                                                 convert_ldm_vae_checkpoint, convert_open_clip_checkpoint)
from safetensors.numpy import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import golden_weights

PROMPTS = ["a photo of an astronaut riding a horse on mars", "",
           "Ein kleiner Fuchs, 3 blaue Häuser & ein \"Café\" — " * 9]
TOKENS = [0, 1, 2, 7, 76]
CROSS = dict(down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
             up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3)
SD2 = dict(use_linear_projection=True, **CROSS)
HALF = dict(down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
            up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"])
VAE = dict(down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, layers_per_block=2)
L14 = dict(vocab_size=49408, max_position_embeddings=77, hidden_act="quick_gelu", bos_token_id=49406,
           eos_token_id=49407)
H14 = L14 | dict(hidden_act="gelu", pad_token_id=0)
FULL = {
    "sd1": dict(
        text_encoder=dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, **L14),
        unet=dict(block_out_channels=[320, 640, 1280, 1280], attention_head_dim=8, cross_attention_dim=768, **CROSS),
        vae=dict(block_out_channels=[128, 256, 512, 512], latent_channels=4, **VAE)),
    "sd2": dict(
        text_encoder=dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16,
                          **H14),
        unet=dict(block_out_channels=[320, 640, 1280, 1280], attention_head_dim=[5, 10, 20, 20],
                  cross_attention_dim=1024, **SD2)),
}
TINY = {
    "sd1": dict(
        text_encoder=dict(hidden_size=128, intermediate_size=320, num_hidden_layers=3, num_attention_heads=2, **L14),
        unet=dict(block_out_channels=[32, 64, 96, 96], attention_head_dim=8, cross_attention_dim=128, **CROSS),
        vae=dict(block_out_channels=[32, 32, 64, 64], latent_channels=4, **VAE)),
    "sd2": dict(
        text_encoder=dict(hidden_size=64, intermediate_size=192, num_hidden_layers=2, num_attention_heads=1, **H14),
        unet=dict(block_out_channels=[64, 128], attention_head_dim=[1, 2], cross_attention_dim=64, layers_per_block=1,
                  use_linear_projection=True, **HALF)),
}
CLASSES = {"text_encoder": lambda **o: CLIPTextModel(CLIPTextConfig(**o)),
           "unet": lambda **o: UNet2DConditionModel(**o),
           "vae": lambda **o: AutoencoderKL(**o)}
# height, width, timesteps
UNET_CASES = {"sd1": [(8, 8, [981]), (16, 8, [1, 500]), (5, 7, [0, 333, 999])], "sd2": [(6, 4, [981, 20])]}
VAE_CASES = [(1, 2, 2), (2, 3, 1)]
SCHEDULERS = ["DDPM", "DDIM", "PNDM", "LCM", "TCD", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete",
              "EulerDiscrete",
              "EulerAncestralDiscrete", "DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep", "UniPCMultistep"]


def ldm_resnet(rest):
    names = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
             "conv2": "out_layers.3",
             "conv_shortcut": "skip_connection"}
    layer, leaf = rest.rsplit(".", 1)
    return f"{names[layer]}.{leaf}"


def ldm_unet(name, layers, blocks):
    """Counts through the blocks as the original code does: a list of layers, every one with its number."""
    whole = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
             "conv_in": "input_blocks.0.0",
             "conv_norm_out": "out.0", "conv_out": "out.2"}
    stem, leaf = name.rsplit(".", 1)
    if stem in whole:
        return f"model.diffusion_model.{whole[stem]}.{leaf}"
    m = re.fullmatch(r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name)
    if not m:
        kind, i, rest = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", name).groups()
        where = "middle_block.1." + rest if kind == "attentions" else f"middle_block.{2 * int(i)}." + ldm_resnet(rest)
        return "model.diffusion_model." + where
    way, block, kind, layer, rest = m.group(1), int(m.group(2)), m.group(3), int(m.group(4)), m.group(5)
    if way == "down_blocks":
        first = 1 + block * (layers + 1)
        where = {"resnets": lambda: f"{first + layer}.0." + ldm_resnet(rest),
                 "attentions": lambda: f"{first + layer}.1.{rest}",
                 "downsamplers": lambda: f"{first + layers}.0.op.{leaf}"}[kind]()
        return "model.diffusion_model.input_blocks." + where
    first = block * (layers + 1)
    cross = 2 if f"up_blocks.{block}.attentions" in blocks else 1
    where = {"resnets": lambda: f"{first + layer}.0." + ldm_resnet(rest),
             "attentions": lambda: f"{first + layer}.1.{rest}",
             "upsamplers": lambda: f"{first + layers}.{cross}.conv.{leaf}"}[kind]()
    return "model.diffusion_model.output_blocks." + where


def ldm_vae(name):
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    for new, old in (("mid_block.attentions.0", "mid.attn_1"), ("conv_shortcut", "nin_shortcut"), ("conv_norm_out", "norm_out")):
        name = name.replace(new, old)
    for new, old in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        name = name.replace(f"attn_1.{new}.", f"attn_1.{old}.")
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = name.replace("downsamplers.0", "downsample").replace("down_blocks", "down")
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{3 - int(m[1])}.block", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", name)
    return "first_stage_model." + name


def open_clip(name):
    """Of OpenCLIP's names those of whole tensors; in_proj is put together by the test."""
    whole = {"embeddings.token_embedding.weight": "token_embedding.weight",
             "embeddings.position_embedding.weight": "positional_embedding"}
    if name in whole:
        return "cond_stage_model.model." + whole[name]
    for new, old in (("final_layer_norm", "ln_final"), ("encoder.layers", "transformer.resblocks"), ("layer_norm", "ln_"),
                     ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"), ("self_attn.out_proj", "attn.out_proj")):
        name = name.replace(new, old)
    name = re.sub(r"self_attn\.([qkv])_proj\.", r"attn.in_proj_\1.", name)
    return "cond_stage_model.model." + name


def ldm_name(family, part, name, names, config):
    if part == "unet":
        return ldm_unet(name, config.get("layers_per_block", 2), names)
    if part == "vae":
        return ldm_vae(name)
    return open_clip(name) if family == "sd2" else "cond_stage_model.transformer.text_model." + name


def check_names(family, part, pairs, model):
    """diffusers, asked to convert a file of these names, must give the state dict back."""
    state = model.state_dict()
    file = {ldm: state[name] for ldm, name in pairs}
    if part == "unet":
        back = convert_ldm_unet_checkpoint(file, dict(model.config))
    elif part == "vae":
        file = {k: v[:, :, None, None] if ".attn_1." in k and v.ndim == 2 else v for k, v in file.items()}
        back = convert_ldm_vae_checkpoint(file, dict(model.config))
    elif family == "sd1":
        back = {k.removeprefix("text_model."): v for k, v in convert_ldm_clip_checkpoint(file).items()}
    else:
        whole = {k: v for k, v in file.items() if ".in_proj_" not in k}
        for k in [k for k in file if ".in_proj_q." in k]:
            parts = [file[k.replace("in_proj_q", f"in_proj_{x}")] for x in "qkv"]
            whole[k.replace("in_proj_q.", "in_proj_")] = torch.cat(parts)
        back = {k.removeprefix("text_model."): v for k, v in convert_open_clip_checkpoint(model, whole).items()}
    assert back.keys() == state.keys(), (family, part, back.keys() ^ state.keys())
    assert all(torch.equal(back[k], state[k]) for k in state), (family, part)


def names_of(family, part, model, metadata):
    config = TINY[family][part]
    names = list(model.state_dict())
    blocks = {".".join(n.split(".")[:3]) for n in names}
    pairs = [(ldm_name(family, part, n, blocks, config), n) for n in names]
    check_names(family, part, pairs, model)
    with torch.device("meta"):
        full = CLASSES[part](**FULL[family][part])
    full_state = full.state_dict()
    size = lambda state, n: "x".join(str(k) for k in state[n].shape) if n in state else "-"
    lines = [(ldm, n, size(model.state_dict(), n), size(full_state, n)) for ldm, n in pairs]
    # Of the layers of text that the tiny one has not, the last tells their number.
    last = f"encoder.layers.{full.config.num_hidden_layers - 1}." if part == "text_encoder" else ""
    more = [n for n in full_state if n not in names and n.startswith(last) and (family, part) != ("sd2", "unet")]
    lines += [(ldm_name(family, part, n, blocks, config), n, "-", size(full_state, n)) for n in more]
    if family == "sd1" and part == "unet":
        with torch.device("meta"):
            other = UNet2DConditionModel(**FULL["sd2"][part]).state_dict()
        assert other.keys() == full_state.keys() == set(names)
        lines = [line + (size(other, line[1]),) for line in lines]
    if family == "sd2" and part == "unet":
        lines = [line[:3] + ("-",) for line in lines]
    metadata[f"names.{family}.{part}"] = "\n".join("\t".join(line) for line in lines)
    plain = lambda m: m.config.to_json_string(use_diff=False) if part == "text_encoder" else m.to_json_string()
    metadata[f"config.{family}.{part}"] = json.dumps(json.loads(plain(model)))
    metadata[f"full.{family}.{part}"] = json.dumps(json.loads(plain(full)))


def tokenizer(path):
    merges = gzip.open(path, "rt", encoding="utf-8").read().split("\n")[1:49152 - 256 - 2 + 1]
    letters = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    alphabet = [chr(b) for b in letters] + [chr(256 + i) for i in range(256 - len(letters))]
    vocabulary = alphabet + [c + "</w>" for c in alphabet] + [m.replace(" ", "") for m in merges]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/vocab.json", "w", encoding="utf-8") as f:
            json.dump({t: i for i, t in enumerate(vocabulary)}, f)
        with open(f"{folder}/merges.txt", "w", encoding="utf-8") as f:
            f.write("#version: 0.2\n" + "\n".join(merges))
        return CLIPTokenizer.from_pretrained(folder)


def nhwc(t):
    return np.ascontiguousarray(t.permute(0, 2, 3, 1).to(torch.float32).numpy())


def given(name, exponent, *shape):
    return torch.from_numpy(golden_weights.values(name, exponent, shape)).double()


def model_of(family, part):
    return golden_weights.fill(CLASSES[part](**TINY[family][part]).double().eval())


def run(family, ids, out):
    text, unet = model_of(family, "text_encoder"), model_of(family, "unet")
    states = text(ids, output_hidden_states=True)
    for i, state in enumerate(states.hidden_states):
        out[f"{family}.text.{i}"] = state[:, TOKENS].float().numpy()
    out[f"{family}.text.final"] = states.last_hidden_state[:, TOKENS].float().numpy()
    for case, (height, width, timesteps) in enumerate(UNET_CASES[family]):
        n, key = len(timesteps), f"{family}.unet.{case}"
        y = unet(given(f"{key}.sample", 6, n, 4, height, width), torch.tensor(timesteps, dtype=torch.float64),
                 states.last_hidden_state[:n]).sample
        out[f"{key}.out"] = nhwc(y)
        out[f"{key}.timesteps"] = np.array(timesteps, dtype=np.float32)


def main():
    out, metadata = {}, {}
    tokens = tokenizer(sys.argv[1])
    ids = tokens(PROMPTS, padding="max_length", max_length=77, truncation=True).input_ids
    out["ids"] = np.array(ids, dtype=np.int64)
    for i, prompt in enumerate(PROMPTS):
        metadata[f"prompt.{i}"] = prompt
    with torch.no_grad():
        for family, parts in TINY.items():
            for part in parts:
                names_of(family, part, model_of(family, part), metadata)
            padded = [[49407 if family == "sd1" else 0] * 77 for _ in ids]
            for row, to in zip(ids, padded):
                end = row.index(49407) + 1
                to[:end] = row[:end]
            run(family, torch.tensor(padded), out)
        vae = model_of("sd1", "vae")
        for case, (n, height, width) in enumerate(VAE_CASES):
            key = f"vae.{case}"
            p = vae.encode(given(f"{key}.image", 7, n, 3, 8 * height, 8 * width)).latent_dist
            out[f"{key}.mean"], out[f"{key}.logvar"] = nhwc(p.mean), nhwc(p.logvar)
            out[f"{key}.decoded"] = nhwc(vae.decode(given(f"{key}.latent", 6, n, 4, height, width)).sample)
    for name in SCHEDULERS:
        signature = inspect.signature(getattr(diffusers, name + "Scheduler").__init__)
        values = {k: p.default for k, p in signature.parameters.items()}
        defaults = {k: v for k, v in values.items() if isinstance(v, (int, str)) or (isinstance(v, float) and np.isfinite(v))}
        metadata[f"scheduler.{name}Scheduler"] = json.dumps(defaults)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "checkpoint.safetensors")
    save_file(out, path, metadata=metadata)
    os.chmod(path, 0o644)
    print(path, os.path.getsize(path), "bytes")
    for key, value in out.items():
        print(key, value.shape, "range", value.min(), value.max())
    for key, value in metadata.items():
        print(key, len(value))


if __name__ == "__main__":
    main()

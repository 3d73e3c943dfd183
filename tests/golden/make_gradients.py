"""Writes gradients.safetensors: gradients by PyTorch's autograd, of operations and of diffusers' and transformers' models.

Run: python3 tests/golden/make_gradients.py     (torch 2.15, diffusers 0.42.1, transformers 5.23, safetensors 0.8)

Weights and inputs come from golden_weights.py. All runs in float64 (but for the sinusoids of the time, which
diffusers computes in float32 always: times are small, so that they are as good as that), so the results are good to the last bit of float32.

Operations: L = Σ y·r with r = values(CASE + ".r").
  op.CASE.I               the gradient of input I, in the layout that Weft has for it
Models: L = Σ out·values(MODEL + ".r", 6), of several outputs the sum of such.
  MODEL.parameters (P, 2 + 24)    a row for each parameter in the order of names: the norm of its gradient, the product with
                                  values(NAME + ".probe", 7), 24 elements at i·n/24
  MODEL.inputs (K, 2 + 24)        the same of the inputs, NCHW
  metadata                        "config.MODEL"
"""
import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.numpy import save_file
from transformers import CLIPTextConfig

import golden_weights
import make_clip_text
import make_unet
import make_vae

SAMPLES = 24


def given(name, exponent, *shape):
    return torch.from_numpy(golden_weights.values(name, exponent, shape)).double()


# ---- operations ------------------------------------------------------------------------------------------------------------------

def nhwc(f):
    """f of NCHW pictures as a function of NHWC ones."""
    return lambda x, *more: f(x.permute(0, 3, 1, 2), *more).permute(0, 2, 3, 1)


def attention(causal):
    def run(q, k, v):
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)
    return run


def geglu(x):
    a, b = x.chunk(2, -1)
    return a * F.gelu(b)


def conv(stride, pads):
    top, bottom, left, right = pads

    def run(x, w, b, row, rest):
        y = nhwc(lambda t: F.conv2d(F.pad(t, (left, right, top, bottom)), w, b, stride))(x)
        return y + row[:, None, None] + rest
    return run


def group_norm(groups, act):
    return nhwc(lambda x, g, b: act(F.group_norm(x, groups, g, b, 1e-5)))


def pad(mode, pads):
    top, bottom, left, right = pads
    return nhwc(lambda x: F.pad(x, (left, right, top, bottom), mode))


def resample(mode, h, w):
    corners = {} if mode in ("nearest", "nearest-exact", "area") else {"align_corners": False}
    return nhwc(lambda x: F.interpolate(x, (h, w), mode=mode, **corners))


IDS = torch.tensor([[3, 0, 3], [1, 3, 6]])
# name: (function, shapes of the inputs). Inputs are multiples of 1/4 where ties matter, else of 1/64, in −2…2.
CASES = {
    "silu": (F.silu, [(7, 5)]),
    "gelu": (F.gelu, [(7, 5)]),
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), [(7, 5)]),
    "quick_gelu": (lambda x: x * torch.sigmoid(1.702 * x), [(7, 5)]),
    "relu": (F.relu, [(7, 5)]),
    "abs": (torch.abs, [(7, 5)]),
    "clamp": (lambda x: torch.clamp(x, -1, 0.5), [(70, 5)]),
    "geglu": (geglu, [(3, 5, 14)]),
    "add": (torch.add, [(3, 1, 5), (2, 1)]),
    "mul": (torch.mul, [(3, 1, 5), (2, 1)]),
    "div": (lambda a, b: a / (b + 3), [(3, 5), (5,)]),
    "max": (torch.maximum, [(30, 8), (8,)]),
    "min": (torch.minimum, [(30, 8), (8,)]),
    "reduce_max": (lambda x: torch.amax(x, 1), [(3, 40, 2)]),
    "reduce_min": (lambda x: torch.amin(x, 1), [(3, 40, 2)]),
    "mean": (lambda x: x.mean(1), [(3, 7, 2)]),
    "linear": (lambda x, w, b, r: F.linear(x, w, b) + r, [(3, 7, 11), (5, 11), (5,), (3, 7, 5)]),
    "matmul": (torch.matmul, [(2, 3, 7, 5), (2, 3, 5, 4)]),
    "conv2d": (conv(1, (1, 1, 1, 1)), [(3, 7, 5, 6), (4, 6, 3, 3), (4,), (3, 4), (3, 7, 5, 4)]),
    "conv2d_half": (conv(2, (0, 1, 0, 1)), [(1, 9, 6, 3), (5, 3, 3, 3), (5,), (1, 5), (1, 4, 3, 5)]),
    "attention": (attention(False), [(2, 7, 3, 5), (2, 11, 3, 5), (2, 11, 3, 5)]),
    "attention_causal": (attention(True), [(2, 7, 3, 5), (2, 7, 3, 5), (2, 7, 3, 5)]),
    "group_norm": (group_norm(3, lambda y: y), [(3, 5, 4, 6), (6,), (6,)]),
    "group_norm_silu": (group_norm(2, F.silu), [(1, 3, 7, 6), (6,), (6,)]),
    "layer_norm": (lambda x, g, b: F.layer_norm(x, (13,), g, b, 1e-5), [(3, 7, 13), (13,), (13,)]),
    "softmax": (lambda x: torch.softmax(2.5 * x, -1), [(7, 13)]),
    "embedding": (lambda t: F.embedding(IDS, t), [(7, 5)]),
    "nearest": (resample("nearest", 7, 5), [(2, 3, 4, 3)]),
    "nearest_exact": (resample("nearest-exact", 5, 9), [(1, 3, 4, 3)]),
    "bilinear": (resample("bilinear", 7, 5), [(2, 3, 4, 3)]),
    "bicubic": (resample("bicubic", 7, 5), [(1, 4, 6, 2)]),
    "area": (resample("area", 3, 4), [(1, 7, 5, 2)]),
    "pad": (pad("constant", (1, -1, 2, 0)), [(2, 4, 5, 3)]),
    "pad_reflect": (pad("reflect", (2, 1, 3, 0)), [(2, 4, 5, 3)]),
    "pad_replicate": (pad("replicate", (2, 1, 3, 0)), [(2, 4, 5, 3)]),
}
TIES = ("relu", "abs", "clamp", "max", "min", "reduce_max", "reduce_min")


def operations(out):
    for name, (f, shapes) in CASES.items():
        inputs = [given(f"op.{name}.{i}", 6, *s) for i, s in enumerate(shapes)]
        if name in TIES:
            inputs = [torch.round(4 * t) / 4 for t in inputs]
        for t in inputs:
            t.requires_grad_()
        y = f(*inputs)
        (y * given(f"op.{name}.r", 7, *y.shape)).sum().backward()
        for i, t in enumerate(inputs):
            out[f"op.{name}.{i}"] = t.grad.to(torch.float32).numpy().copy()


# ---- models ----------------------------------------------------------------------------------------------------------------------

def row(name, t):
    g = t.grad.double().flatten()
    probe = given(f"{name}.probe", 7, g.numel())
    at = torch.arange(SAMPLES) * g.numel() // SAMPLES
    return torch.cat([g.norm()[None], (g * probe).sum()[None], g[at]]).to(torch.float32).numpy()


def finish(out, key, model, inputs, strip=""):
    parameters = {n.removeprefix(strip): p for n, p in model.named_parameters()}
    out[f"{key}.parameters"] = np.stack([row(n, parameters[n]) for n in sorted(parameters, key=str.encode)])
    if inputs:
        out[f"{key}.inputs"] = np.stack([row(n, t) for n, t in inputs.items()])


def loss(key, i, y):
    return (y * given(f"{key}.r{i}", 6, *y.shape)).sum()


UNETS = {"sd1": (3, 16, 8, 5), "sdxl": (1, 8, 12, 3), "mid": (3, 6, 10, 2)}      # batch, height, width, tokens


def unet(name, n, height, width, tokens, out, metadata):
    model = golden_weights.fill(UNet2DConditionModel(**make_unet.CONFIGS[name]).double().eval())
    key, config = f"unet.{name}", model.config
    x = given(f"{key}.sample", 6, n, config.in_channels, height, width).requires_grad_()
    context = given(f"{key}.context", 6, n, tokens, config.cross_attention_dim).requires_grad_()
    added = None
    if config.addition_embed_type:
        added = {"text_embeds": given(f"{key}.text_embeds", 6, n, 24), "time_ids": given(f"{key}.time_ids", 7, n, 6).abs()}
    y = model(x, torch.arange(1, n + 1).double(), context, added_cond_kwargs=added).sample
    loss(key, 0, y).backward()
    # A model without cross attention has no use for the context.
    finish(out, key, model, {"sample": x, "context": context} if context.grad is not None else {"sample": x})
    metadata[f"config.{key}"] = json.dumps(json.loads(model.to_json_string()), sort_keys=True)


def text(name, out, metadata):
    kind, settings = make_clip_text.MODELS[name]
    config = CLIPTextConfig(**settings)
    config._attn_implementation = "sdpa"
    model = make_clip_text.fill(kind(config).double().eval())
    key = f"text.{name}"
    ids = torch.from_numpy(make_clip_text.text_ids(name, 1, config, 3, 9))
    result = model(ids)
    pooled = result.text_embeds if hasattr(result, "text_embeds") else result.pooler_output
    (loss(key, 0, result.last_hidden_state) + loss(key, 1, pooled)).backward()
    finish(out, key, model, {}, "text_model.")
    out[f"{key}.ids"] = ids.numpy()
    written = json.loads(config.to_json_string(use_diff=False))
    written["architectures"] = [kind.__name__]
    metadata[f"config.{key}"] = json.dumps(written, sort_keys=True)


def vae(name, n, height, width, out, metadata):
    model = golden_weights.fill(AutoencoderKL(**make_vae.CONFIGS[name]).double().eval())
    key = f"vae.{name}"
    x = given(f"{key}.image", 7, n, model.config.in_channels, height, width).requires_grad_()
    p = model.encode(x).latent_dist
    z = p.mean + p.std * given(f"{key}.noise", 6, *p.mean.shape)
    (loss(key, 0, model.decode(z).sample) + loss(key, 1, p.mean) + loss(key, 2, p.logvar)).backward()
    finish(out, key, model, {"image": x})
    metadata[f"config.{key}"] = json.dumps(json.loads(model.to_json_string()), sort_keys=True)


def main():
    out, metadata = {}, {}
    operations(out)
    for name, case in UNETS.items():
        unet(name, *case, out, metadata)
    for name in ("quick", "gelu"):
        text(name, out, metadata)
    vae("sd", 3, 16, 24, out, metadata)
    vae("odd", 1, 9, 14, out, metadata)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gradients.safetensors")
    save_file(out, path, metadata=metadata)
    os.chmod(path, 0o644)
    print(path, os.path.getsize(path), "bytes")


if __name__ == "__main__":
    main()

"""Golden file of the data sets: data.safetensors.

file.N: picture files as Pillow writes them; NAME.N: what torchvision's Resize, CenterCrop, ToTensor and Normalize make of them, (H, W, C).
cover.N: the same cut to sides that are no square, by the rule in nodes/data/transform.c. jitter.*: torchvision's colours on floats.
buckets.*, choice.*: kohya's rule for bucket sizes and for the bucket of a picture. order.*: permutations from Philox4x32-10, uniform.*: draws.
"""
import io
import math

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import functional as F
from torchvision.transforms import InterpolationMode

rng = np.random.default_rng(11)
out = {}


def smooth(h, w):
    y, x = np.mgrid[0:h, 0:w] / 9.0
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(-2, 2, (3, 3))]
    return (127 + 80 * np.stack(waves, 2) + rng.integers(-40, 40, (h, w, 3))).clip(0, 255).astype(np.uint8)


MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC, "lanczos": InterpolationMode.LANCZOS}
sizes = [(40, 57), (61, 33), (16, 16), (9, 30), (24, 25)]
for n, (h, w) in enumerate(sizes):
    picture = Image.fromarray(smooth(h, w), "RGB")
    if n == 3:
        picture = picture.convert("L")
    f = io.BytesIO()
    picture.save(f, "PNG")
    out[f"file.{n}"] = torch.from_numpy(np.frombuffer(f.getvalue(), np.uint8).copy())
    for name, mode in MODES.items():
        t = F.to_tensor(F.center_crop(F.resize(picture.convert("RGB"), 16, mode), 16))
        out[f"{name}.{n}"] = F.normalize(t, [0.5] * 3, [0.5] * 3).permute(1, 2, 0).contiguous()
    luma = F.to_tensor(F.center_crop(F.resize(picture.convert("L"), 16, MODES["lanczos"]), 16))
    out[f"luma.{n}"] = luma.permute(1, 2, 0).contiguous()
    # 20 wide, 12 high: the side that would be too short decides
    ow, oh = (20, 20 * h // w) if w * 12 < h * 20 else (12 * w // h, 12)
    t = F.to_tensor(F.center_crop(picture.convert("RGB").resize((ow, oh), Image.Resampling.LANCZOS), (12, 20)))
    out[f"cover.{n}"] = t.permute(1, 2, 0).contiguous()

x = torch.from_numpy(rng.random((7, 5, 3), dtype=np.float32))
out["jitter.x"] = x
for k, (b, c, s, order) in enumerate([(1.3, 1, 1, "bcs"), (1, 0.4, 1, "bcs"), (1, 1, 1.7, "bcs"), (0.6, 1.5, 0.2, "bcs"), (1.4, 0.7, 1.9, "scb")]):
    t = x.permute(2, 0, 1)
    for o in order:
        t = {"b": lambda v: F.adjust_brightness(v, b), "c": lambda v: F.adjust_contrast(v, c), "s": lambda v: F.adjust_saturation(v, s)}[o](t)
    out[f"jitter.{k}"] = t.permute(1, 2, 0).contiguous()
    out[f"jitter.{k}.factors"] = torch.tensor([b, c, s], dtype=torch.float64)
    out[f"jitter.{k}.order"] = torch.tensor(["bcs".index(o) for o in order])


def bucket_sizes(base, step, least, most):
    found = {(base // step * step,) * 2}
    for w in range(least, most + 1, step):
        h = min(most, (base * base // w) // step * step)
        if h >= least:
            found |= {(w, h), (h, w)}
    return sorted(found)


for base, step, least, most in [(512, 64, 256, 1024), (1024, 64, 512, 2048), (64, 8, 32, 128), (100, 7, 49, 196), (256, 32, 256, 256)]:
    name = f"{base}.{step}.{least}.{most}"
    sizes = bucket_sizes(base, step, least, most)
    ratios = np.array([w / h for w, h in sizes])
    pictures = np.concatenate([rng.integers(1, 3000, (60, 2)), np.array(sizes), [[1, 1], [5, 5000], [5000, 5]]])
    out[f"buckets.{name}"] = torch.tensor(sizes)
    out[f"choice.{name}"] = torch.tensor([[w, h, int(np.abs(ratios - w / h).argmin())] for w, h in pictures.tolist()])

M = 0xFFFFFFFF


def philox(key, counter, sequence):
    c = [counter & M, counter >> 32, sequence & M, sequence >> 32]
    k = [key & M, key >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q & M, (p >> 32) ^ c[3] ^ k[1], p & M]
        k = [(k[0] + 0x9E3779B9) & M, (k[1] + 0xBB67AE85) & M]
    return c


def sequence_of(epoch, purpose, block=0):
    return epoch << 24 | purpose << 20 | block


for seed, epoch, n in [(7, 0, 50), (7, 3, 50), (2**64 - 1, 12345, 9)]:
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        a = philox(seed, i, sequence_of(epoch, 0))
        j = ((a[0] << 32 | a[1]) * (i + 1)) >> 64
        order[i], order[j] = order[j], order[i]
    out[f"order.{seed % 1000}.{epoch}"] = torch.tensor(order)
# purpose 3: mirroring; three numbers for each of some samples
out["uniform.7.2"] = torch.tensor([[philox(7, sample, sequence_of(2, 3))[k] / 2**32 for k in range(3)] for sample in range(20)], dtype=torch.float64)

save_file(out, "data.safetensors")

"""Golden file of the nodes on pictures, latents and masks: nodes.safetensors.

"ImageScale.METHOD.CROP" and so on: inputs are "image" (2, 5, 7, 3), "latent" (2, 6, 5, 4), "mask" (2, 9, 11). Pictures and latents are
stored NHWC. What is compared with is PyTorch's interpolate, Pillow's resize, maxima over unfolded neighbourhoods, and for bislerp the formula in
float64 at the places where bilinear interpolation of 0 … n−1 looks. The autoencoder is the tiny "sd" of make_vae.py, with its weights, in float64.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import save_file

import golden_weights
import make_vae

torch.set_num_threads(1)
rng = torch.Generator().manual_seed(11)
image = torch.rand(2, 5, 7, 3, generator=rng)
latent = torch.randn(2, 6, 5, 4, generator=rng)
latent[0, 0, 0] = 0                             # a vector without a direction
latent[0, 0, 2] = 2 * latent[0, 0, 1]           # the same direction
latent[0, 1, 2] = -latent[0, 1, 1]              # the opposite one
mask = torch.rand(2, 9, 11, generator=rng)
out = {"image": image, "latent": latent, "mask": mask}


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1).contiguous()


def center(x, h, w):
    """NCHW, the middle with the ratio w/h."""
    old, new = x.shape[3] / x.shape[2], w / h
    left = round((x.shape[3] - x.shape[3] * (new / old)) / 2) if old > new else 0
    top = round((x.shape[2] - x.shape[2] * (old / new)) / 2) if old < new else 0
    return x[:, :, top:x.shape[2] - top, left:x.shape[3] - left]


def pillow(x, h, w):
    pictures = []
    for one in nhwc(x).numpy():
        p = Image.fromarray(np.clip(255.0 * one, 0, 255).astype(np.uint8)).resize((w, h), Image.Resampling.LANCZOS)
        pictures.append(torch.from_numpy(np.array(p).astype(np.float32) / 255.0))
    return nchw(torch.stack(pictures))


def bislerp_axis(x, n):
    """x: (..., length, C) in float64 → (..., n, C)."""
    length = x.shape[-2]
    place = F.interpolate(torch.arange(length, dtype=torch.float32).reshape(1, 1, 1, -1), size=(1, n), mode="bilinear").flatten()
    low = place.floor().long()
    r = (place - low).double()[:, None]
    a, b = x[..., low, :], x[..., (low + 1).clamp(max=length - 1), :]
    na, nb = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    ua, ub = torch.where(na > 0, a / na, 0), torch.where(nb > 0, b / nb, 0)
    dot = (ua * ub).sum(-1, keepdim=True)
    omega = dot.clamp(-1, 1).acos()
    y = ((1 - r) * omega).sin() / omega.sin() * ua + (r * omega).sin() / omega.sin() * ub
    y = y * (na * (1 - r) + nb * r)
    y = torch.where(dot > 1 - 1e-5, a, y)
    return torch.where(dot < 1e-5 - 1, a * (1 - r) + b * r, y)


def bislerp(x, h, w):
    y = bislerp_axis(nhwc(x).double(), w)
    return nchw(bislerp_axis(y.transpose(1, 2), h).transpose(1, 2)).float()


def scale(x, how, h, w):
    if how == "lanczos":
        return pillow(x, h, w)
    return bislerp(x, h, w) if how == "bislerp" else F.interpolate(x, size=(h, w), mode=how)


for how in ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]:
    for h, w in [(9, 4), (3, 11)]:
        out[f"ImageScale.{how}.{h}x{w}.disabled"] = nhwc(scale(nchw(image), how, h, w))
        out[f"ImageScale.{how}.{h}x{w}.center"] = nhwc(scale(center(nchw(image), h, w), how, h, w))
    out[f"ImageScaleBy.{how}"] = nhwc(scale(nchw(image), how, round(5 * 1.7), round(7 * 1.7)))
for how in ["nearest-exact", "bilinear", "area", "bicubic", "bislerp"]:
    out[f"LatentUpscale.{how}.disabled"] = nhwc(scale(nchw(latent), how, 13, 8))
    out[f"LatentUpscale.{how}.center"] = nhwc(scale(center(nchw(latent), 13, 8), how, 13, 8))
    out[f"LatentUpscaleBy.{how}"] = nhwc(scale(nchw(latent), how, round(6 * 1.5), round(5 * 1.5)))

cross = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]])
for name, kernel in {"tapered": cross, "square": torch.ones(3, 3)}.items():
    for expand in [1, 3, -2]:
        y = mask if expand > 0 else -mask
        for _ in range(abs(expand)):
            around = F.unfold(F.pad(y[:, None], (1, 1, 1, 1), value=-9), 3).reshape(2, 9, 9, 11)
            y = around[:, kernel.flatten() > 0].amax(1)
        out[f"GrowMask.{name}.{expand}"] = y if expand > 0 else -y
model = golden_weights.fill(AutoencoderKL(**make_vae.CONFIGS["sd"]).double().eval())


def tiled(z, th, tw, overlap):
    """One division of a latent (1, 4, h, w) into tiles, decoded and laid together with fading edges."""
    h, w = z.shape[2:]
    if h <= th and w <= tw:
        return model.decode(z).sample
    total, weight = torch.zeros(1, 3, 8 * h, 8 * w).double(), torch.zeros(1, 1, 8 * h, 8 * w).double()
    for y in range(0, h - overlap, th - overlap) if h > th else [0]:
        for x in range(0, w - overlap, tw - overlap) if w > tw else [0]:
            p = model.decode(z[:, :, y:y + th, x:x + tw]).sample
            m = torch.ones(p.shape[2:]).double()
            for t in range(8 * overlap):
                for side, size in enumerate(m.shape):
                    if 8 * overlap < size:
                        m.select(side, t).mul_((t + 1) / (8 * overlap))
                        m.select(side, size - 1 - t).mul_((t + 1) / (8 * overlap))
            total[:, :, 8 * y:8 * y + p.shape[2], 8 * x:8 * x + p.shape[3]] += p * m
            weight[:, :, 8 * y:8 * y + p.shape[2], 8 * x:8 * x + p.shape[3]] += m
    return total / weight


with torch.no_grad():
    z = make_vae.given("nodes.tiled", 6, 1, 4, 11, 9)
    mean = (tiled(z, 16, 4, 2) + tiled(z, 4, 16, 2) + tiled(z, 8, 8, 2)) / 3
    out["VAEDecodeTiled"] = nhwc((mean / 2 + 0.5).clamp(0, 1))
    picture, hole = torch.rand(2, 3, 19, 28, generator=rng), (torch.rand(1, 1, 10, 14, generator=rng) > 0.9).float()
    out["VAEEncodeForInpaint.pixels"], out["VAEEncodeForInpaint.mask"] = nhwc(picture), hole[0]
    hole = F.interpolate(hole, size=(19, 28), mode="bilinear")[:, :, 1:17, 2:26].round()
    x = (picture[:, :, 1:17, 2:26] - 0.5) * (1 - hole) + 0.5
    out["VAEEncodeForInpaint.samples"] = nhwc(model.encode(2 * x.double() - 1).latent_dist.mean)
    for grow in [0, 5, 6]:
        y = hole if not grow else F.conv2d(hole, torch.ones(1, 1, grow, grow), padding=math.ceil((grow - 1) / 2)).clamp(0, 1)
        out[f"VAEEncodeForInpaint.noise_mask.{grow}"] = y[0, :, :16, :24].round()

save_file({k: v.float().contiguous().clone() for k, v in out.items()}, "nodes.safetensors")

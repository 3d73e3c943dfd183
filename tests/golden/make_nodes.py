"""Golden file of the nodes on pictures, latents and masks: nodes.safetensors.

"ImageScale.METHOD.CROP" and so on: inputs are "image" (2, 5, 7, 3), "latent" (2, 6, 5, 4), "mask" (2, 9, 11). Pictures and latents are
stored NHWC. What is compared with is PyTorch's interpolate, Pillow's resize, maxima over unfolded neighbourhoods, and for bislerp the formula in
float64 at the places where bilinear interpolation of 0 … n−1 looks.
"""
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

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
save_file({k: v.float().contiguous().clone() for k, v in out.items()}, "nodes.safetensors")

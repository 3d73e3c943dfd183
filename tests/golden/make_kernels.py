"""Golden files of the kernels: kernels_{products,norms,pointwise,pictures,tables}.safetensors.

A case is "KERNEL.NUMBER"; its tensors are "KERNEL.NUMBER.x" and so on, numbers among its options are in ".i" (i64) and
".f" (f64). Pictures are stored NHWC, convolution weights OIHW. Sums are taken in float64 from the float32 inputs and
rounded once, so that a file holds the true value; what depends on float32 positions or tables (interpolation, timestep
embedding) is computed in float32, as diffusers does.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from PIL import Image
from safetensors.torch import save_file

torch.set_num_threads(1)
torch.set_grad_enabled(False)


class File:
    def __init__(self, name, seed):
        self.name, self.tensors, self.counts = name, {}, {}
        self.rng = torch.Generator().manual_seed(seed)

    def randn(self, *shape):
        return torch.randn(*shape, generator=self.rng)

    def add(self, kernel, i=(), f=(), **tensors):
        case = f"{kernel}.{self.counts.get(kernel, 0)}"
        self.counts[kernel] = self.counts.get(kernel, 0) + 1
        tensors["i"] = torch.tensor(list(i) + [0], dtype=torch.int64)
        tensors["f"] = torch.tensor(list(f) + [0.0], dtype=torch.float64)
        for key, t in tensors.items():
            if t is not None:
                t = t.float() if key == "y" and t.dtype == torch.float64 else t
                self.tensors[f"{case}.{key}"] = t.contiguous().clone()

    def write(self):
        save_file(self.tensors, f"kernels_{self.name}.safetensors")


def nhwc(t):
    return t.permute(0, 2, 3, 1)


ACTIVATIONS = [lambda x: x, F.silu, F.gelu, lambda x: x * torch.sigmoid(1.702 * x),
               lambda x: F.gelu(x, approximate="tanh"), F.relu]      # in the order of weft_activation


def products():
    out = File("products", 1)
    # n, h, w, c, o, kh, kw, stride, (left, right, top, bottom), row and residual
    for n, h, w, c, o, kh, kw, stride, pads, extra in [
            (1, 5, 7, 3, 4, 3, 3, 1, (1, 1, 1, 1), False), (2, 6, 5, 7, 5, 3, 3, 2, (0, 1, 0, 1), False),
            (2, 9, 8, 11, 13, 3, 3, 1, (1, 1, 1, 1), True), (2, 4, 3, 5, 6, 1, 1, 1, (0, 0, 0, 0), True),
            (1, 8, 6, 4, 3, 5, 3, 1, (0, 2, 2, 1), False), (1, 7, 7, 6, 2, 2, 2, 2, (0, 0, 0, 0), False),
            (1, 13, 11, 16, 17, 3, 3, 1, (1, 1, 1, 1), True), (1, 9, 9, 5, 6, 3, 3, 2, (1, 1, 1, 1), False),
            (1, 8, 7, 3, 4, 3, 3, 1, (-1, 0, -2, 1), False), (1, 1, 1, 8, 9, 3, 3, 1, (1, 1, 1, 1), False)]:
        x, weight, bias = out.randn(n, c, h, w), out.randn(o, c, kh, kw) / math.sqrt(c * kh * kw), out.randn(o)
        y = F.conv2d(F.pad(x.double(), pads), weight.double(), bias.double(), stride)
        row = out.randn(n, o) if extra else None
        residual = out.randn(*y.shape) if extra else None
        if extra:
            y = y + row.double()[:, :, None, None] + residual.double()
        out.add("conv2d", i=(stride, pads[2], pads[0]), x=nhwc(x), w=weight, b=bias, row=row,
                r=nhwc(residual) if extra else None, y=nhwc(y))
    for m, k, n, act in [(1, 1, 1, 0), (5, 33, 7, 1), (17, 64, 48, 2), (3, 19, 31, 3), (7, 40, 16, 4), (2, 8, 9, 5)]:
        x, w, b, r = out.randn(m, k), out.randn(n, k) / math.sqrt(k) * 2, out.randn(n), out.randn(m, n)
        out.add("gemm", i=(act,), x=x, w=w, b=b, r=r,
                y=ACTIVATIONS[act](F.linear(x.double(), w.double(), b.double())) + r.double())
    # a factor on the queries makes the scores large and the softmax sharp
    for b, heads, tq, tk, d, causal, factor in [
            (1, 2, 5, 5, 8, True, 1), (2, 3, 7, 11, 5, False, 1), (1, 1, 2, 77, 40, False, 6),
            (1, 2, 13, 9, 16, False, 30), (1, 2, 6, 9, 16, True, 3), (1, 1, 1, 1, 3, True, 1),
            (1, 1, 33, 65, 7, False, 1)]:
        q, k, v = out.randn(b, tq, heads, d) * factor, out.randn(b, tk, heads, d), out.randn(b, tk, heads, d)
        mask = torch.ones(tq, tk, dtype=torch.bool).tril(tk - tq) if causal else None
        y = F.scaled_dot_product_attention(*(t.double().transpose(1, 2) for t in (q, k, v)), attn_mask=mask)
        out.add("attention", i=(causal,), q=q, k=k, v=v, y=y.transpose(1, 2))
    out.write()


def norms():
    out = File("norms", 2)
    # mean far above the spread: variance as E(x²) − E(x)² in float32 would be all noise
    for n, pixels, c, groups, eps, offset, spread, silu in [
            (1, 1, 4, 2, 1e-5, 0, 1, 0), (2, 15, 12, 4, 1e-6, 0, 1, 1), (1, 35, 32, 32, 1e-5, 300, 1, 1),
            (2, 63, 20, 5, 1e-6, -3000, 2, 0), (1, 7, 9, 1, 1e-5, 0, 1e-4, 0)]:
        x, gamma, beta = out.randn(n, pixels, c) * spread + offset, out.randn(c), out.randn(c)
        y = F.group_norm(x.double().transpose(1, 2), groups, gamma.double(), beta.double(), eps).transpose(1, 2)
        out.add("group_norm", i=(groups, silu), f=(eps,), x=x, g=gamma, b=beta, y=F.silu(y) if silu else y)
    for rows, c, eps, offset, spread in [
            (1, 1, 1e-5, 0, 1), (5, 33, 1e-5, 0, 1), (3, 768, 1e-5, 500, 1), (2, 100, 1e-6, 0, 1e-3)]:
        x, gamma, beta = out.randn(rows, c) * spread + offset, out.randn(c), out.randn(c)
        y = F.layer_norm(x.double(), (c,), gamma.double(), beta.double(), eps)
        out.add("layer_norm", f=(eps,), x=x, g=gamma, b=beta, y=y)
    for rows, c, scale, factor in [(1, 1, 1, 1), (4, 7, 0.3, 1), (3, 77, 1, 100), (2, 130, -2, 30)]:
        x = out.randn(rows, c) * factor
        out.add("softmax", f=(scale,), x=x, y=torch.softmax(x.double() * scale, -1))
    x = torch.tensor([[-math.inf, 1.0, 2.0], [3e38, -3e38, 3e38]])
    out.add("softmax", f=(1,), x=x, y=torch.softmax(x.double(), -1))
    out.write()


UNARY = [F.silu, F.gelu, ACTIVATIONS[3], ACTIVATIONS[4], F.relu, torch.sigmoid, torch.tanh, torch.exp, torch.log,
         torch.sqrt, torch.abs, torch.square, torch.sin, torch.cos]     # in the order of weft_unary_op


def pointwise():
    out = File("pointwise", 3)
    special = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-38, -1e-38, 1e-42, 88.0, 88.72, -87.3, -103.0,
                            3e38, -3e38])
    for op, function in enumerate(UNARY):
        for factor in (1e-3, 1.0, 6.0, 40.0):   # a case each: so a tolerance relative to the rms means something
            x = out.randn(67) * factor
            if op in (8, 9):
                x = x.abs()
            out.add("unary", i=(op, 0), x=x, y=function(x.double()))
        out.add("unary", i=(op, 1), x=special, y=function(special.double()))
    x = torch.cat([out.randn(40) * 3, special])
    for scale, shift, low, high in [(0.5, 0.5, 0, 1), (2, -1, -math.inf, math.inf), (255, 0.5, 0, 255)]:
        out.add("affine", f=(scale, shift, low, high), x=x, y=torch.clamp(x.double() * scale + shift, low, high))
    x = out.randn(5, 2 * 37) * 3
    out.add("geglu", x=x, y=x[:, :37].double() * F.gelu(x[:, 37:].double()))
    # numpy's broadcasting: shapes of a, of b
    for op, function in enumerate([torch.add, torch.sub, torch.mul, torch.div, torch.minimum, torch.maximum]):
        for a_shape, b_shape in [((2, 3, 5), (2, 3, 5)), ((2, 3, 7), (7,)), ((2, 1, 3, 5), (4, 1, 5)), ((3, 17), (1,))]:
            a, b = out.randn(*a_shape), out.randn(*b_shape)
            out.add("binary", i=(op,), a=a, b=b, y=function(a.double(), b.double()))
    nan = torch.tensor([1.0, math.nan, math.inf, -math.inf, math.nan])
    for op, function in [(4, torch.minimum), (5, torch.maximum)]:
        out.add("binary", i=(op,), a=nan, b=nan.flip(0), y=function(nan, nan.flip(0)))
    for op, function in enumerate([torch.sum, torch.mean, torch.amax, torch.amin]):
        for shape in [(3, 5, 7), (1, 1000, 1), (2, 33, 16)]:
            x = out.randn(*shape) + 10
            out.add("reduce", i=(op,), x=x, y=function(x.double(), 1))
    out.write()


def pillow(image, size, mode):
    filters = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS]
    return np.asarray(image.resize(size, filters[mode]))


def pictures():
    out = File("pictures", 4)
    modes = ["nearest", "nearest-exact", "bilinear", "bicubic", "area"]     # in the order of weft_resample_mode
    for n, h, w, c, oh, ow in [
            (2, 5, 7, 3, 3, 4), (1, 5, 7, 2, 11, 13), (1, 8, 6, 1, 16, 12), (1, 9, 64, 1, 7, 5), (1, 3, 1, 2, 7, 1),
            (1, 41, 1, 1, 29, 2), (1, 6, 6, 2, 6, 6)]:
        for number, mode in enumerate(modes):
            x = out.randn(n, c, h, w)
            out.add("resample", i=(number,), x=nhwc(x), y=nhwc(F.interpolate(x, (oh, ow), mode=mode)))
    for h, w, oh, ow in [
            (13, 17, 5, 7), (11, 9, 23, 20), (13, 17, 13, 30), (17, 13, 8, 13), (7, 40, 7, 40), (32, 1, 3, 2),
            (30, 3, 7, 41), (18, 20, 8, 15), (19, 20, 8, 15), (9, 8, 8, 17)]:   # rows or columns first: Pillow's choice
        for number in range(3):
            u8 = torch.randint(0, 256, (h, w, 3), generator=out.rng, dtype=torch.uint8)
            # many values at both ends, where overshoot is clipped
            u8 = torch.where(u8 > 200, 255, torch.where(u8 < 56, 0, u8)).to(torch.uint8)
            y = pillow(Image.fromarray(u8.numpy(), "RGB"), (ow, oh), number)
            out.add("resample_u8", i=(5 + number,), x=u8[None], y=torch.from_numpy(y.copy())[None])
            x = out.randn(h, w)
            y = pillow(Image.fromarray(x.numpy(), "F"), (ow, oh), number)
            out.add("resample", i=(5 + number,), x=x[None, :, :, None], y=torch.from_numpy(y.copy())[None, :, :, None])
    for number, mode in enumerate(["constant", "replicate", "reflect"]):
        crops = [(-1, 2, 3, -2), (-2, -2, -1, -3)] if number == 0 else []
        for pads in [(1, 2, 3, 1), (0, 1, 0, 1), (4, 0, 0, 4)] + crops:     # left, right, top, bottom
            x = out.randn(2, 3, 5, 6)
            y = F.pad(x, pads, mode, 0.5) if number == 0 else F.pad(x, pads, mode)
            out.add("pad", i=(number, *pads), f=(0.5,), x=nhwc(x), y=nhwc(y))
    out.write()


def tables():
    out = File("tables", 5)
    for dim, flip, shift, scale, period, t in [
            (320, True, 0, 1, 10000, [0, 1, 500, 981, 999]), (7, False, 1, 1, 10000, [3, 999]),
            (256, True, 0, 1, 10000, [512, 1024, 0.25]), (32, False, 0.5, 1000, 2000, [0.1, 0.9]),
            (2, True, 0, 1, 10000, [7])]:
        t = torch.tensor(t, dtype=torch.float32)
        y = get_timestep_embedding(t, dim, flip_sin_to_cos=flip, downscale_freq_shift=shift, scale=scale,
                                   max_period=period)
        out.add("timestep", i=(dim, flip), f=(period, shift, scale), x=t, y=y)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        table, ids = out.randn(11, 13).to(dtype), torch.tensor([0, 10, 3, 3, 7])
        out.add("embedding", x=ids, w=table, y=F.embedding(ids, table).float())
    # casts: ties both ways, subnormals, overflow, infinities, NaN, random bits
    bits = torch.randint(-2**31, 2**31, (1500,), generator=out.rng).to(torch.int32).view(torch.float32)
    base = torch.randint(0, 2**16, (500,), generator=out.rng)
    half = base.to(torch.int16).view(torch.float16).float()
    after = (base + 1).to(torch.int16).view(torch.float16).float()
    ties = ((half.double() + after.double()) / 2).float()
    small = torch.randn(300, generator=out.rng) * 1e-7
    tie_bits = (torch.randint(0, 2**16, (400,), generator=out.rng) << 16 | 0x8000).to(torch.int32).view(torch.float32)
    special = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, 65504, 65519, 65519.996, 65520, -65520, 65536,
                            2**-24, 2**-25, 2**-25 * 1.001, 2**-26, 2**-14, 2**-14 * 0.9999, 3.3895314e38, 3.4028235e38,
                            1e-40, 9.2e-41])
    x = torch.cat([bits, ties, ties * (1 + 2**-20), small, small * 1e-33, tie_bits, special])
    out.add("copy", x=x, y=x.half())
    out.add("copy", x=x, y=x.bfloat16())
    out.add("copy", x=x, y64=x.double())
    for dtype in (torch.float16, torch.bfloat16):
        x = torch.arange(0, 2**16, 37).to(torch.int16).view(dtype)
        out.add("copy", x=x, y=x.float())
    whole = torch.tensor([0.0, -0.0, 0.99, -0.99, 1.5, -1.5, 254.99, 255.0, 100.7, 2147483520.0, -2147483648.0,
                          16777217.0])
    out.add("copy", x=whole, y=whole.to(torch.int32))
    out.add("copy", x=whole, y=whole.to(torch.int64))
    out.add("copy", x=whole[:9].abs(), y=whole[:9].abs().to(torch.uint8))
    numbers = torch.tensor([0, 1, -1, 255, -2**31, 2**31 - 1, 16777217, 16777219, 33554435])
    out.add("copy", x=numbers, y=numbers.to(torch.float32))
    out.add("copy", x=numbers, y=numbers.to(torch.int32))
    out.write()


if __name__ == "__main__":
    products()
    norms()
    pointwise()
    pictures()
    tables()

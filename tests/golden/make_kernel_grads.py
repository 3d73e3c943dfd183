"""Golden file of the kernels' gradients: kernels_grads.safetensors, cases as in make_kernels.py.

Every gradient is PyTorch's autograd, in float64 from float32 inputs, rounded once; interpolation in float32, whose positions and
weights it uses, but for Pillow's modes, which PyTorch has not: there dx is the transpose of the matrix that resizing the unit
pictures gives. Statistics and the like that the forward hands on are rounded to float32.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

torch.set_num_threads(1)
tensors, counts = {}, {}
rng = torch.Generator().manual_seed(7)


def randn(*shape):
    return torch.randn(*shape, generator=rng)


def add(kernel, i=(), f=(), **values):
    case = f"{kernel}.{counts.get(kernel, 0)}"
    counts[kernel] = counts.get(kernel, 0) + 1
    values["i"] = torch.tensor(list(i) + [0], dtype=torch.int64)
    values["f"] = torch.tensor(list(f) + [0.0], dtype=torch.float64)
    for key, t in values.items():
        if t is not None:
            t = t.detach()
            tensors[f"{case}.{key}"] = (t.float() if t.dtype == torch.float64 and key != "f" else t).contiguous().clone()


def grads(function, *inputs, dy=None):
    """Gradients of sum(dy·function) by all inputs, in float64; dy at random where none is given."""
    leaves = [t.double().requires_grad_() for t in inputs]
    y = function(*leaves)
    dy = randn(*y.shape) if dy is None else dy
    return dy, torch.autograd.grad(y, leaves, dy.double())


def nhwc(t):
    return t.permute(0, 2, 3, 1)


def convolutions():
    # n, h, w, c, o, kh, kw, stride, (left, right, top, bottom)
    for n, h, w, c, o, kh, kw, stride, pads in [
            (1, 5, 7, 3, 4, 3, 3, 1, (1, 1, 1, 1)), (2, 6, 5, 7, 5, 3, 3, 2, (0, 1, 0, 1)), (1, 7, 6, 16, 16, 3, 3, 1, (1, 1, 1, 1)),
            (2, 4, 3, 5, 6, 1, 1, 1, (0, 0, 0, 0)), (1, 8, 6, 4, 3, 5, 3, 1, (0, 2, 2, 1)), (3, 7, 7, 6, 2, 2, 2, 2, (0, 0, 0, 0)),
            (1, 5, 5, 2, 3, 1, 3, 1, (1, 1, 0, 0)), (1, 9, 9, 5, 6, 3, 3, 2, (1, 1, 1, 1)), (1, 8, 7, 3, 4, 3, 3, 1, (-1, 0, -2, 1)),
            (1, 1, 1, 8, 9, 3, 3, 1, (1, 1, 1, 1))]:
        x, weight = randn(n, c, h, w), randn(o, c, kh, kw)
        dy, (dx, dw) = grads(lambda x, w: F.conv2d(F.pad(x, pads), w, stride=stride), x, weight)
        add("conv2d_grad", (stride, pads[2], pads[0]), x=nhwc(x), w=weight, dy=nhwc(dy), dx=nhwc(dx), dw=dw)


def attention():
    for batch, heads, tq, tk, d, causal in [(1, 2, 7, 9, 5, 0), (1, 1, 17, 17, 8, 1), (1, 1, 1, 20, 40, 0), (3, 1, 19, 18, 3, 0),
                                            (1, 1, 17, 17, 17, 1)]:
        q, k, v = randn(batch, tq, heads, d) * 1.5, randn(batch, tk, heads, d), randn(batch, tk, heads, d)
        dout, (dq, dk, dv) = grads(lambda q, k, v: F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=bool(causal)).transpose(1, 2), q, k, v)
        s = torch.einsum("bqhd,bkhd->bhqk", q.double(), k.double()) / math.sqrt(d)
        if causal:
            s = s.masked_fill(torch.ones(tq, tk).triu(1).bool(), -math.inf)
        o = torch.einsum("bhqk,bkhd->bqhd", s.softmax(-1), v.double())
        add("attention_grad", (causal,), q=q, k=k, v=v, o=o, lse=s.logsumexp(-1), dy=dout, dq=dq, dk=dk, dv=dv)


ACTIVATIONS = [lambda x: x, F.silu, F.gelu, lambda x: x * torch.sigmoid(1.702 * x), lambda x: F.gelu(x, approximate="tanh"), F.relu]


def norms():
    for n, c, pixels, groups, act, affine in [(1, 6, 10, 3, 0, 1), (2, 32, 5, 4, 1, 1), (3, 17, 5, 1, 2, 1), (1, 20, 31, 5, 3, 1),
                                              (2, 8, 16, 8, 4, 0), (1, 40, 7, 4, 5, 1)]:
        x = randn(n, c, pixels) * 2 + 0.5
        gamma, beta = (randn(c), randn(c)) if affine else (torch.ones(c), torch.zeros(c))
        dy, (dx, dgamma, dbeta) = grads(lambda x, g, b: ACTIVATIONS[act](F.group_norm(x, groups, g, b, 1e-5)), x, gamma, beta)
        flat = x.double().reshape(n, groups, -1)
        add("group_norm_grad", (groups, act), x=x.transpose(1, 2), g=gamma if affine else None, b=beta if affine else None,
            dy=dy.transpose(1, 2), mean=flat.mean(-1), rstd=(flat.var(-1, unbiased=False) + 1e-5).rsqrt(), dx=dx.transpose(1, 2),
            dg=dgamma, db=dbeta)
    for rows, c in [(1, 5), (3, 64), (66, 15), (5, 100)]:
        x, gamma, beta = randn(rows, c), randn(c), randn(c)
        dy, (dx, dgamma, dbeta) = grads(lambda x, g, b: F.layer_norm(x, (c,), g, b, 1e-5), x, gamma, beta)
        add("layer_norm_grad", x=x, g=gamma, dy=dy, mean=x.double().mean(-1),
            rstd=(x.double().var(-1, unbiased=False) + 1e-5).rsqrt(), dx=dx, dg=dgamma, db=dbeta)
    for rows, c, scale in [(1, 1, 1.0), (4, 37, 0.7), (3, 100, -1.3)]:
        x = randn(rows, c)
        dy, (dx,) = grads(lambda x: torch.softmax(scale * x, -1), x)
        add("softmax_grad", f=(scale,), x=torch.softmax(scale * x.double(), -1), dy=dy, dx=dx)


def pointwise():
    functions = ACTIVATIONS[1:] + [torch.sigmoid, torch.tanh, torch.exp, torch.log, torch.sqrt, torch.abs, torch.square, torch.sin,
                                   torch.cos]      # in the order of weft_unary_op
    for op, function in enumerate(functions):
        x = randn(67) * 3
        x[0] = 0
        if function in (torch.log, torch.sqrt):
            x = x.abs() + 0.1
        dy, (dx,) = grads(function, x)
        add("unary_grad", (op,), x=x, dy=dy, dx=dx)
    for scale, shift, low, high in [(1.5, 0.25, -math.inf, math.inf), (0.5, 0.5, 0.0, 1.0), (-2.0, 0.0, -1.0, math.inf)]:
        x = randn(45)
        x[:2] = torch.tensor([1.0, -1.0])       # on the bounds
        dy, (dx,) = grads(lambda x: torch.clamp(x * scale + shift, low, high), x)
        add("affine_grad", f=(scale, shift, low, high), x=x, dy=dy, dx=dx)
    for rows, half in [(1, 1), (3, 21), (2, 64)]:
        x = randn(rows, 2 * half) * 2
        dy, (dx,) = grads(lambda x: x[:, :half] * F.gelu(x[:, half:]), x)
        add("geglu_grad", x=x, dy=dy, dx=dx)
    for op, function in enumerate([torch.sum, torch.mean, torch.amax, torch.amin]):
        for outer, mid, inner in [(3, 5, 1), (2, 7, 19), (1, 40, 3)]:
            x = torch.round(randn(outer, mid, inner) * 2)
            dy, (dx,) = grads(lambda x: function(x, dim=1), x)
            add("reduce_grad", (op,), x=x, y=function(x, dim=1), dy=dy, dx=dx)


def pictures():
    modes = ["nearest", "nearest-exact", "bilinear", "bicubic", "area"]
    for mode in range(8):
        for n, h, w, c, oh, ow in [(1, 4, 5, 3, 8, 10), (2, 7, 6, 2, 3, 9), (1, 5, 5, 17, 3, 4)]:
            dy = randn(n, c, oh, ow)
            if mode < 5:
                x = randn(n, c, h, w).requires_grad_()
                dx, = torch.autograd.grad(F.interpolate(x, size=(oh, ow), mode=modes[mode]), x, dy)
            else:
                resample = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS][mode - 5]
                dx = torch.zeros(n, c, h, w, dtype=torch.float64)
                for y in range(h):
                    for x in range(w):
                        unit = np.zeros((h, w), dtype=np.float32)
                        unit[y, x] = 1
                        column = torch.from_numpy(np.asarray(Image.fromarray(unit).resize((ow, oh), resample)).copy())
                        dx[:, :, y, x] = (dy.double() * column.double()).sum((2, 3))
            add("resample_grad", (mode,), dy=nhwc(dy), dx=nhwc(dx))
    for mode, name in enumerate(["constant", "replicate", "reflect"]):
        for n, h, w, c, pads in [(1, 4, 5, 3, (1, 2, 2, 1)), (2, 6, 5, 2, (3, 0, 0, 4)), (1, 5, 4, 17, (2, 1, 1, 2))] + (
                [(1, 6, 5, 3, (-1, 2, -2, -1))] if mode == 0 else []):
            x = randn(n, c, h, w)
            dy, (dx,) = grads(lambda x: F.pad(x, pads, mode=name), x)
            add("pad_grad", (mode, *pads), dy=nhwc(dy), dx=nhwc(dx))
    for rows, c, n in [(5, 3, 12), (7, 70, 20)]:
        table, ids = randn(rows, c), torch.randint(0, rows, (n,), generator=rng)
        dy, (dx,) = grads(lambda t: F.embedding(ids, t), table)
        add("embedding_grad", x=ids, dy=dy, dx=dx)


convolutions()
attention()
norms()
pointwise()
pictures()
save_file(tensors, "kernels_grads.safetensors")

"""The other side of tests/golden_weights.h: the same weights and inputs in NumPy. See there for the formula."""
import numpy as np


def _bytes(name, count):
    seed = 0xCBF29CE484222325
    for b in name.encode():
        seed = ((seed ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(56)).astype(np.int32) - 128


def weight(name, shape):
    b = _bytes(name, int(np.prod(shape)))
    if len(shape) >= 2:
        fan_in = int(np.prod(shape[1:]))
        values = b * 2.0 ** (-7 - (fan_in.bit_length() - 1) // 2)
    elif name.endswith("weight"):
        values = 1 + (b >> 3) * 2.0 ** -6
    else:
        values = b * 2.0 ** -10
    return values.astype(np.float32).reshape(shape)


def values(name, exponent, shape):
    return (_bytes(name, int(np.prod(shape))) * 2.0 ** -exponent).astype(np.float32).reshape(shape)


def fill(module):
    """Fills every parameter of a PyTorch module, by its name in the state dict."""
    import torch

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(weight(name, tuple(parameter.shape))).to(parameter.dtype))
    return module

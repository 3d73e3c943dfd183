"""Writes safetensors files with the reference library, for reading and for comparing with what Weft writes.

    pip install torch==2.15.0 safetensors==0.8.0 numpy
    python3 make_safetensors.py
"""
import os

import torch
from safetensors.torch import save_file

here = os.path.dirname(os.path.abspath(__file__))


def ramp(n, shape, dtype):
    return (torch.arange(n, dtype=torch.float64) * 0.25 - 1).to(dtype).reshape(shape)


# Every type that Weft has; a rank of 0 and of 6, empty tensors, names with all that JSON escapes.
save_file({
    "f32": ramp(6, (2, 3), torch.float32), "f16": ramp(5, (5,), torch.float16), "bf16": ramp(3, (1, 3, 1), torch.bfloat16),
    "f64": ramp(2, (2,), torch.float64), "i64": torch.tensor([[-(2**63)], [2**63 - 1]]), "i32": torch.tensor([-1, 7], dtype=torch.int32),
    "u8": torch.tensor([0, 127, 255], dtype=torch.uint8), "scalar": ramp(1, (), torch.float32),
    "six": ramp(8, (1, 2, 1, 2, 1, 2), torch.float16), "empty": torch.zeros(0, 4), "empty too": torch.zeros(3, 0, 2, dtype=torch.uint8),
    "quote\"back\\slash/tab\tline\nbell\x07é漢😀\x7f": ramp(1, (1,), torch.float32),
}, os.path.join(here, "st_plain.safetensors"), metadata={"note": "a \"note\"\nof two lines, é漢😀"})

# Types that Weft has not, beside one that it has.
save_file({
    "bool": torch.tensor([True, False, True]), "i8": torch.tensor([-1, 5], dtype=torch.int8), "i16": torch.tensor([-2, 3, 4], dtype=torch.int16),
    "u16": torch.tensor([65535, 1], dtype=torch.uint16), "u32": torch.tensor([4294967295], dtype=torch.uint32),
    "u64": torch.tensor([2**64 - 1], dtype=torch.uint64), "f8a": torch.tensor([1.0, 2.0, 0.5]).to(torch.float8_e4m3fn),
    "f8b": torch.tensor([[1.0], [2.0]]).to(torch.float8_e5m2), "c64": torch.tensor([1 + 2j]), "f32": ramp(3, (3,), torch.float32),
}, os.path.join(here, "st_foreign.safetensors"))

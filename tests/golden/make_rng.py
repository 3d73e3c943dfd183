"""Writes rng.safetensors: random numbers of PyTorch's CPU generator, and of its CUDA generator worked out in NumPy.

Whole arrays where they are short or compared with a tolerance; elsewhere a checksum: sum of word[i]·(2i+1) modulo 2^64 over the
array's 32-bit words, which no change of a single word leaves as it was.

    pip install torch==2.15.0 numpy safetensors
    python3 make_rng.py
"""
import numpy as np
import torch
from safetensors.numpy import save_file

SEEDS = [0, 1, 42, 123456789, 2**32 - 1, 2**32, 2**32 + 5, 2**63 - 1]
SIZES = [1, 2, 3, 7, 14, 15, 16, 17, 31, 32, 33, 100, 1000, 16384, 16385, 65536]
RANGES = [(0, 1), (0, 2), (0, 1000), (-5, 12), (0, 2**28 - 1), (0, 2**28), (0, 2**32 - 1), (0, 2**32), (-(2**62), 2**62),
          (-(2**63), 2**63 - 1), (7, 8)]
LENGTHS = [0, 1, 2, 10, 1000, 100000]


def checksum(a):
    w = np.frombuffer(np.ascontiguousarray(a).tobytes(), dtype=np.uint32).astype(np.uint64)
    i = np.arange(w.size, dtype=np.uint64)
    with np.errstate(over="ignore"):
        return np.array((w * (2 * i + 1)).sum(dtype=np.uint64)).view(np.int64)


def gen(seed):
    return torch.Generator("cpu").manual_seed(seed)


def table(rows, columns, draw):
    return np.array([[checksum(draw(r, c).numpy()) for c in columns] for r in rows], dtype=np.int64)


def mixed(seed):
    """One generator, calls of all kinds in a row; the odd counts leave a cached normal for later."""
    g, out = gen(seed), []
    out.append(torch.randn(3, generator=g))
    out.append(torch.randn(5, generator=g, dtype=torch.float64))
    out.append(torch.rand(2, generator=g))
    out.append(torch.randint(0, 1000, (4,), generator=g))
    out.append(torch.randn(1, generator=g))
    out.append(torch.randn(16, generator=g))
    out.append(torch.randn(1, generator=g))
    out.append(torch.randperm(7, generator=g))
    out.append(torch.rand(3, generator=g, dtype=torch.float64))
    out.append(torch.randn(17, generator=g, dtype=torch.float64))
    out.append(torch.randint(0, 2**40, (3,), generator=g))
    out.append(torch.randn(700, generator=g))
    out.append(torch.randn(2, generator=g))
    return np.concatenate([t.numpy().astype(np.float64) for t in out])


# ---- Philox over a grid, after cuRAND's documentation and PyTorch's grid-stride loop ---------------------------------

def philox(seed, counter, sequence):
    m = np.uint64(0xFFFFFFFF)
    seq = np.asarray(sequence, dtype=np.uint64)
    c = [np.full(seq.shape, counter & 0xFFFFFFFF, np.uint64), np.full(seq.shape, counter >> 32, np.uint64), seq & m, seq >> np.uint64(32)]
    k = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]), p1 & m, (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]), p0 & m]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


class Cuda:
    def __init__(self, seed, multiprocessors=108, threads=2048):
        self.seed, self.offset, self.most = seed, 0, multiprocessors * (threads // 256)

    def draw(self, n, unroll, components):
        g = 256 * min(self.most, (n + 255) // 256)
        blocks = (n - 1) // (g * unroll) + 1
        parts = []
        for b in range(blocks):
            parts += components(philox(self.seed, self.offset // 4 + b, np.arange(g)))
        self.offset += 4 * blocks
        return np.concatenate(parts)[:n]

    def randn(self, n):
        def pair(x, y):
            f = np.float32(2.3283064e-10 * 6.2831855)
            u = x.astype(np.float32).astype(np.float64) * 2.0**-32 + 2.0**-33
            u = u.astype(np.float32).astype(np.float64)
            v = (y.astype(np.float32).astype(np.float64) * float(f) + float(f) / 2).astype(np.float32).astype(np.float64)
            r = np.sqrt(-2 * np.log(u))
            return [r * np.sin(v), r * np.cos(v)]
        return self.draw(n, 4, lambda c: pair(c[0], c[1]) + pair(c[2], c[3]))

    def randn64(self, n):
        def pair(c):
            u = ((c[0] ^ (c[1] << np.uint64(21))).astype(np.float64) * 2.0**-53 + 2.0**-54)
            v = ((c[2] ^ (c[3] << np.uint64(21))).astype(np.float64) * 2.0**-52 + 2.0**-53)
            r = np.sqrt(-2 * np.log(u))
            return [r * np.sin(np.pi * v), r * np.cos(np.pi * v)]
        return self.draw(n, 2, pair)

    def rand(self, n):
        def one(c):
            u = (c.astype(np.float32).astype(np.float64) * 2.0**-32 + 2.0**-33).astype(np.float32)
            return np.where(u == 1, np.float32(0), u)
        return self.draw(n, 4, lambda c: [one(x) for x in c])

    def randint(self, low, high, n):
        size = high - low
        if size >= 2**28:
            def wide(c):
                return [((c[0] << np.uint64(32)) | c[1]) % np.uint64(size), ((c[2] << np.uint64(32)) | c[3]) % np.uint64(size)]
            return self.draw(n, 2, wide).astype(np.int64) + low
        return self.draw(n, 4, lambda c: [x % np.uint64(size) for x in c]).astype(np.int64) + low


i64 = lambda a: np.array(a, dtype=np.int64)
f64, f32 = torch.float64, torch.float32
out = {
    "seeds": np.array(SEEDS, dtype=np.uint64).view(np.int64), "sizes": i64(SIZES), "ranges": i64(RANGES), "lengths": i64(LENGTHS),
    "sum.randn": table(SEEDS, SIZES, lambda s, n: torch.randn(n, generator=gen(s))),
    "sum.rand": table(SEEDS, SIZES, lambda s, n: torch.rand(n, generator=gen(s))),
    "sum.rand64": table(SEEDS, SIZES, lambda s, n: torch.rand(n, generator=gen(s), dtype=f64)),
    "sum.randint": table(SEEDS, RANGES, lambda s, r: torch.randint(r[0], r[1], (1000,), generator=gen(s))),
    "sum.randperm": table(SEEDS, LENGTHS, lambda s, n: torch.randperm(n, generator=gen(s))),
    "randn.0.4": torch.randn(4, generator=gen(0)).numpy(),
    "randn.0.20": torch.randn(20, generator=gen(0)).numpy(),
    "randn.42.1000": torch.randn(1000, generator=gen(42)).numpy(),
    "randn64.42.15": torch.randn(15, generator=gen(42), dtype=f64).numpy(),
    "randn64.42.500": torch.randn(500, generator=gen(42), dtype=f64).numpy(),
    "randint.0": torch.randint(0, 1000, (6,), generator=gen(0)).numpy(),
    "randperm.0": torch.randperm(10, generator=gen(0)).numpy(),
    "mixed.7": mixed(7),
}
c = Cuda(0)
out["cuda.0.12"] = c.randn(12)
c = Cuda(2**40 + 3, 2, 512)     # 1024 threads: three blocks each, offsets growing over the calls
out["cuda.randn"] = np.concatenate([c.randn(700), c.randn(3000), c.randn(2)])
out["cuda.randn64"] = np.concatenate([c.randn64(5), c.randn64(2500)])
rand, small, big = c.rand(9000), c.randint(-3, 1000, 5000), c.randint(0, 2**40, 5000)
out["sum.cuda"] = i64([checksum(rand), checksum(small), checksum(big)])
out["cuda.offset"] = i64([c.offset])
save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, __file__.replace("make_rng.py", "rng.safetensors"))

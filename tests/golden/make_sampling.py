"""Writes sampling.safetensors: noise tables, schedules, and every sampling method step by step.

Run: python3 tests/golden/make_sampling.py
     (torch 2.15, scipy 1.17, safetensors 0.8, k-diffusion 0.1.1.post1 with torchsde and torchdiffeq)

The model is x0 = x·a/(σ² + a) + b·tanh(x) with a = 0.7, b = 0.1, in float64, so what is written is good to float32's last
bit. euler, euler_ancestral, heun, dpm_2, dpm_2_ancestral, lms, dpmpp_2s_ancestral, dpmpp_2m and the sde methods are k-diffusion's; lms
ends with x0 itself, as ComfyUI's does (k-diffusion integrates to 0). The other methods and all schedules but karras and
exponential (k-diffusion's) are written out here from the papers' formulas and from how ComfyUI behaves.
  table.NAME              σ of 1000 timesteps; NAME: scaled_linear, linear, squaredcos_cap_v2, zero_snr
  schedule.NAME.STEPS     levels
  levels.METHOD.STEPS.DENOISE100    levels that KSampler takes of "normal"
  percent                 σ at 0.1, 0.2, … 0.9 of the way
  brownian, seeds         increments of k-diffusion's noise from a Brownian tree; words of NumPy's SeedSequence
  start                   the first x (2, 3, 3, 4), NHWC; METHOD.x.STEPS: x after each step
Fresh noise is torch's: one generator a method at seed 11, NCHW, float32; of the sde methods torchsde's tree at that seed.
"""
import importlib
import math
import os
import site
import sys
import types

import numpy as np
import torch
from safetensors.numpy import save_file
from scipy import stats

# The package's own __init__ wants what sampling does not.
for folder in site.getsitepackages():
    if os.path.isdir(os.path.join(folder, "k_diffusion")):
        package = types.ModuleType("k_diffusion")
        package.__path__ = [os.path.join(folder, "k_diffusion")]
        sys.modules["k_diffusion"] = package
        utils = types.ModuleType("k_diffusion.utils")
        utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
        sys.modules["k_diffusion.utils"] = package.utils = utils
K = importlib.import_module("k_diffusion.sampling")

out = {}


def betas(kind):
    if kind == "linear":
        return np.linspace(0.0001, 0.02, 1000)
    if kind == "squaredcos_cap_v2":
        f = lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        return np.array([min(1 - f((i + 1) / 1000) / f(i / 1000), 0.999) for i in range(1000)])
    return np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2


def sigmas_of(abar):
    return ((1 - abar) / abar) ** 0.5


for kind in ["scaled_linear", "linear", "squaredcos_cap_v2"]:
    out["table." + kind] = sigmas_of(np.cumprod(1 - betas(kind))).astype(np.float32)
root = np.sqrt(np.cumprod(1 - betas("scaled_linear")))
root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
abar = root**2
abar[-1] = 4.8973451890853435e-08
out["table.zero_snr"] = sigmas_of(abar).astype(np.float32)

table = torch.from_numpy(out["table.scaled_linear"])
logs = torch.from_numpy(sigmas_of(np.cumprod(1 - betas("scaled_linear")))).log().float()


def sigma_at(t):
    t = torch.as_tensor(t, dtype=torch.float32).clamp(0, 999)
    w = t.frac()
    return ((1 - w) * logs[t.floor().long()] + w * logs[t.ceil().long()]).exp()


def append_zero(x):
    return torch.cat([torch.as_tensor(x, dtype=torch.float32), torch.zeros(1)])


def beta_levels(n):
    at = np.rint(stats.beta.ppf(1 - np.linspace(0, 1, n, endpoint=False), 0.6, 0.6) * 999).astype(int)
    keep = [t for i, t in enumerate(at) if i == 0 or t != at[i - 1]]
    return append_zero(table[keep])


def ddim_levels(n):
    return append_zero(table[list(range(1, 1000, max(1000 // n, 1)))].flip(0))


def linear_quadratic(n, threshold=0.025):
    if n == 1:
        return append_zero(table[-1:])
    line = n // 2
    rest = n - line
    gap = line - threshold * n
    q, m = gap / (line * rest**2), threshold / line - 2 * gap / rest**2
    parts = [i * threshold / line for i in range(line)]
    parts += [q * i**2 + m * i + q * line**2 for i in range(line, n)]
    return append_zero(torch.tensor([1 - p for p in parts], dtype=torch.float32) * table[-1])


def kl_optimal(n):
    w = torch.arange(n, dtype=torch.float32) / max(n - 1, 1)
    return append_zero((w * math.atan(table[0]) + (1 - w) * math.atan(table[-1])).tan())


SCHEDULES = {
    "simple": lambda n: append_zero(table[[-1 - int(i * (1000 / n)) for i in range(n)]]),
    "sgm_uniform": lambda n: append_zero(sigma_at(torch.linspace(999, 0, n + 1)[:-1])),
    "karras": lambda n: K.get_sigmas_karras(n, float(table[0]), float(table[-1])),
    "exponential": lambda n: K.get_sigmas_exponential(n, float(table[0]), float(table[-1])),
    "ddim_uniform": ddim_levels,
    "beta": beta_levels,
    "normal": lambda n: append_zero(sigma_at(torch.linspace(999, 0, n))),
    "linear_quadratic": linear_quadratic,
    "kl_optimal": kl_optimal,
}
for name, make in SCHEDULES.items():
    for n in [1, 2, 3, 7, 20, 30] + [999] * (name == "beta"):
        out[f"schedule.{name}.{n}"] = make(n).numpy()


def ksampler_levels(drops, steps, denoise):
    n = steps if denoise > 0.9999 else int(steps / denoise)
    s = SCHEDULES["normal"](n + drops)
    if drops:
        s = torch.cat([s[:-2], s[-1:]])
    return s[-(steps + 1):]


for method, drops in [("euler", 0), ("dpm_2", 1), ("uni_pc", 1)]:
    for steps, denoise in [(5, 100), (5, 60), (3, 33), (1, 100)]:
        out[f"levels.{method}.{steps}.{denoise}"] = ksampler_levels(drops, steps, denoise / 100).numpy()
out["percent"] = np.array([sigma_at((1 - i / 10) * 999) for i in range(1, 10)], np.float32)


# ---- methods ----------------------------------------------------------------------------------------------------------

def model(x, sigma, **_):
    sigma = sigma.reshape(-1, *[1] * (x.ndim - 1)) if torch.is_tensor(sigma) and sigma.ndim else sigma
    return x * 0.7 / (sigma**2 + 0.7) + 0.1 * torch.tanh(x)


class Noise:
    def __init__(self):
        self.generator = torch.Generator().manual_seed(11)

    def __call__(self, *_):
        return torch.randn(2, 4, 3, 3, generator=self.generator).double()


def chain(function, x, s, **more):
    """x after each step, from a k-diffusion function."""
    seen = []
    end = function(model, x, s, callback=lambda d: seen.append(d["x"].clone()), disable=True, **more)
    return seen[1:] + [end]


def lms(x, s):
    """k-diffusion's up to the last level above 0, then x0."""
    steps = chain(K.sample_lms, x, s)
    if s[-1] == 0:
        before = steps[-2] if len(steps) > 1 else x
        steps[-1] = model(before, s[-2])
    return steps


def plain(step):
    """A loop over steps that look back: step(x, d, x0, i, s, history) → x'."""
    def run(x, s):
        history, xs = [], []
        for i in range(len(s) - 1):
            x0 = model(x, s[i])
            d = (x - x0) / s[i]
            history.append((d, x0))
            x = x0 if s[i + 1] == 0 else step(x, d, x0, i, s, history)
            xs.append(x)
        return xs
    return run


def ipndm(x, d, x0, i, s, h):
    w = [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]][min(i, 3)]
    return x + (s[i + 1] - s[i]) * sum(k * h[-1 - j][0] for j, k in enumerate(w))


def gradient_estimation(x, d, x0, i, s, h):
    return x + (s[i + 1] - s[i]) * (2 * d - h[-2][0] if i else d)


def res_multistep(x, d, x0, i, s, h):
    if not i:
        return x + (s[1] - s[0]) * d
    step = torch.log(s[i] / s[i + 1])
    c2 = torch.log(s[i] / s[i - 1]) / step
    phi1 = torch.expm1(-step) / -step
    phi2 = (phi1 - 1) / -step
    return torch.exp(-step) * x + step * ((phi1 - phi2 / c2) * x0 + phi2 / c2 * h[-2][1])


def lcm(x, s):
    noise, xs = Noise(), []
    for i in range(len(s) - 1):
        x = model(x, s[i])
        if s[i + 1] > 0:
            x = x + s[i + 1] * noise()
        xs.append(x)
    return xs


def ddpm(x, s):
    """In the papers' units, where x is √ᾱ·x0 + √(1 − ᾱ)·ε: the posterior's mean by x0 and x."""
    noise, xs = Noise(), []
    for i in range(len(s) - 1):
        a, b = 1 / (s[i] ** 2 + 1), 1 / (s[i + 1] ** 2 + 1)
        x0, y = model(x, s[i]), x * a.sqrt()
        y = b.sqrt() * (1 - a / b) / (1 - a) * x0 + (a / b).sqrt() * (1 - b) / (1 - a) * y
        if s[i + 1] > 0:
            y = y + ((1 - b) / (1 - a) * (1 - a / b)).sqrt() * noise()
        x = y / b.sqrt()
        xs.append(x)
    return xs


def uni_pc(variant):
    """In variance-preserving units, the paper's algorithm: predict, evaluate, correct; λ = ln(α/s)."""
    def run(x, s):
        s = s.clone()
        if s[-1] == 0:
            s[-1] = 0.001
        n = len(s) - 1
        order = max(min(3, n - 1), 1)
        alpha, std = 1 / (s**2 + 1).sqrt(), s / (s**2 + 1).sqrt()
        lam = (alpha / std).log()
        y, xs = x * alpha[0], []
        ms = [model(x, s[0])]
        for k in range(1, n + 1):
            p = k if k < order else min(order, n + 1 - k)
            h = lam[k] - lam[k - 1]
            hh = -h
            rk = [float((lam[k - 1 - j] - lam[k - 1]) / h) for j in range(1, p)] + [1.0]
            B = hh if variant == "bh1" else torch.expm1(hh)
            b, part, fact = [], torch.expm1(hh) / hh - 1, 1
            for i in range(1, p + 1):
                b.append(float(part * fact / B))
                fact *= i + 1
                part = part / hh - 1 / fact
            R = np.vander(np.array(rk), p, increasing=True).T
            D = [(ms[-1 - j] - ms[-1]) / rk[j - 1] for j in range(1, p)]
            base = std[k] / std[k - 1] * y - alpha[k] * torch.expm1(hh) * ms[-1]
            rho = [0.5] if p == 2 else np.linalg.solve(R[:-1, :-1], b[:-1]) if p > 2 else []
            guess = base - alpha[k] * B * sum(float(r) * d for r, d in zip(rho, D))
            xs.append(guess / alpha[k])
            if k == n:
                break
            m = model(guess / alpha[k], s[k])
            rho = [0.5] if p == 1 else np.linalg.solve(R, b)
            y = base - alpha[k] * B * sum(float(r) * d for r, d in zip(rho, D + [m - ms[-1]]))
            ms.append(m)
        return xs
    return run


class Brownian:
    """k-diffusion's noise from a tree in float32, at seed 11, over these levels."""
    def __init__(self, x, s):
        self.tree = K.BrownianTreeNoiseSampler(x.float(), s[s > 0].min(), s.max(), seed=11)

    def __call__(self, a, b):
        return self.tree(a, b).double()


def tree(f, **more):
    def run(x, s):
        if len(s) == 2 and s[1] == 0:       # where k-diffusion's of one evaluation a step fail
            return [model(x, s[0])]
        return chain(f, x, s, noise_sampler=Brownian(x, s), **more)
    return run


fresh = lambda f: lambda x, s: chain(f, x, s, noise_sampler=Noise())
METHODS = {
    "euler": lambda x, s: chain(K.sample_euler, x, s),
    "euler_ancestral": fresh(K.sample_euler_ancestral),
    "heun": lambda x, s: chain(K.sample_heun, x, s),
    "dpm_2": lambda x, s: chain(K.sample_dpm_2, x, s),
    "dpm_2_ancestral": fresh(K.sample_dpm_2_ancestral),
    "lms": lms,
    "dpmpp_2s_ancestral": fresh(K.sample_dpmpp_2s_ancestral),
    "dpmpp_2m": lambda x, s: chain(K.sample_dpmpp_2m, x, s),
    "dpmpp_sde": tree(K.sample_dpmpp_sde),
    "dpmpp_2m_sde": tree(K.sample_dpmpp_2m_sde),
    "dpmpp_2m_sde_heun": tree(K.sample_dpmpp_2m_sde, solver_type="heun"),
    "dpmpp_3m_sde": tree(K.sample_dpmpp_3m_sde),
    "ddpm": ddpm,
    "lcm": lcm,
    "ipndm": plain(ipndm),
    "res_multistep": plain(res_multistep),
    "gradient_estimation": plain(gradient_estimation),
    "ddim": lambda x, s: chain(K.sample_euler, x, s),
    "uni_pc": uni_pc("bh1"),
    "uni_pc_bh2": uni_pc("bh2"),
}
start = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(5)) * 14.6
nhwc = lambda t: np.ascontiguousarray(t.permute(0, 2, 3, 1).float().numpy())
out["start"] = nhwc(start)
for name, run in METHODS.items():
    for n in [1, 2, 3, 8]:
        s = SCHEDULES["karras"](n).double()
        out[f"{name}.x.{n}"] = np.stack([nhwc(x) for x in run(start.double(), s)])
# an end above 0
s = SCHEDULES["karras"](8).double()[:5]
for name, run in METHODS.items():
    out[f"{name}.cut"] = nhwc(run(start.double(), s)[-1])

g = K.BrownianTreeNoiseSampler(torch.zeros(2, 4, 3, 3), torch.tensor(0.03), torch.tensor(14.6), seed=2**40 + 7)
out["brownian"] = np.stack([nhwc(g(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)))
                            for a, b in [(14.6, 9.0), (9.0, 8.999), (1.234567, 0.03), (0.5, 0.7), (14.6, 0.03)]])
out["seeds"] = np.array([np.random.SeedSequence(seed, spawn_key=key, pool_size=24).generate_state(4)
                         for seed, key in [(0, ()), (2**63 + 5, (0, 0)), (11, (3, 2)), (7, (2**33 + 1, 34))]], np.int64)

save_file({k: np.ascontiguousarray(v) for k, v in out.items()},
          os.path.join(os.path.dirname(os.path.abspath(__file__)), "sampling.safetensors"))

"""Writes losses.safetensors: gradients of losses by what a model said, weights of images, noise for training.

Run: python3 make_losses.py     (torch 2.15, diffusers 0.42.1, safetensors 0.8)

  clean, noise, said       (6, 4, 5, 3), NHWC, exact in float32; timesteps (6)
  NAME.loss, NAME.grad     in float64; NAME: TARGET.LOSS.WEIGHTING, or prior.TARGET.WEIGHTING with prior_weight 0.7
  drawn.noise, .mixed      training_noise of (2, 3, 4, 5) channels first, as NHWC: seed 4, offset 0.1, perturbation 0.2
"""
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from safetensors.torch import save_file

torch.manual_seed(9)
N, GAMMA, DELTA = 6, 5.0, 0.4
clean, noise, said = (torch.randn(N, 3, 4, 5) for _ in range(3))
timesteps = torch.tensor([0, 3, 120, 400, 800, 999])
scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()     # diffusers' table is float32; what follows is exact
snr = compute_snr(scheduler, timesteps).double()
out = {"timesteps": timesteps}
for name, x in [("clean", clean), ("noise", noise), ("said", said)]:
    out[name] = x.permute(0, 2, 3, 1)
clean, noise, said = clean.double(), noise.double(), said.double()


def target_of(kind):
    if kind == "epsilon":
        return noise
    return clean if kind == "sample" else scheduler.get_velocity(clean, noise, timesteps)


def weights_of(kind, weighting):
    if weighting == "none":
        return torch.ones(N, dtype=torch.float64)
    if weighting == "debiased":
        r = snr.clamp(max=1000)
        return {"epsilon": 1 / r.sqrt(), "v_prediction": 1 / (r + 1), "sample": r.sqrt()}[kind]
    kept = snr if weighting == "snr" else torch.minimum(snr, torch.tensor(GAMMA, dtype=torch.float64))
    return {"epsilon": kept / snr, "v_prediction": kept / (snr + 1), "sample": kept}[kind]


def each_of(loss, said, target):
    each = {
        "mse": lambda: F.mse_loss(said, target, reduction="none"),
        "l1": lambda: F.l1_loss(said, target, reduction="none"),
        "huber": lambda: F.huber_loss(said, target, reduction="none", delta=DELTA),
        "smooth_l1": lambda: F.smooth_l1_loss(said, target, reduction="none", beta=DELTA),
    }[loss]()
    return each.mean(dim=(1, 2, 3))


def keep(name, make):
    x = said.clone().requires_grad_()
    value = make(x)
    value.backward()
    out[name + ".loss"] = value.detach()
    out[name + ".grad"] = x.grad.permute(0, 2, 3, 1)


for kind in ["epsilon", "v_prediction", "sample"]:
    for loss, weighting in [("mse", "none"), ("l1", "none"), ("huber", "none"), ("smooth_l1", "snr"), ("mse", "snr"),
                            ("mse", "min_snr"), ("mse", "debiased")]:
        keep(f"{kind}.{loss}.{weighting}",
             lambda x: (each_of(loss, x, target_of(kind)) * weights_of(kind, weighting)).mean())
    for weighting in ["none", "min_snr"]:
        def prior(x):
            each = each_of("mse", x, target_of(kind))
            instance = (each[:3] * weights_of(kind, weighting)[:3]).mean()
            return instance + 0.7 * each[3:].mean()
        keep(f"prior.{kind}.{weighting}", prior)

generator = torch.Generator().manual_seed(4)
drawn = torch.randn(2, 3, 4, 5, generator=generator)
drawn = drawn + 0.1 * torch.randn(2, 3, 1, 1, generator=generator)
mixed = drawn + 0.2 * torch.randn(2, 3, 4, 5, generator=generator)
out["drawn.noise"], out["drawn.mixed"] = drawn.permute(0, 2, 3, 1), mixed.permute(0, 2, 3, 1)
save_file({k: v.contiguous() for k, v in out.items()}, "losses.safetensors")

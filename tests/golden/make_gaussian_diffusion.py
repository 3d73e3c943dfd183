"""Writes gaussian_diffusion.safetensors: GaussianDiffusion of denoising_diffusion_pytorch: tables, losses, sampling.

Run: python3 make_gaussian_diffusion.py     (torch 2.15, denoising-diffusion-pytorch 2.3.4, scipy 1.17.1, safetensors 0.8)

The models are tiny, their weights come from golden_weights.py, and they run in float64 on tables that the package rounds to float32;
noise is drawn in float32 as it draws it. NHWC.
  metadata              "unet": the Unet's arguments; "unet.self": the same with self_condition
  table.SCHEDULE.T      alphas_cumprod
  times.T.S             the timesteps of DDIM with S of T steps
  clean, noise          what all losses are of; timesteps
  loss.OBJECTIVE.WEIGHT[.self]   of each image; WEIGHT: plain, min_snr (gamma 5); self: conditioned on an estimate
  grad.OBJECTIVE[.self].NAME     gradient of the plain loss's mean by a parameter
  sample.CASE.case      {"config", "steps", "eta", "self"} as UTF-8 bytes
  sample.CASE.x         (steps + 1, 2, 8, 8, 3): the first noise, from seed 11, and the sample after each step
  match.samples, .noise, .order   which noise each sample is given by immiscible diffusion
"""
import json
import os

import denoising_diffusion_pytorch.denoising_diffusion_pytorch as original
import numpy as np
import torch
from safetensors.numpy import save_file

import golden_weights

CONFIG = dict(dim=8, dim_mults=[1, 2], channels=3, attn_heads=2, attn_dim_head=8)
SIZE, N = 8, 6
nhwc = lambda t: np.ascontiguousarray(t.detach().permute(0, 2, 3, 1).float().numpy())
bytes_of = lambda o: np.frombuffer(json.dumps(o).encode(), np.uint8)
given = lambda name, n: torch.from_numpy(golden_weights.values(name, 6, (n, 3, SIZE, SIZE))).double()
randn = torch.randn
torch.randn = lambda *shape, **more: randn(*shape, **more).double()
torch.randn_like = lambda t: randn(t.shape).double()


def diffusion(self_condition=False, **arguments):
    model = golden_weights.fill(original.Unet(**CONFIG, self_condition=self_condition).double().eval())
    model.register_forward_pre_hook(lambda _, inputs: (inputs[0], inputs[1].double(), *inputs[2:]))
    return original.GaussianDiffusion(model, image_size=SIZE, **arguments).double()


def tables(out):
    for schedule, steps in [("linear", 1000), ("linear", 64), ("cosine", 1000), ("cosine", 30), ("sigmoid", 1000), ("sigmoid", 30)]:
        d = original.GaussianDiffusion(original.Unet(4, dim_mults=(1,)), image_size=8, timesteps=steps, beta_schedule=schedule)
        out[f"table.{schedule}.{steps}"] = d.alphas_cumprod.numpy()
    for total, steps in [(1000, 250), (1000, 7), (1000, 3), (1000, 150), (1000, 999), (30, 11), (17, 5)]:
        times = torch.linspace(-1, total - 1, steps=steps + 1)      # as in ddim_sample()
        out[f"times.{total}.{steps}"] = np.array(list(reversed(times.int().tolist()))[:-1], np.int32)


def losses(out):
    clean, noise = given("clean", N).clamp(-1, 1), given("noise", N)
    timesteps = torch.tensor([0, 3, 120, 400, 800, 990])
    out["clean"], out["noise"], out["timesteps"] = nhwc(clean), nhwc(noise), timesteps.numpy()
    for objective in ["pred_noise", "pred_x0", "pred_v"]:
        for self_condition in [False, True]:
            end = ".self" if self_condition else ""
            original.random = lambda: 0.0       # an estimate always, where it is by chance half of the time
            for weight in ["plain", "min_snr"]:
                d = diffusion(self_condition, objective=objective, min_snr_loss_weight=weight == "min_snr")
                loss = d.p_losses(clean, timesteps, noise=noise, loss_reduction="none")
                out[f"loss.{objective}.{weight}{end}"] = loss.detach().float().numpy()
                if weight == "plain":
                    loss.mean().backward()
                    for name in ["final_conv.bias", "downs.0.0.block1.norm.g"]:
                        out[f"grad.{objective}{end}.{name}"] = dict(d.model.named_parameters())[name].grad.float().numpy()


SAMPLES = {
    # name: arguments of GaussianDiffusion, steps, eta, self_condition
    "ddim_v": ({}, 6, 0.0, False),
    "ddim_noise": (dict(objective="pred_noise", beta_schedule="cosine"), 7, 0.0, False),
    "ddim_x0": (dict(objective="pred_x0", beta_schedule="linear"), 5, 0.7, False),
    "ddim_self": ({}, 6, 1.0, True),
    "ddim_odd": (dict(timesteps=30), 11, 0.3, False),
    "ddpm_v": (dict(timesteps=8), 8, 0.0, False),
    "ddpm_noise": (dict(timesteps=24, objective="pred_noise", beta_schedule="linear"), 24, 0.0, False),
    "ddpm_x0": (dict(timesteps=8, objective="pred_x0", beta_schedule="cosine"), 8, 0.0, False),
    "ddpm_self": (dict(timesteps=8), 8, 0.0, True),
}


def sampling(out):
    for name, (arguments, steps, eta, self_condition) in SAMPLES.items():
        d = diffusion(self_condition, sampling_timesteps=steps, ddim_sampling_eta=eta, auto_normalize=False, **arguments)
        torch.manual_seed(11)
        x = d.sample(batch_size=2, return_all_timesteps=True)
        out[f"sample.{name}.case"] = bytes_of({"config": {"_class_name": "GaussianDiffusion"} | arguments, "steps": steps, "eta": eta,
                                               "self": self_condition})
        out[f"sample.{name}.x"] = np.stack([nhwc(x[:, i]) for i in range(x.shape[1])])


def matching(out):
    d = diffusion()
    samples, noise = given("match.samples", 13), given("match.noise", 13)
    out["match.samples"], out["match.noise"] = nhwc(samples), nhwc(noise)
    out["match.order"] = d.noise_assignment(samples, noise).numpy()


def main():
    out = {}
    tables(out)
    losses(out)
    sampling(out)
    matching(out)
    metadata = {"unet": json.dumps(CONFIG), "unet.self": json.dumps(CONFIG | {"self_condition": True})}
    save_file(out, os.path.join(os.path.dirname(os.path.abspath(__file__)), "gaussian_diffusion.safetensors"), metadata)


if __name__ == "__main__":
    main()

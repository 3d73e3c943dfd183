"""Writes pipeline.safetensors: text to picture by diffusers, redrawing under a mask by ComfyUI's rules, losses.

Run: python3 tests/golden/make_pipeline.py bpe_simple_vocab_16e6.txt.gz

The models are make_checkpoint.py's tiny ones of Stable Diffusion 1, in float64.
  ids (3, 77)            of the two prompts and of the empty one; metadata "prompt.K"
  noise (2, 4, 8, 6)     the first latents, of PyTorch's generator at seed 7 (64 pixels high, 48 wide)
  CASE.x, CASE.image     latents after each evaluation and the picture in 0…1, NHWC; CASE: pndm, dpm (dpmsolver++, Karras'
                         levels); guidance 5, 5 steps, an empty negative prompt
  mask.CHANNELS.out      what KSampler makes of latents under a mask: 4 channels, and an inpainting model's 9
  loss.TARGET.LOSS.WEIGHTING, velocity, noised          of Loss and AddNoise, by diffusers and PyTorch
"""
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (DDPMScheduler, DPMSolverMultistepScheduler, PNDMScheduler, StableDiffusionPipeline,
                       UNet2DConditionModel)
from diffusers.training_utils import compute_snr
from safetensors.numpy import save_file

import golden_weights
import make_checkpoint as models

PROMPTS = ["a photo of an astronaut riding a horse on mars", "a small red fox, 3 blue houses", ""]
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
nhwc = models.nhwc
out = {}


def pipelines(tokens):
    noise = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(7))
    out["noise"] = noise.numpy()
    parts = {p: models.model_of("sd1", p) for p in ["text_encoder", "unet", "vae"]}
    for case, scheduler in [("pndm", PNDMScheduler(skip_prk_steps=True, **SD)),
                            ("dpm", DPMSolverMultistepScheduler(use_karras_sigmas=True, **SD))]:
        pipe = StableDiffusionPipeline(tokenizer=tokens, scheduler=scheduler, safety_checker=None,
                                       feature_extractor=None, requires_safety_checker=False, **parts)
        pipe.set_progress_bar_config(disable=True)
        seen = []

        def watch(_pipe, _step, _t, given):
            seen.append(nhwc(given["latents"]))
            return given

        image = pipe(PROMPTS[:2], negative_prompt=["", ""], height=64, width=48, num_inference_steps=5, guidance_scale=5.0,
                     latents=noise.double(), output_type="np", callback_on_step_end=watch).images
        out[case + ".x"], out[case + ".image"] = np.stack(seen), image.astype(np.float32)


# ---- KSampler under a mask: ComfyUI's rules, written out ----------------------------------------------------------------

def masked(channels):
    """euler, normal, 4 of 5 steps (denoise 0.8), cfg 4, seed 3; the mask is half as large again as the latent."""
    unet = golden_weights.fill(UNet2DConditionModel(**(models.TINY["sd1"]["unet"] | {"in_channels": channels})).double().eval())
    latent = models.given("mask.latent", 6, 2, 4, 6, 4) * 0.18215
    texts = models.given("mask.positive", 6, 1, 77, 128), models.given("mask.negative", 6, 1, 77, 128)
    mask = models.given("mask.mask", 7, 1, 9, 6).abs()
    noise = torch.randn(2, 4, 6, 4, generator=torch.Generator().manual_seed(3)).double()
    abar = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    table = torch.from_numpy(((1 - abar) / abar) ** 0.5)
    logs = table.log().float()

    def sigma_at(t):
        low, w = int(np.floor(t)), t - np.floor(t)
        return float(((1 - w) * logs[low] + w * logs[min(low + 1, 999)]).exp())

    levels = [sigma_at(t) for t in np.linspace(999, 0, 5)] + [0.0]      # int(4/0.8) steps
    levels = levels[-5:]
    m = F.interpolate(mask[:, None], size=(6, 4), mode="bilinear").repeat(2, 4, 1, 1)
    more = torch.cat([m[:, :1].round(), latent], 1) if channels == 9 else None

    def x0_of(x, sigma, text):
        t = int((np.log(np.float32(sigma)) - logs).abs().argmin())
        seen = x / (sigma**2 + 1) ** 0.5
        seen = torch.cat([seen, more], 1) if more is not None else seen
        return x - sigma * unet(seen, torch.tensor([float(t)]), text.repeat(2, 1, 1)).sample

    x = latent + noise * levels[0]
    for sigma, after in zip(levels, levels[1:]):
        seen = x * m + (latent + noise * sigma) * (1 - m)
        positive, negative = (x0_of(seen, sigma, t) for t in texts)
        x0 = negative + (positive - negative) * 4.0
        x0 = x0 * m + latent * (1 - m)
        x = x + (x - x0) / sigma * (after - sigma)
    out[f"mask.{channels}.out"] = nhwc(x / 0.18215)


# ---- losses --------------------------------------------------------------------------------------------------------------

def losses():
    scheduler = DDPMScheduler(clip_sample=False, **SD)
    clean, noise, said = (models.given("loss." + n, 5, 3, 4, 5, 2) / 2 for n in ["clean", "noise", "said"])
    t = torch.tensor([0, 417, 999])
    snr = compute_snr(scheduler, t).double()
    targets = {"epsilon": noise, "v_prediction": scheduler.get_velocity(clean, noise, t), "sample": clean}
    out["velocity"], out["noised"] = nhwc(targets["v_prediction"]), nhwc(scheduler.add_noise(clean, noise, t))
    kinds = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": lambda *a, **k: F.huber_loss(*a, delta=0.7, **k),
             "smooth_l1": lambda *a, **k: F.smooth_l1_loss(*a, beta=0.7, **k)}
    for target, wanted in targets.items():
        kept = torch.minimum(snr, torch.tensor(5.0))
        by = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones(3)}[target]
        for weighting, w in {"none": torch.ones(3), "snr": snr / by, "min_snr": kept / by}.items():
            for name, loss in kinds.items():
                each = loss(said, wanted, reduction="none").mean(dim=(1, 2, 3)) * w
                out[f"loss.{target}.{name}.{weighting}"] = np.append(each, each.mean()).astype(np.float32)


tokens = models.tokenizer(sys.argv[1])
tokens.model_max_length = 77
ids = tokens(PROMPTS, padding="max_length", max_length=77, truncation=True).input_ids
out["ids"] = np.array(ids, dtype=np.int64)
with torch.no_grad():
    pipelines(tokens)
    masked(4)
    masked(9)
    losses()
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pipeline.safetensors")
save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, path,
          metadata={f"prompt.{i}": p for i, p in enumerate(PROMPTS)})
for k in ["pndm.x", "dpm.x", "pndm.image", "dpm.image", "mask.4.out", "mask.9.out"]:
    print(k, out[k].shape, np.abs(out[k]).max(), out[k].std())
print(os.path.getsize(path), "bytes")

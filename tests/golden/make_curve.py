"""Writes curve/: a small training run of diffusers, step by step: a UNet2DModel from golden_weights.py, AdamW, clipping, a cosine schedule
with warm-up, moving averages.

Run: python3 make_curve.py        (torch 2.15, diffusers 0.42.1, safetensors 0.8)

  curve/diffusers/tiny   the model before training, as DDPMPipeline saves it (float32)
  curve/data.safetensors what tests/lua/curve.lua reads, and "loss", "norm": of each step, in float64; "average": the loss of the averaged
                         model on the first batch
"""
import json, os, shutil

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from safetensors.torch import save_file

import golden_weights

STEPS, BATCH, SIDE, LR, WARMUP, DECAY = 20, 2, 8, 1e-3, 5, 0.9
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "curve")


def main():
    place = os.path.join(FOLDER, "diffusers", "tiny")
    shutil.rmtree(FOLDER, ignore_errors=True)
    model = UNet2DModel(sample_size=SIDE, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=8,
                        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"))
    golden_weights.fill(model)
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    model.save_pretrained(os.path.join(place, "unet"))
    scheduler.save_pretrained(os.path.join(place, "scheduler"))
    with open(os.path.join(place, "model_index.json"), "w") as f:
        json.dump({"_class_name": "DDPMPipeline", "_diffusers_version": "0.42.1", "scheduler": ["diffusers", "DDPMScheduler"],
                   "unet": ["diffusers", "UNet2DModel"]}, f, indent=2)

    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
    images = torch.stack([torch.stack([torch.sin(3 * x + i), torch.cos(2 * y - i), torch.sin(x * y + i)]) for i in range(5)]).float()
    noise = torch.randn(STEPS, BATCH, 3, SIDE, SIDE, generator=generator)
    timesteps = torch.randint(0, 1000, (STEPS, BATCH), generator=generator)
    order = torch.randint(0, 5, (STEPS, BATCH), generator=generator)

    model = model.double().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    schedule = get_cosine_schedule_with_warmup(optimizer, WARMUP, STEPS)
    ema = EMAModel(model.parameters(), decay=DECAY)

    def loss_of(step):
        noisy = scheduler.add_noise(images[order[step]].double(), noise[step].double(), timesteps[step])
        return torch.nn.functional.mse_loss(model(noisy, timesteps[step]).sample, noise[step].double())

    losses, norms = [], []
    for step in range(STEPS):
        loss = loss_of(step)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        ema.step(model.parameters())
        losses.append(loss.item())
    ema.copy_to(model.parameters())
    with torch.no_grad():
        average = loss_of(0).item()
    save_file({"images": images, "noise": noise, "timesteps": timesteps, "order": order, "loss": torch.tensor(losses, dtype=torch.float64),
               "norm": torch.tensor(norms, dtype=torch.float64), "average": torch.tensor([average], dtype=torch.float64)},
              os.path.join(FOLDER, "data.safetensors"), {"lr": repr(LR), "warmup": str(WARMUP), "decay": repr(DECAY)})
    print(np.array(losses), np.array(norms), average)


if __name__ == "__main__":
    main()

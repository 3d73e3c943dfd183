"""The same training in PyTorch and in Weft, step by step: do they lose the same?

    python3 tests/bench/loss_curve.py [--weft build/weft] [--steps 200] [--part 20] [--output loss_curve.csv]

Needs torch==2.15.0 and diffusers==0.42.1 (pip). The model is the UNet2DModel of diffusers' tutorial on unconditional training, at 32×32
pixels, batch 4, float32: weights as PyTorch makes them from a seed, saved for Weft; pictures, their order, noise and timesteps from
PyTorch's generator, handed over in a file; AdamW, clipping to a norm of 1, a cosine schedule with warm-up, EMAModel. Weft's side is
tests/lua/curve.lua, which runs beside PyTorch's. Prints both losses and gradients' norms with their relative differences, of the first
steps and then of every 20th, and writes all of them as CSV.
"""
import argparse, csv, json, os, subprocess, tempfile


def make_model(halve):
    from diffusers import UNet2DModel
    return UNet2DModel(sample_size=32, layers_per_block=2, block_out_channels=tuple(c // (2 if halve else 1) for c in (128, 128, 256, 256, 512, 512)),
                       down_block_types=("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
                       up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4)


def make_data(args):
    """Drawn pictures: a disc of a colour on a ground of another, in [−1, 1]."""
    import torch
    g = torch.Generator().manual_seed(args.seed)
    n, side = 256, 32
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    place, size = torch.rand(n, 2, 1, 1, generator=g) * 1.2 - 0.6, torch.rand(n, 1, 1, generator=g) * 0.4 + 0.15
    disc = ((x - place[:, 0]) ** 2 + (y - place[:, 1]) ** 2 < size ** 2).float()[:, None]
    colour, ground = torch.rand(n, 3, 1, 1, generator=g) * 2 - 1, torch.rand(n, 3, 1, 1, generator=g) * 2 - 1
    return {"images": disc * colour + (1 - disc) * ground, "noise": torch.randn(args.steps, args.batch, 3, side, side, generator=g),
            "timesteps": torch.randint(0, 1000, (args.steps, args.batch), generator=g),
            "order": torch.stack([torch.randperm(n, generator=g)[:args.batch] for _ in range(args.steps)])}


def pytorch(args, folder, data):
    import torch
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_cosine_schedule_with_warmup
    from diffusers.training_utils import EMAModel
    torch.set_num_threads(args.threads)
    model = UNet2DModel.from_pretrained(os.path.join(folder, "diffusers", "ddpm", "unet")).train()
    scheduler, optimizer = DDPMScheduler(num_train_timesteps=1000), torch.optim.AdamW(model.parameters(), lr=args.lr)
    schedule = get_cosine_schedule_with_warmup(optimizer, args.warmup, args.steps)
    ema = EMAModel(model.parameters(), decay=0.9999)
    for step in range(args.steps):
        clean, noise, times = data["images"][data["order"][step]], data["noise"][step], data["timesteps"][step]
        loss = torch.nn.functional.mse_loss(model(scheduler.add_noise(clean, noise, times), times).sample, noise)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        ema.step(model.parameters())
        yield loss.item(), norm.item()


def weft(args, folder):
    here = os.path.dirname(os.path.abspath(__file__))
    command = [args.weft, os.path.join(here, "..", "lua", "curve.lua"), folder, "ddpm", os.path.join(folder, "data.safetensors"), str(args.threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            words = line.split()
            if words and words[0] != "average":
                yield float(words[1]), float(words[2])
    if process.returncode:
        raise SystemExit(f"weft ended with status {process.returncode}")


def prepare(args, folder):
    """The model before training and the data, as both sides read them."""
    import torch
    from diffusers import DDPMScheduler
    from safetensors.torch import save_file
    torch.manual_seed(args.seed)
    place = os.path.join(folder, "diffusers", "ddpm")
    make_model(args.halve).save_pretrained(os.path.join(place, "unet"))
    DDPMScheduler(num_train_timesteps=1000).save_pretrained(os.path.join(place, "scheduler"))
    with open(os.path.join(place, "model_index.json"), "w") as f:
        json.dump({"_class_name": "DDPMPipeline", "_diffusers_version": "0.42.1", "scheduler": ["diffusers", "DDPMScheduler"],
                   "unet": ["diffusers", "UNet2DModel"]}, f)
    data = make_data(args)
    save_file(data, os.path.join(folder, "data.safetensors"), {"lr": repr(args.lr), "warmup": str(args.warmup), "decay": "0.9999"})
    return data


def off(a, b):
    return abs(a / b - 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weft", default="build/weft")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--part", type=int, default=20, help="steps that must agree to 1e-3")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--halve", action="store_true", help="half the channels")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", default="loss_curve.csv")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(args, folder)
        columns = ["step", "pytorch_loss", "weft_loss", "relative", "pytorch_norm", "weft_norm", "relative_norm"]
        rows = []
        print("".join(f"{c:>15}" for c in columns), flush=True)
        with open(args.output + ".new", "w", newline="") as f:
            table = csv.writer(f)
            table.writerow(columns)
            for (loss, norm), (ours, our_norm) in zip(pytorch(args, folder, data), weft(args, folder)):
                rows.append([len(rows) + 1, loss, ours, off(ours, loss), norm, our_norm, off(our_norm, norm)])
                table.writerow(rows[-1])
                f.flush()
                if len(rows) <= args.part or len(rows) % 20 == 0:
                    print(f"{len(rows):15}" + "".join(f"{v:15.6g}" for v in rows[-1][1:]), flush=True)
        os.replace(args.output + ".new", args.output)
    worst, whole = max(r[3] for r in rows[:args.part]), max(r[3] for r in rows)
    mean = [sum(r[k] for r in rows[-50:]) / len(rows[-50:]) for k in (1, 2)]
    print(f"largest relative difference of the loss: {worst:.2e} in the first {args.part} steps, {whole:.2e} in all {len(rows)}; "
          f"mean of the last {len(rows[-50:])}: PyTorch {mean[0]:.5f}, Weft {mean[1]:.5f}")
    if len(rows) != args.steps or worst > 1e-3:
        raise SystemExit("they differ")


if __name__ == "__main__":
    main()

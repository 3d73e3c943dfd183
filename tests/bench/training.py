"""Training steps of Weft against PyTorch's on this machine, in one run, in turn.

    python3 tests/bench/training.py [--weft build/weft] [--runs 3] [NAME ...]

Needs torch==2.15.0, diffusers==0.42.1, transformers==5.23.0, peft==0.21.2 (pip). Names are those of `weft bench`: train-ddpm
train-ddpm-again train-shapes train-shapes-again train-shapes-text train-lora adamw ema clip. A step is forward, backward, clipping to a
norm of 1, AdamW and (but for the LoRA) diffusers' EMAModel, in float32; what has "again" in its name is activation-checkpointed on both
sides. For each: one warm-up of both, then `runs` times PyTorch, Weft, PyTorch, Weft …; prints both medians, the median of the pairwise
ratios Weft/PyTorch, and both processes' peak memory; behind PyTorch's, what its process held before it made the model. adamw, ema and
clip need up to 14 GB on each side: there PyTorch's process ends before Weft's begins. --fused: the fastest forms PyTorch has of them
(AdamW fused, EMAModel foreach).
"""
import argparse, json, multiprocessing, os, resource, statistics, subprocess, time

SHAPES = dict(sample_size=16, block_out_channels=(64, 96, 112), layers_per_block=1, norm_num_groups=16, cross_attention_dim=96,
              attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
              up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"))
SD15 = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8, block_out_channels=(320, 640, 1280, 1280))
TUTORIAL = dict(sample_size=64, in_channels=3, out_channels=3, layers_per_block=2, block_out_channels=(128, 128, 256, 256, 512, 512),
                down_block_types=("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4)
HUGE = ("adamw", "ema", "clip")


def step_of(predict, target, params, averages, fused):
    """What a training loop does for each batch."""
    import torch
    from diffusers.training_utils import EMAModel
    optimizer = torch.optim.AdamW(params, fused=fused or None)
    ema = EMAModel(params, foreach=fused) if averages else None

    def step():
        torch.nn.functional.mse_loss(predict(), target).backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        if ema:
            ema.step(params)
        optimizer.zero_grad()
    return step


def model_step(name, fused):
    import torch
    averages = True
    if name.startswith("train-ddpm"):
        from diffusers import UNet2DModel
        m = UNet2DModel(**TUTORIAL)
        x, t = torch.randn(4, 3, 64, 64), torch.full((4,), 500)
        predict, target = lambda: m(x, t).sample, torch.randn(4, 3, 64, 64)
    elif name == "train-shapes-text":
        from transformers import CLIPTextConfig, CLIPTextModel
        m = CLIPTextModel(CLIPTextConfig(vocab_size=616, hidden_size=96, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4,
                                         hidden_act="quick_gelu", projection_dim=96))
        ids = torch.randint(0, 614, (16, 77))
        predict, target = lambda: m(ids).last_hidden_state, torch.randn(16, 77, 96)
    else:
        from diffusers import UNet2DConditionModel
        lora = name == "train-lora"
        m = UNet2DConditionModel(**(SD15 if lora else SHAPES))
        n, side, width = (1, 32, 768) if lora else (16, 16, 96)
        if lora:
            from peft import LoraConfig
            m.requires_grad_(False)
            m.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
            averages = False
        x, t, context = torch.randn(n, 4, side, side), torch.full((n,), 500), torch.randn(n, 77, width)
        predict, target = lambda: m(x, t, context).sample, torch.randn(n, 4, side, side)
    m.train()
    if name.endswith("-again") or name == "train-lora":
        m.enable_gradient_checkpointing()
    return step_of(predict, target, [p for p in m.parameters() if p.requires_grad], averages, fused)


def huge_step(name, fused):
    import torch
    from diffusers import UNet2DConditionModel
    from diffusers.training_utils import EMAModel
    params = list(UNet2DConditionModel(**SD15).parameters())
    if name == "ema":
        ema = EMAModel(params, foreach=fused)
        return lambda: ema.step(params)
    for p in params:
        p.grad = torch.full_like(p, 1e-3)
    if name == "clip":
        for p in params:
            p.data = p.data[:0] if p.dim() else p.data      # the gradients alone are wanted
        return lambda: torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimizer = torch.optim.AdamW(params, fused=fused or None)
    return optimizer.step


def worker(name, threads, fused, pipe):
    import torch, diffusers, transformers, peft
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = (huge_step if name in HUGE else model_step)(name, fused)
    run()
    pipe.send(None)
    while pipe.recv():
        start = time.perf_counter()
        run()
        pipe.send(time.perf_counter() - start)
    pipe.send((before * 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


class PyTorch:
    """A process with one model, or, of those that need much memory, one for each time that is taken."""
    def __init__(self, args, name):
        self.args, self.name, self.peak, self.process = args, name, (0, 0), None
        if name not in HUGE:
            self.begin()

    def begin(self):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=worker, args=(self.name, self.args.threads, self.args.fused, theirs))
        self.process.start()
        self.pipe.recv()

    def end(self):
        if self.process:
            self.pipe.send(False)
            self.peak = max(self.peak, self.pipe.recv(), key=lambda p: p[1])
            self.process.join()
            self.process = None

    def time(self):
        if not self.process:
            self.begin()
        self.pipe.send(True)
        seconds = self.pipe.recv()
        if self.name in HUGE:
            self.end()
        return seconds


def weft(args, name):
    command = [args.weft, "bench", name, "--threads", str(args.threads), "--runs", "1", "--json"]
    if name == "train-lora":
        command += ["--dtype", "f16"]                       # as train_lora.lua has them of a file in f16
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["train-shapes", "train-shapes-again", "train-shapes-text", "train-ddpm", "train-ddpm-again",
                                                     "train-lora"])
    parser.add_argument("--weft", default="build/weft")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--fused", action="store_true", help="PyTorch with AdamW(fused=True) and EMAModel(foreach=True)")
    args = parser.parse_args()
    for name in args.names:
        theirs = PyTorch(args, name)
        weft(args, name)
        a, b, peak = [], [], 0
        for _ in range(args.runs):
            a.append(theirs.time())
            result = weft(args, name)
            b.append(result["seconds"])
            peak = max(peak, result["peak_resident_bytes"])
        theirs.end()
        before, most = theirs.peak
        ratio = statistics.median(y / x for x, y in zip(a, b))
        print(f"{name:18} PyTorch {statistics.median(a):8.3f} s  Weft {statistics.median(b):8.3f} s  ratio {ratio:.3f}   peak PyTorch "
              f"{most / 2**20:6.0f} MiB (before: {before / 2**20:.0f})  Weft {peak / 2**20:6.0f} MiB  ratio {peak / most:.3f}   "
              f"load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()

"""Weft against PyTorch on this machine, in one run, in turn.

    python3 tests/bench/pytorch.py [--weft build/weft] [--runs 3] [NAME ...]

Needs torch==2.15.0 and diffusers==0.42.1 transformers==5.23.0 (pip). Names are those of `weft bench`: sd15-unet sd15-text vae-decode
vae-encode train-unet train-again. For each: one warm-up of both, then `runs` times PyTorch, Weft, PyTorch, Weft …; prints both medians, the median of the
pairwise ratios Weft/PyTorch, and both processes' peak memory (PyTorch's in a process of its own, so that it holds one model only).
Models have Stable Diffusion 1.5's shapes and random weights; PyTorch computes in float32 with its scaled-dot-product attention; every
result's time excludes loading.
"""
import argparse, json, multiprocessing, os, resource, statistics, subprocess, time


def build(name):
    import torch
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    if name == "sd15-unet":
        from diffusers import UNet2DConditionModel
        m = UNet2DConditionModel(sample_size=64, in_channels=4, out_channels=4, cross_attention_dim=768, attention_head_dim=8,
                                 block_out_channels=(320, 640, 1280, 1280)).eval()
        x, t, ctx = torch.randn(2, 4, 64, 64), torch.tensor([500, 500]), torch.randn(2, 77, 768)
        return lambda: m(x, t, ctx).sample
    if name in ("train-unet", "train-again"):
        from diffusers import UNet2DConditionModel
        torch.set_grad_enabled(True)
        m = UNet2DConditionModel(sample_size=64, in_channels=4, out_channels=4, cross_attention_dim=768, attention_head_dim=8,
                                 block_out_channels=(128, 256, 512, 512)).train()
        if name == "train-again":
            m.enable_gradient_checkpointing()
        x, t, ctx, noise = torch.randn(2, 4, 64, 64), torch.tensor([500, 500]), torch.randn(2, 77, 768), torch.randn(2, 4, 64, 64)

        def step():
            m.zero_grad()
            torch.nn.functional.mse_loss(m(x, t, ctx).sample, noise).backward()
        return step
    if name == "sd15-text":
        from transformers import CLIPTextConfig, CLIPTextModel
        m = CLIPTextModel(CLIPTextConfig(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                                         num_attention_heads=12, hidden_act="quick_gelu", projection_dim=768)).eval()
        ids = torch.randint(0, 49000, (2, 77))
        return lambda: m(ids).last_hidden_state
    from diffusers import AutoencoderKL
    m = AutoencoderKL(block_out_channels=(128, 256, 512, 512), latent_channels=4, layers_per_block=2,
                      down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4).eval()
    if name == "vae-decode":
        z = torch.randn(1, 4, 64, 64)
        return lambda: m.decode(z).sample
    if name == "vae-encode":
        x = torch.randn(1, 3, 512, 512)
        return lambda: m.encode(x).latent_dist.mean
    raise SystemExit(f"no such benchmark: {name}")


def worker(name, threads, channels_last, pipe):
    import torch
    torch.set_num_threads(threads)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = build(name)
    if channels_last:
        run.__closure__ and [c.cell_contents.to(memory_format=torch.channels_last) for c in run.__closure__ if hasattr(c.cell_contents, "parameters")]
    run()
    pipe.send(None)
    while pipe.recv():
        start = time.perf_counter()
        run()
        pipe.send(time.perf_counter() - start)
    pipe.send((before * 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def weft(args, name):
    out = subprocess.run([args.weft, "bench", name, "--threads", str(args.threads), "--runs", "1", "--json", *args.weft_args.split()],
                         check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["sd15-unet", "sd15-text", "vae-decode", "vae-encode"])
    parser.add_argument("--weft", default="build/weft")
    parser.add_argument("--weft-args", default="", help="further options for `weft bench`, e.g. '--dtype f16'")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--channels-last", action="store_true", help="PyTorch with memory_format=channels_last")
    args = parser.parse_args()
    for name in args.names:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=worker, args=(name, args.threads, args.channels_last, theirs))
        process.start()
        ours.recv()
        weft(args, name)
        a, b, peak = [], [], 0
        for _ in range(args.runs):
            ours.send(True)
            a.append(ours.recv())
            result = weft(args, name)
            b.append(result["seconds"])
            peak = max(peak, result["peak_resident_bytes"])
        ours.send(False)
        before, theirs_peak = ours.recv()
        process.join()
        ratio = statistics.median(y / x for x, y in zip(a, b))
        print(f"{name:12} PyTorch {statistics.median(a):8.3f} s  Weft {statistics.median(b):8.3f} s  ratio {ratio:.3f}   "
              f"peak PyTorch {theirs_peak / 2**20:7.0f} MiB  Weft {peak / 2**20:7.0f} MiB  ratio {peak / theirs_peak:.3f}", flush=True)


if __name__ == "__main__":
    main()

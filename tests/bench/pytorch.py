"""Weft against PyTorch on this machine, in one run, in turn.

    python3 tests/bench/pytorch.py [--weft build/weft] [--runs 3] [NAME ...]
    python3 tests/bench/pytorch.py --device cuda [--compile] [NAME ...]

Needs torch==2.15.0 and diffusers==0.42.1 transformers==5.23.0 (pip). Names are those of `weft bench`: sd15-unet sd15-text vae-decode
vae-encode train-unet train-again; on a GPU also sd15-sample and sdxl-unet. For each: one warm-up of both, then `runs` times PyTorch, Weft,
PyTorch, Weft …; prints both medians, the median of the pairwise ratios Weft/PyTorch, and both processes' peak memory (PyTorch's in a process
of its own, so that it holds one model only): what is resident, or on a GPU what either's tensors took there. Models have Stable Diffusion
1.5's shapes and random weights; PyTorch computes in float32, on a GPU in float16, with its scaled-dot-product attention; --compile:
torch.compile(mode="max-autotune") and channels_last. Every result's time excludes loading and compiling.
"""
import argparse, json, multiprocessing, os, resource, statistics, subprocess, time

STEPS = {"sd15-sample": 20}


def diffusers_unet(name):
    from diffusers import UNet2DConditionModel
    if name == "sdxl-unet":
        return UNet2DConditionModel(sample_size=128, cross_attention_dim=2048, attention_head_dim=(5, 10, 20), block_out_channels=(320, 640, 1280),
                                    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                                    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2, 10),
                                    use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
                                    projection_class_embeddings_input_dim=2816)
    channels = (128, 256, 512, 512) if name.startswith("train") else (320, 640, 1280, 1280)
    return UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8, block_out_channels=channels)


def sampling(unet, like):
    """Euler over 20 steps, both texts as one batch, guidance 7.5."""
    import torch
    from diffusers import EulerDiscreteScheduler
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    noise, context = torch.randn(1, 4, 64, 64, **like), torch.randn(2, 77, 768, **like)

    def run():
        scheduler.set_timesteps(STEPS["sd15-sample"], device=like["device"])
        x = noise * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            out = unet(scheduler.scale_model_input(torch.cat([x, x]), t), t, context).sample
            uncond, cond = out.chunk(2)
            x = scheduler.step(uncond + 7.5 * (cond - uncond), t, x).prev_sample
        return x
    return run


def build(name, how):
    import torch
    torch.manual_seed(0)
    torch.set_grad_enabled(name.startswith("train"))
    like = {"device": how["device"], "dtype": torch.float32 if how["device"] == "cpu" or name.startswith("train") else torch.float16}

    def ready(model):
        model = model.to(**like)
        if how["channels_last"] or how["compile"]:
            model = model.to(memory_format=torch.channels_last)
        return torch.compile(model, mode="max-autotune") if how["compile"] else model
    if name in ("sd15-unet", "sd15-sample", "sdxl-unet"):
        m = ready(diffusers_unet(name).eval())
        if name == "sd15-sample":
            return sampling(m, like)
        side, width = (128, 2048) if name == "sdxl-unet" else (64, 768)
        x, t, ctx = torch.randn(2, 4, side, side, **like), torch.tensor([500, 500], device=how["device"]), torch.randn(2, 77, width, **like)
        added = {"text_embeds": torch.randn(2, 1280, **like), "time_ids": torch.full((2, 6), 1024.0, **like)} if name == "sdxl-unet" else None
        return lambda: m(x, t, ctx, added_cond_kwargs=added).sample
    if name in ("train-unet", "train-again"):
        m = ready(diffusers_unet(name).train())
        if name == "train-again":
            m.enable_gradient_checkpointing()
        x, t, ctx = torch.randn(2, 4, 64, 64, **like), torch.tensor([500, 500], device=how["device"]), torch.randn(2, 77, 768, **like)
        noise = torch.randn(2, 4, 64, 64, **like)

        def step():
            m.zero_grad()
            with torch.autocast("cuda", torch.bfloat16, enabled=how["device"] != "cpu"):
                out = m(x, t, ctx).sample
            torch.nn.functional.mse_loss(out.float(), noise).backward()
        return step
    if name == "sd15-text":
        from transformers import CLIPTextConfig, CLIPTextModel
        m = ready(CLIPTextModel(CLIPTextConfig(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                                               num_attention_heads=12, hidden_act="quick_gelu", projection_dim=768)).eval())
        ids = torch.randint(0, 49000, (2, 77), device=how["device"])
        return lambda: m(ids).last_hidden_state
    from diffusers import AutoencoderKL
    m = ready(AutoencoderKL(block_out_channels=(128, 256, 512, 512), latent_channels=4, layers_per_block=2,
                            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4).eval())
    if name == "vae-decode":
        z, decode = torch.randn(1, 4, 64, 64, **like), torch.compile(m.decode, mode="max-autotune") if how["compile"] else m.decode
        return lambda: decode(z).sample
    if name == "vae-encode":
        x, encode = torch.randn(1, 3, 512, 512, **like), torch.compile(m.encode, mode="max-autotune") if how["compile"] else m.encode
        return lambda: encode(x).latent_dist.mean
    raise SystemExit(f"no such benchmark: {name}")


def worker(name, threads, how, pipe):
    import torch
    torch.set_num_threads(threads)
    on_gpu = how["device"] != "cpu"
    before = 0 if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    run = build(name, how)

    def once():
        run()
        if on_gpu:
            torch.cuda.synchronize(how["device"])
    for _ in range(3 if on_gpu else 1):
        once()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(how["device"])
    pipe.send(None)
    while pipe.recv():
        times = []
        for _ in range(5 if on_gpu else 1):
            start = time.perf_counter()
            once()
            times.append(time.perf_counter() - start)
        pipe.send(statistics.median(times))
    peak = torch.cuda.max_memory_allocated(how["device"]) if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pipe.send((before, peak))


def weft(args, name):
    out = subprocess.run([args.weft, "bench", name, "--threads", str(args.threads), "--runs", "1" if args.device == "cpu" else "5", "--device", args.device,
                          "--json", *args.weft_args.split()],
                         check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="default: sd15-unet sd15-text vae-decode vae-encode, on a GPU sd15-sample and sdxl-unet too")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1 …")
    parser.add_argument("--compile", action="store_true", help='PyTorch with torch.compile(mode="max-autotune") and channels_last')
    parser.add_argument("--weft", default="build/weft")
    parser.add_argument("--weft-args", default="", help="further options for `weft bench`, e.g. '--dtype f16'")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--channels-last", action="store_true", help="PyTorch with memory_format=channels_last")
    args = parser.parse_args()
    how = {"device": args.device, "channels_last": args.channels_last, "compile": args.compile}
    extra = [] if args.device == "cpu" else ["sd15-sample", "sdxl-unet"]
    for name in args.names or ["sd15-unet", "sd15-text", "vae-decode", "vae-encode"] + extra:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=worker, args=(name, args.threads, how, theirs))
        process.start()
        ours.recv()
        weft(args, name)
        a, b, peak = [], [], 0
        for _ in range(args.runs):
            ours.send(True)
            a.append(ours.recv())
            result = weft(args, name)
            b.append(result["seconds"])
            peak = max(peak, result["peak_resident_bytes" if args.device == "cpu" else "peak_bytes"])
        ours.send(False)
        before, theirs_peak = ours.recv()
        process.join()
        ratio, steps = statistics.median(y / x for x, y in zip(a, b)), STEPS.get(name, 1)
        print(f"{name:12} PyTorch {1e3 * statistics.median(a):9.2f} ms {steps / statistics.median(a):8.2f} it/s   "
              f"Weft {1e3 * statistics.median(b):9.2f} ms {steps / statistics.median(b):8.2f} it/s  ratio {ratio:.3f}   "
              f"peak PyTorch {theirs_peak / 2**20:7.0f} MiB  Weft {peak / 2**20:7.0f} MiB  ratio {peak / theirs_peak:.3f}", flush=True)


if __name__ == "__main__":
    main()

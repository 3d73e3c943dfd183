"""The whole program against diffusers: a 512x512 picture from one f16 file, start to finish, in one run, in turn.

    python3 tests/bench/pipeline.py [--weft build/weft] [--runs 3] [--steps 2] [--device cuda] [--lowest] [--keep FOLDER]

Needs torch==2.15.0 diffusers==0.42.1 transformers==5.23.0 accelerate (pip) and CLIP's vocabulary as examples/setup_vocabulary.sh leaves it.
Makes a checkpoint of Stable Diffusion 1.5's shapes with random weights: one .safetensors of the original names in f16, and the configuration
files that diffusers wants beside it (about 2 GB, in FOLDER or a temporary one). Both programs are whole processes: start, load, both prompts,
`steps` steps of euler with guidance, decode, write the PNG. diffusers computes in float32, as it has to on a CPU, and in float16 on a GPU: there
the time is that to the first picture, with the weights in the page cache (--steps 20 is the usual picture). Prints medians, the median of the
pairwise ratios, and the peak of each process's resident memory. --lowest looks for the least --memory with which weft still draws the picture.
"""
import argparse, gzip, os, statistics, subprocess, sys, tempfile, time

here = os.path.dirname(os.path.abspath(__file__))
PROMPT, NEGATIVE = "a lighthouse at the edge of the sea, golden light, photograph", "text, watermark"


def make(folder, vocabulary):
    """Writes FOLDER/diffusers (configurations; weights too, which are then removed) and FOLDER/models/checkpoints/random.safetensors."""
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel
    sys.path.insert(0, os.path.join(here, "..", "golden"))
    import make_checkpoint
    os.makedirs(folder, exist_ok=True)
    with gzip.open(f"{folder}/vocabulary.gz", "wb") as packed, open(vocabulary, "rb") as plain:
        packed.write(plain.read())
    tokenizer = make_checkpoint.tokenizer(f"{folder}/vocabulary.gz")
    tokenizer.model_max_length = 77
    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), latent_channels=4, layers_per_block=2, sample_size=512,
                        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                                        num_attention_heads=12, hidden_act="quick_gelu", projection_dim=768))
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    pipeline = StableDiffusionPipeline(vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
                                       safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.save_pretrained(f"{folder}/diffusers")
    tensors = {}
    for part, model in (("unet", unet), ("vae", vae), ("text_encoder", text)):
        state = {k.removeprefix("text_model."): v for k, v in model.state_dict().items() if "position_ids" not in k}
        for name, tensor in state.items():
            tensors[make_checkpoint.ldm_name("sd1", part, name, state, dict(layers_per_block=2))] = tensor.half().contiguous()
    os.makedirs(f"{folder}/models/checkpoints", exist_ok=True)
    for name in [n for n in tensors if n.startswith("first_stage_model.") and ".attn_1." in n and n.endswith("weight") and "norm" not in n]:
        tensors[name] = tensors[name][:, :, None, None].contiguous()
    save_file(tensors, f"{folder}/models/checkpoints/random.safetensors")
    for part, name in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model")):
        os.remove(f"{folder}/diffusers/{part}/{name}.safetensors")


def peer(folder, steps, device, out):
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
    torch.set_num_threads(int(os.environ["THREADS"]))
    pipeline = StableDiffusionPipeline.from_single_file(f"{folder}/models/checkpoints/random.safetensors", config=f"{folder}/diffusers",
                                                        local_files_only=True, torch_dtype=torch.float32 if device == "cpu" else torch.float16,
                                                        safety_checker=None).to(device)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    with torch.inference_mode():
        picture = pipeline(PROMPT, negative_prompt=NEGATIVE, num_inference_steps=steps, guidance_scale=7.5, height=512, width=512,
                           generator=torch.Generator().manual_seed(42)).images[0]
    picture.save(out)


def process(command, **environment):
    """(seconds, peak bytes) of a whole process; None where it failed."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, **environment})
    error = child.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        process.error = error.strip().splitlines()[-1:] or [""]
        return None
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def weft(args, folder, *more):
    return process([args.weft, "run", os.path.join(here, "..", "..", "graphs", "txt2img.json"), "--models", f"{folder}/models",
                    "--output", f"{folder}/output", "--threads", str(args.threads), "--device", args.device, "--set", "4.ckpt_name=random.safetensors",
                    "--set", f"6.text={PROMPT}", "--set", f"7.text={NEGATIVE}", "--set", f"3.steps={args.steps}", *more])


def lowest(args, folder):
    """The least --memory, to 16 MiB, by halving between one that fails and one that works."""
    low, high = 0, 4096
    while high - low > 16:
        middle = (low + high) // 2
        done = weft(args, folder, "--memory", f"{middle}M")
        print(f"  --memory {middle}M: " + (f"{done[0]:.1f} s, {done[1] / 2**20:.0f} MiB resident" if done else process.error[0]), flush=True)
        low, high = (low, middle) if done else (middle, high)
    return high


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--weft", default="build/weft")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--steps", type=int, default=2)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1 …")
    p.add_argument("--lowest", action="store_true")
    p.add_argument("--keep", help="folder for the model, made where it is not there")
    p.add_argument("--vocabulary", default=os.path.expanduser("~/.cache/weft/clip_vocabulary.txt"))
    p.add_argument("--peer", help=argparse.SUPPRESS)
    p.add_argument("--make", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.make:
        return make(args.make, args.vocabulary)
    if args.peer:
        return peer(args.peer, args.steps, args.device, f"{args.peer}/output/peer.png")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or temporary
        os.makedirs(f"{folder}/output", exist_ok=True)
        if not os.path.exists(f"{folder}/models/checkpoints/random.safetensors"):
            subprocess.run([sys.executable, os.path.abspath(__file__), "--make", folder, "--vocabulary", args.vocabulary], check=True)
        if args.lowest:
            print(f"least --memory: {lowest(args, folder)} MiB")
            return
        times, peaks, ratios = ([], []), [0, 0], []
        for run in range(args.runs + 1):     # the first warms the page cache
            both = (process([sys.executable, os.path.abspath(__file__), "--peer", folder, "--steps", str(args.steps), "--device", args.device],
                            THREADS=str(args.threads)),
                    weft(args, folder))
            if None in both:
                raise SystemExit(f"{'diffusers' if both[0] is None else 'weft'} failed: {process.error[0]}")
            if run == 0:
                continue
            for i in range(2):
                times[i].append(both[i][0])
                peaks[i] = max(peaks[i], both[i][1])
            ratios.append(both[1][0] / both[0][0])
            print(f"run {run}: diffusers {both[0][0]:.2f} s, weft {both[1][0]:.2f} s, ratio {ratios[-1]:.3f}", flush=True)
        print(f"median: diffusers {statistics.median(times[0]):.2f} s, weft {statistics.median(times[1]):.2f} s, ratio {statistics.median(ratios):.3f}; "
              f"peak memory {peaks[0] / 2**20:.0f} MiB, {peaks[1] / 2**20:.0f} MiB, ratio {peaks[1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()

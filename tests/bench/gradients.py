"""Weft's operations and their gradients against PyTorch's autograd on this machine, in one run, in turn.

    python3 tests/bench/gradients.py [--weft build/weft] [--runs 5] [--threads N] [NAME ...]

Needs torch==2.15.0. Names are those of `weft bench`: gemm-grad conv-grad attn-grad norm-grad, whose shapes it asks for. For each shape
one warm-up of both, then `runs` times PyTorch, Weft, PyTorch, Weft …, each the least of a few repetitions, so that other work on the
machine counts little; prints the medians in milliseconds and the median of the pairwise ratios Weft/PyTorch, and for each name the
ratio of the sums. What is timed is the forward and the gradients of all inputs, in float32.
"""
import argparse, json, math, os, statistics, subprocess, time

import torch
import torch.nn.functional as F


def build(name, shape):
    if name == "gemm-grad":
        rows, inputs, outputs = shape
        leaves, op = [torch.randn(rows, inputs), torch.randn(outputs, inputs)], F.linear
    elif name == "conv-grad":
        n, side, c, o = shape
        leaves, op = [torch.randn(n, c, side, side), torch.randn(o, c, 3, 3)], lambda x, w: F.conv2d(x, w, padding=1)
    elif name == "attn-grad":
        n, q, k, heads, d = shape
        leaves = [torch.randn(n, q, heads, d), torch.randn(n, k, heads, d), torch.randn(n, k, heads, d)]
        op = lambda q, k, v: F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
    elif name == "norm-grad":
        n, side, c = shape
        leaves = [torch.randn(n, c, side, side), torch.randn(c), torch.randn(c)]
        op = lambda x, g, b: F.silu(F.group_norm(x, 32, g, b, 1e-5))
    else:
        raise SystemExit(f"no such benchmark: {name}")
    for leaf in leaves:
        leaf.requires_grad_()
    seed = torch.randn_like(op(*leaves))
    return lambda: torch.autograd.grad(op(*leaves), leaves, seed)


def least(run, repetitions):
    best = math.inf
    for _ in range(repetitions):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def weft(args, name):
    """Each shape's time: the least of the repetitions."""
    rounds = []
    for _ in range(args.repetitions):
        out = subprocess.run([args.weft, "bench", name, "--threads", str(args.threads), "--runs", "1", "--json"], check=True, capture_output=True,
                             text=True).stdout
        rounds.append(json.loads(out)["cases"])
    return [(case[0]["shape"], min(c["seconds"] for c in case)) for case in zip(*rounds)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["gemm-grad", "conv-grad", "attn-grad", "norm-grad"])
    parser.add_argument("--weft", default="build/weft")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.names:
        shapes = [shape for shape, _ in weft(args, name)]
        runs = [build(name, shape) for shape in shapes]
        theirs, ours = [[] for _ in shapes], [[] for _ in shapes]
        for run in runs:
            run()
        for _ in range(args.runs):
            for times, run in zip(theirs, runs):
                times.append(least(run, args.repetitions))
            for times, (_, seconds) in zip(ours, weft(args, name)):
                times.append(seconds)
        for shape, a, b in zip(shapes, theirs, ours):
            ratio = statistics.median(y / x for x, y in zip(a, b))
            print(f"{name:10} {str(shape):28} PyTorch {statistics.median(a) * 1e3:9.3f} ms  Weft {statistics.median(b) * 1e3:9.3f} ms  "
                  f"ratio {ratio:.3f}", flush=True)
        total = sum(map(statistics.median, ours)) / sum(map(statistics.median, theirs))
        print(f"{name:10} all together: ratio {total:.3f}", flush=True)


if __name__ == "__main__":
    main()

"""Writes optim.safetensors: optimisers, clipping, moving averages and schedules, step by step, in float64.

Run: python3 make_optim.py
     (torch 2.15, transformers 5.23, diffusers 0.42.1, ema-pytorch 0.8.3, lion-pytorch 0.2.5, safetensors 0.8)

  param.I, grad.STEP.I     the parameters at first, and their gradients; param.1 has none at step 2
  optim.NAME.I             parameter I after each step, (steps, …); NAME as in test_optim.c
  clip.norms, clip.MOST.I  the norm of each step's gradients; step 0's, clipped
  value.I                  step 0's gradients clipped to ±0.3
  scale                    GradScaler's scale after each step; scale.finite: 0 where a gradient was infinite
  walk                     a parameter that changes; ema.NAME: its average after each step
  lr.NAME                  the factors of a schedule
"""
import torch
from diffusers.optimization import get_scheduler, get_polynomial_decay_schedule_with_warmup
from diffusers.training_utils import EMAModel
from ema_pytorch import EMA
from lion_pytorch import Lion
from safetensors.torch import save_file
from transformers.optimization import Adafactor

torch.manual_seed(5)
torch.set_default_dtype(torch.float64)
out = {}
STEPS = 6
SHAPES = [(7, 5), (33,), (4, 3, 3, 3), (1,), (2, 5, 7)]


def exact(*shape, scale=1.0):
    """Values that float32 holds."""
    return (torch.randn(*shape) * scale).float().double()


params = [exact(*s) for s in SHAPES]
grads = [[exact(*s, scale=0.3) for s in SHAPES] for _ in range(STEPS)]
grads[2][1] = None
for i, p in enumerate(params):
    out[f"param.{i}"] = p
for k, step in enumerate(grads):
    for i, g in enumerate(step):
        if g is not None:
            out[f"grad.{k}.{i}"] = g


def groups(p, lr, wd):
    """Two groups: the first three parameters, the other two with a quarter of the rate and no decay."""
    other = {"params": p[3:], "weight_decay": 0.0}
    if lr is not None:
        other["lr"] = lr / 4
    return [{"params": p[:3], "weight_decay": wd}, other]


def run(name, make):
    p = [torch.nn.Parameter(x.clone()) for x in params]
    optimizer = make(p)
    kept = [[] for _ in p]
    for step in grads:
        for x, g in zip(p, step):
            x.grad = None if g is None else g.clone()
        optimizer.step()
        for rows, x in zip(kept, p):
            rows.append(x.detach().clone())
    for i, rows in enumerate(kept):
        out[f"optim.{name}.{i}"] = torch.stack(rows)


def adafactor(name, lr, wd, **options):
    run(name, lambda p: Adafactor(groups(p, lr, wd), lr=lr, weight_decay=wd, **options))


run("adamw", lambda p: torch.optim.AdamW(groups(p, 1e-2, 0.1), lr=1e-2, betas=(0.8, 0.9), eps=1e-6))
run("adamw_defaults", lambda p: torch.optim.AdamW(p))
run("adam", lambda p: torch.optim.Adam(groups(p, 1e-2, 0.1), lr=1e-2, betas=(0.8, 0.9), eps=1e-6))
run("sgd", lambda p: torch.optim.SGD(groups(p, 0.1, 0), lr=0.1))
run("sgd_momentum", lambda p: torch.optim.SGD(groups(p, 0.1, 0.05), lr=0.1, momentum=0.9, dampening=0.2))
run("sgd_nesterov", lambda p: torch.optim.SGD(groups(p, 0.1, 0.05), lr=0.1, momentum=0.9, nesterov=True))
run("lion", lambda p: Lion(groups(p, 1e-2, 0.1), lr=1e-2, betas=(0.8, 0.9)))
adafactor("adafactor", None, 0)
adafactor("adafactor_warmup", None, 0.1, warmup_init=True, scale_parameter=False)
adafactor("adafactor_fixed", 1e-2, 0.1, relative_step=False, scale_parameter=False, beta1=0.9, clip_threshold=0.5)
adafactor("adafactor_scaled", 1e-2, 0, relative_step=False, decay_rate=-0.5)

# ---- gradients -----------------------------------------------------------------------------------------------------


def with_grads(step):
    p = [torch.nn.Parameter(x.clone()) for x in params]
    for x, g in zip(p, grads[step]):
        x.grad = None if g is None else g.clone()
    return p


out["clip.norms"] = torch.stack([torch.nn.utils.clip_grad_norm_(with_grads(k), 1.0) for k in range(STEPS)])
for most in [1, 100]:
    p = with_grads(0)
    torch.nn.utils.clip_grad_norm_(p, most)
    for i, x in enumerate(p):
        out[f"clip.{most}.{i}"] = x.grad
p = with_grads(0)
torch.nn.utils.clip_grad_value_(p, 0.3)
for i, x in enumerate(p):
    out[f"value.{i}"] = x.grad

scaler = torch.amp.GradScaler(device="cpu", init_scale=1024.0, growth_interval=3)
finite = [1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1]
scales = []
for good in finite:
    x = torch.nn.Parameter(torch.ones(3, dtype=torch.float32))
    optimizer = torch.optim.SGD([x], lr=0.1)
    scaler.scale((x * (1.0 if good else float("inf"))).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    scales.append(scaler.get_scale())
out["scale"] = torch.tensor(scales)
out["scale.finite"] = torch.tensor(finite)

# ---- moving averages -----------------------------------------------------------------------------------------------

walk = torch.cumsum(exact(45, 5) * 0.1, 0).float().double()
out["walk"] = walk


def diffusers_ema(name, **options):
    x = torch.nn.Parameter(walk[0].clone())
    ema = EMAModel([x], **options)
    rows = []
    for value in walk[1:]:
        x.data.copy_(value)
        ema.step([x])
        rows.append(ema.shadow_params[0].clone())
    out["ema." + name] = torch.stack(rows)


def lucidrains_ema(name, **options):
    model = torch.nn.Linear(5, 1, bias=False)
    model.weight.data.copy_(walk[0])
    ema = EMA(model, **options)
    rows = []
    for value in walk[1:]:
        model.weight.data.copy_(value)
        ema.update()
        rows.append(ema.ema_model.weight[0].detach().clone())
    out["ema." + name] = torch.stack(rows)


diffusers_ema("diffusers")
diffusers_ema("diffusers_warmup", decay=0.8, use_ema_warmup=True, power=0.75, inv_gamma=2.0, update_after_step=4)
diffusers_ema("diffusers_min", decay=0.7, min_decay=0.5, update_after_step=3)
lucidrains_ema("lucidrains")
lucidrains_ema("lucidrains_every", beta=0.8, update_every=3, update_after_step=7)
lucidrains_ema("lucidrains_min", beta=0.9, update_every=1, update_after_step=2, min_value=0.6, power=0.75, inv_gamma=2.0)

# ---- schedules -----------------------------------------------------------------------------------------------------


def factors(name, make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = make(optimizer)
    rows = []
    for _ in range(45):
        rows.append(schedule.get_last_lr()[0] / 0.5)
        optimizer.step()
        schedule.step()
    out["lr." + name] = torch.tensor(rows)


def scheduler(name, kind, warmup=None, total=None, **options):
    factors(name, lambda o: get_scheduler(kind, o, num_warmup_steps=warmup, num_training_steps=total, **options))


scheduler("constant", "constant")
scheduler("constant_with_warmup", "constant_with_warmup", 6)
scheduler("linear", "linear", 5, 40)
scheduler("linear_cold", "linear", 0, 30)
scheduler("cosine", "cosine", 5, 40)
scheduler("cosine_with_restarts", "cosine_with_restarts", 4, 40, num_cycles=3)
scheduler("polynomial", "polynomial", 5, 40, power=2.0)
factors("polynomial_end", lambda o: get_polynomial_decay_schedule_with_warmup(o, 3, 30, lr_end=0.01, power=1.5))
scheduler("piecewise_constant", "piecewise_constant", step_rules="1:10,0.1:20,0.01:30,0.005")

save_file({k: v.contiguous() for k, v in out.items()}, "optim.safetensors")

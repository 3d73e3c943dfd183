"""Writes schedulers.safetensors: diffusers' schedulers step by step, in many configurations.

Run: python3 tests/golden/make_schedulers.py

The "model" is tanh((1/2 + t/2000)·x) + x/10 for whatever it is said to predict. Of each case NAME:
  NAME.case        {"class", "steps", "eta", "config"} as UTF-8 bytes
  NAME.timesteps   what the scheduler lists
  NAME.scale       init_noise_sigma
  NAME.x           the sample after each step, NHWC; the first is randn(2, 2, 4, 3)·init_noise_sigma of a generator at seed 5,
                   which goes on to draw the schedulers' noise
  NAME.noised      (Euler, DDPM, DPM-Solver) ones with noise added as they are before step 2
"""
import inspect
import json
import os

import diffusers
import numpy as np
import torch
from safetensors.numpy import save_file

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
V = {"prediction_type": "v_prediction"}
X0 = {"prediction_type": "sample"}
COS = {"beta_schedule": "squaredcos_cap_v2"}
ZERO = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} | V
LEADING, LINSPACE, TRAILING = ({"timestep_spacing": s} for s in ["leading", "linspace", "trailing"])
KARRAS = {"use_karras_sigmas": True}
CASES = {
    "DDPMScheduler": [
        ("plain", 10, {}), ("sd", 7, SD | {"clip_sample": False, "steps_offset": 1}), ("large", 6, {"variance_type": "fixed_large"}),
        ("v", 5, SD | V | TRAILING | {"clip_sample_range": 0.5}), ("sample", 5, X0 | LINSPACE | COS),
        ("sigmoid", 5, {"beta_schedule": "sigmoid"}), ("laplace", 5, {"beta_schedule": "laplace"}),
        ("threshold", 5, {"thresholding": True, "sample_max_value": 1.5, "dynamic_thresholding_ratio": 0.8}),
        ("zero", 5, SD | ZERO), ("log", 5, {"variance_type": "fixed_small_log", "num_train_timesteps": 200}),
    ],
    "DDIMScheduler": [
        ("plain", 10, {}), ("sd", 7, SD | {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
        ("eta", 6, SD | {"eta": 0.7}), ("v", 5, SD | V | TRAILING), ("sample", 5, X0 | LINSPACE), ("zero", 5, SD | ZERO),
        ("threshold", 5, {"thresholding": True, "sample_max_value": 2.0, "eta": 1.0}), ("cosine", 5, COS),
    ],
    "PNDMScheduler": [
        ("sd", 8, SD | {"skip_prk_steps": True, "steps_offset": 1}), ("prk", 7, {}), ("prk_v", 6, SD | V | LINSPACE),
        ("skip_v", 6, SD | V | TRAILING | {"skip_prk_steps": True}), ("one", 1, SD | {"skip_prk_steps": True}),
        ("one_alpha", 5, SD | {"skip_prk_steps": True, "set_alpha_to_one": True}),
    ],
    "UniPCMultistepScheduler": [
        ("plain", 10, {}),
        ("bh1", 6, SD | {"solver_type": "bh1", "solver_order": 3, "final_sigmas_type": "sigma_min"}),
        ("first", 5, SD | {"solver_order": 1}),
        ("third", 7, SD | LEADING | {"solver_order": 3, "steps_offset": 1}), ("karras", 6, SD | KARRAS),
        ("epsilon", 6, SD | {"predict_x0": False, "final_sigmas_type": "sigma_min"}), ("v", 5, SD | V | TRAILING),
        ("sample", 5, X0 | {"solver_order": 3}), ("zero", 5, SD | ZERO), ("few", 2, SD), ("one", 1, SD),
        ("high", 6, SD | {"lower_order_final": False, "final_sigmas_type": "sigma_min", "solver_order": 3}),
        ("karras_min", 5, SD | KARRAS | {"final_sigmas_type": "sigma_min"}),
        ("threshold", 5, {"thresholding": True, "sample_max_value": 1.5}),
    ],
    "EulerDiscreteScheduler": [
        ("plain", 10, {}), ("sd", 7, SD | LEADING | {"steps_offset": 1}), ("trailing", 6, SD | TRAILING), ("karras", 6, SD | KARRAS),
        ("log", 5, SD | {"interpolation_type": "log_linear"}), ("v", 5, SD | V), ("sample", 5, X0), ("zero", 5, SD | ZERO),
        ("min", 5, SD | {"final_sigmas_type": "sigma_min"}), ("ends", 5, SD | KARRAS | {"sigma_min": 0.1, "sigma_max": 9.0}),
        ("continuous", 5, SD | V | KARRAS | {"timestep_type": "continuous"}), ("one", 1, SD),
    ],
    "DPMSolverMultistepScheduler": [
        ("plain", 10, {}), ("sd", 8, SD | LEADING | {"steps_offset": 1}), ("karras", 20, SD | KARRAS),
        ("third", 16, SD | {"solver_order": 3}), ("third_few", 6, SD | {"solver_order": 3}), ("first", 5, SD | {"solver_order": 1}),
        ("heun", 6, SD | {"solver_type": "heun"}), ("sde", 8, SD | {"algorithm_type": "sde-dpmsolver++"}),
        ("sde_heun", 6, SD | KARRAS | {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}),
        ("sde_third", 16, SD | {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}), ("v", 5, SD | V | TRAILING),
        ("sample", 5, X0), ("zero", 5, SD | ZERO), ("min", 5, SD | {"final_sigmas_type": "sigma_min", "euler_at_final": True}),
        ("epsilon", 6, SD | {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "solver_order": 3}),
        ("epsilon_heun", 6, SD | {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "solver_type": "heun"}),
        ("sde_epsilon", 6, SD | {"algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"}),
        ("cosine", 6, COS | KARRAS | {"lambda_min_clipped": -5.1}), ("clipped", 6, COS | {"lambda_min_clipped": -5.1}),
        ("high", 6, SD | {"lower_order_final": False, "solver_order": 3}),
        ("threshold", 5, {"thresholding": True, "sample_max_value": 1.5}),
    ],
}
nhwc = lambda t: np.ascontiguousarray(t.permute(0, 2, 3, 1).float().numpy())
out = {}
for class_name, cases in CASES.items():
    for name, steps, config in cases:
        config = dict(config)
        eta = config.pop("eta", 0.0)
        key = class_name.removesuffix("Scheduler").lower() + "." + name
        out[key + ".case"] = np.frombuffer(
            json.dumps({"class": class_name, "steps": steps, "eta": eta, "config": config}).encode(), np.uint8)
        make = getattr(diffusers, class_name)
        # diffusers knows laplace betas but takes them in its class of consistency models only by this road
        scheduler = make(**config)
        scheduler.set_timesteps(steps)
        g = torch.Generator().manual_seed(5)
        x = torch.randn(2, 2, 4, 3, generator=g) * scheduler.init_noise_sigma
        more = {"generator": g} if "generator" in inspect.signature(scheduler.step).parameters else {}
        if class_name == "DDIMScheduler":
            more["eta"] = eta
        seen = []
        for t in scheduler.timesteps:
            seen_by_model = scheduler.scale_model_input(x, t)
            x = scheduler.step(torch.tanh((0.5 + t / 2000) * seen_by_model) + 0.1 * seen_by_model, t, x, **more).prev_sample
            seen.append(nhwc(x))
        assert np.isfinite(np.stack(seen)).all(), key
        out[key + ".timesteps"] = scheduler.timesteps.float().numpy()
        out[key + ".scale"] = np.array([float(scheduler.init_noise_sigma)], np.float32)
        out[key + ".x"] = np.stack(seen)
        if name == "sd" and class_name in ("EulerDiscreteScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler"):
            again = make(**config)
            again.set_timesteps(steps)
            noise = torch.randn(2, 2, 4, 3, generator=torch.Generator().manual_seed(5))
            out[key + ".noised"] = nhwc(again.add_noise(torch.ones(2, 2, 4, 3), noise, again.timesteps[2:3].repeat(2)))

save_file({k: np.ascontiguousarray(v) for k, v in out.items()},
          os.path.join(os.path.dirname(os.path.abspath(__file__)), "schedulers.safetensors"))

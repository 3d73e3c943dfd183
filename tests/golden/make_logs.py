"""Writes logs.safetensors: a TensorBoard event file as TensorBoard's own writer makes it, and grids of pictures.

Run: python3 make_logs.py                 (torch 2.15, torchvision 0.29, tensorboard 2.21, safetensors 0.8)
     python3 make_logs.py FOLDER          reads the event files of a folder with TensorBoard and prints what it finds

  events                the file's bytes: version, loss 0.25 at step 3, loss/val 1e-3 at 2^40, picture "grid" at 5
  events.png            the picture's PNG as it lies in the file
  grid.N.in, grid.N     (n, h, w, c) in 0…1; make_grid of it with grid.N.how = columns, padding, value, as save_image rounds
"""
import glob
import os
import sys
import tempfile

import torch
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def show(folder):
    found = EventAccumulator(folder, size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    for tag in found.Tags()["scalars"]:
        print(tag, [(e.step, e.value) for e in found.Scalars(tag)])
    for tag in found.Tags()["images"]:
        print(tag, [(e.step, e.width, e.height, len(e.encoded_image_string)) for e in found.Images(tag)])


if len(sys.argv) > 1:
    show(sys.argv[1])
    sys.exit()

from torch.utils.tensorboard import SummaryWriter       # noqa: E402  (slow to load)
from torchvision.utils import make_grid                 # noqa: E402

torch.manual_seed(3)
out = {}
with tempfile.TemporaryDirectory() as folder:
    writer = SummaryWriter(folder)
    writer.add_scalar("loss", 0.25, 3)
    writer.add_scalar("loss/val", 1e-3, 2**40)
    writer.add_image("grid", torch.rand(3, 4, 5), 5)
    writer.close()
    path = glob.glob(os.path.join(folder, "*"))[0]
    out["events"] = torch.frombuffer(bytearray(open(path, "rb").read()), dtype=torch.uint8)
    found = EventAccumulator(folder)
    found.Reload()
    png = found.Images("grid")[0].encoded_image_string
    out["events.png"] = torch.frombuffer(bytearray(png), dtype=torch.uint8)

CASES = [((5, 3, 4, 6), 3, 2, 0.0), ((1, 3, 4, 6), 3, 2, 0.0), ((4, 1, 3, 3), 8, 1, 0.5), ((6, 3, 2, 2), 1, 0, 1.0)]
for k, (shape, columns, padding, value) in enumerate(CASES):
    x = torch.rand(*shape) * 1.2 - 0.1
    grid = make_grid(x, nrow=columns, padding=padding, pad_value=value)
    out[f"grid.{k}.in"] = x.permute(0, 2, 3, 1)
    out[f"grid.{k}"] = grid.mul(255).add_(0.5).clamp_(0, 255).permute(1, 2, 0).to(torch.uint8)
    out[f"grid.{k}.how"] = torch.tensor([columns, padding, value], dtype=torch.float64)
save_file({k: v.contiguous() for k, v in out.items()}, "logs.safetensors")

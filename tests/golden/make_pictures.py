"""Golden file of the picture files: pictures.safetensors.

NAME.file is a file as Pillow writes it, NAME.pixels (H, W, channels) what Pillow reads from it, turned upright by its EXIF orientation.
"png.*" are read exactly; a JPEG's inverse cosine transform may round otherwise. 16 bits are cut to the upper 8.
"""
import io
import struct
import zlib

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file

rng = np.random.default_rng(5)
noise = rng.integers(0, 256, (6, 9, 4), dtype=np.uint8)
y, x = np.mgrid[0:16, 0:24]
smooth = np.stack([x * 10, y * 15, 255 - x * 5 - y * 5], 2).astype(np.uint8)
out = {}


def add(name, data, pixels):
    pixels = np.asarray(pixels)
    out[f"{name}.file"] = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
    out[f"{name}.pixels"] = torch.from_numpy(np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], -1)))


def written(picture, kind, **options):
    f = io.BytesIO()
    picture.save(f, kind, **options)
    return f.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(array, depth, colour):
    """A PNG of 16-bit samples, which Pillow writes for grey only."""
    h, w = array.shape[:2]
    rows = b"".join(b"\0" + array[i].astype(">u2").tobytes() for i in range(h))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


for name, channels, mode in [("grey", 1, "L"), ("grey_alpha", 2, "LA"), ("rgb", 3, "RGB"), ("rgba", 4, "RGBA")]:
    picture = Image.fromarray(noise[:, :, :channels].squeeze(), mode)
    add(f"png.{name}", written(picture, "PNG"), picture)
bits = Image.fromarray(noise[:, :, 0] > 127)
add("png.one_bit", written(bits, "PNG"), bits.convert("L"))
palette = Image.fromarray(noise[:, :, :3], "RGB").quantize(16)
add("png.palette", written(palette, "PNG"), palette.convert("RGB"))
add("png.palette_alpha", written(palette, "PNG", transparency=bytes(range(0, 160, 10))), Image.open(io.BytesIO(written(palette, "PNG", transparency=bytes(range(0, 160, 10))))).convert("RGBA"))
deep = rng.integers(0, 65536, (6, 9, 4), dtype=np.uint16)
add("png.grey16", raw_png(deep[:, :, 0], 16, 0), (deep[:, :, 0] >> 8).astype(np.uint8))
add("png.rgb16", raw_png(deep[:, :, :3], 16, 2), (deep[:, :, :3] >> 8).astype(np.uint8))
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = written(Image.fromarray(noise[:, :, :3], "RGB"), "PNG", exif=exif)
    add(f"png.turned.{orientation}", data, ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    data = written(Image.fromarray(smooth, "RGB"), "JPEG", exif=exif, quality=90, subsampling=0)
    add(f"jpeg.turned.{orientation}", data, ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
data = written(Image.fromarray(smooth, "RGB"), "JPEG", quality=90, subsampling=0, progressive=True)
add("jpeg.progressive", data, Image.open(io.BytesIO(data)))
data = written(Image.fromarray(smooth[:, :, 0], "L"), "JPEG", quality=90)
add("jpeg.grey", data, Image.open(io.BytesIO(data)))
data = written(Image.fromarray(noise[:, :, :3], "RGB"), "BMP")
add("bmp.rgb", data, Image.open(io.BytesIO(data)))
save_file(out, "pictures.safetensors")

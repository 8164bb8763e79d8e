"""Make a set of golden files of the present version: tests/golden/make.py FOLDER.

Files that a version wrote are kept as they are: later versions must read them and give the same masks. A new set gets a
folder of its own, named by the version of pocketseg; the old ones stay.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import pocketseg
from pocketseg.data.readers import read_image
from pocketseg.engine.codec import file_of, program_in
from pocketseg.engine.program import KernelHints

SMALL = ("data.size=[32, 32]", "split.validation=0.2", "stages.0.epochs=25", "stages.0.precision=f32",
         "stages.0.net={arch: thin_unet, width: 6, blocks: 2}")  # fmt: skip
SCHEMES = ("", "w8a8", "w2a8")


def main(out: Path) -> None:
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        data = pocketseg.phantom(Path(folder) / "data", cases=60, size=48, seed=5)
        image = sorted((data / "images").iterdir())[3]
        shutil.copy(image, out / "image.png")
        for scheme in SCHEMES:
            quant = [f"stages.0.quant={{scheme: {scheme}}}"] if scheme else []
            run = Path(folder) / f"run{scheme}"
            pocketseg.train("demo", data, run, overrides=[*SMALL, *quant], device="cpu", report=False)
            pocketseg.pack(next((run / "fold-0").glob("*/best.safetensors")), out / f"{scheme or 'f32'}.pseg")
    # Version 2 of the format: a file that asks for kernels.
    program, container = program_in((out / "w8a8.pseg").read_bytes(), "w8a8.pseg")
    hints = KernelHints("avx512", dict.fromkeys(range(1, len(program.instructions), 2), "avx2/convolution_codes"))
    (out / "w8a8-asked.pseg").write_bytes(file_of(dataclasses.replace(program, hints=hints), container.card))
    for path in out.glob("*.pseg"):
        mask = pocketseg.load(path).mask(read_image(out / "image.png"))
        assert 20 < mask.sum() < mask.size / 2, f"{path}: {mask.sum()} pixels"
        Image.fromarray(mask * np.uint8(255)).save(path.with_suffix(".mask.png"), optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Whole and damaged files under AddressSanitizer and UndefinedBehaviorSanitizer: codes, never a report."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from builds import built
from models import MODELS

from helpers.packed_models import changed, packed
from helpers.random_pipelines import some_segment_file
from pocketseg.engine.container import read_container
from pocketseg.errors import DataError
from pocketseg.pipeline import Normalization, Pipeline, Postprocess

pytestmark = pytest.mark.slow("builds the library once more, with sanitizers")
EACH = 150


def replayed(
    folder: Path, files: list[Path], side: int = 8, threads: int = 1, program: Sequence[str] = ()
) -> dict[str, list[str]]:
    name, *options = program or ("replay", str(side), str(threads))
    done = subprocess.run([folder / name, *options, *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}


@pytest.mark.row("N02", "N04")
def test_whole_files_run_and_give_the_same_bytes(sanitized, shipped, tmp_path):
    files = []
    for index, model in enumerate(MODELS):
        files.append(tmp_path / f"{index}.pseg")
        files[-1].write_bytes(packed(*model))
    found = replayed(sanitized, files, side=16)
    assert all(status == "0" for status, *_ in found.values())
    assert len({digest for _, digest in found.values()}) == len(files)
    assert found == replayed(shipped, files, side=16)
    assert found == replayed(shipped, files, side=16, threads=3) == replayed(sanitized, files, side=16, threads=2)


@pytest.mark.slow("builds the library once more, for data races")
@pytest.mark.row("N04")
def test_threads_do_not_race(racing, tmp_path):
    (tmp_path / "a.pseg").write_bytes(packed("mk_unet", "w4"))
    (tmp_path / "b.pseg").write_bytes(packed("thin_unet", "w2a8"))
    found = replayed(racing, [tmp_path / "a.pseg", tmp_path / "b.pseg"] * 10, side=16, threads=4)
    assert all(status == "0" for status, *_ in found.values())


@pytest.mark.slow("builds the library once more, without threads")
def test_without_threads(tmp_path_factory, shipped, tmp_path):
    """For WebAssembly and the like: the same bytes, whatever number is asked for."""
    alone = built(tmp_path_factory.mktemp("alone"), "-DPOCKETSEG_THREADS=OFF")
    (tmp_path / "a.pseg").write_bytes(packed())
    assert replayed(alone, [tmp_path / "a.pseg"], 16, 3) == replayed(shipped, [tmp_path / "a.pseg"], 16, 3)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_damaged_programs_with_a_right_digest(sanitized, tmp_path, model):
    """The digest protects from accidents; behind it every check of the reader is on its own."""
    whole = packed(*model)
    sections = read_container(whole, "here")
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    draw = random.Random(seed)
    files = []
    for index in range(EACH):
        program, data = bytearray(sections.program), bytearray(sections.data)
        for _ in range(draw.choice([1, 1, 1, 2, 8])):
            section = program if draw.random() < 0.9 else data
            section[draw.randrange(len(section))] = draw.choice([0, 1, 2, 127, 128, 255, draw.randrange(256)])
        if draw.random() < 0.1:
            del program[draw.randrange(len(program)) :]
        files.append(tmp_path / f"{index}.pseg")
        files[-1].write_bytes(changed(whole, program=bytes(program), data=bytes(data)))
    found = replayed(sanitized, files)
    assert len(found) == EACH
    assert sum(status == "3" for status, *_ in found.values()) > EACH / 3


def test_images_and_cards(sanitized, shipped, tmp_path):
    """Random ones through the whole pipeline: NumPy's masks; and what damaged cards get is a code that says why."""
    import numpy as np

    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    draw = np.random.default_rng(seed)
    wanted, files = {}, []
    for index in range(EACH):
        made = some_segment_file(draw)
        files.append(tmp_path / str(index))
        files[-1].write_bytes(made.to_bytes())
        try:
            wanted[str(files[-1])] = ["0", hashlib.sha256(made.mask().tobytes()).hexdigest()]
        except DataError:
            wanted[str(files[-1])] = ["9"]
    found = replayed(sanitized, files, program=("segment",))
    assert found == replayed(shipped, files, program=("segment",))
    assert {name: line[: len(wanted[name])] for name, line in found.items()} == wanted
    damaged = []
    for file in files:
        content = bytearray(file.read_bytes())
        for _ in range(draw.choice([1, 1, 3, 20])):
            content[draw.integers(min(len(content), 700))] = draw.choice([0, 34, 44, 45, 48, 57, 91, 101, 125, 255])
        damaged.append(tmp_path / f"damaged-{file.name}")
        damaged[-1].write_bytes(bytes(content))
    found = replayed(sanitized, damaged, program=("segment",))
    assert len(found) == EACH and {line[0] for line in found.values()} >= {"0", "3", "8"}


def test_the_example_in_c(shipped, sanitized, tmp_path):
    """Masks of `pocketseg.load`, of pictures of several sizes and kinds; what the model cannot do is refused."""
    import numpy as np
    from PIL import Image

    import pocketseg

    plain = read_container(packed("thin_unet", "w8a8"), "here")
    draw = np.random.default_rng(3)

    def run(program, *spacing, **fields):
        rules = Postprocess(threshold=0.51, fill_holes=True, min_pixels=3)
        pipeline = replace(Pipeline((24, 16), 1, multiple=4, postprocess=rules), **fields)
        (tmp_path / "model.pseg").write_bytes(replace(plain, card={"pipeline": pipeline.to_dict()}).to_bytes())
        return subprocess.run(
            [program, "model.pseg", "image", "mask.pgm", *map(str, spacing)], capture_output=True, text=True,
            cwd=tmp_path,
        )  # fmt: skip

    def write(pixels):
        kind, most = (b"P6" if pixels.ndim == 3 else b"P5"), 65535 if pixels.dtype == np.uint16 else 255
        head = kind + b"\n# made by a test\n%d %d\n%d\n" % (pixels.shape[1], pixels.shape[0], most)
        (tmp_path / "image").write_bytes(head + pixels.astype(pixels.dtype.newbyteorder(">")).tobytes())

    images = [
        draw.integers(0, 256, (24, 16)).astype(np.uint8),
        draw.integers(0, 65536, (61, 83)).astype(np.uint16),
        draw.integers(0, 256, (100, 31, 3)).astype(np.uint8),
    ]
    ways = [{}, {"fit": "tile", "normalization": Normalization("z-score")}, {"fit": "crop", "tta": ("vertical",)}]
    for image, fields in zip(images, ways, strict=True):
        write(image)
        for folder in (shipped, sanitized):
            done = run(folder / "segment_pgm", **fields)
            assert done.returncode == 0, done.stderr
            mask = np.asarray(Image.open(tmp_path / "mask.pgm"))
            wanted = pocketseg.load(tmp_path / "model.pseg").mask(image)
            assert np.array_equal(mask, wanted * 255) and 0 < mask.mean() < 255
    refused = run(shipped / "segment_pgm", paint_out_calipers=True)
    assert refused.returncode == 1 and "model.pseg: the card's pipeline asks for paint_out_calipers" in refused.stderr
    refused = run(shipped / "segment_pgm", spacing_mm=(0.5, 0.5))
    assert refused.returncode == 1 and "image: the image's pixel size is not known" in refused.stderr
    assert run(shipped / "segment_pgm", 0.4, 0.4, spacing_mm=(0.5, 0.5)).returncode == 0
    for content in (b"hello", b"P5 0 0 255 ", b"P5 4 4 255\nabc", b"P5 4 4 100\n" + bytes(16), b"P2 1 1 255 1"):
        (tmp_path / "image").write_bytes(content)
        refused = run(sanitized / "segment_pgm")
        assert refused.returncode == 1 and "image: cannot be read as a P5 or P6 file" in refused.stderr
    (tmp_path / "text").write_text("hello")
    write(images[0])
    refused = subprocess.run(
        [shipped / "segment_pgm", "text", "image", "x"], cwd=tmp_path, capture_output=True, text=True
    )
    assert refused.returncode == 1 and "text: the bytes are not a packed model" in refused.stderr

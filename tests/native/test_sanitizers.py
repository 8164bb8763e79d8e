"""Whole and damaged files under AddressSanitizer and UndefinedBehaviorSanitizer: codes, never a report."""

from __future__ import annotations

import random
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from builds import built
from models import MODELS

from helpers.packed_models import changed, packed
from pocketseg.engine.container import read_container
from pocketseg.engine.session import Session
from pocketseg.pipeline import Normalization, Pipeline

pytestmark = pytest.mark.slow("builds the library once more, with sanitizers")
EACH = 150


def replayed(folder: Path, files: list[Path], side: int = 8, threads: int = 1) -> dict[str, list[str]]:
    done = subprocess.run(
        [folder / "replay", str(side), str(threads), *map(str, files)], capture_output=True, text=True
    )
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


def test_the_example_in_c(shipped, sanitized, tmp_path):
    """The session's mask: normalized as the card says, cut at its threshold; what it cannot do is refused."""
    import numpy as np
    from PIL import Image

    image = np.random.default_rng(3).integers(0, 256, (24, 16)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "image.pgm")
    plain = read_container(packed("thin_unet", "w8a8"), "here")

    def run(program, more=(), **normalization):
        pipeline = replace(Pipeline((24, 16), 1, normalization=Normalization(**normalization)), **dict(more))
        fields = pipeline.to_dict() if normalization else {}
        fields = fields and {**fields, "postprocess": {**fields["postprocess"], "threshold": 0.6}}
        card = {"pipeline": fields} if fields else {}
        (tmp_path / "model.pseg").write_bytes(replace(plain, card=card).to_bytes())
        return subprocess.run(
            [program, "model.pseg", "image.pgm", "mask.pgm"], capture_output=True, text=True, cwd=tmp_path
        )

    session = Session(plain.to_bytes(), "here")
    learned = {"kind": "train-mean-std", "mean": (0.4,), "std": (0.25,)}
    for normalization, mean, std, least in (({}, 0, 1, 0), (learned, 0.4, 0.25, np.log(0.6 / 0.4))):
        logits = session(
            (((image / np.float32(255)) - np.float32(mean)) / np.float32(std))[None, None].astype(np.float32)
        )
        for folder in (shipped, sanitized):
            done = run(folder / "segment_pgm", **normalization)
            assert done.returncode == 0, done.stderr
            mask = np.asarray(Image.open(tmp_path / "mask.pgm"))
            assert np.array_equal(mask, np.where(logits[0, 0] >= least, 255, 0))
        assert 0 < mask.mean() < 255
    for more, kind in (
        ((), {"kind": "z-score"}),
        ({"tta": ("horizontal",)}, learned),
        ({"paint_out_calipers": True}, learned),
    ):
        refused = run(shipped / "segment_pgm", more, **kind)
        assert refused.returncode == 1 and "model.pseg: prepares images in a way" in refused.stderr
    Image.fromarray(image.T.copy()).save(tmp_path / "image.pgm")
    refused = run(shipped / "segment_pgm", **learned)
    assert refused.returncode == 1 and "image.pgm: has 16x24 pixels, the model is made for 24x16" in refused.stderr
    (tmp_path / "text").write_text("hello")
    refused = subprocess.run(
        [shipped / "segment_pgm", "text", "image.pgm", "x"], cwd=tmp_path, capture_output=True, text=True
    )
    assert refused.returncode == 1 and "text: the bytes are not a packed model" in refused.stderr

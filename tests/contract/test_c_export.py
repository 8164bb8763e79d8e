"""Packed models as C: masks and logits are, to the bit, those of the engine's plain kernels."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import pocketseg
from helpers.nets import make, picture
from helpers.quantized_nets import trained
from pocketseg.engine.codec import file_of
from pocketseg.engine.program import Program
from pocketseg.engine.session import Session
from pocketseg.errors import DataError, ModelFileError
from pocketseg.exporters.c_plan import plan_of
from pocketseg.exporters.c_source import c_source, check_image, digest
from pocketseg.packing.compile import program_of
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.intensity import Normalization
from pocketseg.pipeline.postprocess import Postprocess
from pocketseg.predictors import NetPredictor
from pocketseg.quant import integer_net

STRICT = ["-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-ffp-contract=off"]
SIZE = (32, 48)
COLORED = {"size": SIZE, "channels": 3, "multiple": 16, "classes": ("organ", "lesion")}
LEARNED = Normalization("train-mean-std", mean=(0.4,), std=(0.3,))
# Name -> net, scheme (None: f32), pipeline.
CASES: dict[str, tuple[str, str | None, Pipeline]] = {
    "int8": (
        "thin_unet_w32_n4_separable", "w8a8",
        Pipeline((32, 47), multiple=4, normalization=LEARNED, postprocess=Postprocess(min_peak=0.52, min_pixels=4)),
    ),
    "ternary": (
        "thin_unet", "w2a8",
        Pipeline(
            SIZE, normalization=Normalization("z-score", clip=2.0),
            postprocess=Postprocess(fill_holes=True, keep="largest"),
        ),
    ),
    "4 bits, bilinear": ("mobilenet_v1_025_unet", "w4a8", Pipeline(SIZE, normalization=Normalization("z-score"))),
    "wide codes": ("fixed_point_unet", "fixed Q8.8/Q8.8", Pipeline(SIZE, intensity_range=(10.0, 200.0))),
    "powers": ("thin_unet", "power-of-two Q1.8/Q4.4", Pipeline(SIZE)),
    "planes of signs": ("thin_unet", "residual w2a2", Pipeline(SIZE)),
    "f32": ("thin_unet_w32_n4", None, Pipeline(SIZE, multiple=8, normalization=Normalization("min-max"))),
    "f32, classes": (
        "unet", None, Pipeline(**COLORED, postprocess=Postprocess(min_pixels=3, fill_holes=True)),
    ),
    "f32, overlapping classes": (
        "separable_unet", None, Pipeline(**COLORED, multilabel=True, postprocess=Postprocess(keep="largest")),
    ),
}  # fmt: skip


@cache
def program(name: str, scheme: str | None, channels: int, logits: int) -> Program:
    if scheme is not None:
        return program_of(integer_net(trained(name, scheme).core), channels)
    net = make(name, channels, logits)
    net.train()(picture(2, channels, 32, 32))  # norms have seen something
    return program_of(net.core, channels)


class Engine:
    """The plain kernels, under a pipeline whose threshold lies in the middle of what they find."""

    def __init__(self, net: Program, pipeline: Pipeline) -> None:
        self.session = Session(file_of(net, {"pipeline": pipeline.to_dict()}), "here")
        self.logits = np.empty(0, np.float32)
        self.pipeline = pipeline
        if pipeline.logits == 1 or pipeline.multilabel:
            found = NetPredictor(pipeline, self.forward).predict(self.shaped(check_image(pipeline)))
            rules = replace(pipeline.postprocess, threshold=float(np.median(found)))
            if rules.min_peak:
                rules = replace(rules, min_peak=float(np.quantile(found, 0.9)))
            self.pipeline = replace(pipeline, postprocess=rules)

    def forward(self, planes: np.ndarray) -> np.ndarray:
        self.logits = self.session(planes)
        return self.logits

    def shaped(self, image: np.ndarray) -> np.ndarray:
        return image[:, :, 0] if image.shape[2] == 1 else image

    def segment(self, image: np.ndarray) -> tuple[np.ndarray, int]:
        """The mask, and the digest of the logits."""
        mask = NetPredictor(self.pipeline, self.forward).mask(self.shaped(image))
        return mask, digest(np.ascontiguousarray(self.logits[0].transpose(1, 0, 2)))


def compiled(case: str, folder: Path, compiler: str, *options: str) -> tuple[ctypes.CDLL, Engine]:
    """The library of a case, with its check."""
    if shutil.which(compiler) is None:
        pytest.skip(f"missing tool: {compiler}")
    name, scheme, pipeline = CASES[case]
    net = program(name, scheme, pipeline.channels, pipeline.logits)
    engine = Engine(net, pipeline)
    mask, logits = engine.segment(check_image(pipeline))
    made = c_source(net, engine.pipeline, {"description": "*/ größe"}, "seg", "here", (logits, digest(mask)))
    (folder / "seg.c").write_text(made.source, encoding="utf-8")
    (folder / "seg.h").write_text(made.header, encoding="utf-8")
    command = [compiler, *options, *STRICT, "-shared", "-fPIC", "-DSEG_CHECK", "seg.c", "-o", "seg.so"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(folder / "seg.so")), engine


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)


def compare(library: ctypes.CDLL, engine: Engine) -> None:
    """The file's own check, and images that it does not know."""
    image = check_image(engine.pipeline)
    ramp = np.add.outer(3 * np.arange(image.shape[0]), 5 * np.arange(image.shape[1]))[:, :, None]
    draw = np.random.default_rng(5)
    noise = draw.integers(0, 256, image.shape, np.uint8)
    smooth = (ramp % 200 + draw.integers(0, 40, image.shape)).astype(np.uint8)
    wanted, _ = engine.segment(image)
    assert 0 < np.count_nonzero(wanted) < wanted.size, "a mask of one class shows nothing"
    mask = np.empty(wanted.shape, np.uint8)
    assert library.seg_check(pointer(image.copy()), pointer(mask)) == 0
    for pixels in (noise, smooth, np.zeros_like(image)):
        wanted, logits = engine.segment(pixels)
        assert library.seg_segment(pointer(pixels), pointer(mask)) == 0
        assert ctypes.c_uint32.in_dll(library, "seg_logits_digest").value == logits
        np.testing.assert_array_equal(mask, wanted)


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setenv("POCKETSEG_ISA", "scalar")


@pytest.mark.whole
@pytest.mark.parametrize("case", CASES)
def test_masks_and_logits_are_the_engine_s(case, tmp_path):
    compare(*compiled(case, tmp_path, "gcc", "-std=c99", "-O1"))


@pytest.mark.parametrize(
    ("compiler", "options"),
    [
        ("clang", ["-std=c99", "-O2"]),
        ("g++", ["-std=c++11", "-O1", "-x", "c++"]),
        ("clang++", ["-std=c++17", "-O1", "-x", "c++"]),
    ],
)
@pytest.mark.parametrize("case", ["int8", "planes of signs", "f32, overlapping classes"])
def test_other_compilers_and_cpp(case, compiler, options, tmp_path):
    compare(*compiled(case, tmp_path, compiler, *options))


def test_products_and_sums_are_rounded_one_by_one_whatever_is_asked_for(tmp_path):
    contracting = ["-std=gnu99", "-O3", "-march=native", "-ffp-contract=fast"]
    compare(*compiled("f32", tmp_path, "gcc", *contracting))


def test_fast_math_is_refused(tmp_path):
    compiled("int8", tmp_path, "gcc", "-std=c99", "-O0")
    command = ["gcc", "-std=c99", "-ffast-math", "-fsyntax-only", "seg.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode and "compile without -ffast-math" in done.stderr


def test_only_the_rows_that_are_read_are_kept():
    name, scheme, pipeline = CASES["int8"]
    net = program(name, scheme, pipeline.channels, pipeline.logits)
    session = Session(file_of(net, {}), "here")
    assert plan_of(net, (96, 96)).arena_bytes < session.arena_bytes(96, 96) / 4


def refused(**fields: object) -> Callable[[], object]:
    name, scheme, _ = CASES["int8"]
    return lambda: c_source(program(name, scheme, 1, 1), Pipeline(SIZE, **fields), {}, "seg", "model.pseg")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("work", "what"),
    [
        (refused(tta=("horizontal",)), "tta"),
        (refused(paint_out_calipers=True), "paint_out_calipers"),
        (refused(postprocess=Postprocess(presence=(0.5,))), "presence"),
    ],
)
def test_what_has_no_form_is_refused_by_name(work, what):
    with pytest.raises(ModelFileError, match=f"{what}.*has no form in C"):
        work()


def test_text_of_a_card_stays_in_its_comment():
    name, scheme, _ = CASES["int8"]
    pipeline = Pipeline(SIZE, classes=("a */ int b; /*",))
    card = {"description": "c */ int d; \\", "precision": "*/", "parameters": "*/ int e;"}
    source = c_source(program(name, scheme, 1, 1), pipeline, card, "seg", "here").source
    head = source[: source.index('#include "seg.h"\n\n#include')]
    assert head.count("*/") == 1 and head.rstrip().endswith("*/") and head.count("/*") == 1


def test_the_command_writes_a_file_and_its_header(tmp_path):
    name, scheme, _ = CASES["ternary"]
    pipeline = Pipeline((16, 24), multiple=4)
    model = tmp_path / "2 lesion.pseg"
    model.write_bytes(file_of(program(name, scheme, 1, 1), {"pipeline": pipeline.to_dict(), "precision": "w2a8"}))
    made = pocketseg.export(model, "c", out=tmp_path / "firmware")
    assert made.file == tmp_path / "firmware/2 lesion.c" and made.parity is None and made.needs is not None
    assert "-DNET_2_LESION_CHECK" in made.checked
    header = (tmp_path / "firmware/net_2_lesion.h").read_text()
    pocketseg.export(model, "c", out=tmp_path / "firmware")
    for taken in ("2 lesion.c", "net_2_lesion.h"):
        folder = tmp_path / f"holds {taken[-1]}"
        folder.mkdir()
        (folder / taken).write_text("int main(void) { return 0; }")
        with pytest.raises(DataError, match="was not written by export --to c"):
            pocketseg.export(model, "c", out=folder)
        assert [path.name for path in folder.iterdir()] == [taken] and "main" in (folder / taken).read_text()
    assert f"#define NET_2_LESION_ARENA_BYTES {made.needs.arena_bytes}\n" in header
    assert f"Flash: {made.needs.flash_bytes} bytes" in made.file.read_text()

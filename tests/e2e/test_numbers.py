"""What goes into and comes out of a model is never silently wrong, whatever runs it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pocketseg
from helpers.commands import SMALL, overrides, run_cli
from pocketseg.data.readers import read_image
from pocketseg.engine.container import read_container
from pocketseg.errors import DataError, ModelFileError, PocketsegError
from pocketseg.exporters import compare
from pocketseg.runs import packed as packing
from pocketseg.runs.source import ModelSource
from pocketseg.training.checkpoint import read_checkpoint, write_checkpoint
from pocketseg.training.model import Model

BACKENDS = ("pseg", "onnx", "openvino", "torch")
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
FLOATS = (PIXELS / 255).astype(np.float32)


def strided() -> np.ndarray:
    large = np.zeros((80, 100), np.uint8)
    large[::2, ::2] = PIXELS
    return large[::2, ::2]


class Foreign:
    def __array__(self, dtype=None, copy=None):
        return PIXELS


# What means the same as PIXELS, and must give the same.
SAME = {
    "uint8": PIXELS,
    "fortran": np.asfortranarray(PIXELS),
    "reversed": PIXELS[::-1, ::-1][::-1, ::-1],
    "strided": strided(),
    "uint16": PIXELS.astype(np.uint16) * 257,
    "big-endian": (PIXELS.astype(np.uint16) * 257).astype(">u2"),
    **{name: PIXELS.astype(name) for name in ("int16", "int32", "int64", "uint32", "uint64")},
    **{f"{name} to 255": PIXELS.astype(name) for name in ("float16", "float32", "float64", "longdouble")},
    **{f"{name} to 1": (PIXELS / 255).astype(name) for name in ("float32", "float64", "longdouble")},
    "column": PIXELS[:, :, None],
    "gray in color": np.stack([PIXELS] * 3, -1),
    "list": PIXELS.tolist(),
    "tuple": tuple(map(tuple, PIXELS.tolist())),
    "list of floats": FLOATS.tolist(),
    "picture": Image.fromarray(PIXELS),
    "picture in color": Image.fromarray(np.stack([PIXELS] * 3, -1)),
    "tensor": torch.from_numpy(PIXELS.copy()),
    "float tensor": torch.from_numpy(FLOATS.copy()),
    "tensor with gradient": torch.from_numpy(FLOATS.copy()).requires_grad_(),
    "__array__": Foreign(),
    "nothing masked": np.ma.array(PIXELS),
}
# What is an image, but another one; few of these shapes are usual.
OTHER = {
    "bool": PIXELS > 128,
    "8 bits in 16": PIXELS.astype(np.uint16),
    "1 pixel": PIXELS[:1, :1],
    "a row": np.zeros((1, 2000), np.uint8),
    "a column": np.zeros((20000, 1), np.uint8),
    "large floats": FLOATS * np.float32(3e38),
    "tiny floats": FLOATS * np.float32(1e-40),
    "tiny doubles": PIXELS * 1e-310,
    "one value": np.full((8, 8), 7.0, np.float32),
    "zeros": np.zeros((8, 8), np.float32),
    "half floats to 1": FLOATS.astype(np.float16),
}
NOTHING = np.zeros((8, 8, 0), np.uint8)


def poisoned(value: float) -> np.ndarray:
    image = FLOATS.copy()
    image[3, 3] = value
    return image


# What cannot be meant.
REFUSED = {
    "signed bytes": (PIXELS.astype(int) - 128).astype(np.int8),
    "signed": PIXELS.astype(np.int16) - 1024,
    "int64 max": np.full((8, 8), 2**63 - 1),
    "uint64 max": np.full((8, 8), 2**64 - 1, np.uint64),
    "complex": PIXELS.astype(np.complex64),
    "object": PIXELS.astype(object),
    "text": PIXELS.astype(str),
    "datetime": PIXELS.astype("datetime64[s]"),
    "structured": np.zeros((4, 4), [("a", "u1")]),
    "None": None,
    "path": "one/a.png",
    "Path": Path("one/a.png"),
    "int": 3,
    "(1, h, w)": PIXELS[None],
    "(3, h, w)": np.stack([PIXELS] * 3, 0),
    "(h, w, 4)": np.stack([PIXELS] * 4, -1),
    "(h, w, 2)": np.stack([PIXELS] * 2, -1),
    "(1, 1, h, w)": PIXELS[None, None],
    "(h,)": PIXELS[0],
    "0-D": np.uint8(3),
    "0-D array": np.array(3, np.uint8),
    "(0, 0)": PIXELS[:0, :0],
    "(0, w)": PIXELS[:0],
    "(h, 0)": FLOATS[:, :0],
    "(h, w, 0)": NOTHING,
    "nan": poisoned(np.nan),
    "inf": poisoned(np.inf),
    "-inf": poisoned(-np.inf),
    "all nan": np.full((8, 8), np.nan, np.float32),
    "beyond f32": (FLOATS * 2 - 1) * np.float32(3.4e38),
    "doubles beyond f32": PIXELS * 1e300,
    "masked": np.ma.masked_greater(PIXELS, 100),
}


@pytest.fixture(scope="module", params=BACKENDS)
def predictor(request, trained_run, exported):
    return pocketseg.load(trained_run, backend=request.param, threads=1)


@pytest.mark.row("API", "P14")
@pytest.mark.parametrize("name", SAME)
def test_what_means_the_same_gives_the_same(predictor, name):
    given = SAME[name]
    wanted = predictor.predict(PIXELS)
    found = predictor.predict(given)
    assert found.shape == (40, 50, 1) and found.dtype == np.float32 and found.std() > 0
    # Luma of three equal channels is rounded once more; float16 holds 255, and not every 1/255.
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.array_equal(predictor.mask(given), predictor.pipeline.mask(found))


@pytest.mark.row("API")
@pytest.mark.parametrize("name", OTHER)
def test_odd_images_are_images(predictor, name):
    given = OTHER[name]
    before = given.copy()
    found = predictor.predict(given)
    assert found.shape == (*given.shape, 1) and np.isfinite(found).all()
    assert np.array_equal(given, before)


@pytest.mark.row("API", "P13")
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("method", ["predict", "mask"])
def test_what_cannot_be_meant_is_refused_in_three_parts(predictor, name, method):
    with pytest.raises(DataError) as caught:
        getattr(predictor, method)(REFUSED[name])
    for problem in caught.value.problems:
        assert problem.where == "image" and problem.what and problem.fix


@pytest.mark.row("API")
@pytest.mark.parametrize("spacing", [(0, 0), (1,), "x", (float("nan"), 1), (True, True)], ids=str)
def test_pixel_sizes_that_are_none(predictor, spacing):
    with pytest.raises(DataError, match="spacing_mm"):
        predictor.predict(PIXELS, spacing)


@pytest.mark.row("API")
@pytest.mark.parametrize("threads", [-1, 257, True, 1.5, "2", None, 2**40], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_of_threads_that_are_none(trained_run, exported, backend, threads):
    with pytest.raises(DataError, match="threads"):
        pocketseg.load(trained_run, backend=backend, threads=threads)


@pytest.mark.row("API")
def test_answers_do_not_share_memory(predictor):
    first = predictor.predict(PIXELS)
    kept = first.copy()
    predictor.predict(PIXELS[::-1].copy())
    assert np.array_equal(first, kept)


# --- weights ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broken_run(trained_run, tmp_path_factory):
    """A run whose best weights hold one nan, with a right digest."""
    run = tmp_path_factory.mktemp("broken") / "run"
    shutil.copytree(trained_run, run)
    for file in run.glob("fold-0/*.pseg"):
        file.unlink()
    (best,) = run.glob("fold-0/*/best.safetensors")
    tensors, state = read_checkpoint(best)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[0] = float("nan")
    write_checkpoint(best, tensors, state)
    return run


@pytest.mark.row("P13")
@pytest.mark.parametrize("verb", ["predict", "evaluate", "pack", "export"])
def test_a_model_with_nan_is_refused_by_every_verb(broken_run, phantom_data, tmp_path, verb):
    more = {
        "predict": [phantom_data / "images", "--out", tmp_path / "o"],
        "evaluate": [phantom_data, "--out", tmp_path / "o"],
        "pack": ["--out", tmp_path / "o"],
        "export": ["--to", "onnx", "--out", tmp_path / "o"],
    }[verb]
    found = run_cli(verb, broken_run, *more)
    assert found.returncode == 2, found.stderr
    assert "best.safetensors: holds weights that are NaN or infinite" in found.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.row("N10", "P13")
def test_a_comparison_with_nan_fails(trained_run):
    model = pocketseg.load(trained_run, backend="torch")

    def broken(batch):
        return np.full((len(batch), 1, *batch.shape[2:]), np.nan, np.float32)

    for quantized in (False, True):
        for forms in ((broken, model.forward), (model.forward, broken), (broken, broken)):
            assert not compare(model.pipeline, *forms, [(PIXELS, None)], quantized=quantized).holds
        assert not compare(model.pipeline, model.forward, model.forward, [], quantized=quantized).holds


# --- cards --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"multiple": 0},
        {"size": [0, 0]},
        {"size": [-32, 32]},
        {"size": [1e30, 1e30]},
        {"size": [32768, 32768]},
        {"size": [1, 1], "fit": "tile"},
        {"size": [33, 32], "multiple": 1},
        {"classes": []},
        {"classes": ["a", "b"]},
        {"channels": 2},
        {"postprocess": {"threshold": float("nan")}},
        {"postprocess": {"threshold": float("inf")}},
    ],
    ids=str,
)
def test_a_packed_model_whose_card_makes_no_sense(trained_run, phantom_data, tmp_path, change):
    whole = read_container((trained_run / "fold-0/model.pseg").read_bytes(), "model.pseg")
    card = {**whole.card, "pipeline": {**whole.card["pipeline"], **change}}
    file = tmp_path / "m.pseg"
    file.write_bytes(replace(whole, card=card).to_bytes())
    for use in (pocketseg.load, pocketseg.verify):
        with pytest.raises(ModelFileError, match=r"m\.pseg: .* → "):
            use(file)


def test_a_card_nested_without_end(trained_run, tmp_path):
    whole = read_container((trained_run / "fold-0/model.pseg").read_bytes(), "model.pseg")
    deep: object = 0
    for _ in range(500):
        deep = [deep]
    file = tmp_path / "m.pseg"
    text = json.dumps({**whole.card, "deep": 0}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    content = replace(whole, card={**whole.card, "deep": 0}).to_bytes()
    assert text.encode() in content
    for nested in ("[" * 200_000, "[" * 5000 + "]" * 5000):
        file.write_bytes(_with_card(whole, text.replace('"deep":0', f'"deep":{nested}')))
        for use in (pocketseg.load, pocketseg.verify):
            with pytest.raises(ModelFileError, match="its card cannot be read"):
                use(file)


def _with_card(whole, text: str) -> bytes:
    from pocketseg.engine.container import HEADER, HEADER_BYTES, MAGIC, _digest

    card = text.encode()
    body = card + whole.program + whole.data
    lengths = (len(card), len(whole.program), len(whole.data))
    head = HEADER.pack(MAGIC, whole.version, 0, HEADER_BYTES + len(body), *lengths)
    return head + _digest(head, body) + body


@pytest.mark.parametrize(
    "change",
    [
        {"pipeline": None},
        {"pipeline": {}},
        {"pipeline": [1]},
        {"net": None},
        {"net": {"arch": "thin_unet", "width": 4096, "blocks": 10}},
        {"net": {"arch": "thin_unet", "width": "8"}},
        {"net": {"arch": "none"}},
        {"net": {"arch": "thin_unet", "width": 4}},
        {"quant": {"scheme": "w8a8"}},
        {"quant": "w8a8"},
        {"kind": "packed"},
        {"kind": 3},
    ],
    ids=str,
)
def test_a_checkpoint_whose_state_makes_no_sense(trained_run, tmp_path, change):
    (best,) = trained_run.glob("fold-0/*/best.safetensors")
    tensors, state = read_checkpoint(best)
    write_checkpoint(tmp_path / "best.safetensors", tensors, {**state, **change})
    with pytest.raises(PocketsegError) as caught:
        Model.load(tmp_path / "best.safetensors")
    assert caught.value.exit_code == 2 and caught.value.problems[0].where.endswith("best.safetensors")


# --- intensities --------------------------------------------------------------------------------------------


@pytest.mark.slow("a command more; others here are refused too")
@pytest.mark.row("P15")
def test_an_image_of_another_range_is_reported_by_its_name(trained_run, phantom_data, tmp_path):
    first = next((phantom_data / "images").iterdir())
    pixels = np.asarray(Image.open(first))
    folder = tmp_path / "scans"
    folder.mkdir()
    Image.fromarray(pixels).save(folder / "same.png")
    Image.fromarray(pixels.astype(np.uint16) * 257).save(folder / "sixteen.png")
    Image.fromarray(pixels.astype(np.uint16) * 16).save(folder / "twelve.png")
    for backend in ("pseg", "torch"):
        found = run_cli("predict", trained_run, folder, "--out", tmp_path / backend, "--backend", backend)
        assert found.returncode == 0
        told = found.stdout + found.stderr
        assert "twelve.png: its intensities run from" in told
        assert "same.png: its" not in told and "sixteen.png: its" not in told


@pytest.mark.row("P15", "API")
def test_the_api_tells_it_too(trained_run, caplog):
    model = pocketseg.load(trained_run)
    model.predict(PIXELS)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    model.predict(PIXELS.astype(np.uint16))
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "its intensities run from" in record.getMessage()


def array_data(folder: Path, convert) -> Path:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 120, (16, 32, 32))
    masks = np.zeros((16, 32, 32), np.uint8)
    masks[:, 8:20, 10:24] = 1
    images[masks > 0] += 100
    folder.mkdir()
    np.savez(folder / "data.npz", images=convert(images), masks=masks)
    return folder / "data.npz"


PLAIN = ("data.group_csv=null", "data.group_column=null")
FEW = (*SMALL, *PLAIN, "stages.0.epochs=1", "evaluate.parts=[validation]", "evaluate.metrics=[dice]")


def test_integers_that_hold_8_bits_train_as_8_bits(tmp_path):
    """What numpy makes of lists is int64: divided by its maximum, all images would be black."""
    weights = []
    for name, kind in (("a", np.uint8), ("b", np.int64)):
        run = tmp_path / f"run-{name}"
        pocketseg.train("demo", array_data(tmp_path / name, lambda images, kind=kind: images.astype(kind)), run,
                        overrides=FEW, device="cpu", report=False)  # fmt: skip
        (best,) = run.glob("fold-0/*/best.safetensors")
        model = Model.load(best)
        assert model.pipeline.trained_on.numbers == "uint8"
        weights.append(torch.cat([each.flatten() for each in model.net.state_dict().values() if each.dim()]))
    assert torch.equal(*weights)


@pytest.mark.slow("a command more; others here are refused too")
def test_integers_that_nothing_explains_are_refused_before_training(tmp_path):
    data = array_data(tmp_path / "d", lambda images: (images * 10 - 1000).astype(np.int16))
    found = run_cli("train", "demo", "--data", data, "--out", tmp_path / "run", *overrides(*PLAIN))
    assert found.returncode == 2
    assert "nothing says which of them are black and white" in found.stderr and "data.range=[-1000, " in found.stderr
    assert not list(tmp_path.glob("run/fold-0/*/*.safetensors"))


# --- the gate -----------------------------------------------------------------------------------------------


@pytest.mark.row("N12")
def test_what_pack_rounds_passes_the_gate(trained_run, phantom_data, tmp_path):
    images = [read_image(path) for path in sorted((phantom_data / "images").iterdir())]
    for number, options in enumerate(({"weights": "bf16"}, {"constants": "f16"})):
        packed = pocketseg.load(pocketseg.pack(trained_run, tmp_path / f"{number}.pseg", **options).file)
        assert 0.01 < np.mean([packed.mask(image).mean() for image in images]) < 0.5


@pytest.mark.row("N12")
@pytest.mark.parametrize("damage", ["empty", "full", "constant", "half", "other"])
def test_a_rounded_model_that_broke_down_is_not_written(trained_run, tmp_path, monkeypatch, damage):
    (best,) = trained_run.glob("fold-0/*/best.safetensors")
    exact = Model.load(best)
    images = packing._validation_images(ModelSource.resolve(trained_run))
    assert len(images) > 1 and all(each.reference is not None for each in images)
    forward = exact.predictor().forward

    def broken(batch):
        logits = forward(batch)
        match damage:
            case "empty":
                return logits - 100
            case "full":
                return logits + 100
            case "constant":
                return np.full_like(logits, 0.3)
            case "half":
                kept = np.zeros_like(logits)
                kept[..., ::4] = 1
                return np.where(kept > 0, logits, -100)
        return logits[..., ::-1, ::-1]

    packing._gate(tmp_path / "m.pseg", images, exact, forward)
    with pytest.raises(ModelFileError, match="nothing was written"):
        packing._gate(tmp_path / "m.pseg", images, exact, broken)

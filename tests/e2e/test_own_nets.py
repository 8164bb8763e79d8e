"""Nets that somebody else wrote: a torch module is packed, an ONNX file becomes a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pocketseg
from helpers.commands import run_cli
from pocketseg.data.readers import read_image
from pocketseg.errors import ModelFileError, PocketsegError, RecipeError
from pocketseg.nets.from_onnx import module_of
from pocketseg.pipeline import Normalization, Pipeline
from pocketseg.training.model import torch_forward

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
# The exporter of torch warns about itself.
pytestmark = pytest.mark.filterwarnings("ignore")
SIZE = (32, 48)
PIPELINE = Pipeline(SIZE, classes=("cell",), normalization=Normalization("z-score"))


class Mine(nn.Module):
    """Two levels, and one operation of each kind that a U-Net has."""

    def __init__(self, channels: int = 1, logits: int = 1, up: str = "nearest") -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.low = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 8, 1), nn.ReLU6())
        self.pool = nn.MaxPool2d(2)
        self.up = {
            "nearest": nn.Upsample(scale_factor=2),
            "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
            "transposed": nn.ConvTranspose2d(8, 8, 2, 2),
        }[up]
        self.last = nn.Conv2d(14, logits, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.first(x)
        return self.last(torch.cat([self.up(self.low(self.pool(first))), first], 1))


class After(nn.Module):
    """A net and something behind it."""

    def __init__(self, net: nn.Module, function) -> None:
        super().__init__()
        self.net, self.function = net, function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.net(x))


def mine(seed: int = 0, **options) -> nn.Module:
    torch.manual_seed(seed)
    net = Mine(**options)
    with torch.no_grad():
        net.first[1].running_mean.normal_()
        net.first[1].running_var.uniform_(0.5, 2)
    return net.eval()


def exported(net: nn.Module, path: Path, channels: int = 1) -> Path:
    images = {0: torch.export.Dim("images")}
    torch.onnx.export(net, (torch.zeros(2, channels, *SIZE),), path, dynamo=True, external_data=False, verbose=False,
                      input_names=["image"], output_names=["y"], dynamic_shapes=(images,))  # fmt: skip
    return path


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)


# --- modules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("up", ["nearest", "bilinear", "transposed"])
def test_a_module_is_packed(tmp_path, image, up):
    net = mine(up=up).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    done = pocketseg.pack(net, tmp_path / "mine.pseg", pipeline=PIPELINE)
    wanted = PIPELINE.predict(image, torch_forward(net.eval()))
    model = pocketseg.load(done.file)
    np.testing.assert_allclose(model.predict(image), wanted, atol=1e-5)
    assert model.pipeline.classes == ("cell",) and model.card["net"] == {"arch": "Mine"}
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_a_module_is_quantized(tmp_path):
    pictures = [np.random.default_rng(n).integers(0, 256, SIZE, np.uint8) for n in range(4)]
    done = pocketseg.pack(mine(), tmp_path / "small.pseg", pipeline=PIPELINE, calibrate=pictures)
    whole = pocketseg.pack(mine(), tmp_path / "whole.pseg", pipeline=PIPELINE)
    assert pocketseg.load(done.file).precision == "w8a8" and done.size_bytes < whole.size_bytes
    masks = [[pocketseg.load(each.file).mask(picture) for picture in pictures] for each in (done, whole)]
    assert np.mean(np.array(masks[0]) != np.array(masks[1])) < 0.05


def test_a_packed_module_is_evaluated(tmp_path, phantom_data):
    net = pocketseg.pack(mine(), tmp_path / "mine.pseg", pipeline=PIPELINE).file
    assert len(pocketseg.evaluate(net, phantom_data).rows) == 40


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (
            lambda: After(After(mine(), torch.erf), torch.relu),
            "net: erf: calls erf, which the engine has no operation for",
        ),
        (lambda: After(mine(), lambda x: x if x.mean() > 0 else -x), r"cannot be traced"),
        (lambda: nn.Conv2d(1, 2, 3), r"gives \(2, 2, .*, not"),
        (lambda: mine(channels=3), "cannot run on an image of 1 channel"),
        (lambda: mine(logits=3), r"gives \(2, 3, .*, not"),
        (lambda: After(mine(), lambda x: [x]), "gives a list, not a tensor"),
    ],
)
def test_a_module_that_cannot_be_packed_is_reported(tmp_path, net, words):
    with pytest.raises(ModelFileError, match=words):
        pocketseg.pack(net(), tmp_path / "mine.pseg", pipeline=PIPELINE)
    assert not any(tmp_path.iterdir())


def test_a_module_keeps_attributes_of_its_own(tmp_path, image):
    """What a net calls its stride may be something else than what its images are multiples of."""

    class Strided(nn.Module):
        stride = 3

        def __init__(self) -> None:
            super().__init__()
            self.net, self.last = mine(), nn.ConvTranspose2d(1, 1, 3, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.net(x)) + self.net(x) if self.stride == 3 else x

    torch.manual_seed(1)
    net = Strided().eval()
    wanted = PIPELINE.predict(image, torch_forward(net))
    found = pocketseg.load(pocketseg.pack(net, tmp_path / "net.pseg", pipeline=PIPELINE).file).predict(image)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_options_of_modules_and_of_runs(tmp_path, trained_run):
    with pytest.raises(RecipeError, match="with a pipeline and a name"):
        pocketseg.pack(mine(), tmp_path / "mine.pseg")
    with pytest.raises(RecipeError, match="pipeline: is for a net of one's own"):
        pocketseg.pack(trained_run, tmp_path / "run.pseg", pipeline=PIPELINE)


# --- ONNX -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("up", ["nearest", "bilinear", "transposed"])
@pytest.mark.parametrize(("channels", "logits"), [(1, 1), (3, 3)])
def test_a_foreign_file_becomes_a_model(tmp_path, image, up, channels, logits):
    net = mine(channels=channels, logits=logits, up=up)
    names = ["cell", "nucleus"][: max(1, logits - 1)]
    done = pocketseg.wrap(exported(net, tmp_path / "net.onnx", channels), tmp_path / "model.onnx", classes=names,
                          normalize="z-score")  # fmt: skip
    picture = image if channels == 1 else np.stack([image, image[::-1], image.T[:40, :50].repeat(2, 1)[:, :50]], 2)
    wanted = done.pipeline.predict(picture, torch_forward(net))
    np.testing.assert_allclose(pocketseg.load(done.file).predict(picture), wanted, atol=1e-5)
    packed = pocketseg.pack(done.file)
    assert packed.file == tmp_path / "model.pseg"
    np.testing.assert_allclose(pocketseg.load(packed.file).predict(picture), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("logits", "behind", "packs"),
    [
        (1, torch.sigmoid, True),
        (3, lambda x: x.softmax(1), True),
        (1, lambda x: torch.sigmoid(x) * torch.sigmoid(x).max(), False),
        (3, lambda x: x.softmax(1).clamp(0, 1), False),
    ],
)  # fmt: skip
def test_probabilities_are_taken_back(tmp_path, image, logits, behind, packs):
    net = After(mine(logits=logits), behind)
    done = pocketseg.wrap(exported(net, tmp_path / "net.onnx"), tmp_path / "model.onnx", output="probabilities")
    found = pocketseg.load(done.file).predict(image)
    probabilities = torch_forward(net)(done.pipeline.prepare(image)[None])[0]
    wanted = done.pipeline.placement(image.shape).restore(probabilities if logits == 1 else probabilities[1:])
    np.testing.assert_allclose(np.moveaxis(found, -1, 0), wanted, atol=2e-5)
    if packs:
        np.testing.assert_allclose(pocketseg.load(pocketseg.pack(done.file).file).predict(image), found, atol=1e-5)
    else:
        with pytest.raises(ModelFileError, match="is not an operation that can be packed → use it as ONNX"):
            pocketseg.pack(done.file)


def test_from_the_command_line(tmp_path, phantom_data):
    exported(mine(), tmp_path / "net.onnx")
    model = tmp_path / "model.onnx"
    done = run_cli("wrap", tmp_path / "net.onnx", "-o", model, "--class", "lesion", "--normalize", "train-mean-std",
                   "--mean", "0.2", "--std", "0.1")  # fmt: skip
    assert done.returncode == 0 and "pocketseg predict" in done.stdout
    for command in (
        ("predict", model, phantom_data / "images", "--out", tmp_path / "masks"),
        ("evaluate", model, phantom_data),
        ("benchmark", model, "--size", "32", "48", "--turns", "2", "--turn-seconds", "0.01", "--json"),
        ("pack", model),
    ):
        done = run_cli(*command)
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "masks").glob("*.png"))) == 40
    assert read_image(next((tmp_path / "masks").glob("*.png"))).shape == (48, 48)


def altered(path: Path, change) -> Path:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": (32, 32)}, "takes 32×48"),
        ({"classes": ["a", "b"]}, "names 2 classes, but the net of"),
        ({"mean": [0.5], "std": [0.5]}, "belong to --normalize train-mean-std"),
        ({"normalize": "train-mean-std", "mean": [0.5, 0.5], "std": [1, 1]}, "takes 1 channel"),
        ({"normalize": "imagenet"}, "is not known"),
        ({"fit": "stretch"}, "is not known"),
        ({"output": "mask"}, "is not known"),
        ({"classes": ["../out"]}, ""),
        ({"threshold": 2}, ""),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, words):
    exported(mine(), tmp_path / "net.onnx")
    with pytest.raises(PocketsegError) as caught:
        pocketseg.wrap(tmp_path / "net.onnx", tmp_path / "model.onnx", **options)
    assert words in str(caught.value)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(("logits", "behind"), [(1, torch.sigmoid), (3, lambda x: x.softmax(1))])
def test_probabilities_are_not_taken_for_logits(tmp_path, logits, behind):
    """A sigmoid of a sigmoid is above one half everywhere: all would be foreground."""
    exported(After(mine(logits=logits), behind), tmp_path / "net.onnx")
    with pytest.raises(RecipeError, match=r"it ends in (Sigmoid|Softmax).*→ give --output probabilities"):
        pocketseg.wrap(tmp_path / "net.onnx", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_files_that_are_no_nets(tmp_path):
    (tmp_path / "text.onnx").write_text("no net")
    net = exported(mine(), tmp_path / "net.onnx")
    done = pocketseg.wrap(net, tmp_path / "model.onnx")
    for path, words in (("gone.onnx", "does not exist"), ("text.onnx", "cannot be read as ONNX"),
                        ("model.onnx", "has a pipeline already")):  # fmt: skip
        with pytest.raises(ModelFileError, match=words):
            pocketseg.wrap(tmp_path / path, tmp_path / "new.onnx")
    with pytest.raises(PocketsegError, match=r"\.onnx"):
        pocketseg.wrap(net, tmp_path / "model.bin")
    with pytest.raises(PocketsegError, match=r"net\.onnx"):
        pocketseg.wrap(net, net)
    assert done.file.exists() and not (tmp_path / "new.onnx").exists()


def test_a_size_that_is_left_open(tmp_path, image):
    net = altered(exported(mine(), tmp_path / "net.onnx"), lambda model: _open_size(model))
    with pytest.raises(RecipeError, match="--size: is needed"):
        pocketseg.wrap(net, tmp_path / "model.onnx")
    done = pocketseg.wrap(net, tmp_path / "model.onnx", size=(64, 32))
    assert pocketseg.load(done.file).pipeline.net_size == (64, 32)
    assert pocketseg.load(done.file).predict(image).shape == (40, 50, 1)


def _open_size(model) -> None:
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in ((2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]


def test_what_is_read_as_another_net_is_not_packed(tmp_path, monkeypatch):
    """A wrong reading of an operation would be a silent wrong result; the runtime is asked first."""
    done = pocketseg.wrap(exported(mine(), tmp_path / "net.onnx"), tmp_path / "model.onnx")

    def wrong(model, where):
        net = module_of(model, where)
        return After(net, lambda x: x + x)

    monkeypatch.setattr("pocketseg.nets.from_onnx.module_of", wrong)
    with pytest.raises(ModelFileError, match="is read as another net"):
        pocketseg.pack(done.file)
    assert not (tmp_path / "model.pseg").exists()


def test_the_card_holds_what_its_reader_needs(tmp_path):
    done = pocketseg.wrap(exported(mine(), tmp_path / "net.onnx"), tmp_path / "model.onnx")
    (entry,) = (each for each in onnx.load(done.file).metadata_props if each.key.startswith("pocketseg"))
    card = json.loads(entry.value)
    assert str(tmp_path) not in entry.value and card["pipeline"]["size"] == list(SIZE)

"""Keras' HDF5 files: both forms, the order of layers, the turning of kernels, and what does not fit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from pocketseg.errors import ModelFileError
from pocketseg.nets import build
from pocketseg.weights import KerasLayer, hdf5, put_keras, read_keras

NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def write(path: Path, layers: list[KerasLayer], *, whole: bool = False) -> Path:
    """A file as Keras 2 writes it."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        names = ["input_1", *(layer.name for layer in layers)]
        root.attrs["layer_names"] = [name.encode() for name in names]
        root.create_group("input_1").attrs["weight_names"] = np.zeros(0)
        for layer in layers:
            group = root.create_group(layer.name)
            group.attrs["weight_names"] = [f"{layer.name}/{role}:0".encode() for role in layer.weights]
            for role, values in layer.weights.items():
                group[f"{layer.name}/{role}:0"] = values
        if whole:
            norms = [{"config": {"name": layer.name, "epsilon": 0.001}} for layer in layers if "gamma" in layer.weights]
            file.attrs["model_config"] = json.dumps({"config": {"layers": norms}})
    return path


def keras_layers(net: nn.Module) -> list[KerasLayer]:
    """Random layers for a thin or plain U-Net of ours, made from its registration order, which is how it runs but for
    the upsampling; with nothing shared with the code under test."""
    rng = np.random.default_rng(5)
    core = net.core
    ordered = [*core.encoder, core.deepest]
    for up, block in zip(core.ups, core.decoder, strict=True):
        ordered += [up, block]
    modules = [module for part in [*ordered, core.head] for module in part.modules()]
    layers: list[KerasLayer] = []
    while modules:
        module = modules.pop(0)
        if isinstance(module, nn.BatchNorm2d):
            weights = {role: rng.uniform(0.5, 2, module.num_features) for role in NORM}
        elif isinstance(module, nn.Conv2d) and module.bias is None:
            pointwise = modules.pop(0)
            height, width = module.kernel_size
            shape = (height, width, module.in_channels, module.out_channels // module.in_channels)
            weights = {
                "depthwise_kernel": rng.normal(size=shape),
                "pointwise_kernel": rng.normal(size=(1, 1, module.out_channels, pointwise.out_channels)),
                "bias": rng.normal(size=pointwise.out_channels),
            }
        elif isinstance(module, nn.Conv2d):
            shape = (*module.kernel_size, module.in_channels, module.out_channels)
            weights = {"kernel": rng.normal(size=shape), "bias": rng.normal(size=module.out_channels)}
        else:
            continue
        values = {role: value.astype(np.float32) for role, value in weights.items()}
        layers.append(KerasLayer(f"layer_{len(layers)}", values))
    return layers


NETS = [
    {"arch": "unet", "width": 4, "levels": 2, "norm": "block"},
    {"arch": "unet", "width": 4, "levels": 2, "norm": "none"},
    {"arch": "thin_unet", "width": 6, "blocks": 2, "norm": "block"},
    {"arch": "thin_unet", "width": 6, "blocks": 2, "norm": "block", "conv": "separable"},
    {"arch": "separable_unet", "width": 4, "levels": 2, "multiplier": 3},
]


def plain_convolution(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(h, w, i) and (kh, kw, i, o), with zeros around; by the definition."""
    height, width, _ = kernel.shape[:3]
    top, left = (height - 1) // 2, (width - 1) // 2
    padded = np.pad(x, ((top, height - 1 - top), (left, width - 1 - left), (0, 0)))
    out = np.zeros((*x.shape[:2], kernel.shape[3]))
    for i, j in np.ndindex(*x.shape[:2]):
        out[i, j] = np.tensordot(padded[i : i + height, j : j + width], kernel, 3)
    return out + bias


@pytest.mark.parametrize("options", NETS)
@pytest.mark.parametrize("whole", [False, True])
def test_every_layer_finds_its_place(tmp_path, options, whole):
    if "norm" in options and options["norm"] == "block":
        options = {**options, "norm_eps": 1e-3}
    net = build(in_channels=2, out_channels=3, **options)
    layers = keras_layers(net)
    read = read_keras(write(tmp_path / "net.h5", layers, whole=whole))
    assert [layer.name for layer in read] == [layer.name for layer in layers]
    filled = put_keras(net, read, channels=2, where="net.h5")
    assert set(filled) == {name for name in net.state_dict() if not name.endswith("num_batches_tracked")}
    total = sum(float(np.sum(values, dtype=np.float64)) for layer in layers for values in layer.weights.values())
    ours = sum(float(net.state_dict()[name].double().sum()) for name in filled)
    assert ours == pytest.approx(total, rel=1e-6)
    assert torch.equal(net.core.head.bias, torch.from_numpy(layers[-1].weights["bias"]))


def test_the_four_numbers_of_a_norm():
    net = nn.Sequential(nn.BatchNorm2d(2, eps=1e-3))
    net.stride = 1
    weights = {role: np.array([i, i + 0.5], "f4") for i, role in enumerate(NORM, 1)}
    put_keras(net, [KerasLayer("norm", weights)], channels=2, where="")
    with torch.no_grad():
        out = net.eval()(torch.full((1, 2, 1, 1), 5.0)).flatten()
    wanted = [gamma * (5 - mean) / (variance + 1e-3) ** 0.5 + beta for gamma, beta, mean, variance in
              ((1, 2, 3, 4), (1.5, 2.5, 3.5, 4.5))]  # fmt: skip
    np.testing.assert_allclose(out, wanted, rtol=1e-5)


@pytest.mark.parametrize("multiplier", [1, 3])
def test_kernels_are_turned_the_right_way(multiplier):
    """The first layers of a net against the definition of Keras' convolutions."""
    rng = np.random.default_rng(1)
    if multiplier == 1:
        convs = [nn.Conv2d(2, 4, (3, 5), padding=(1, 2))]
        weights = {"kernel": rng.normal(size=(3, 5, 2, 4)), "bias": rng.normal(size=4)}
    else:
        depthwise = nn.Conv2d(2, 2 * multiplier, 3, padding=1, groups=2, bias=False)
        convs = [nn.Sequential(depthwise, nn.Conv2d(2 * multiplier, 4, 1))]
        weights = {
            "depthwise_kernel": rng.normal(size=(3, 3, 2, multiplier)),
            "pointwise_kernel": rng.normal(size=(1, 1, 2 * multiplier, 4)),
            "bias": rng.normal(size=4),
        }
    net = nn.Sequential(*convs)
    net.stride = 1
    weights = {role: value.astype(np.float32) for role, value in weights.items()}
    put_keras(net, [KerasLayer("conv", weights)], channels=2, where="")
    x = rng.normal(size=(7, 6, 2)).astype(np.float32)
    if multiplier == 1:
        wanted = plain_convolution(x, weights["kernel"], weights["bias"])
    else:
        parts = []
        for channel in range(2):
            kernel = weights["depthwise_kernel"][:, :, channel : channel + 1]
            parts.append(plain_convolution(x[:, :, channel : channel + 1], kernel, np.zeros(multiplier)))
        wanted = np.concatenate(parts, 2) @ weights["pointwise_kernel"][0, 0] + weights["bias"]
    with torch.no_grad():
        ours = net(torch.from_numpy(x.transpose(2, 0, 1)[None]))[0].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(ours, wanted, atol=1e-5)


def test_the_order_is_that_of_running_not_of_registering():
    class Odd(nn.Module):
        stride = 1

        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x):
            return self.second(self.first(x))

    net = Odd()
    layers = [KerasLayer(n, {"kernel": np.full((1, 1, 2, 2), v, "f4"), "bias": np.full(2, v, "f4")}) for n, v in
              (("a", 1), ("b", 2))]  # fmt: skip
    put_keras(net, layers, channels=2, where="")
    assert net.first.bias.tolist() == [1, 1] and net.second.bias.tolist() == [2, 2]
    assert net.training


# --- what does not fit ------------------------------------------------------------------------------------------


def thin(**options) -> nn.Module:
    return build("thin_unet", 1, 1, **{"width": 4, "blocks": 2, "norm": "block", "norm_eps": 1e-3, **options})


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        ({"width": 5}, ["'layer_0'", "kernel is 3×3×1×4", "which is 4×1×3×3 here", "has 5×1×3×3", "widths"]),
        ({"conv": "separable"}, ["'layer_0'", "bias, kernel", "needs bias, depthwise_kernel, pointwise_kernel"]),
        ({"norm": "none"}, ["'layer_2'", "beta, gamma, moving_mean", "(Conv2d) at its place needs bias, kernel"]),
        ({"output_width": 8}, ["'layer_12'", "kernel is 3×3×8×4", "has 8×8×3×3"]),
    ],
)
def test_another_net_is_reported_by_layer_and_both_shapes(ours, words):
    net = thin(**ours)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ModelFileError) as caught:
        put_keras(net, keras_layers(thin()), channels=1, where="net.h5")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("cut", "words"), [(-1, "has 15 layers with weights, the net has 16"), (None, "the net has 16")]
)
def test_another_number_of_layers(cut, words):
    layers = keras_layers(thin())
    layers = layers[:cut] if cut else [*layers, layers[0]]
    with pytest.raises(ModelFileError, match=words):
        put_keras(thin(), layers, channels=1, where="net.h5")


def test_another_epsilon(tmp_path):
    layers = read_keras(write(tmp_path / "net.h5", keras_layers(thin()), whole=True))
    with pytest.raises(ModelFileError, match=r"has epsilon 0.001; .* has 1e-05 → set net.norm_eps=0.001"):
        put_keras(thin(norm_eps=1e-5), layers, channels=1, where="net.h5")


def test_numbers_that_are_not_finite():
    layers = keras_layers(thin())
    layers[3].weights["bias"][0] = np.inf
    with pytest.raises(ModelFileError, match=r"layer_3.*not finite"):
        put_keras(thin(), layers, channels=1, where="net.h5")


def test_nets_that_keras_files_cannot_fill():
    net = nn.Sequential(nn.ConvTranspose2d(1, 1, 2, stride=2))
    net.stride = 1
    with pytest.raises(ModelFileError, match=r"ConvTranspose2d.*cannot take Keras weights"):
        put_keras(net, [KerasLayer("up", {"kernel": np.ones((2, 2, 1, 1), "f4")})], channels=1, where="")


# --- files ------------------------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_keras(path)
    return str(caught.value)


def test_other_files(tmp_path):
    assert "does not exist" in refusal(tmp_path / "no.h5")
    (tmp_path / "new.keras").write_bytes(b"PK\x03\x04rest")
    assert 'save it with model.save("name.h5")' in refusal(tmp_path / "new.keras")
    (tmp_path / "text.h5").write_text("hello")
    assert "damaged or not a Keras file" in refusal(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.ones(3)
    assert "no list of layers" in refusal(tmp_path / "other.h5")


@pytest.mark.parametrize("link", [h5py.ExternalLink("other.h5", "/x"), h5py.SoftLink("/layer_1/layer_1/bias:0")])
def test_links_are_not_followed(tmp_path, link):
    path = write(tmp_path / "net.h5", keras_layers(thin()))
    with h5py.File(path, "a") as file:
        del file["layer_0/layer_0/bias:0"]
        file["layer_0/layer_0/bias:0"] = link
    assert "points elsewhere" in refusal(path)


def test_a_small_file_cannot_fill_the_memory(tmp_path):
    path = write(tmp_path / "net.h5", keras_layers(thin()))
    with h5py.File(path, "a") as file:
        del file["layer_0/layer_0/bias:0"]
        file.create_dataset("layer_0/layer_0/bias:0", (10**12,), "f4", chunks=True)
    assert "promises more than" in refusal(path)


def pointed_layer(path: Path, link: object) -> Path:
    """A file whose layer lies where a link says; beside it one with a layer of that name."""
    write(path.with_name("secret.h5"), [KerasLayer("conv", {"kernel": np.full((3, 3, 1, 4), 7.0)})])
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        file["conv"] = link
    return path


@pytest.mark.row("S04")
@pytest.mark.parametrize(
    "link", [h5py.ExternalLink("secret.h5", "/conv"), h5py.SoftLink("/other")], ids=["file", "soft"]
)
def test_a_layer_is_no_link(tmp_path, link):
    assert "points elsewhere for 'conv'" in refusal(pointed_layer(tmp_path / "net.h5", link))


def test_the_whole_model_is_no_link(tmp_path):
    write(tmp_path / "secret.h5", [KerasLayer("conv", {"kernel": np.ones((3, 3, 1, 4))})], whole=True)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file["model_weights"] = h5py.ExternalLink("secret.h5", "/model_weights")
    assert "points elsewhere for 'model_weights'" in refusal(tmp_path / "net.h5")


def test_numbers_of_other_files_are_not_read(tmp_path):
    (tmp_path / "numbers").write_bytes(bytes(144))
    source = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", (3, 3, 1, 4))
    virtual = h5py.VirtualLayout((3, 3, 1, 4), "f4")
    virtual[:] = source
    for number in range(2):
        with h5py.File(tmp_path / "net.h5", "w") as file:
            file.attrs["layer_names"] = [b"conv"]
            group = file.create_group("conv")
            group.attrs["weight_names"] = [b"kernel:0"]
            if number:
                group.create_virtual_dataset("kernel:0", virtual)
            else:
                group.create_dataset("kernel:0", (3, 3, 1, 4), "f4", external=[(str(tmp_path / "numbers"), 0, 144)])
        assert "no plain numbers" in refusal(tmp_path / "net.h5")


@pytest.mark.row("S05", "S07")
def test_one_huge_chunk_of_few_numbers_is_not_unpacked(tmp_path):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        group = file.create_group("conv")
        group.attrs["weight_names"] = [b"bias:0"]
        bias = group.create_dataset("bias:0", (4,), "f4", chunks=(10**8,), maxshape=(None,), compression="gzip")
        bias[:] = 1
    assert (tmp_path / "net.h5").stat().st_size < 2**20
    assert "promises more than" in refusal(tmp_path / "net.h5")


def test_a_library_that_hangs_or_crashes_is_reported(tmp_path, monkeypatch):
    path = write(tmp_path / "net.h5", keras_layers(thin()))
    child = tmp_path / "child.py"
    monkeypatch.setattr(hdf5, "__file__", str(child))
    child.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert "the HDF5 library failed on it (exit code -11)" in refusal(path)
    child.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(hdf5, "BUSY", 0.1)
    assert "takes too long" in refusal(path)


def test_what_the_child_may_take(tmp_path):
    """A loop ends by the processor's time, and memory by the size of the file."""
    child = "import sys; from pocketseg.weights import hdf5; hdf5.SECONDS = 0.0; hdf5.limit_this_process(0)\n"
    loop = subprocess.run([sys.executable, "-c", child + "while True: pass"], check=False, timeout=60)
    assert loop.returncode == -signal.SIGKILL or loop.returncode == -signal.SIGXCPU
    hungry = subprocess.run([sys.executable, "-c", child + "x = bytearray(2**30)"], check=False, capture_output=True)
    assert b"MemoryError" in hungry.stderr


def test_long_lists_of_names_are_cut_by_keras(tmp_path):
    layers = keras_layers(thin())
    path = write(tmp_path / "net.h5", layers)
    with h5py.File(path, "a") as file:
        names = list(file.attrs["layer_names"])
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:5], names[5:]
    assert [layer.name for layer in read_keras(path)] == [layer.name for layer in layers]


def test_a_model_within_the_model(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "nested.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"inner"]
        group = file.create_group("inner")
        names = ["inner/a/kernel:0", "inner/b/kernel:0", "inner/a/bias:0", "inner/b/bias:0"]
        group.attrs["weight_names"] = [name.encode() for name in names]
        for name in names:
            group[name] = rng.normal(size=3).astype("f4")
    assert [(layer.name, list(layer.weights)) for layer in read_keras(path)] == [
        ("inner/a", ["kernel", "bias"]),
        ("inner/b", ["kernel", "bias"]),
    ]


def test_truncated_files(tmp_path):
    path = write(tmp_path / "net.h5", keras_layers(thin()), whole=True)
    content = path.read_bytes()
    for length in range(0, len(content), len(content) // 12):
        path.write_bytes(content[:length])
        refusal(path)

"""TensorFlow Lite's files: numbers as meant, the tables that matter, and what is damaged. Written by `flatbuffers`,
which shares nothing with the reader."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import torch

from pocketseg.errors import ModelFileError, RecipeError
from pocketseg.nets.mobile_encoders import PHOTO_MEAN, PHOTO_STD, mobile_encoder
from pocketseg.weights import mobilenet_of_tflite, read_tflite, read_weights, take
from pocketseg.weights.mobilenet import STRIDES

KINDS = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "int8": 9}
# A tensor: its numbers, scales, zero points, and the axis along which they differ.
Tensor = tuple[np.ndarray, list[float], list[int], int]


def vector(builder: Any, values: np.ndarray) -> int:
    return builder.CreateNumpyVector(np.ascontiguousarray(values))


def offsets(builder: Any, places: list[int]) -> int:
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return builder.EndVector()


def table(builder: Any, fields: dict[int, tuple[str, int]]) -> int:
    """Fields by their number: ("Int32", 5) or ("UOffsetTRelative", place)."""
    builder.StartObject(max(fields, default=0) + 1)
    for number, (kind, value) in fields.items():
        getattr(builder, f"Prepend{kind}Slot")(number, value, 0)
    return builder.EndObject()


def written(path: Path, tensors: list[Tensor], operators: list[tuple[int, list[int], int, int]]) -> Path:
    """A file. Tensor 0 is the image; an operator has its code, inputs, stride and activation."""
    builder, ref = flatbuffers.Builder(1024), "UOffsetTRelative"
    buffers = [table(builder, {})]
    made = []
    for index, (values, scales, zeros, axis) in enumerate(tensors):
        data = vector(builder, np.frombuffer(values.tobytes(), np.uint8)) if index else None
        buffers.append(table(builder, {0: (ref, data)} if data is not None else {}))
        quantization = None
        if scales:
            scale, zero = vector(builder, np.array(scales, "f4")), vector(builder, np.array(zeros, "i8"))
            quantization = table(builder, {2: (ref, scale), 3: (ref, zero), 6: ("Int32", axis)})
        shape, name = vector(builder, np.array(values.shape, "i4")), builder.CreateString(f"tensor{index}")
        fields = {0: (ref, shape), 1: ("Int8", KINDS[str(values.dtype)]), 2: ("Uint32", index + 1), 3: (ref, name)}
        made.append(table(builder, fields | ({4: (ref, quantization)} if quantization is not None else {})))
    codes = sorted({code for code, *_ in operators})
    runs = []
    for code, inputs, stride, activation in operators:
        place = 4 if code == 4 else 3
        options = table(builder, {1: ("Int32", stride), 2: ("Int32", stride), place: ("Int8", activation)})
        takes = vector(builder, np.array(inputs, "i4"))
        runs.append(table(builder, {0: ("Uint32", codes.index(code)), 1: (ref, takes), 4: (ref, options)}))
    image = vector(builder, np.array([0], "i4"))
    graph = table(builder, {0: (ref, offsets(builder, made)), 1: (ref, image), 3: (ref, offsets(builder, runs))})
    known = [table(builder, {0: ("Int8", code), 3: ("Int32", code)}) for code in codes]
    fields = {1: offsets(builder, known), 2: offsets(builder, [graph]), 4: offsets(builder, buffers)}
    model = table(builder, {0: ("Uint32", 3)} | {number: (ref, place) for number, place in fields.items()})
    builder.Finish(model, file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def mobilenet(path: Path, *, gray: bool = False, activation: int = 3, image: str = "uint8", seed: int = 0) -> Path:
    """A MobileNetV1 at a quarter with drawn codes; every other kernel has a scale a channel, the last one is f16."""
    rng = np.random.default_rng(seed)
    zero = 128 if image == "uint8" else 0
    pixels = np.zeros((1, 64, 64, 1 if gray else 3), image)
    tensors: list[Tensor] = [(pixels, [] if image == "float32" else [1 / 128], [zero], 0)]
    operators = []
    widths = [8, 16, 32, 32, 64, 64, *[128] * 6, 256, 256]
    channels = 1 if gray else 3
    for index, stride in enumerate((*STRIDES, 1)):
        block, depthwise = (index - 1) // 2, index % 2 == 1
        out = channels if depthwise else 5 if index == 27 else 8 if index == 0 else widths[block + 1]
        side = 3 if depthwise or index == 0 else 1
        stem = gray and index == 0
        shape = (1, 3, 3, out) if depthwise or stem else (out, side, side, channels)
        axis = 3 if depthwise or stem else 0
        fan = 9 if depthwise else channels * side * side
        if index == 27:
            tensors.append((rng.normal(size=shape).astype(np.float16), [], [], 0))
        elif index % 4 == 0:
            codes = rng.integers(0, 256, shape).astype(np.uint8)
            tensors.append((codes, [0.04 / fan**0.5], [119], 0))
        else:
            scales = (rng.uniform(0.5, 2, out) * 0.03 / fan**0.5).tolist()
            tensors.append((rng.integers(-127, 128, shape).astype(np.int8), scales, [0] * out, axis))
        bias = (rng.integers(-100, 300, out).astype(np.int32), [0.01], [0], 0)
        tensors.append(bias)
        operators.append((4 if depthwise or stem else 3, [0, len(tensors) - 2, len(tensors) - 1], stride, activation))
        channels = out
    operators[-1] = (*operators[-1][:3], 0)
    operators.insert(-1, (1, [0], 1, 0))  # a pooling, which is not read
    return written(path, tensors, operators)


def meant(tensor: Tensor) -> np.ndarray:
    values, scales, zeros, axis = tensor
    if not scales:
        return values.astype(np.float64)
    each = np.ones(values.ndim, int)
    each[axis] = len(scales)
    return (values.astype(np.float64) - np.reshape(zeros, each)) * np.reshape(np.array(scales, "f4"), each)


def test_numbers_are_scale_times_code_less_zero(tmp_path):
    rng = np.random.default_rng(1)
    tensors: list[Tensor] = [
        (np.zeros((1, 8, 8, 3), np.int8), [0.5], [-3], 0),
        (rng.integers(0, 256, (4, 3, 3, 3)).astype(np.uint8), [0.25], [7], 0),
        (rng.integers(-9, 9, 4).astype(np.int32), [0.1, 0.2, 0.3, 0.4], [0] * 4, 3),
        (rng.integers(-9, 9, (1, 3, 3, 4)).astype(np.int8), [1.0, 2.0, 3.0, 4.0], [0, 1, 2, 3], 3),
        (rng.normal(size=(2, 1, 1, 4)).astype(np.float32), [], [], 0),
    ]
    operators = [(3, [0, 1, 2], 2, 3), (4, [0, 3], 1, 1), (9, [0, 1], 1, 0), (3, [0, 4, -1], 1, 0)]
    net = read_tflite(written(tmp_path / "net.tflite", tensors, operators))
    first, second, third = net.layers
    np.testing.assert_allclose(first.kernel, meant(tensors[1]), rtol=1e-6)
    np.testing.assert_allclose(
        first.bias, [v * s for v, s in zip(tensors[2][0], tensors[2][1], strict=True)], rtol=1e-6
    )
    np.testing.assert_allclose(second.kernel, meant(tensors[3]), rtol=1e-6)
    np.testing.assert_allclose(third.kernel, tensors[4][0])
    assert [layer.depthwise for layer in net.layers] == [False, True, False]
    assert [layer.stride for layer in net.layers] == [(2, 2), (1, 1), (1, 1)]
    assert [layer.activation for layer in net.layers] == ["ReLU6", "ReLU", "none"]
    assert not second.bias.any() and not third.bias.any()
    # A pixel of 0 is the code −128, one of 1 the code 127.
    assert [net.factor * x + net.offset for x in (0, 1)] == [0.5 * (-128 + 3), 0.5 * (127 + 3)]


def convolved(x: np.ndarray, kernel: np.ndarray, stride: int, depthwise: bool) -> np.ndarray:
    """TensorFlow's "same", by its definition. x (c, h, w), kernel (o, i, k, k)."""
    k = kernel.shape[2]
    sides = [-(-side // stride) for side in x.shape[1:]]
    zeros = [max((out - 1) * stride + k - side, 0) for out, side in zip(sides, x.shape[1:], strict=True)]
    x = np.pad(x, ((0, 0), *((each // 2, each - each // 2) for each in zeros)))
    out = np.zeros((len(kernel), *sides))
    for i in range(k):
        for j in range(k):
            part = x[:, i : i + (sides[0] - 1) * stride + 1 : stride, j : j + (sides[1] - 1) * stride + 1 : stride]
            out += kernel[:, 0, i, j, None, None] * part if depthwise else np.tensordot(kernel[:, :, i, j], part, 1)
    return out


@pytest.mark.parametrize(("gray", "activation"), [(False, 3), (True, 3), (False, 1)])
def test_the_encoder_gives_what_the_files_net_gives(tmp_path, gray, activation):
    path = mobilenet(tmp_path / "net.tflite", gray=gray, activation=activation)
    net, tensors = read_tflite(path), mobilenet_of_tflite(read_tflite(path), "here")
    relu6 = activation == 3
    body = mobile_encoder("mobilenet_v1_025", 1 if gray else 3, relu6=relu6).double().eval()
    published = {name: value for name, value in tensors.items() if name not in ("input", "relu6")}
    take(body, published, strict=True, where="here")
    image = np.random.default_rng(3).random((1 if gray else 3, 64, 32))
    x, expected = net.factor * image + net.offset, []
    for index, layer in enumerate(net.layers[:27]):
        kernel = layer.kernel.transpose((3, 0, 1, 2) if layer.depthwise else (0, 3, 1, 2)).astype(np.float64)
        x = convolved(x, kernel, layer.stride[0], layer.depthwise and index > 0) + layer.bias[:, None, None]
        x = np.clip(x, 0, 6 if relu6 else None)
        if index in (2, 6, 10, 22, 26):
            expected.append(x)
    given = torch.from_numpy(net.factor * image + net.offset)[None]
    with torch.inference_mode():
        found = [feature[0].numpy() for feature in body(given)]
    for a, b in zip(found, expected, strict=True):
        assert b.std() > 0.01
        np.testing.assert_allclose(a, b, atol=1e-4 * b.max())


def test_a_start_for_standardized_gray_images(tmp_path):
    """The sum of the color filters, on what a photograph of these numbers would be; away from the border."""
    tensors = mobilenet_of_tflite(read_tflite(mobilenet(tmp_path / "net.tflite")), "here")
    gray, color = (mobile_encoder("mobilenet_v1_025", n, 1).double().eval() for n in (1, 3))
    take(gray, gray.translate(tensors), strict=True, where="here")
    raw = {name: value for name, value in tensors.items() if name not in ("input", "relu6")}
    take(color, color.translate(raw), strict=True, where="here")
    u = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    photo = torch.cat([std * u + mean for mean, std in zip(PHOTO_MEAN, PHOTO_STD, strict=True)], 1)
    with torch.inference_mode():
        (found,), (expected,) = gray(u), color(255 / 128 * photo - 1)
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(found[inside], expected[inside], rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.01 and not torch.allclose(found, expected, atol=1e-3)


def test_relu_and_relu6_are_not_taken_for_one_another(tmp_path):
    tensors = mobilenet_of_tflite(read_tflite(mobilenet(tmp_path / "net.tflite", activation=1)), "here")
    with pytest.raises(RecipeError, match=r"net.relu6: is true; the file's net has ReLU → set net.relu6=false"):
        mobile_encoder("mobilenet_v1_025", 1).translate(tensors)


def test_norms_of_folded_files_have_the_numbers_of_pictures(tmp_path):
    """In a training the first batch is normalized by itself: channels must not change their size by much."""
    tensors = mobilenet_of_tflite(read_tflite(mobilenet(tmp_path / "net.tflite", gray=True)), "here")
    again = mobilenet_of_tflite(read_tflite(tmp_path / "net.tflite"), "here")
    assert all(torch.equal(value, again[name]) for name, value in tensors.items())
    assert all((tensors[name] >= 0).all() for name in tensors if name.endswith("running_var"))
    body = mobile_encoder("mobilenet_v1_025", 1, 3)
    take(body, body.translate(tensors), strict=False, where="here")
    smooth = torch.nn.functional.avg_pool2d(torch.randn(8, 1, 72, 72, generator=torch.Generator().manual_seed(1)), 9, 1)
    smooth = smooth / smooth.std()
    with torch.no_grad():
        inference, training = body.eval()(smooth), body.train()(smooth)
    for a, b in zip(inference, training, strict=True):
        assert (a - b).norm() < 0.7 * a.norm()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda tensors, operators: operators.pop(5), "is at the place of convolution 6|has 27|has 26"),
        (
            lambda tensors, operators: operators.__setitem__(3, (*operators[3][:2], 1, 3)),
            "convolution 4 of a MobileNetV1",
        ),
        (lambda tensors, operators: operators.__setitem__(3, (*operators[3][:3], 0)), "ReLU6, none behind them"),
    ],
)
def test_other_nets_are_refused(tmp_path, monkeypatch, change, what):
    kept = written

    def changed(path, tensors, operators):
        change(tensors, operators)
        return kept(path, tensors, operators)

    monkeypatch.setitem(globals(), "written", changed)
    path = mobilenet(tmp_path / "net.tflite")
    with pytest.raises(ModelFileError, match=what):
        mobilenet_of_tflite(read_tflite(path), "here")


# --- files that are none, or damaged --------------------------------------------------------------------------


def test_files_that_are_none(tmp_path):
    with pytest.raises(ModelFileError, match="does not exist"):
        read_tflite(tmp_path / "none.tflite")
    (tmp_path / "text.tflite").write_text("hello, world")
    (tmp_path / "empty.tflite").write_bytes(b"")
    for name in ("text", "empty"):
        with pytest.raises(ModelFileError, match="is not a TensorFlow Lite file"):
            read_tflite(tmp_path / f"{name}.tflite")
    with pytest.raises(ModelFileError, match=r"is a TensorFlow Lite file → name it .tflite"):
        read_weights(mobilenet(tmp_path / "net.bin"))


def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path):
    whole = mobilenet(tmp_path / "net.tflite").read_bytes()
    cut = tmp_path / "cut.tflite"
    for size in (4, 7, 8, 11, 12, 40, len(whole) // 3, len(whole) // 2, len(whole) - 100):
        cut.write_bytes(whole[:size])
        with pytest.raises(ModelFileError):
            read_tflite(cut)


def test_altered_bytes_never_crash(tmp_path):
    """The tables lie at the end of what the writer wrote, and begin what it names."""
    tensors: list[Tensor] = [
        (np.zeros((1, 8, 8, 3), np.uint8), [0.5], [3], 0),
        (np.arange(108).reshape(4, 3, 3, 3).astype(np.uint8), [0.25], [7], 0),
        (np.arange(4).astype(np.int32), [0.1] * 4, [0] * 4, 0),
    ]
    whole = written(tmp_path / "net.tflite", tensors, [(3, [0, 1, 2], 2, 3)] * 3).read_bytes()
    draw, refused = random.Random(0), 0
    for _ in range(1500):
        changed = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(changed))
            changed[at] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
        changed[4:8] = b"TFL3"
        (tmp_path / "changed.tflite").write_bytes(changed)
        try:
            read_tflite(tmp_path / "changed.tflite")
        except ModelFileError:
            refused += 1
    assert 100 < refused < 1500


def test_a_small_file_cannot_make_hours_of_work(tmp_path):
    """A hundred thousand times the same convolution, which is stored once."""
    tensors: list[Tensor] = [
        (np.zeros((1, 8, 8, 3), np.uint8), [0.5], [3], 0),
        (np.ones((64, 3, 3, 64), np.uint8), [0.25], [7], 0),
    ]
    once = written(tmp_path / "net.tflite", tensors, [(3, [0, 1], 2, 3)] * 100).read_bytes()
    begun = time.monotonic()
    with pytest.raises(ModelFileError, match="promises more numbers than its bytes can hold"):
        read_tflite(tmp_path / "net.tflite")
    assert time.monotonic() - begun < 5 and len(once) < 100_000
    # And one whose vector says that it is as long as four billion numbers.
    place = once.index(struct.pack("<I", 64 * 9 * 64))
    (tmp_path / "long.tflite").write_bytes(once[:place] + b"\xff\xff\xff\xff" + once[place + 4 :])
    with pytest.raises(ModelFileError, match="ends before its numbers do"):
        read_tflite(tmp_path / "long.tflite")

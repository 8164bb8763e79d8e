"""What is done together, some rows at a time, on any number of threads: the same bytes, in less memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact import exact
from torch.nn import functional

from helpers.quantized_nets import picture
from pocketseg.engine import program as p
from pocketseg.engine.session import Session
from pocketseg.nets import build
from pocketseg.packing.compile import file_of, program_of
from pocketseg.packing.weights import float_weights
from pocketseg.quant import Scheme, calibrate, integer_net, quantize_net

pytestmark = pytest.mark.usefixtures("isa")
THREADS = (1, 2, 3, 7)


def integers(name, scheme, **options):
    net = build(name, 1, 1, seed=3, **options)
    quantize_net(net.core, Scheme(scheme))
    calibrate(net.core, [picture(2, 1, 64, 64)])
    return integer_net(net.core)


@pytest.mark.parametrize(
    ("name", "scheme", "options"),
    [
        ("thin_unet", "w8a8", {"width": 16, "blocks": 3, "conv": "separable"}),
        ("thin_unet", "residual w2a2", {"width": 8, "blocks": 2, "conv": "plain"}),
        ("unet", "w8a8", {"width": 4, "levels": 2, "up": "transposed"}),
        ("resnet18_unet", "w8a8", {}),
        ("mk_unet", "w8a8", {}),
    ],
)
def test_many_rows_on_many_threads(name, scheme, options):
    whole = integers(name, scheme, **options)
    image = picture(1, 1, 224, 32, seed=9)
    with torch.no_grad():
        expected = exact(whole)(image).numpy()
    file = file_of(program_of(whole, 1), {})
    for threads in THREADS:
        found = Session(file, "here", threads)(image.numpy())
        if options.get("up") == "transposed":
            np.testing.assert_allclose(found, expected, atol=1e-4)
        else:
            assert np.array_equal(found, expected), threads


def test_tensors_of_the_image_s_size_are_not_kept():
    """Without fusion three of them would be there at once, and the concatenation from the first block to the last."""
    file = file_of(program_of(integers("thin_unet", "w8a8", width=32, blocks=3, conv="separable"), 1), {})
    assert Session(file, "here", 1).arena_bytes(512, 512) < 2 * 32 * 512 * 512


# (height, pooling): rows at the end that no window sees; windows that leave rows out, and that share some.
@pytest.mark.parametrize(("height", "kernel", "stride"), [(67, 2, 2), (67, 1, 2), (67, 3, 2), (65, 5, 3)])
@pytest.mark.parametrize("threads", THREADS)
def test_what_is_pooled_and_kept_is_computed_as_a_whole(height, kernel, stride, threads):
    rng = np.random.default_rng(0)
    kernels = [rng.standard_normal(shape).astype(np.float32) for shape in ((4, 1, 3, 3), (1, 4, 1, 1))]

    def convolution(weights, padding):
        outputs, _, rows, columns = weights.shape
        window = p.Window((rows, columns), (1, 1), (1, 1), (padding,) * 4)
        numbers = float_weights(np.ascontiguousarray(weights.transpose(0, 2, 3, 1)))
        return p.Convolution(window, 1, outputs, numbers, None, np.zeros(outputs, np.float32))

    pool = p.MaxPool(p.Window((kernel, kernel), (stride, stride), (1, 1), (0, 0, 0, 0)))
    views = [p.View(buffer, 0, channels) for buffer, channels in enumerate((1, 4, 4, 4, 1))]
    image, pooled_from, kept, pooled, last = views
    program = p.Program(
        1, 1, 1, tuple(p.Buffer(view.channels) for view in views),
        (
            p.Instruction(p.Input(), (), (), (image,)),
            p.Instruction(convolution(kernels[0], 1), (image,), (), (pooled_from, kept)),
            p.Instruction(pool, (pooled_from,), (), (pooled,)),
            p.Instruction(convolution(kernels[1], 0), (kept,), (), (last,)),
            p.Instruction(p.Output(), (last,), (), ()),
        ),
    )  # fmt: skip
    x = picture(1, 1, height, 20, seed=4)
    expected = functional.conv2d(
        functional.conv2d(x, torch.from_numpy(kernels[0]), padding=1), torch.from_numpy(kernels[1])
    )
    found = Session(file_of(program, {}), "here", threads)(x.numpy())
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)

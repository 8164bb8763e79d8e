"""Putting tensors into a net: what fits, what does not, and what is said."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pocketseg.errors import ModelFileError
from pocketseg.weights import take


def net(width: int = 4, channels: int = 1, classes: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, classes, 1))


def numbered(of: nn.Module) -> dict[str, torch.Tensor]:
    """Every value another, so that a swap shows."""
    tensors, start = {}, 1
    for name, tensor in of.state_dict().items():
        tensors[name] = torch.arange(start, start + tensor.numel()).reshape(tensor.shape).to(tensor.dtype)
        start += tensor.numel()
    return tensors


def test_everything_fits():
    ours, tensors = net(), numbered(net())
    taken = take(ours, tensors, strict=True, where="file")
    assert taken.complete and set(taken.names) == set(tensors)
    assert all(torch.equal(value, tensors[name]) for name, value in ours.state_dict().items())


def test_other_types_are_converted():
    ours, tensors = net(), {name: value.double() for name, value in numbered(net()).items()}
    take(ours, tensors, strict=True, where="file")
    assert ours[0].weight.dtype == torch.float32 and ours[0].weight.flatten()[1] == 2


def test_counters_of_norms_may_be_missing():
    tensors = {name: value for name, value in numbered(net()).items() if "num_batches" not in name}
    assert take(net(), tensors, strict=True, where="file").complete


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (net(classes=3), ["2.weight is 3×4×1×1 in the file and 1×4×1×1 in the net", "number of classes"]),
        (net(channels=3), ["0.weight is 4×3×3×3 in the file and 4×1×3×3 in the net", "image channels"]),
        (nn.Sequential(nn.Conv2d(1, 4, 3)), ["the net has", "which the file lacks", "1.running_mean"]),
        (nn.Sequential(*net(), nn.Conv2d(1, 1, 1)), ["the file has 2 tensors (3.weight, 3.bias), which the net lacks"]),
    ],
)
def test_strict_tells_all_differences_and_changes_nothing(other, words):
    ours = net()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with pytest.raises(ModelFileError) as caught:
        take(ours, numbered(other), strict=True, where="file")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_many_differences_are_cut_short():
    deep = [nn.Sequential(*(nn.Conv2d(width, width, 1) for _ in range(40))) for width in (2, 3)]
    with pytest.raises(ModelFileError) as caught:
        take(deep[0], deep[1].state_dict(), strict=True, where="file")
    assert len(caught.value.problems) == 11 and "70 more tensors are of another shape" in str(caught.value)


def test_by_name_takes_what_fits():
    ours, tensors = net(), numbered(net(classes=3)) | {"extra": torch.ones(2)}
    del tensors["1.bias"]
    head = ours[2].weight.clone()
    taken = take(ours, tensors, strict=False, where="file")
    assert taken.missing == ("1.bias",) and taken.left_over == ("extra",)
    assert taken.other_shape == (("2.weight", (1, 4, 1, 1), (3, 4, 1, 1)), ("2.bias", (1,), (3,)))
    assert torch.equal(ours[0].weight, tensors["0.weight"]) and torch.equal(ours[2].weight, head)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("tensors", [{}, {"encoder.0.weight": torch.ones(4, 1, 3, 3)}])
def test_no_name_fits(strict, tensors):
    with pytest.raises(ModelFileError, match="no tensor fits"):
        take(net(), tensors, strict=strict, where="file")


def test_no_shape_fits():
    with pytest.raises(ModelFileError, match="no tensor fits"):
        take(net(), {"0.weight": torch.ones(1)}, strict=False, where="file")
    with pytest.raises(ModelFileError, match=r"0\.weight is 1 in the file and 4×1×3×3 in the net"):
        take(net(), {"0.weight": torch.ones(1)}, strict=True, where="file")


def test_weights_that_went_wrong():
    tensors = numbered(net())
    tensors["0.bias"][1] = float("nan")
    with pytest.raises(ModelFileError, match=r"not finite in 1 tensors \(0.bias\)"):
        take(net(), tensors, strict=True, where="file")

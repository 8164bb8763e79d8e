"""Putting tensors into a net by name, and telling what fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pocketseg.errors import ModelFileError, Problem

Shape = tuple[int, ...]
SHOWN_NAMES = 10


@dataclass(frozen=True)
class Taken:
    """What became of the names of a net and of a file.

    Args:
        names: taken.
        missing: the net has them, the file has not; they keep the values they had.
        left_over: the file has them, the net has not.
        other_shape: both have them: name, shape in the net, shape in the file. Not taken.
        zeros: biases that the net has and a file matched by order has not; they are 0.
    """

    names: tuple[str, ...]
    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    other_shape: tuple[tuple[str, Shape, Shape], ...] = ()
    zeros: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return not (self.missing or self.left_over or self.other_shape)


@torch.no_grad()
def take(net: nn.Module, tensors: Mapping[str, Tensor], *, strict: bool, where: str) -> Taken:
    """Copy tensors into the parameters and buffers of the same name and shape.

    The counters of batch norms may be missing: old files have none, and nothing of ours reads them.

    Args:
        net: is changed; where this raises, it is as it was. On the device `meta` it is only checked.
        tensors: by name.
        strict: everything must fit; otherwise what fits is taken.
        where: the file, for messages.

    Raises:
        ModelFileError: strict and something does not fit, with all differences; or nothing fits; or a value that
            is not finite.
    """
    own = net.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    shared = [name for name in own if name in tensors]
    taken = Taken(
        names=tuple(name for name in shared if tuple(tensors[name].shape) == shapes[name]),
        missing=tuple(name for name in own if name not in tensors and not name.endswith("num_batches_tracked")),
        left_over=tuple(name for name in tensors if name not in own),
        other_shape=tuple(
            (name, shapes[name], tuple(tensors[name].shape))
            for name in shared
            if tuple(tensors[name].shape) != shapes[name]
        ),
    )
    if not shared or not (strict or taken.names):
        what = f"no tensor fits: the net has {_some(list(own))}; the file has {_some(list(tensors))}"
        raise ModelFileError(where, what, "give the weights of the same net")
    if strict and not taken.complete:
        raise ModelFileError.of(_differences(taken, where))
    strange = [name for name in taken.names if not tensors[name].is_meta and not tensors[name].isfinite().all()]
    if strange:
        what = f"holds numbers that are not finite in {_some(strange)}"
        raise ModelFileError(where, what, "use a checkpoint from before the training went wrong")
    for name in taken.names:
        own[name].copy_(tensors[name])
    return taken


def _differences(taken: Taken, where: str) -> list[Problem]:
    """Other shapes one by one, since they tell most; names in bulk."""
    hint = "give the weights of the same net, or take what fits with init.match=name"
    shown = taken.other_shape[:SHOWN_NAMES]
    problems = [
        Problem(
            where,
            f"{name} is {shape_text(theirs)} in the file and {shape_text(ours)} in the net",
            _reason(ours, theirs),
        )
        for name, ours, theirs in shown
    ]
    if len(taken.other_shape) > len(shown):
        problems.append(Problem(where, f"{len(taken.other_shape) - len(shown)} more tensors are of another shape"))
    if taken.missing:
        problems.append(Problem(where, f"the net has {_some(taken.missing)}, which the file lacks", hint))
    if taken.left_over:
        problems.append(Problem(where, f"the file has {_some(taken.left_over)}, which the net lacks", hint))
    return problems


def _reason(ours: Shape, theirs: Shape) -> str:
    """What usually makes one shape into another."""
    same = len(ours) == len(theirs)
    if same and len(ours) == 4 and ours[2:] == theirs[2:]:
        if ours[1] == theirs[1]:
            return "another width, or in the last layer another number of classes; give both nets the same"
        if ours[0] == theirs[0]:
            return "another width, or in the first layer another number of image channels; give both nets the same"
    return "another architecture; give both nets the same" if not same or len(ours) > 1 else "see the layer's kernel"


def shape_text(shape: Shape) -> str:
    """A shape for messages."""
    return "×".join(map(str, shape)) or "a single number"


def _some(names: tuple[str, ...] | list[str]) -> str:
    """The first names of many, and their count."""
    shown = ", ".join(name[:100] for name in names[:SHOWN_NAMES])
    more = ", …" if len(names) > SHOWN_NAMES else ""
    return f"{len(names):,} tensors ({shown}{more})" if names else "no tensors"

"""Which layers of a student learn from which of a teacher, with which weight, and the student that shows them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from pocketseg.errors import RecipeError, near
from pocketseg.nets import AnySize
from pocketseg.nets.taps import Block, activations, block_output, blocks, place_shapes, tapped
from pocketseg.quant.apply import graph_of
from pocketseg.recipes.schema import HintLayers, HintsSection
from pocketseg.text import counted
from pocketseg.training.distil import HintKind, hint_loss

TOTAL = 10.0


@dataclass(frozen=True)
class Hint:
    """A layer of the student that learns from one of the teacher; shapes are (c, h, w)."""

    student: str
    teacher: str
    student_shape: tuple[int, ...]
    teacher_shape: tuple[int, ...]
    weight: float


@dataclass(frozen=True)
class Hints:
    """All hints of a stage."""

    kind: HintKind
    each: tuple[Hint, ...]

    def losses(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Σ weight · loss over the hints, for each image (n,)."""
        found = [
            hint.weight * hint_loss(mine, theirs, self.kind)
            for hint, mine, theirs in zip(self.each, student, teacher, strict=True)
        ]
        return torch.stack(found).sum(0)


def choose_hints(
    options: HintsSection,
    student: nn.Module,
    teacher: nn.Module,
    student_input: tuple[int, int, int],
    teacher_input: tuple[int, int, int],
) -> Hints:
    """The hints between two nets.

    Args:
        options: the recipe's.
        student, teacher: skeletons of the float nets, whose layers have the names of the quantized ones.
        student_input, teacher_input: (c, h, w) of what they see.

    Raises:
        RecipeError: a pattern fits nothing, layers do not pair, or their sizes differ.
    """
    pairs = _pairs(options, student, teacher)
    mine = place_shapes(student, [name for name, _ in pairs], student_input)
    theirs = place_shapes(teacher, [name for _, name in pairs], teacher_input)
    for name, other in pairs:
        here, there = mine[name], theirs[other]
        if len(here) != 3 or here[1:] != there[1:]:
            raise RecipeError(
                "hints.layers",
                f"{name} of the student is {_shown(here)} and {other} of the teacher {_shown(there)} (channels×h×w)",
                "pair layers of one height and width",
            )
    weights = hint_weights([mine[name][1] * mine[name][2] for name, _ in pairs], options)
    return Hints(
        options.kind,
        tuple(
            Hint(name, other, tuple(mine[name]), tuple(theirs[other]), weight)
            for (name, other), weight in zip(pairs, weights, strict=True)
        ),
    )


def hint_weights(areas: Sequence[int], options: HintsSection) -> list[float]:
    """The weight of each hint; by inverse area they are proportional to 1 / (h · w).

    Example: the thin U-Net of Vaze et al. (2020) with two blocks, at 8×8.
        >>> [round(w, 2) for w in hint_weights([64, 16, 4, 16, 64], HintsSection())]
        [0.38, 1.54, 6.15, 1.54, 0.38]
    """
    if isinstance(options.weights, list):
        if len(options.weights) != len(areas):
            raise RecipeError(
                "hints.weights",
                f"has {counted(len(options.weights), 'number')} for {counted(len(areas), 'hint')}",
                "give one for each",
            )
        return options.weights
    shares = [1 / area if options.weights == "area" else 1.0 for area in areas]
    total = TOTAL if options.total is None else options.total
    return [total * share / sum(shares) for share in shares]


def _shown(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _pairs(options: HintsSection, student: nn.Module, teacher: nn.Module) -> list[tuple[str, str]]:
    if isinstance(options.layers, list):
        return [pair for layers in options.layers for pair in _matched(layers, student, teacher)]
    try:
        ours = {(block.part, block.level): block for block in blocks(student)}
        theirs = {(block.part, block.level): block for block in blocks(teacher)}
    except AttributeError:  # a net of the user's
        what = f"is {options.layers}, but one of the nets has no blocks called encoder and decoder"
        raise RecipeError("hints.layers", what, "name pairs of layers: [{student: NAME, teacher: NAME}]") from None
    shared = [key for key in ours if key in theirs and options.part in ("all", key[0])]
    if not shared:
        raise RecipeError("hints.layers", "the two nets share no level", "name pairs of layers")
    if options.layers == "blocks":
        return [
            (
                block_output(student, ours[key].name, options.at),
                block_output(teacher, theirs[key].name, options.at),
            )
            for key in shared
        ]
    return [pair for key in shared for pair in _convs(student, teacher, ours[key], theirs[key])]


def _convs(student: nn.Module, teacher: nn.Module, ours: Block, theirs: Block) -> list[tuple[str, str]]:
    try:
        mine, others = activations(student, ours), activations(teacher, theirs)
    except ValueError as error:
        raise RecipeError(
            "hints.layers", f"is convs, but {error} is not a plain chain of convolutions", "take blocks, or name pairs"
        ) from None
    if len(mine) != len(others):
        raise RecipeError(
            "hints.layers",
            f"is convs, but {ours.name} of the student has {len(mine)} and {theirs.name} of the teacher {len(others)}",
            "take blocks, or name pairs",
        )
    return list(zip(mine, others, strict=True))


def _matched(layers: HintLayers, student: nn.Module, teacher: nn.Module) -> list[tuple[str, str]]:
    mine = _fitting(layers.student, student, "student")
    others = _fitting(layers.teacher or layers.student, teacher, "teacher")
    if len(mine) != len(others):
        raise RecipeError(
            "hints.layers",
            f"{layers.student!r} fits {len(mine)} layers of the student ({_few(mine)}), "
            f"{layers.teacher or layers.student!r} fits {len(others)} of the teacher ({_few(others)})",
            "write patterns that fit equally many",
        )
    return list(zip(mine, others, strict=True))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")


def _fitting(pattern: str, core: nn.Module, whose: str) -> list[str]:
    """Layers by pattern in the order of the net; a feature map of an encoder is a name of its own."""
    maps = [block.name for block in blocks(core) if "[" in block.name]
    names = [*maps, *(name for name, module in core.named_modules() if name and not isinstance(module, nn.ModuleList))]
    found = [name for name in names if fits_name(name, pattern)]
    if not found:
        raise RecipeError("hints.layers", f"{pattern!r} fits no layer of the {whose}", near(pattern, names))
    return found


def fits_name(name: str, pattern: str) -> bool:
    """Whether a layer's name has a pattern, in which `*` stands for anything between two dots.

    Example:
        >>> fits_name("encoder.0", "encoder.*"), fits_name("encoder.0.1", "encoder.*")
        (True, False)
    """
    return re.fullmatch(r"[^.]*".join(map(re.escape, pattern.split("*"))), name) is not None


class Student(nn.Module):
    """A net that gives its logits and what its hinted layers say, in the teacher's number of channels.

    The regressors (1×1 convolutions where the widths differ) train with the net and are not part of the model.

    Args:
        net: the student; is changed: a ReLU in place would overwrite what a hint has to see.
        hints: of the stage.
        seed: of the regressors.
        logits_learn: whether anything is learned at the logits; if not, they carry no gradient, which data-parallel
            training has to know.
    """

    def __init__(self, net: AnySize, hints: Hints, seed: int, *, logits_learn: bool) -> None:
        super().__init__()
        self.net = net
        self.logits_learn = logits_learn
        self.places = [hint.student for hint in hints.each]
        self.regressors = nn.ModuleList(_regressor(hint, hints.kind, seed) for hint in hints.each)
        keep_outputs(net.core, self.places)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        with tapped(self.net.core, self.places) as seen:
            logits = self.net(x)
        maps = [regressor(seen[place]) for place, regressor in zip(self.places, self.regressors, strict=True)]
        return logits if self.logits_learn else logits.detach(), maps


def _regressor(hint: Hint, kind: HintKind, seed: int) -> nn.Module:
    here, there = hint.student_shape[0], hint.teacher_shape[0]
    if here == there or kind == "attention":
        return nn.Identity()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Conv2d(here, there, 1)


def keep_outputs(core: nn.Module, places: Sequence[str]) -> None:
    """Let no activation overwrite, in place, what comes out at these places."""
    names = [place for place in places if "[" not in place]

    def inside(node: object, name: str) -> bool:
        return isinstance(node, fx.Node) and f"{node.target}.".startswith(f"{name}.")

    for node in graph_of(core).nodes:
        module = core.get_submodule(str(node.target)) if node.op == "call_module" else None
        if getattr(module, "inplace", False):
            source = node.args[0]
            if any(inside(source, name) and not inside(node, name) for name in names):
                module.inplace = False  # type: ignore[union-attr]

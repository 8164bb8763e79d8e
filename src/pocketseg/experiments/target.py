"""The net of a stage as it is planned: what a start has to fit, and what a teacher teaches."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pocketseg.errors import RunError
from pocketseg.pipeline import Pipeline
from pocketseg.recipes import StageSection
from pocketseg.recipes.schema import InitSection, TeacherSection

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pocketseg.weights import Taken

log = logging.getLogger("pocketseg")


@dataclass(frozen=True)
class Target:
    """The net of a stage.

    Attributes:
        stage: its section.
        net: {"arch": …} and its options.
        pipeline: of the net, as far as it is known before the training images are looked at.
    """

    stage: StageSection
    net: Mapping[str, Any]
    pipeline: Pipeline

    @property
    def init(self) -> InitSection:
        assert self.stage.init is not None
        return self.stage.init

    @property
    def teacher(self) -> TeacherSection:
        assert self.stage.teacher is not None
        return self.stage.teacher

    @property
    def where(self) -> str:
        return f"stage {self.stage.name!r}"

    def skeleton(self) -> nn.Module:
        """The net without memory for its weights."""
        from pocketseg.nets import skeleton

        return skeleton(in_channels=self.pipeline.channels, out_channels=self.pipeline.logits, **self.net)

    def with_stride(self) -> Target:
        """The same, whose pipeline pads to what the net divides by."""
        return replace(self, pipeline=replace(self.pipeline, multiple=int(self.skeleton().stride)))  # type: ignore[arg-type]

    def take(self, core: nn.Module, tensors: Mapping[str, Tensor], where: str) -> Taken:
        from pocketseg.weights import take

        return take(core, tensors, strict=self.init.match == "strict", where=where)

    def same_arch(self, theirs: Mapping[str, Any], where: str) -> None:
        """Another architecture is an error; other options are logged: their weights may fit and mean another thing."""
        if self.init.match == "name":
            return
        ours = self.net
        if theirs["arch"] != ours["arch"]:
            raise RunError(
                self.where,
                f"starts from {where}, whose net is {theirs['arch']}, not {ours['arch']}",
                "give both the same net, or take what fits with init.match=name",
            )
        differ = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        if differ:
            described = ", ".join(
                f"{name} {theirs.get(name, 'as it is')} → {ours.get(name, 'as it is')}" for name in differ
            )
            log.warning("%s starts from %s, whose net has other options: %s", self.where, where, described)

"""Deep supervision: decoder blocks before the last one answer too, while a net is trained (Lee et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketseg.errors import RecipeError
from pocketseg.nets import AnySize
from pocketseg.nets.taps import blocks, tapped
from pocketseg.recipes.schema import DeepSupervisionSection, LossSection
from pocketseg.text import counted
from pocketseg.training.hints import keep_outputs
from pocketseg.training.objective import Inputs, labels_loss


def deep_places(core: nn.Module, levels: int, where: str = "net") -> list[str]:
    """Names of the decoder blocks before the last, from there down, as many as `levels`; `where` names the stage.

    Raises:
        RecipeError: the net has no decoder of so many blocks.
    """
    try:
        names = [block.name for block in blocks(core) if block.part == "decoder"][-2::-1]
    except AttributeError:  # a net of the user's
        what, fix = "the net has no blocks called encoder and decoder", "remove it"
        raise RecipeError(f"{where}, deep_supervision", what, fix) from None
    if len(names) < levels:
        what = f"wants {counted(levels, 'level')}, and the decoder has {counted(len(names), 'block')} before its last"
        raise RecipeError(
            f"{where}, deep_supervision.levels", what, "take fewer, or remove it" if names else "remove it"
        )
    return names[:levels]


class Supervised(nn.Module):
    """A net that gives its logits, and those of a 1×1 head on each of some decoder blocks, enlarged to the same size.

    The heads train with the net and are not part of the model.

    Args:
        net: is changed: an activation in place would overwrite what a head has to see.
        places: of the heads; see `deep_places`.
        channels: of what comes out there.
        logits: that the net gives.
        seed: of the heads.
    """

    def __init__(self, net: AnySize, places: Sequence[str], channels: Sequence[int], logits: int, seed: int) -> None:
        super().__init__()
        self.net = net
        self.places = list(places)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.heads = nn.ModuleList(nn.Conv2d(width, logits, 1) for width in channels)
        keep_outputs(net.core, self.places)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        with tapped(self.net.core, self.places) as seen:
            logits: Tensor = self.net(x)
        height, width = x.shape[2:]
        whole = [height + -height % self.net.stride, width + -width % self.net.stride]
        return logits, [
            F.interpolate(head(seen[place]), size=whole, mode="bilinear")[:, :, :height, :width]
            for place, head in zip(self.places, self.heads, strict=True)
        ]


def supervised_loss(
    logits: Tensor, others: Sequence[Tensor], inputs: Inputs, labels: LossSection, section: DeepSupervisionSection
) -> tuple[Tensor, dict[str, Tensor]]:
    """The labels' loss of the net plus weight^j times that of the j-th block before the last; the part `deep` is these.

    Args:
        logits: of the net, (n, k, h, w).
        others: of the heads, of the same size.
        inputs: with the masks.
        labels: the stage's loss.
        section: the weight.
    """
    loss, parts = labels_loss(logits, inputs, labels)
    losses = [labels_loss(each, inputs, labels)[0] for each in others]
    deep = torch.stack([section.weight**level * each for level, each in enumerate(losses, start=1)]).sum()
    return loss + deep, parts | {"deep": deep}

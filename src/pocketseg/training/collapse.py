"""A training that comes to nothing, as its history shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pocketseg.text import counted

PATIENCE = 10
LOW, HALF = 0.01, 0.5
EXPLODED = 10
CAUSES = (
    "likely causes: a learning rate that is too high, masks that are empty or do not belong to their images, "
    "objects that vanish at the size the net sees, a loss without dice"
)


def collapse(history: Sequence[Mapping[str, float]], *, ended: bool = False) -> str:
    """What is wrong with a training, in words; empty where nothing seems to be.

    Args:
        history: a row an epoch, as in history.csv.
        ended: no epoch follows, so that fewer of them count.

    Example:
        >>> collapse([{"loss": 1.0, "val_dice": 0.0, "val_iou": 0.0}] * 10)
        'the Dice on validation is below 0.01 for 10 epochs'
    """
    if not history:
        return ""
    first, last = history[0]["loss"], history[-1]["loss"]
    if last > EXPLODED * first > 0:
        return f"the loss is {last / first:.0f} times that of the first epoch"
    validated = [row for row in history if "val_dice" in row]
    if not validated or (len(validated) < PATIENCE and not ended):
        return ""
    recent = validated[-PATIENCE:]
    if all(row["val_dice"] < LOW for row in recent):
        return f"the Dice on validation is below {LOW} for {counted(len(recent), 'epoch')}"
    same = len({(row["val_dice"], row["val_iou"]) for row in recent}) == 1
    if same and len(recent) == PATIENCE and (dice := recent[-1]["val_dice"]) < HALF:
        return f"the masks on validation stay the same for {counted(len(recent), 'epoch')}, with a Dice of {dice:.2f}"
    return ""

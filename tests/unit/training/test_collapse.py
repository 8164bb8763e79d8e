import pytest

from pocketseg.training.collapse import PATIENCE, collapse


def history(*scores, loss=1.0):
    return [{"loss": loss, "val_dice": dice, "val_iou": dice / (2 - dice)} for dice in scores]


@pytest.mark.row("F23")
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (history(*[0.0] * PATIENCE), "the Dice on validation is below 0.01 for 10 epochs"),
        (history(0.5, *[0.003, 0.002] * 5), "the Dice on validation is below 0.01 for 10 epochs"),
        (history(*[0.25] * PATIENCE), "stay the same for 10 epochs, with a Dice of 0.25"),
        ([*history(0.1, 0.3), *history(0.2, loss=11)], "the loss is 11 times that of the first epoch"),
    ],
)
def test_what_comes_to_nothing(rows, said):
    assert said in collapse(rows)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        history(*[0.0] * (PATIENCE - 1)),
        history(*[0.0] * PATIENCE, 0.02),
        history(*[0.87] * 30),  # learned, and the rate has come to its end
        history(*[0.1 + 0.01 * epoch for epoch in range(30)]),
        [*history(0.1, 0.3), *history(0.2, loss=9)],
    ],
)
def test_what_does_not(rows):
    assert not collapse(rows)


def test_fewer_epochs_count_at_the_end():
    assert collapse(history(0.0, 0.0), ended=True) and not collapse(history(0.0, 0.2), ended=True)

import csv
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from pocketseg.errors import Interrupted, RunError, TrainingError
from pocketseg.pipeline import Normalization, Pipeline
from pocketseg.recipes import Recipe
from pocketseg.recipes.schema import SamplingSection
from pocketseg.training import loop, objective
from pocketseg.training.checkpoint import previous, read_checkpoint, write_checkpoint
from pocketseg.training.loop import StageTraining, StopRequest
from pocketseg.training.losses import segmentation_loss
from pocketseg.training.model import Model
from pocketseg.training.samples import Samples, learn_mean_std

NET = {"arch": "thin_unet", "width": 4, "blocks": 2}
AUGMENT = {
    "flip": ["horizontal"],
    "affine": {"degrees": 20},
    "elastic": {"alpha": 0.02},
    "gamma": 0.3,
    "noise": 0.1,
    "speckle": 0.1,
    "blur": 1.0,
}
# Everything that has state between steps: momentum, the history that a plateau looks at, copies, balance, windows.
SETTINGS = {
    "adamw, cosine": {"optimizer": {"kind": "adamw", "lr": 0.01}, "schedule": {"kind": "cosine", "warmup": 0.2}},
    "sgd, plateau, bf16": {
        "optimizer": {"kind": "sgd", "lr": 0.1, "nesterov": True, "clip_norm": 1, "l2_kernel": 1e-3},
        "schedule": {"kind": "plateau", "patience": 0},
        "precision": "bf16",
    },
    "rmsprop, balanced copies, windows": {
        "optimizer": {"kind": "rmsprop", "lr": 0.001},
        "sampling": "balanced",
        "schedule": {"kind": "step", "every": 1},
        "copies": 2,
        "fit": "tile",
        "batch": 5,
    },
    "adam, averaged, the last, every second validated": {
        "optimizer": {"kind": "adam", "lr": 0.01},
        "average": {"decay": 0.9},
        "keep": "last",
        "validate_every": 2,
    },
    "soft masks, changes by chance, parts of others": {
        "soft_masks": True,
        "size": (16, 16),
        "augment": AUGMENT | {"probability": 0.5, "cutmix": 0.5, "paste": 0.5},
        "empty": (1, 4),
    },
    "more empty cases, windows by area over foreground": {
        "sampling": {"empty": 2, "windows": "area", "foreground": 0.5},
        "fit": "tile",
        "empty": (1, 4),
        "validate_every": "auto",
        "batch": 6,
    },
    "deep supervision, averaged": {
        "deep_supervision": {"levels": 1},
        "average": {"decay": 0.9},
        "optimizer": {"kind": "adamw", "lr": 0.01},
    },
    "rates by part, the encoder later": {
        "optimizer": {"kind": "adamw", "lr": 0.01, "lr_scale": {"encoder": 0.1}, "weight_decay": 0.1},
        "freeze": {"encoder": 1, "deepest": 2},
    },
}
FILES = ("last.safetensors", "best.safetensors", "history.csv")


class Witness:
    """A listener that writes everything down, and asks to stop after the steps it is given."""

    def __init__(self, stop_after: int = 0) -> None:
        self.stop = StopRequest()
        self.stop_after = stop_after
        self.begun: list[tuple[str, int, int, int]] = []
        self.steps: list[tuple[int, int, int, float]] = []
        self.rows: list[dict[str, float]] = []

    def stage_begins(self, stage: str, epoch: int, epochs: int, steps: int) -> None:
        self.begun.append((stage, epoch, epochs, steps))

    def step_ends(self, epoch: int, step: int, images: int, loss: float, parts, rate: float) -> None:
        assert loss == pytest.approx(sum(parts.values()), rel=1e-4) and rate > 0
        self.steps.append((epoch, step, images, loss))
        if len(self.steps) == self.stop_after:
            self.stop.signal_number = 15

    def epoch_ends(self, row) -> None:
        self.rows.append(dict(row))


@pytest.fixture
def start(discs, tmp_path):
    """Makes a stage ready to run: seven cases of 24×24 to train on, two for validation."""
    accelerator = Accelerator(cpu=True)
    opened = {}

    def make(
        name: str = "run", witness: Witness | None = None, *, classes: int = 1, identity: str = "same", **options
    ) -> StageTraining:
        fit, copies = options.pop("fit", "resize"), options.pop("copies", 1)
        size = options.pop("size", (24, 24) if fit == "resize" else (16, 16))
        augment = options.pop("augment", AUGMENT)
        precision = options.pop("precision", "f32")
        empty = options.pop("empty", ())
        loss = {"ce": 1, "dice": 1} if classes > 1 else {"bce": 1, "dice": 1}
        net = options.pop("net", NET)
        stage = {"name": "float", "net": net, "epochs": 3, "batch": 2, "loss": loss} | options
        data = {"size": size, "classes": list("abcdef"[:classes]), "fit": fit}
        recipe = Recipe.model_validate({"data": data, "augment": augment | {"copies": copies}, "stages": [stage]})
        if (classes, empty) not in opened:
            opened[classes, empty] = discs(9, classes=classes, empty=empty)
        cases = opened[classes, empty]
        pipeline = Pipeline(recipe.data.size, classes=tuple(recipe.data.classes), fit=fit)
        mean, std = learn_mean_std(cases, cases[:7], pipeline)
        pipeline = Pipeline(**pipeline.__dict__ | {"normalization": Normalization("train-mean-std", None, mean, std)})
        model = Model.fresh(net, pipeline, seed=5)
        train = Samples.of(cases, cases[:7], model.pipeline, seed=5)
        if isinstance(recipe.stages[0].sampling, SamplingSection):
            train.sampling = recipe.stages[0].sampling
        return StageTraining(
            augment=recipe.augment,
            stage=recipe.stages[0],
            model=model,
            train=train,
            validation=cases[7:],
            folder=tmp_path / name,
            accelerator=accelerator,
            precision=precision,
            seed=5,
            stop=witness.stop if witness else StopRequest(),
            listener=witness,
            identity=identity,
        )

    yield make
    accelerator.free_memory()


def run(training: StageTraining) -> Path:
    training.run()
    return training.folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


UNDISTURBED: dict[str, bytes] = {}


def undisturbed(start) -> dict[str, bytes]:
    """What a run with the defaults leaves; made once, in a folder that no other run has."""
    if not UNDISTURBED:
        UNDISTURBED.update(contents(run(start("whole"))))
    return UNDISTURBED


def history(folder: Path) -> list[dict[str, float]]:
    with (folder / "history.csv").open(encoding="utf-8", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def weights(path: Path) -> torch.Tensor:
    tensors, _ = read_checkpoint(path)
    ours = [value for name, value in sorted(tensors.items()) if not name.startswith(("optimizer", "average."))]
    return torch.cat([value.reshape(-1).double() for value in ours])


def stopped(training: StageTraining) -> None:
    with pytest.raises(Interrupted) as interrupted:
        training.run()
    assert interrupted.value.exit_code == 128 + 15
    training.accelerator.free_memory()


def scripted(monkeypatch, **columns: list[float]) -> None:
    """Replaces validation by numbers that are known."""
    names = ("val_loss", "val_dice", "val_iou")
    length = max(map(len, columns.values()))
    table = {name: columns.get(name, [0.5] * length) for name in names}
    monkeypatch.setattr(
        StageTraining, "validate", lambda self, **_: {name: table[name][self.position.epoch] for name in names}
    )


# --- a run ------------------------------------------------------------------------------------------------


def test_a_run(start):
    witness = Witness()
    folder = run(start(witness=witness))
    files = {*FILES, "previous.last.safetensors", "timings.csv"}
    assert {path.name for path in folder.iterdir()} == files
    rows = history(folder)
    assert list(rows[0]) == ["epoch", "lr", "loss", "bce", "dice", "val_loss", "val_dice", "val_iou"]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert rows == witness.rows
    assert witness.begun == [("float", 0, 3, 3)]
    assert [step[:3] for step in witness.steps] == [(e, s, n) for e in range(3) for s, n in ((1, 2), (2, 2), (3, 3))]
    _, state = read_checkpoint(folder / "best.safetensors")
    best = max(rows, key=lambda row: row["val_dice"])
    assert (state["kind"], state["stage"], state["best_by"]) == ("model", "float", "dice")
    assert (state["epoch"], state["score"]) == (best["epoch"], best["val_dice"])
    timings = (folder / "timings.csv").read_text().splitlines()
    assert timings[0] == "epoch,train_s,validation_s,images_per_s" and len(timings) == 4


def test_losses_of_an_epoch_are_means_over_images(start):
    witness = Witness()
    run(start(witness=witness))
    for epoch, row in enumerate(witness.rows):
        steps = [(images, loss) for e, _, images, loss in witness.steps if e == epoch]
        assert row["loss"] == pytest.approx(sum(n * loss for n, loss in steps) / 7)
        assert row["loss"] == pytest.approx(row["bce"] + row["dice"])


@pytest.mark.parametrize("classes", [1, 3])
def test_it_learns(start, classes):
    folder = run(start(classes=classes, epochs=30, optimizer={"lr": 0.02}, augment={}))
    rows = history(folder)
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert max(row["val_dice"] for row in rows) > 0.6 if classes == 1 else rows[-1]["val_dice"] > rows[0]["val_dice"]


def test_rates_of_the_history_are_those_of_the_last_step(start):
    folder = run(start(optimizer={"lr": 0.01}, schedule={"kind": "cosine"}))
    expected = [0.01 * (1 + math.cos(math.pi * (epoch + 2 / 3) / 3)) / 2 for epoch in range(3)]
    assert [row["lr"] for row in history(folder)] == pytest.approx(expected)


@pytest.mark.row("N14")
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_equal_runs_are_equal_bytes(start, precision):
    first, again = (run(start(name, precision=precision)) for name in "ab")
    assert contents(first) == contents(again)


def test_precision_and_seed_matter(start):
    base = weights(run(start("a")) / "last.safetensors")
    assert not torch.equal(base, weights(run(start("b", precision="bf16")) / "last.safetensors"))
    other = start("c")
    other.seed = 6
    assert not torch.equal(base, weights(run(other) / "last.safetensors"))


def one_step(start, name: str, **options) -> torch.Tensor:
    """All weights after one step of plain SGD."""
    options = {"kind": "sgd", "momentum": 0} | options
    training = start(name, epochs=1, batch=7, optimizer=options, schedule={"kind": "constant"})
    run(training)
    return torch.cat([p.detach().reshape(-1) for p in training.model.net.parameters()])


def test_one_step_by_hand(start):
    training = start("evaluate")
    before = torch.cat([p.detach().reshape(-1) for p in training.model.net.parameters()]).clone()
    kernels = torch.cat([torch.full((p.numel(),), p.ndim > 1) for p in training.model.net.parameters()])
    plain = one_step(start, "plain", lr=0.1) - before
    assert plain.norm() > 1e-3
    torch.testing.assert_close(one_step(start, "half", lr=0.05) - before, plain / 2, rtol=1e-3, atol=1e-6)
    penalized = one_step(start, "l2", lr=0.1, l2_kernel=0.3) - before
    torch.testing.assert_close(penalized, plain - 0.1 * 2 * 0.3 * before * kernels, rtol=1e-3, atol=1e-6)
    clipped = one_step(start, "clip", lr=0.1, clip_norm=1e-3) - before
    torch.testing.assert_close(clipped, plain * (1e-4 / plain.norm()), rtol=1e-2, atol=1e-7)


def test_augmentation_depends_on_seed_epoch_and_position(start):
    training = start()
    case = training.train.part[0]

    def image(epoch: int, first: int, seed: int = 5) -> torch.Tensor:
        training.position.epoch, training.seed = epoch, seed
        return training._inputs([case], first).images

    assert torch.equal(image(0, 0), image(0, 0))
    others = [image(0, 0), image(1, 0), image(0, 3), image(0, 0, seed=6)]
    assert all(not torch.allclose(others[a], others[b], atol=0.01) for a in range(4) for b in range(a))
    # The position in the epoch counts, not the one in the batch.
    training.seed = 5
    training.position.epoch = 0
    pair = training._inputs([training.train.part[1], case], 2).images
    torch.testing.assert_close(pair[1:], image(0, 3), rtol=0, atol=1e-5)


def test_what_a_sample_takes_comes_from_the_training_part(start):
    """The mask, the shares and the image come from one and the same other sample."""
    training = start(empty=(1, 4, 8), augment={"paste": 1}, soft_masks=True)
    part = training.train.part
    empty = [case for case in part if case.name in ("case01", "case04")]
    prepared = {case.name: training.train.prepared(case) for case in part}
    givers = set()
    for first in range(0, 40, 2):
        inputs = training._inputs(empty, first)
        for row in range(2):
            mask, image = inputs.masks[row].numpy(), inputs.images[row].numpy()
            (giver,) = [name for name, (_, own) in prepared.items() if own.any() and np.array_equal(own, mask)]
            inside = mask > 0
            np.testing.assert_allclose(image[:, inside], prepared[giver][0][:, inside], atol=1e-5)
            far = ~np.pad(inside, 4)[4:-4, 4:-4]
            assert not np.allclose(image[:, far], prepared[giver][0][:, far], atol=0.1)
            assert np.array_equal(inputs.shares[row, 0], mask)
            givers.add(giver)
    assert givers == {case.name for case in part} - {"case01", "case04"}
    # Cases with objects take nothing, and nobody takes anything by default.
    with_objects = [case for case in part if case not in empty][:2]
    taken = training._inputs(with_objects, 0)
    assert np.array_equal(taken.masks, [prepared[case.name][1] for case in with_objects])
    assert not start("plain", empty=(1, 4, 8), augment={})._inputs(empty, 0).masks.any()


def test_rectangles_come_from_other_samples(start):
    training = start(augment={"cutmix": 1})
    part = training.train.part
    images = {case.name: training.train.prepared(case)[0][0] for case in part}
    for first in range(10):
        inputs = training._inputs(part[:1], first)
        image, mask = inputs.images[0, 0].numpy(), inputs.masks[0].numpy()
        same = {name: np.isclose(image, own, atol=1e-5) for name, own in images.items()}
        assert (np.any(list(same.values()), axis=0)).all()
        for name, where in same.items():
            own = training.train.prepared(next(case for case in part if case.name == name))[1]
            sure = where & (sum(map(np.asarray, same.values())) == 1)
            assert np.array_equal(mask[sure], own[sure])
    alone = [training._inputs([case], 3 + at).masks for at, case in enumerate(part[:4])]
    # Neither the batch nor the process a sample is in changes what it takes.
    assert torch.equal(training._inputs(part[:4], 3).masks, torch.cat(alone))


def test_soft_masks_are_what_is_learned_and_not_what_is_measured(start):
    hard, soft = (start(name, size=(16, 16), soft_masks=name == "soft", augment={}) for name in ("hard", "soft"))
    assert hard._inputs(hard.train.part[:3], 0).shares is None
    found = soft._inputs(soft.train.part[:3], 0)
    assert torch.equal(found.shares, soft.train.shares(soft.train.part[:3], 0, 0))
    assert hard.validate() == soft.validate()
    before = [row["loss"] for row in history(run(hard))]
    assert before != [row["loss"] for row in history(run(soft))]


# --- validation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 3])
def test_validation_agrees_with_a_slow_evaluate(start, classes):
    training = start(classes=classes, epochs=4, optimizer={"lr": 0.02})
    run(training)
    found = training.validate()
    predictor = training.model.predictor()
    expected = []
    for case in training.validation:
        reference = training.train.cases.mask(case)
        probability = predictor.predict(training.train.cases.image(case))
        mask = predictor.mask(training.train.cases.image(case))
        dices, ious = [], []
        for k in range(1, classes + 1):
            p, t = mask == k, reference == k
            empty = not p.any() and not t.any()
            dices.append(1.0 if empty else 2 * (p & t).sum() / (p.sum() + t.sum()))
            ious.append(1.0 if empty else (p & t).sum() / (p | t).sum())
        p = np.concatenate([1 - probability.sum(2, keepdims=True), probability], 2).astype(np.float64)
        right = np.take_along_axis(p, reference[:, :, None].astype(int), 2)
        entropy = -np.log(np.clip(right, 1e-6, 1)).mean()
        ratios = [
            1 - (2 * (p[:, :, k] * (reference == k)).sum() + 1) / (p[:, :, k].sum() + (reference == k).sum() + 1)
            for k in range(1, classes + 1)
        ]
        expected.append((entropy + np.mean(ratios), np.mean(dices), np.mean(ious)))
    loss, dice, iou = np.mean(expected, 0)
    assert found == pytest.approx({"val_loss": loss, "val_dice": dice, "val_iou": iou}, rel=1e-4)
    assert loss > 0 and (classes > 1 or 0 < dice < 1)


@pytest.mark.parametrize("classes", [1, 3])
def test_every_part_of_the_loss_trains_and_is_validated(start, classes):
    """An empty mask, the small smoothing, and regularisers: the loss of the history is that of the probabilities."""
    entropy = "bce" if classes == 1 else "ce"
    parts = {entropy: 0.5, "dice": 1.0, "batch_dice": 1.0, "tv": 0.005, "boundary": 1e-3}
    training = start(classes=classes, empty=(2, 7), loss=parts | {"dice_smoothing": 1e-4})
    rows = history(run(training))
    assert set(parts) < set(rows[0])
    expected = []
    for case in training.validation:
        reference = torch.from_numpy(training.train.cases.mask(case))[None]
        p = torch.from_numpy(training.model.predictor().predict(training.train.cases.image(case))).movedim(-1, 0)[None]
        logits = torch.logit(p) if classes == 1 else torch.log(torch.cat([1 - p.sum(1, keepdim=True), p], 1))
        loss, _ = segmentation_loss(logits, reference, **training.stage.loss.arguments())
        expected.append(loss.item())
    assert rows[-1]["val_loss"] == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.parametrize(("bias", "dice"), [(-50.0, 0.5), (50.0, None)])
def test_empty_masks_in_validation(start, bias, dice):
    """Case 7 is empty, case 8 is not. Nothing predicted: 1 and 0. Everything predicted: 0 and its share."""
    training = start(empty=(7,))
    head = training.model.net.core.head
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(bias)
    found = training.validate()
    reference = training.train.cases.mask(training.validation[1])
    if dice is None:
        share = reference.mean()
        dice = 2 * share / (1 + share) / 2
    assert not training.train.cases.mask(training.validation[0]).any() and reference.any()
    assert found["val_dice"] == pytest.approx(dice)
    assert math.isfinite(found["val_loss"]) and found["val_loss"] > 1


def test_validation_leaves_the_net_in_training(start):
    training = start()
    training.net.train()
    before = {name: value.clone() for name, value in training.model.net.state_dict().items()}
    training.validate()
    assert training.net.training
    assert all(torch.equal(value, before[name]) for name, value in training.model.net.state_dict().items())


def test_many_validation_cases_go_through_in_batches(start, monkeypatch):
    training = start()
    training.validation = training.train.cases[:9]
    whole = training.validate()
    monkeypatch.setattr(loop, "VALIDATION_BATCH", 2)
    assert training.validate() == pytest.approx(whole, rel=1e-5)


# --- the best epoch, and the last one -----------------------------------------------------------------------


@pytest.mark.parametrize(("best_by", "epoch", "score"), [("loss", 2, -0.2), ("dice", 4, 0.8), ("iou", 1, 0.9)])
def test_best_by(start, monkeypatch, best_by, epoch, score):
    scripted(
        monkeypatch,
        val_loss=[0.9, 0.2, 0.3, 0.4, 0.2],
        val_dice=[0.1, 0.2, 0.3, 0.8, 0.8],
        val_iou=[0.9, 0.2, 0.3, 0.4, 0.5],
    )
    training = start(best_by=best_by, epochs=5)
    seen = []
    monkeypatch.setattr(training.model, "save", lambda path, metadata: seen.append((path.name, metadata)))
    run(training)
    assert (training.position.best_epoch, training.position.best_score) == (epoch, score)
    assert seen[-1] == (
        "best.safetensors",
        {"stage": "float", "epoch": epoch, "score": score, "best_by": best_by},
    )


def test_the_best_file_holds_the_weights_of_the_best_epoch(start, monkeypatch):
    scripted(monkeypatch, val_dice=[0.1, 0.9, 0.2])
    short = start("short", epochs=2, schedule={"kind": "constant"})
    run(short)
    long = run(start("long", epochs=3, schedule={"kind": "constant"}))
    best = weights(long / "best.safetensors")
    assert torch.equal(best, weights(short.folder / "last.safetensors"))
    assert not torch.equal(best, weights(long / "last.safetensors"))


def test_the_last_epoch_is_kept_where_the_recipe_says_so(start, monkeypatch):
    scripted(monkeypatch, val_dice=[0.1, 0.9, 0.2])
    folder = run(training := start(epochs=3, keep="last"))
    assert torch.equal(weights(folder / "best.safetensors"), weights(folder / "last.safetensors"))
    assert (training.position.best_epoch, training.position.best_score) == (3, 0.9)


def test_ignored_epochs_are_neither_the_best_nor_a_reason_to_stop(start, monkeypatch):
    scripted(monkeypatch, val_dice=[0.9, 0.8, 0.1, 0.4, 0.3, 0.2, 0.2])
    training = start(epochs=7, ignore_epochs=2, early_stop={"patience": 3})
    rows = history(run(training))
    assert (training.position.best_epoch, training.position.best_score) == (4, 0.4)
    assert len(rows) == 7  # without them epoch 1 were the best, and 4 the last
    assert Model.load(training.folder / "best.safetensors").metadata["epoch"] == 4
    again = start("again", epochs=7, ignore_epochs=6)
    run(again)
    assert again.position.best_epoch == 7


def test_what_is_kept_and_validated_is_the_average(start):
    training = start(average={"decay": 0.9}, keep="last", epochs=2)
    rows = history(run(training))
    kept, last = weights(training.folder / "best.safetensors"), weights(training.folder / "last.safetensors")
    assert not torch.equal(kept, last)
    alone = start("alone", keep="last", epochs=2)
    run(alone)
    # The optimizer goes the same way; what is measured on the way is another net.
    assert torch.equal(weights(alone.folder / "last.safetensors"), last)
    assert [row["loss"] for row in history(alone.folder)] == [row["loss"] for row in rows]
    again = start("again")
    again.model.net.core.load_state_dict(Model.load(training.folder / "best.safetensors").net.core.state_dict())
    assert again.validate()["val_loss"] == pytest.approx(rows[-1]["val_loss"], rel=1e-6)


def test_some_epochs_are_validated(start):
    training = start(validate_every=3, epochs=7, early_stop={"patience": 9})
    folder = run(training)
    rows = list(csv.DictReader((folder / "history.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["epoch"] for row in rows if row["val_dice"]] == ["3", "6", "7"]
    assert all(row["loss"] and row["lr"] for row in rows)
    assert training.position.best_epoch in (3, 6, 7)
    assert len(training.position.scores("dice")) == 3


def test_validation_takes_no_more_work_than_training(start, caplog):
    """Images of 24×24 in tiles of 16×16 that overlap by a quarter are four calls of the net each."""
    training = start(fit="tile", validate_every="auto", epochs=2)
    assert training.validate_every == 1
    training = start(fit="tile", validate_every="auto", epochs=2)
    training.validation = list(training.validation) * 12
    with caplog.at_level("INFO"):
        assert training.validate_every == 5
    assert "trains on 7 samples, validation takes 96 calls of the net: every 5 epochs one is validated" in caplog.text
    assert start(validate_every=3).validate_every == 3


def test_early_stop(start, monkeypatch):
    scripted(monkeypatch, val_dice=[0.1, 0.5, 0.4, 0.5, 0.3, 0.9, 0.9, 0.9])
    rows = history(run(start(epochs=8, early_stop={"patience": 3})))
    assert len(rows) == 5
    rows = history(run(start("later", epochs=8, early_stop={"patience": 3, "min_epochs": 6})))
    assert len(rows) == 8


def test_a_plateau_slows_the_rate(start, monkeypatch):
    scripted(monkeypatch, val_dice=[0.5, 0.4, 0.4, 0.6])
    schedule = {"kind": "plateau", "patience": 0, "factor": 0.5}
    rows = history(run(start(epochs=4, optimizer={"lr": 0.01}, schedule=schedule)))
    assert [row["lr"] for row in rows] == [0.01, 0.01, 0.005, 0.0025]


# --- stopping and going on --------------------------------------------------------------------------------


@pytest.mark.row("N17")
@pytest.mark.parametrize("name", SETTINGS)
def test_a_stopped_run_ends_with_the_same_bytes(start, name):
    witness = Witness()
    expected = contents(run(start("whole", witness, **SETTINGS[name])))
    # A random step in the middle of an epoch, and the first one.
    places = [index for index, step in enumerate(witness.steps, start=1) if step[1] < 3]
    chosen = np.random.default_rng(len(name)).choice(places[1:])
    for stop_after in (1, int(chosen)):
        folder = f"stopped-{stop_after}"
        stopped(start(folder, Witness(stop_after), **SETTINGS[name]))
        resumed = start(folder, **SETTINGS[name])
        assert resumed.resume()
        assert contents(run(resumed)) == expected, stop_after


@pytest.mark.row("N17")
@pytest.mark.parametrize("stop_after", [3, 9])
def test_a_run_stopped_at_the_end_of_an_epoch_ends_with_the_same_bytes(start, stop_after):
    expected = undisturbed(start)
    stopped(start("stopped", Witness(stop_after)))
    resumed = start("stopped")
    assert resumed.resume()
    assert contents(run(resumed)) == expected


@pytest.mark.row("N17")
def test_a_run_stopped_after_every_step(start):
    expected = undisturbed(start)
    resumed = False
    for _ in range(9):
        training = start("stopped", Witness(1))
        assert training.resume() == resumed
        stopped(training)
        resumed = True
    last = start("stopped")
    last.resume()
    assert contents(run(last))["last.safetensors"] == expected["last.safetensors"]


def test_a_stop_does_no_more_steps(start):
    witness = Witness(4)
    training = start(witness=witness)
    stopped(training)
    assert len(witness.steps) == 4 and (training.position.epoch, training.position.step) == (1, 1)
    _, state = read_checkpoint(training.last)
    assert (state["position"]["epoch"], state["position"]["step"]) == (1, 1)


def test_a_finished_run_stays_as_it_is(start):
    folder = run(start())
    before = contents(folder)
    witness = Witness()
    again = start(witness=witness)
    assert again.resume()
    run(again)
    assert contents(folder) == before and witness.steps == []


def test_more_epochs_are_the_same_as_so_many_from_the_beginning(start):
    """Where neither rate nor validation looks at the number of epochs."""
    for name, schedule in (("constant", {}), ("step", {"every": 2}), ("plateau", {"patience": 0})):
        options = {"schedule": {"kind": name, **schedule}, "average": {"decay": 0.9}}
        whole = contents(run(start(f"whole-{name}", epochs=5, **options)))
        run(start(name, epochs=2, **options))
        longer = start(name, epochs=5, **options)
        assert longer.resume()
        assert contents(run(longer)) == whole, name


def test_more_epochs_have_the_rates_of_so_many(start):
    """A cosine goes on in the middle of the longer one; stopped and resumed, it ends with the same bytes."""
    options = {"schedule": {"kind": "cosine"}, "optimizer": {"lr": 0.01}}
    folders = []
    for name in ("at once", "stopped"):
        folder = run(start(name, epochs=2, **options))
        longer = start(name, Witness(4) if name == "stopped" else None, epochs=4, **options)
        assert longer.resume()
        if name == "stopped":
            stopped(longer)
            longer = start(name, epochs=4, **options)
            longer.resume()
        folders.append(contents(run(longer)))
    assert folders[0] == folders[1]
    halves = [[0.01 * (1 + math.cos(math.pi * (epoch + 2 / 3) / of)) / 2 for epoch in range(of)] for of in (2, 4)]
    assert [row["lr"] for row in history(folder)] == pytest.approx(halves[0] + halves[1][2:])


def test_frozen_layers_learn_from_their_epoch_on(start):
    training = start(freeze={"encoder": 2}, epochs=2, optimizer={"weight_decay": 0.5, "clip_norm": 1})
    before = {name: value.clone() for name, value in training.model.net.core.state_dict().items()}
    run(training)

    def moved(training):
        after = training.model.net.core.state_dict()
        return {name.split(".")[0] for name, value in after.items() if not torch.equal(before[name], value)}

    assert moved(training) == {"deepest", "decoder", "head"}
    longer = start(freeze={"encoder": 2}, epochs=3, optimizer={"weight_decay": 0.5, "clip_norm": 1})
    assert longer.resume()
    run(longer)
    assert moved(longer) == {"encoder", "deepest", "decoder", "head"}


def test_a_part_of_the_rate(start):
    witness = Witness()
    training = start(optimizer={"lr": 0.01, "lr_scale": {"encoder": 0.1}}, schedule={"kind": "constant"}, epochs=1)
    run(training)
    rates = {group["scale"]: group["lr"] for group in training.inner_optimizer.param_groups}
    assert rates == pytest.approx({1.0: 0.01, 0.1: 0.001})
    assert [row["lr"] for row in history(training.folder)] == [0.01]
    assert witness.steps == []


@pytest.mark.parametrize(("later", "told"), [([0.4, 0.3], True), ([0.4, 0.6], False)], ids=["worse", "better"])
def test_a_longer_training_that_finds_nothing_better_says_so(start, monkeypatch, caplog, later, told):
    scripted(monkeypatch, val_dice=[0.5, 0.4])
    run(start(epochs=2))
    scripted(monkeypatch, val_dice=[0.5, 0.4, *later])
    longer = start(epochs=4)
    assert longer.resume()
    with caplog.at_level("INFO"):
        run(longer)
    said = "stage float: epochs 3 to 4 are not better on validation (dice) than epoch 1, whose net remains"
    assert (said in caplog.text) is told
    assert longer.position.best_epoch == (1 if told else 4)


def test_an_early_stop_is_reported(start, monkeypatch, caplog):
    scripted(monkeypatch, val_dice=[0.5, 0.4, 0.3, 0.2])
    with caplog.at_level("INFO"):
        run(start(epochs=4, early_stop={"patience": 1}))
    assert "stage float was stopped after epoch 2 of 4, since validation no longer improves" in caplog.text


def test_nothing_to_resume_from(start):
    assert start().resume() is False


def twice_stopped(start) -> Path:
    stopped(start("stopped", Witness(4)))
    training = start("stopped", Witness(1))
    training.resume()
    stopped(training)
    assert previous(training.last).exists()
    return training.folder


@pytest.mark.row("F11", "F12")
def test_a_torn_file_falls_back_to_the_one_before(start, caplog):
    expected = undisturbed(start)
    folder = twice_stopped(start)
    last = folder / "last.safetensors"
    last.write_bytes(last.read_bytes()[:-100])
    resumed = start("stopped")
    assert resumed.resume()
    assert (resumed.position.epoch, resumed.position.step) == (1, 1)
    assert "is damaged" in caplog.text
    assert contents(run(resumed)) == expected


@pytest.mark.row("F02")
def test_a_kill_between_rotation_and_writing(start):
    expected = undisturbed(start)
    folder = twice_stopped(start)
    (folder / "last.safetensors").unlink()
    resumed = start("stopped")
    assert resumed.resume()
    assert contents(run(resumed)) == expected


@pytest.mark.row("F15")
def test_checkpoints_are_distinguished_by_what_is_in_them_not_by_the_clock(start):
    """The older one is of tomorrow, the newer one of 1970."""
    expected = undisturbed(start)
    folder = twice_stopped(start)
    os.utime(previous(folder / "last.safetensors"), (2**32, 2**32))
    os.utime(folder / "last.safetensors", (0, 0))
    resumed = start("stopped")
    assert resumed.resume()
    assert (resumed.position.epoch, resumed.position.step) == (1, 2)
    assert contents(run(resumed)) == expected


@pytest.mark.row("F12")
def test_both_torn_is_a_new_start(start):
    expected = undisturbed(start)
    folder = twice_stopped(start)
    for path in folder.glob("*last.safetensors"):
        path.write_bytes(b"torn")
    again = start("stopped")
    assert again.resume() is False
    assert contents(run(again)) == expected


@pytest.mark.row("F02", "F12")
def test_a_torn_file_never_replaces_the_good_one(start, monkeypatch):
    """Torn last, good previous; the next save is killed between rotation and writing: the good one must be left."""
    folder = twice_stopped(start)
    (folder / "last.safetensors").write_bytes(b"torn")
    resumed = start("stopped")
    assert resumed.resume()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        resumed.save()
    assert start("stopped").resume()


def test_another_identity(start):
    run(start())
    with pytest.raises(RunError, match="belongs to another recipe, split or data → resume with the same ones"):
        start(identity="other").resume()


def test_a_model_in_the_place_of_a_state(start):
    training = start()
    write_checkpoint(training.last, {}, {"kind": "model", "identity": "same"})
    with pytest.raises(RunError, match="belongs to another"):
        training.resume()


def test_long_epochs_are_saved_in_the_middle(start, monkeypatch):
    expected = undisturbed(start)
    saves = []
    real = loop.write_checkpoint
    monkeypatch.setattr(
        loop,
        "write_checkpoint",
        lambda path, tensors, state: (saves.append(json.dumps(state)), real(path, tensors, state)),
    )
    run(start("seldom"))
    assert len(saves) == 3
    saves.clear()
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_SAVES", -1)
    assert contents(run(start("often"))) == expected
    assert len(saves) == 12 and len(set(saves)) == 12


# --- what goes wrong --------------------------------------------------------------------------------------


def breaking(monkeypatch, at: int, value: float = math.nan) -> None:
    """Makes the loss of one training step, counted from 1, not finite."""
    calls = []

    def loss(logits, target, **options):
        total, parts = segmentation_loss(logits, target, **options)
        calls.extend([1] * logits.requires_grad)
        return (total * value if logits.requires_grad and len(calls) == at else total), parts

    monkeypatch.setattr(objective, "segmentation_loss", loss)


@pytest.mark.row("F22")
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_files(start, monkeypatch, value):
    breaking(monkeypatch, 5, value)
    training = start()
    order = training.train.order(1, copies=1, balanced=False)
    with pytest.raises(TrainingError) as error:
        training.run()
    text = str(error.value)
    assert "stage float, epoch 2, batch of " in text and f"loss={value}" in text and "lower optimizer.lr" in text
    for case in training.train.part:
        assert (case.image.where in text) == (case in order[2:4])


@pytest.mark.row("F22")
def test_the_state_before_a_loss_that_is_not_finite_is_kept(start, monkeypatch):
    expected = undisturbed(start)
    with monkeypatch.context() as patch:
        breaking(patch, 5)
        with pytest.raises(TrainingError):
            start("broken").run()
    resumed = start("broken")
    assert resumed.resume() and (resumed.position.epoch, resumed.position.step) == (1, 0)
    assert contents(run(resumed)) == expected


def test_a_rate_that_is_far_too_high_ends_in_a_training_error(start):
    """Without a norm nothing brings the weights back."""
    net = NET | {"norm": "none"}
    with pytest.raises(TrainingError, match="not finite"):
        start(net=net, epochs=50, optimizer={"kind": "sgd", "lr": 100}, schedule={"kind": "constant"}).run()


@pytest.mark.row("F22")
def test_a_net_that_breaks_in_the_last_step_of_an_epoch_is_not_saved(start, monkeypatch):
    """The loss of the last step was finite and its update was not: only validation can notice it."""
    training = start()
    step: Callable[[], None] = training.optimizer.step
    calls = []

    def poisoned():
        step()
        calls.append(1)
        if len(calls) == 6:
            with torch.no_grad():
                training.model.net.core.head.weight.fill_(math.nan)

    monkeypatch.setattr(training.optimizer, "step", poisoned)
    with pytest.raises(TrainingError, match="not finite"):
        training.run()
    assert weights(training.last).isfinite().all()
    assert weights(training.best).isfinite().all()

"""A stage that learns from a teacher, in the loop: what moves, what is counted, and going on after a stop."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from pocketseg.data import Case
from pocketseg.data.case import FileSource
from pocketseg.errors import Interrupted
from pocketseg.nets import skeleton
from pocketseg.pipeline import Normalization, Pipeline
from pocketseg.recipes import Recipe
from pocketseg.training.augment import augment, draw, move_maps, sample_generator
from pocketseg.training.checkpoint import read_checkpoint
from pocketseg.training.distil import hint_loss
from pocketseg.training.hints import choose_hints
from pocketseg.training.loop import StageTraining, StopRequest
from pocketseg.training.model import Model
from pocketseg.training.objective import DistillationObjective, labels_loss
from pocketseg.training.samples import Samples
from pocketseg.training.teachers import NetTeacher

CPU = torch.device("cpu")
NET = {"arch": "thin_unet", "width": 4, "blocks": 2, "norm": "block", "input_dropout": 0.1}
WIDE = {**NET, "width": 6}
AUGMENT = {"flip": ["horizontal"], "affine": {"degrees": 20}, "noise": 0.1}
FILES = ("last.safetensors", "best.safetensors", "history.csv")
SOFT, HINTS = {"distil": {"weight": 0.3}}, {"hints": {}}
PURE = {**HINTS, "loss": None, "best_by": "hint"}


@pytest.fixture
def start(discs, tmp_path):
    """A student ready to learn from a net of another width: seven cases to train on, two for validation."""
    accelerator = Accelerator(cpu=True)
    cases = discs(9)

    def make(name="run", stop_after=0, *, maps=None, unlabelled=0, fit="resize", **options):
        stage = {"name": "s", "net": NET, "epochs": 3, "batch": 3, "teacher": {"stage": "t"}} | options
        first = {"name": "t", "net": WIDE}
        data = {"size": (24, 24) if fit == "resize" else (16, 16), "fit": fit}
        recipe = Recipe.model_validate({"data": data, "augment": AUGMENT, "stages": [first, stage]})
        section = recipe.stages[1]
        rule = Normalization("train-mean-std", None, (0.3,), (0.1,))
        pipeline = Pipeline(recipe.data.size, normalization=rule, fit=fit)
        teacher, student = Model.fresh(WIDE, pipeline, 1), Model.fresh(NET, pipeline, 5)
        hints = None
        if section.hints:
            nets = [skeleton(in_channels=1, out_channels=1, **net) for net in (NET, WIDE)]
            hints = choose_hints(section.hints, *nets, *[(1, *student.pipeline.net_size)] * 2)
        places = [hint.teacher for hint in hints.each] if hints else []
        asked = NetTeacher(teacher, student.pipeline, CPU, section.precision, places)
        joining = [Case(f"unlabelled/{case.name}", FileSource(case.image.path), ()) for case in cases[:unlabelled]]
        train = Samples.of(cases, cases[:7], student.pipeline, seed=5)
        train.unlabelled, train.maps = joining, maps
        if section.quant:
            student.quantize(section.quant.model_dump(), [train.batch(cases[:3], 0, 0)[0]])
        stop = StopRequest()
        training = StageTraining(
            augment=recipe.augment,
            stage=section,
            model=student,
            train=train,
            validation=cases[7:],
            folder=tmp_path / name,
            accelerator=accelerator,
            precision=section.precision,
            seed=5,
            stop=stop,
            listener=Stopper(stop, stop_after) if stop_after else None,
            objective=DistillationObjective(None if maps else asked, maps, section.distil, hints, joining),
        )
        training.teacher = teacher
        return training

    yield make
    accelerator.free_memory()


class Stopper:
    def __init__(self, stop: StopRequest, after: int) -> None:
        self.stop, self.left = stop, after

    def stage_begins(self, *args): ...

    def epoch_ends(self, row): ...

    def step_ends(self, *args):
        self.left -= 1
        if self.left == 0:
            self.stop.signal_number = 15


def constant(case, shape):
    """Maps that any folder could hold."""
    return np.full((1, *shape), 0.8, np.float32)


KINDS = {
    "hints and soft": {**SOFT, **HINTS, "precision": "f32"},
    "hints alone, bf16": {**PURE, "precision": "bf16"},
    "quantized, frozen": {
        **SOFT, "hints": {"layers": "convs", "kind": "cosine"}, "precision": "f32", "freeze": ["encoder.0"],
        "quant": {"scheme": "w4a4"},
    },
    "maps, unlabelled": {**SOFT, "precision": "f32"},
    "tiles": {**HINTS, "precision": "f32", "best_by": "hint", "optimizer": {"kind": "sgd", "lr": 0.01}},
}  # fmt: skip
MORE = {
    "maps, unlabelled": {"maps": constant, "unlabelled": 4},
    "tiles": {"fit": "tile"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_resumed_it_ends_in_the_same_bytes(start, kind):
    options = {**MORE.get(kind, {}), **KINDS[kind]}
    whole = start("whole", **options)
    whole.run()
    steps = sum(1 for _ in whole.position.history) * 3
    for stop_after in (1, steps // 2):
        stopped = start(f"stopped-{stop_after}", stop_after, **options)
        with pytest.raises(Interrupted):
            stopped.run()
        resumed = start(f"stopped-{stop_after}", **options)
        assert resumed.resume()
        resumed.run()
        for name in FILES:
            assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name


def test_regressors_are_kept_to_go_on_but_are_no_part_of_the_model(start):
    training = start(**SOFT, **HINTS, precision="f32")
    before = [p.clone() for p in training.student.regressors.parameters()]
    training.run()
    assert before and all(
        not torch.equal(a, b) for a, b in zip(before, training.student.regressors.parameters(), strict=True)
    )
    kept, _ = read_checkpoint(training.last)
    best, _ = read_checkpoint(training.best)
    assert sum(name.startswith("regressors.") for name in kept) == len(before)
    assert set(best) == set(Model.fresh(NET, training.model.pipeline, 0).net.core.state_dict())


def test_the_teacher_stays_as_it_is_and_the_student_comes_nearer(start):
    training = start(**PURE, precision="f32", epochs=12, optimizer={"lr": 0.01})
    before = {name: value.clone() for name, value in training.teacher.net.state_dict().items()}
    training.run()
    assert all(torch.equal(before[name], value) for name, value in training.teacher.net.state_dict().items())
    rows = training.position.history
    assert rows[-1]["hint"] < 0.7 * rows[0]["hint"]
    assert rows[0]["loss"] == rows[0]["hint"] and rows[0]["val_loss"] == rows[0]["val_hint"]
    assert set(rows[0]) == {"epoch", "lr", "loss", "hint", "val_loss", "val_dice", "val_iou", "val_hint"}
    assert training.position.best_score == max(-row["val_hint"] for row in rows)
    _, state = read_checkpoint(training.best)
    assert state["best_by"] == "hint" and state["score"] == training.position.best_score


def test_the_validation_hint_is_that_of_the_images_as_the_net_sees_them(start):
    training = start(**HINTS, precision="f32")
    found = training.validate()["val_hint"]
    wanted = []
    for case in training.validation:
        images = torch.from_numpy(training.train.prepared(case)[0])[None]
        training.student.eval()
        with torch.no_grad():
            _, maps = training.student(images)
        others = training.objective.teacher.predict(images)[1]
        hints = training.objective.hints
        wanted.append(
            sum(hint.weight * hint_loss(a, b, "l1").item() for hint, a, b in zip(hints.each, maps, others, strict=True))
        )
    assert found == pytest.approx(np.mean(wanted), rel=1e-4)


def test_frozen_layers_do_not_move_not_even_their_norms(start):
    training = start(**SOFT, precision="f32", freeze=["encoder.*", "deepest"])
    before = {name: value.clone() for name, value in training.model.net.core.state_dict().items()}
    training.run()
    after = training.model.net.core.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(before[name], value)}
    assert not any(name.startswith(("encoder", "deepest")) for name in moved)
    assert {name.split(".")[0] for name in moved} == {"decoder", "head"}
    assert any(name.endswith("running_mean") for name in moved)


def test_a_teacher_by_maps_is_moved_like_the_image(start):
    training = start(**SOFT, precision="f32", maps=lambda case, shape: case_map(training, case))
    inputs = training._inputs(training.train.part[:3], 0)
    from_image = (inputs.images * 0.1 + 0.3).clamp(0, 1)
    # A map that is the image itself, and noise on the image only.
    moved = (inputs.teacher_probabilities - from_image).abs().mean()
    straight = torch.stack([torch.from_numpy(case_map(training, case)) for case in training.train.part[:3]])
    assert moved < 0.6 * (straight - from_image).abs().mean()


def case_map(training, case):
    return np.clip(training.train.prepared(case)[0] * 0.1 + 0.3, 0, 1).astype(np.float32)


def test_maps_move_as_images_do():
    recipe = Recipe.model_validate({"augment": {"flip": ["horizontal"], "affine": {}, "elastic": {"probability": 1}},
                                    "stages": [{"name": "a", "net": {"arch": "thin_unet"}}]})  # fmt: skip
    drawn = [draw(sample_generator(1, index), recipe.augment, 20, 24) for index in range(4)]
    images = torch.rand(4, 1, 20, 24)
    moved, _ = augment(images, torch.zeros(4, 20, 24, dtype=torch.uint8), drawn, recipe.augment)
    torch.testing.assert_close(move_maps(images, drawn, recipe.augment), moved, rtol=0, atol=1e-5)
    assert (moved - images).abs().mean() > 0.1


def test_windows_of_maps_are_those_of_the_masks(start):
    training = start(**SOFT, fit="tile", precision="f32", maps=lambda case, shape: training_mask(training, case))
    samples = training.train
    _, masks = samples.batch(samples.part[:4], 2, 5)
    assert torch.equal(samples.teacher_maps(samples.part[:4], 2, 5)[:, 0], masks.float())
    assert len({mask.numpy().tobytes() for mask in masks}) > 1


def training_mask(training, case):
    return training.train.prepared(case)[1][None].astype(np.float32)


# --- unlabelled images --------------------------------------------------------------------------------------------


def test_unlabelled_images_are_spread_evenly_and_take_turns(start):
    samples = start(**SOFT, precision="f32", unlabelled=4).train
    assert samples.length(1) == 11 and samples.length(2) == 18
    order = samples.order(0, copies=1, balanced=False)
    assert sorted(case.name for case in order if case.masks) == sorted(case.name for case in samples.part)
    assert sorted(case.name for case in order if not case.masks) == sorted(case.name for case in samples.unlabelled)
    assert [bool(case.masks) for case in order].count(False) == 4
    assert all(any(case.masks for case in order[at : at + 3]) for at in range(0, 11, 3))
    assert order == samples.order(0, copies=1, balanced=False) != samples.order(1, copies=1, balanced=False)


def test_many_unlabelled_images_have_their_turn_before_any_comes_again(start):
    samples = start(**SOFT, precision="f32", unlabelled=9).train
    assert samples.length(1) == 14
    seen = [
        case.name for epoch in range(9) for case in samples.order(epoch, copies=1, balanced=False) if not case.masks
    ]
    assert len(seen) == 63
    counts = {name: seen.count(name) for name in seen}
    assert set(counts.values()) == {7} and len(counts) == 9


def test_the_labels_loss_looks_at_labelled_images_only(start):
    training = start(**SOFT, precision="f32", unlabelled=4)
    batch = [training.train.unlabelled[0], training.train.part[0], training.train.unlabelled[1]]
    inputs = training._inputs(batch, 0)
    assert inputs.labelled == [1] and inputs.share == 1
    training.net.eval()
    logits = training.net(inputs.images)
    answer = training.objective.teacher.predict(inputs.images)[0]
    _, parts = training.objective.loss(logits, [], inputs, training.stage.loss)
    target = inputs.masks[1:2].unsqueeze(1).float()
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits[1:2], target)
    assert parts["bce"].item() == pytest.approx(bce.item(), rel=1e-5)
    p, q = torch.sigmoid(logits / 2), torch.sigmoid(answer / 2)
    soft = 4 * -(q * p.log() + (1 - q) * (1 - p).log()).mean()
    assert parts["soft"].item() == pytest.approx(soft.item(), rel=1e-4)
    nobody = training._inputs(training.train.unlabelled[:3], 0)
    _, parts = training.objective.loss(logits, [], nobody, training.stage.loss)
    assert parts["bce"] == 0 == parts["dice"] and parts["soft"] > 0


@pytest.mark.parametrize("labelled", [2, 3, 5])
def test_two_processes_together_weigh_labelled_images_as_one_does(start, labelled):
    training = start(**SOFT, precision="f32", unlabelled=4)
    batch = [*training.train.part[:labelled], *training.train.unlabelled[: 6 - labelled]]
    training.net.eval()

    def loss(processes: int) -> float:
        found = []
        for rank in range(processes):
            training.accelerator = SimpleNamespace(num_processes=processes, process_index=rank, device=CPU)
            inputs = training._inputs(batch, 0)
            with torch.no_grad():
                found.append(labels_loss(training.net(inputs.images), inputs, training.stage.loss)[0].item())
        return float(np.mean(found))

    assert loss(2) == pytest.approx(loss(1), rel=1e-5)


@pytest.mark.parametrize("batch", [1, 4])
def test_means_of_the_history_are_over_those_who_count(start, batch):
    """With a batch of one, half of the batches have no label."""
    training = start(**SOFT, precision="f32", unlabelled=7, batch=batch, epochs=1, optimizer={"lr": 1e-12}, net=NET)
    training.run()
    alone = start("alone", **SOFT, precision="f32", batch=batch, epochs=1, optimizer={"lr": 1e-12}, net=NET)
    alone.run()
    (mixed,), (labels,) = training.position.history, alone.position.history
    assert mixed["bce"] == pytest.approx(labels["bce"], rel=0.1)
    with_labels = {1: 0.5, 4: 1.0}[batch]  # of the batches
    wanted = with_labels * 0.7 * (mixed["bce"] + mixed["dice"]) + 0.3 * mixed["soft"]
    assert mixed["loss"] == pytest.approx(wanted, rel=1e-5 if batch == 1 else 0.05)
    json.dumps(training.position.history)

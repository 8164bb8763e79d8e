"""Who teaches: nets of ours with other pipelines, several at once, and folders of maps."""

import numpy as np
import pytest
import torch
from PIL import Image

from pocketseg.data import Case
from pocketseg.data.case import FileSource
from pocketseg.errors import DataError, RecipeError
from pocketseg.nets import skeleton
from pocketseg.pipeline import Normalization, Pipeline
from pocketseg.predictors import NetPredictor
from pocketseg.recipes.schema import DistilSection, HintsSection, LossSection
from pocketseg.training.hints import Student, choose_hints
from pocketseg.training.model import Model, torch_forward
from pocketseg.training.objective import DistillationObjective, Inputs
from pocketseg.training.teachers import (
    Ensemble,
    MapFolder,
    NetTeacher,
    OnnxTeacher,
    check_translation,
    probabilities_of,
    translate,
    write_map,
)

NET = {"arch": "thin_unet", "width": 4, "blocks": 2}
CPU = torch.device("cpu")
LEARNED = Normalization("train-mean-std", None, (0.4,), (0.2,))


def pipeline(normalization: Normalization = LEARNED, *, size=(16, 24), **more) -> Pipeline:
    return Pipeline(size, normalization=normalization, **more)


# --- the student's input as the teacher's -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (LEARNED, Normalization("train-mean-std", None, (0.1,), (0.5,))),
        (LEARNED, Normalization("unit-range")),
        (LEARNED, Normalization("z-score", 1.5)),
        (Normalization("unit-range"), Normalization("min-max")),
        (Normalization("min-max"), Normalization("z-score")),
        (Normalization("z-score", 1.0), Normalization("z-score", 1.0)),
    ],
)
def test_normalization_is_undone_and_done_again(ours, theirs):
    image = np.random.default_rng(0).integers(0, 256, (16, 24), np.uint8)
    student, teacher = pipeline(ours), pipeline(theirs)
    check_translation(student, teacher, "teacher")
    found = translate(torch.from_numpy(student.prepare(image))[None], student, teacher)
    np.testing.assert_allclose(found[0].numpy(), teacher.prepare(image), atol=2e-5)


@pytest.mark.parametrize(("have", "wanted"), [(1, 3), (3, 1)])
def test_gray_and_color(have, wanted):
    shape = (16, 24) if have == 1 else (16, 24, 3)
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    several = Normalization("train-mean-std", None, (0.4, 0.3, 0.2), (0.2, 0.3, 0.4))
    rules = {1: LEARNED, 3: several}
    student, teacher = pipeline(rules[have], channels=have), pipeline(rules[wanted], channels=wanted)
    check_translation(student, teacher, "teacher")
    found = translate(torch.from_numpy(student.prepare(image))[None], student, teacher)
    np.testing.assert_allclose(found[0].numpy(), teacher.prepare(image), atol=2e-5)


def test_declared_ranges():
    image = np.random.default_rng(0).integers(0, 4096, (16, 24)).astype(np.uint16)
    student = pipeline(intensity_range=(0, 4095))
    teacher = pipeline(Normalization("unit-range"), intensity_range=(-1000, 5000))
    found = translate(torch.from_numpy(student.prepare(image))[None], student, teacher)
    np.testing.assert_allclose(found[0].numpy(), teacher.prepare(image), atol=2e-5)


def test_sizes_by_the_filter_of_the_pipeline():
    image = np.random.default_rng(0).integers(0, 256, (32, 48), np.uint8)
    student, teacher = pipeline(size=(32, 48)), pipeline(size=(16, 24))
    found = translate(torch.from_numpy(student.prepare(image))[None], student, teacher)
    np.testing.assert_allclose(found[0].numpy(), teacher.prepare(image), atol=2e-5)
    tiled = [pipeline(size=size, fit="tile") for size in ((32, 48), (16, 24))]
    assert translate(torch.zeros(1, 1, 32, 48), *tiled).shape == (1, 1, 32, 48)


@pytest.mark.parametrize(
    ("student", "teacher", "words"),
    [
        ({}, {"classes": ("a", "b")}, "the teacher's classes are a, b, the student's foreground"),
        ({"classes": ("b", "a")}, {"classes": ("a", "b")}, "in the same order"),
        ({"fit": "tile"}, {}, "data.fit=resize, the student is with tile"),
        ({"channels": 3}, {"channels": 2}, "takes 2 channels, the student 3"),
        ({"normalization": Normalization("min-max")}, {}, "which cannot be undone for a teacher with train-mean-std"),
        ({"normalization": Normalization("z-score", 2.0)}, {"normalization": Normalization("z-score")}, "undone"),
        ({}, {"intensity_range": (0.0, 9.0)}, "give both the same data.range"),
    ],
)
def test_what_cannot_be_translated_is_refused(student, teacher, words):
    mine, theirs = (Pipeline(**{"size": (16, 16), "normalization": LEARNED} | each) for each in (student, teacher))
    with pytest.raises(RecipeError) as caught:
        check_translation(mine, theirs, "teacher")
    assert words in str(caught.value)


def test_one_class_may_have_another_name():
    check_translation(pipeline(classes=("lesion",)), pipeline(classes=("nodule",)), "teacher")


# --- nets ---------------------------------------------------------------------------------------------------------


def model(seed: int, rule: Normalization = LEARNED, **more) -> Model:
    made = Model.fresh(NET, pipeline(rule, **more), seed)
    torch.manual_seed(seed)
    for name, buffer in made.net.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.1, 1.5)  # so that training and inference differ
    return made


def test_a_net_teaches_what_it_predicts_and_stays_as_it_is():
    teacher = model(1, size=(24, 24))
    before = {name: value.clone() for name, value in teacher.net.state_dict().items()}
    image = np.random.default_rng(1).integers(0, 256, (40, 30), np.uint8)
    student = pipeline(Normalization("unit-range"), size=(24, 24))
    asked = NetTeacher(teacher, student, CPU, "f32", ["deepest", "encoder.0"])
    logits, maps = asked.predict(torch.from_numpy(student.prepare(image))[None])
    wanted = torch_forward(teacher.net)(teacher.pipeline.prepare(image)[None])
    assert wanted.std() > 0.01
    np.testing.assert_allclose(logits.numpy(), wanted, atol=1e-4)
    assert [tuple(m.shape) for m in maps] == [(1, 4, 6, 6), (1, 4, 24, 24)]
    assert not logits.is_inference() and not any(m.is_inference() or m.requires_grad for m in maps)
    assert all(torch.equal(before[name], value) for name, value in teacher.net.state_dict().items())


def test_a_teacher_of_another_size_answers_on_the_students_grid():
    student = pipeline(size=(32, 32))
    logits, _ = NetTeacher(model(1, size=(16, 16)), student, CPU, "f32").predict(torch.rand(2, 1, 32, 32))
    assert logits.shape == (2, 1, 32, 32)


def test_one_layer_may_hint_twice():
    asked = NetTeacher(model(1), pipeline(), CPU, "f32", ["deepest", "encoder.0", "deepest"])
    _, maps = asked.predict(torch.rand(1, 1, 16, 24))
    assert len(maps) == 3 and torch.equal(maps[0], maps[2])


@pytest.mark.parametrize("classes", [1, 2])
def test_an_ensemble_is_the_mean_of_the_probabilities(classes):
    models = [model(seed, classes=tuple("ab"[:classes])) for seed in (1, 2)]
    members = [NetTeacher(each, pipeline(classes=tuple("ab"[:classes])), CPU, "f32") for each in models]
    images = torch.rand(2, 1, 16, 24)
    both = torch.stack([probabilities_of(member.predict(images)[0]) for member in members])
    assert (both[0] - both[1]).abs().max() > 0.01
    found = probabilities_of(Ensemble(members).predict(images)[0])
    torch.testing.assert_close(found, both.mean(0), rtol=0, atol=1e-4)


def test_a_foreign_forward_gets_its_own_size():
    """As an ONNX file, whose height and width are fixed: 20×20 with a stride of 8 is 24×24."""
    theirs = Pipeline((20, 20), normalization=LEARNED, multiple=8)
    seen = []

    def forward(batch):
        seen.append(batch.shape)
        return batch[:, :1] * 2

    student = pipeline(size=(20, 20))
    teacher = OnnxTeacher(NetPredictor(theirs, forward, "a.onnx"), student)
    images = torch.rand(3, 1, 20, 20)
    torch.testing.assert_close(teacher.predict(images)[0], 2 * images)
    assert seen == [(3, 1, 24, 24)]
    with pytest.raises(RecipeError, match="takes tiles of at most 24×24"):
        tiled = Pipeline((20, 20), normalization=LEARNED, multiple=8, fit="tile")
        OnnxTeacher(NetPredictor(tiled, forward, "a.onnx"), pipeline(size=(32, 20), fit="tile"))


def test_gradients_reach_the_student_only():
    teacher, learner = model(1), model(2)
    core = skeleton(in_channels=1, out_channels=1, **NET)
    hints = choose_hints(HintsSection(), core, core, (1, 16, 24), (1, 16, 24))
    asked = NetTeacher(teacher, pipeline(), CPU, "f32", [hint.teacher for hint in hints.each])
    teacher.net.requires_grad_(True)  # even then
    student = Student(learner.net, hints, 0, logits_learn=True)
    inputs = Inputs(torch.rand(2, 1, 16, 24), torch.zeros(2, 16, 24, dtype=torch.uint8), [0, 1])
    objective = DistillationObjective(asked, None, DistilSection(), hints)
    for labels in (LossSection(bce=1), None):
        logits, maps = student(inputs.images)
        loss, parts = objective.loss(logits, maps, inputs, labels)
        wanted = 0.5 * parts["soft"] + parts["hint"] + (0.5 * parts["bce"] if labels else 0)
        assert loss.item() == pytest.approx(float(wanted.detach()), rel=1e-6)
        loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in learner.net.parameters() if p.ndim > 1)
    assert all(p.grad is None for p in teacher.net.parameters())


# --- maps ---------------------------------------------------------------------------------------------------------


def case(name: str) -> Case:
    return Case(name, FileSource(None), ())


def store(folder, name: str, values: np.ndarray) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".npz"):
        np.savez(path, whatever=values)
    elif name.endswith(".npy"):
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)


P = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)


@pytest.mark.parametrize(
    ("name", "values", "near"),
    [
        ("a.png", np.rint(P * 255).astype(np.uint8), 1 / 255),
        ("deep/below/a.png", np.rint(P * 255).astype(np.uint8), 1 / 255),
        ("a_probability.png", np.rint(P * 65535).astype(np.uint16), 1e-5),
        ("a.npz", P, 1e-7),
        ("a.npz", P[:, :, None].astype(np.float16), 1e-3),
        ("a.npy", np.rint(P * 255).astype(np.uint8), 1 / 255),
    ],
)
def test_maps_of_one_class(tmp_path, name, values, near):
    store(tmp_path, name, values)
    folder = MapFolder(tmp_path, ("lesion",))
    np.testing.assert_allclose(folder.planes(case("a"), (6, 8))[0], P, atol=near)
    np.testing.assert_allclose(folder.planes(case("unlabelled/a"), (6, 8))[0], P, atol=near)
    assert folder.planes(case("a"), (12, 16)).shape == (1, 12, 16)
    folder.check([case("a")])


def test_maps_of_several_classes(tmp_path):
    store(tmp_path, "a.npz", np.stack([P / 2, P / 4], -1))
    for index, name in enumerate(("liver", "tumour")):
        store(tmp_path, f"b_probability_{name}.png", np.rint(P / (2 + 2 * index) * 65535).astype(np.uint16))
    folder = MapFolder(tmp_path, ("liver", "tumour"))
    for each in ("a", "b"):
        np.testing.assert_allclose(folder.planes(case(each), (6, 8)), np.stack([P / 2, P / 4]), atol=1e-5)
    with pytest.raises(DataError, match="has 2 maps for 1 class"):
        MapFolder(tmp_path, ("lesion",)).check([case("a")])


def test_the_whole_name_comes_before_the_last_part_of_it(tmp_path):
    store(tmp_path, "one/a.npy", P)
    store(tmp_path, "two/a.npy", P / 2)
    folder = MapFolder(tmp_path, ("lesion",))
    assert folder.planes(case("two/a"), (6, 8)).max() == pytest.approx(0.5)
    assert folder.planes(case("one/a"), (6, 8)).max() == pytest.approx(1)


def test_faults_of_maps_are_reported_together(tmp_path):
    store(tmp_path, "high.npy", P * 2)
    store(tmp_path, "flat.npy", P.ravel())
    np.savez(tmp_path / "two.npz", a=P, b=P)
    (tmp_path / "torn.npz").write_bytes(b"PK no")
    names = ("high", "flat", "two", "torn", "absent")
    with pytest.raises(DataError) as caught:
        MapFolder(tmp_path, ("lesion",)).check([case(name) for name in names])
    assert len(caught.value.problems) == 5
    assert "no probability map of 'absent' → add absent.png" in str(caught.value)
    with pytest.raises(DataError, match="is not a folder"):
        MapFolder(tmp_path / "none", ("lesion",))


def test_what_is_written_is_read_again(tmp_path):
    whole = np.stack([P, P[::-1]], -1)
    write_map(tmp_path, case("sub/a"), whole)
    folder = MapFolder(tmp_path, ("x", "y"))
    np.testing.assert_allclose(folder.planes(case("sub/a"), (6, 8)), np.moveaxis(whole, -1, 0), atol=1e-5)
    before = folder.digest([case("sub/a")])
    write_map(tmp_path, case("sub/a"), whole[::-1])
    assert folder.digest([case("sub/a")]) != before


@pytest.mark.parametrize("values", [np.full((8, 8), 255), np.full((8, 8), 255, np.int16), np.full((8, 8), np.nan)])
def test_maps_of_numbers_that_are_no_shares_are_refused(tmp_path, values):
    """As shares of 2⁶³ they would all teach that there is nothing."""
    np.save(tmp_path / "a.npy", values)
    case = Case("a", FileSource(tmp_path / "a.png"), ())
    with pytest.raises(DataError, match=r"a\.npy: holds .* no probabilities"):
        MapFolder(tmp_path, ("x",)).planes(case, (8, 8))


def test_no_case_learns_from_the_map_of_another(tmp_path):
    """A case without a map took that of a case in another folder, in silence."""
    for name, share in (("b/x", 0.25), ("deep/y", 0.5), ("flat", 0.75)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / f"{name}.npy", np.full((4, 4), share, np.float32))
    folder = MapFolder(tmp_path, ("lesion",))
    for name, share in (("b/x", 0.25), ("x", 0.25), ("y", 0.5), ("some/flat", 0.75)):
        assert folder.planes(case(name), (4, 4)).max() == share
    with pytest.raises(DataError, match="no probability map of 'a/x'"):
        folder.planes(case("a/x"), (4, 4))
    with pytest.raises(DataError, match=r"flat\.npy: would be the map of 'd/flat' and of 'c/flat'"):
        folder.check([case("c/flat"), case("d/flat")])
    np.save(tmp_path / "deep/x.npy", np.ones((4, 4), np.float32))
    with pytest.raises(DataError, match="no probability map of 'x'"):
        MapFolder(tmp_path, ("lesion",)).planes(case("x"), (4, 4))

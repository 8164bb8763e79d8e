import numpy as np
import pytest
import torch

from pocketseg.errors import ModelFileError, RecipeError
from pocketseg.pipeline import Normalization, Pipeline, Postprocess
from pocketseg.training.checkpoint import read_checkpoint, write_checkpoint
from pocketseg.training.model import Model, logit_count, torch_forward

NET = {"arch": "thin_unet", "width": 4, "blocks": 2}


def model(classes=("lesion",), *, seed=1, **fields) -> Model:
    normalization = Normalization("train-mean-std", None, (0.4,), (0.2,))
    pipeline = Pipeline((24, 20), classes=classes, normalization=normalization, **fields)
    made = Model.fresh(NET, pipeline, seed)
    with torch.no_grad():  # running statistics that matter
        made.net(torch.randn(4, 1, 24, 20, generator=torch.Generator().manual_seed(0)))
    return made


def image(shape=(33, 41), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_logits():
    assert [logit_count(classes) for classes in (1, 2, 3, 7)] == [1, 3, 4, 8]


def test_the_pipeline_learns_the_stride():
    made = model()
    assert made.pipeline.multiple == made.net.stride == 4


@pytest.mark.parametrize("fit", ["resize", "tile"])
@pytest.mark.parametrize("classes", [("lesion",), ("a", "b", "c")], ids=["one", "three"])
def test_saved_and_loaded_it_predicts_the_same(tmp_path, classes, fit):
    saved = model(classes, fit=fit, postprocess=Postprocess(threshold=0.3, min_pixels=4))
    saved.save(tmp_path / "best.safetensors", {"epoch": 3})
    loaded = Model.load(tmp_path / "best.safetensors")
    assert loaded.pipeline == saved.pipeline and loaded.net_options == NET
    found = loaded.predictor().predict(image())
    assert found.shape == (33, 41, len(classes)) and found.dtype == np.float32
    assert found.std() > 0 and found.min() >= 0 and found.max() <= 1
    assert np.array_equal(found, saved.predictor().predict(image()))
    assert np.array_equal(loaded.predictor().mask(image()), saved.predictor().mask(image()))
    assert not np.array_equal(found, model(classes, seed=2, fit=fit).predictor().predict(image()))


def test_facts_travel_along(tmp_path):
    model().save(tmp_path / "m", {"stage": "float", "epoch": 3, "score": 0.25})
    _, state = read_checkpoint(tmp_path / "m")
    assert state["kind"] == "model" and (state["stage"], state["epoch"], state["score"]) == ("float", 3, 0.25)


def test_equal_models_are_equal_bytes(tmp_path):
    for name in "ab":
        model().save(tmp_path / name, {})
    model(seed=2).save(tmp_path / "c", {})
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_a_training_state_is_no_model(tmp_path):
    write_checkpoint(tmp_path / "last.safetensors", {}, {"kind": "training"})
    with pytest.raises(ModelFileError, match="holds a training state, not a model → give best"):
        Model.load(tmp_path / "last.safetensors")


def test_a_broken_pipeline_is_named(tmp_path):
    made = model()
    made.save(tmp_path / "m", {})
    tensors, state = read_checkpoint(tmp_path / "m")
    state["pipeline"]["fit"] = "stretch"
    write_checkpoint(tmp_path / "m", tensors, state)
    with pytest.raises(ModelFileError, match="pipeline is not valid"):
        Model.load(tmp_path / "m")


def test_an_unknown_net_is_an_error():
    with pytest.raises(RecipeError, match="there is no net 'resnet'"):
        Model.fresh({"arch": "resnet"}, Pipeline((24, 24)), 0)


@pytest.mark.parametrize("training", [True, False])
def test_the_predictor_keeps_the_mode_and_the_statistics(training):
    made = model()
    made.net.train(training)
    before = {name: value.clone() for name, value in made.net.state_dict().items()}
    made.predictor().predict(image())
    assert made.net.training is training
    assert all(module.training is training for module in made.net.modules())
    assert all(torch.equal(value, before[name]) for name, value in made.net.state_dict().items())


def test_the_predictor_is_in_inference_mode_while_it_runs():
    made = model()
    made.net.train()
    seen = []
    made.net.register_forward_hook(lambda net, *_: seen.append((net.training, torch.is_inference_mode_enabled())))
    made.predictor().predict(image())
    assert seen == [(False, True)] and not torch.is_inference_mode_enabled()


def test_the_mode_comes_back_after_an_error():
    made = model()
    made.net.train()
    with pytest.raises(RuntimeError):
        torch_forward(made.net)(np.zeros((1, 5, 8, 8), np.float32))
    assert made.net.training


def test_the_predictor_is_the_net_in_evaluation():
    made = model()
    batch = np.random.default_rng(3).normal(size=(2, 1, 24, 20)).astype(np.float32)
    found = torch_forward(made.net)(batch)
    with torch.no_grad():
        expected = made.net.eval()(torch.from_numpy(batch)).numpy()
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_bf16_is_close_and_not_f32():
    made = model()
    batch = np.random.default_rng(3).normal(size=(2, 1, 24, 20)).astype(np.float32)
    exact, rough = torch_forward(made.net)(batch), torch_forward(made.net, precision="bf16")(batch)
    assert rough.dtype == np.float32
    difference = np.abs(exact - rough).max()
    assert 0 < difference < 0.1 * np.abs(exact).max()
    assert all(p.dtype == torch.float32 for p in made.net.parameters())


def test_a_model_still_trains_after_a_prediction():
    """Nothing that inference mode made may be left in the net."""
    made = model()
    for precision in ("f32", "bf16"):
        made.predictor(precision=precision).predict(image())
    with torch.autocast("cpu", torch.bfloat16):
        made.net(torch.randn(2, 1, 24, 20)).float().square().mean().backward()
    assert all(p.grad is not None for p in made.net.parameters())

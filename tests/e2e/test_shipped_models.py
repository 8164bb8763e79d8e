"""Models that ship with the package: listed with their cards, and known by name wherever a model is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pocketseg
from pocketseg.cli.verbs import app
from pocketseg.errors import ModelFileError, RecipeError
from pocketseg.runs import shipped
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.source import ModelSource

CARD = {
    "title": "bright ellipses in a phantom", "data": "made by `pocketseg phantom`", "license": "none needed",
    "split": "by patient", "scores": {"Dice": "0.5 (0.4 to 0.6)"}, "limits": ["nothing but phantoms"], "recipe": "demo",
}  # fmt: skip


@pytest.fixture
def ships(trained_run, tmp_path, monkeypatch):
    """A trained model in the folder, with weights to start from."""
    folder = tmp_path / "package"
    folder.mkdir()
    shutil.copy(trained_run / "fold-0/model.pseg", folder / "small-one.pseg")
    shutil.copy(RunFolder(trained_run).stage(0, "float").best, folder / "small-one.safetensors")
    (folder / "small-one.json").write_text(json.dumps(CARD))
    monkeypatch.setattr(shipped, "FOLDER", folder)
    monkeypatch.chdir(tmp_path)
    return folder


def said(*words) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def test_what_ships_is_small_and_has_a_card():
    for model in pocketseg.models():
        assert model.file.stat().st_size <= shipped.MAX_BYTES and shipped.NAME.fullmatch(model.name)
        pocketseg.load(model.name)
    stray = {path.suffix for path in shipped.FOLDER.iterdir()} - {".md", ".pseg", ".json", ".safetensors"}
    assert not stray


def test_where_none_ships_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    assert "no trained model ships with this version" in said("models") and json.loads(said("models", "--json")) == []
    with pytest.raises(ModelFileError, match="small-one: does not ship with this version → none does"):
        pocketseg.models(["small-one"])


def test_models_are_listed_and_shown(ships):
    assert "small-one" in said("models") and "0.5 (0.4 to 0.6)" in said("models")
    whole = said("models", "small-one")
    assert all(text in whole for text in ("nothing but phantoms", "by patient", "weights to start from: yes"))
    (card,) = json.loads(said("models", "--json"))
    assert {key: card[key] for key in CARD} == CARD and card["name"] == "small-one"
    with pytest.raises(ModelFileError, match="did you mean small-one"):
        pocketseg.models(["small-on"])


@pytest.mark.parametrize("damage", ["{", json.dumps({**CARD, "more": 1}), json.dumps({**CARD, "limits": []}), None])
def test_a_card_that_is_missing_or_wrong_is_an_error(ships, damage):
    place = ships / "small-one.json"
    place.unlink() if damage is None else place.write_text(damage)
    with pytest.raises(ModelFileError, match="is not the card of a model"):
        pocketseg.models()


def test_the_name_is_a_model_for_every_command(ships, trained_run, phantom_data, tmp_path):
    image = min((phantom_data / "images").iterdir())
    pocketseg.predict("small-one", [image], tmp_path / "by-name")
    pocketseg.predict(ships / "small-one.pseg", [image], tmp_path / "by-file")
    masks = [(tmp_path / folder / f"{image.stem}.png").read_bytes() for folder in ("by-name", "by-file")]
    assert masks[0] == masks[1]
    by_name, of_run = (pocketseg.evaluate(model, phantom_data, out=tmp_path / f"of-{number}").summaries[0].dice
                       for number, model in enumerate(("small-one", trained_run)))  # fmt: skip
    assert by_name == of_run
    assert "small-one" in said("inspect", "small-one") and "conv" in said("inspect", "small-one")
    assert pocketseg.verify("small-one")
    timed = pocketseg.benchmark(["small-one"], size=(32, 32), turns=1, turn_s=0.01)
    assert timed.models[0].file == str(ships / "small-one.pseg")


def test_what_lies_there_goes_before_the_name(ships, trained_run, tmp_path):
    """A run that is called as a model is that run."""
    shutil.copytree(trained_run, tmp_path / "small-one")
    assert ModelSource.resolve("small-one").run == RunFolder(Path("small-one"))
    shutil.rmtree(tmp_path / "small-one")
    assert ModelSource.resolve("small-one").path == ships / "small-one.pseg"


def test_what_is_made_of_it_lies_in_the_working_folder(ships, tmp_path):
    assert pocketseg.export("small-one", "c").file.resolve() == tmp_path / "small-one.c"
    assert not [path for path in ships.iterdir() if path.suffix == ".c"]


def test_the_file_to_start_from(ships):
    assert shipped.weights_file("small-one") == ships / "small-one.safetensors"
    assert shipped.weights_file("other.pth") == Path("other.pth")
    (ships / "small-one.safetensors").unlink()
    with pytest.raises(RecipeError, match="ships as a packed model alone"):
        shipped.weights_file("small-one")


@pytest.mark.slow("a training; what file it starts from is tested above")
def test_a_training_starts_from_it(ships, phantom_data, trained_run, tmp_path):
    recipe = trained_run / "recipe.yaml"
    start = ["stages.0.init={weights: small-one}", "stages.0.epochs=0"]
    again = pocketseg.train(recipe, phantom_data, tmp_path / "again", overrides=start, device="cpu", report=False)
    first = json.loads((trained_run / "fold-0/summary.json").read_text())
    assert json.loads((again.run / "fold-0/summary.json").read_text())[0]["dice"] == first[0]["dice"]

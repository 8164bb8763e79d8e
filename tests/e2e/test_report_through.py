"""Three models on one page: what stands on it, that a browser takes it, that no name of a person or place is in it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from browser import ARTIFACTS, open_page
from PIL import Image, PngImagePlugin

import pocketseg
from helpers.commands import SMALL, read_csv, read_json, run_cli
from helpers.volume_files import IDENTITY, NAME, write_nifti, write_series
from pocketseg.data.volumes import open_volume

# Planted wherever a name could come from; none may be seen in a report.
CANARIES = ("PATHCANARY", "FILECANARY", "FOLDERCANARY", "GROUPCANARY", "TEXTCANARY", "USERCANARY", "HOSTCANARY")
FORMATS = {"html": ".html", "markdown": ".md", "json": ".json", "csv": ""}
TINY = (*SMALL, "stages.0.epochs=1", "evaluate.metrics=[dice, hd95]", "data.group_csv=g.csv", "data.group_column=who")


def plant(phantom: Path, data: Path) -> Path:
    """The phantom in class folders, with a canary in every name and in the files' own text."""
    labels = ("FOLDERCANARY one", "benign")
    lines = ["case,who"]
    (data / labels[0]).mkdir(parents=True)
    (data / labels[1]).mkdir()
    for number, path in enumerate(sorted((phantom / "images").iterdir())):
        label = labels[number % 4 == 0]
        name = f"FILECANARY {number}"
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", "TEXTCANARY")
        with Image.open(path) as image:
            image.save(data / label / f"{name}.png", pnginfo=text)
        shutil.copy(phantom / "masks" / path.name, data / label / f"{name}_mask.png")
        lines.append(f"{name},GROUPCANARY {number // 2}")
    (data / "g.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return data


@pytest.fixture(scope="module")
def runs(phantom_data, tmp_path_factory):
    """Three runs on the same split, one of them of two stages, the second of which is quantized."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: "HOSTCANARY")
        for name in ("USER", "LOGNAME", "USERNAME"):
            patch.setenv(name, "USERCANARY")
        folder = tmp_path_factory.mktemp("PATHCANARY")
        data = plant(phantom_data, folder / "data")
        for width in (4, 8):
            out = folder / f"runs/width {width}"
            pocketseg.train(
                "demo", data, out, overrides=[*TINY, f"stages.0.net.width={width}"], device="cpu", report=False
            )
        stage = {"name": "int8", "net": {"arch": "thin_unet", "width": 8, "blocks": 3}, "init": {"stage": "float"},
                 "quant": {"scheme": "w8a8"}, "loss": {"bce": 1}, "epochs": 0}  # fmt: skip
        first = {"name": "float", "net": {"arch": "thin_unet", "width": 8, "blocks": 3}, "loss": {"bce": 1},
                 "epochs": 1, "precision": "f32"}  # fmt: skip
        settings = [text for text in TINY if not text.startswith("stages")]
        split = folder / "runs/width 4/split.json"
        recipe = {"stages": [first, stage]}
        pocketseg.train(
            recipe, data, folder / "runs/small", overrides=settings, split=split, device="cpu", report=False
        )
        yield [folder / "runs" / name for name in ("width 4", "width 8", "small")]


def texts(path: Path) -> str:
    """Everything in a report: the text, and the bytes of every picture in it."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    whole = "".join(file.read_text("utf-8") for file in files)
    pictures = [base64.b64decode(each) for each in re.findall(r"base64,([A-Za-z0-9+/=]+)", whole)]
    for each in pictures:
        with Image.open(BytesIO(each)) as image:
            image.load()
            assert not {key for key, value in image.info.items() if isinstance(value, str)}, image.info
    return whole + "".join(each.decode("latin-1") for each in pictures)


@pytest.mark.row("S25")
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("several", [False, True])
def test_no_name_of_a_person_or_place_is_in_any_form(runs, form, several, tmp_path):
    out = tmp_path / f"page{FORMATS[form]}"
    chosen = runs if several else runs[2:]
    found = texts(pocketseg.report(*chosen, out=out, form=form))
    for canary in (*CANARIES, str(runs[0].parent), str(Path.home()), "tmp/pytest"):
        assert canary not in found, canary
    assert "case-0" in found and "folder-1" in found, "there is something to hide"
    keys = read_csv(chosen[0] / "case-ids.csv")
    assert {"FILECANARY" in row["name"] for row in keys if row["kind"] == "case"} == {True}


def test_folders_are_named_where_the_author_says_so(runs, tmp_path):
    page = pocketseg.report(runs[0], out=tmp_path / "p.md", form="markdown", overrides=["card.folders=[benign]"])
    assert "| benign |" in page.read_text("utf-8") and "FOLDERCANARY" not in page.read_text("utf-8")
    assert "benign" not in pocketseg.report(runs[0], out=page, form="markdown").read_text("utf-8")


def test_a_page_without_pictures_has_none(runs, tmp_path):
    page = pocketseg.report(runs[0], out=tmp_path / "p.html", pictures=False).read_text("utf-8")
    assert 'id="examples"' not in page and 'class="stack"' not in page
    assert 'class="stack"' in pocketseg.report(runs[0], out=tmp_path / "p.html").read_text("utf-8")


@pytest.mark.slow("a training more; test_personal_data.py looks for them")
def test_dicom_tags_are_in_no_report(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(5):
        pixels = rng.integers(0, 200, (4, 24, 24)).astype(np.int16)
        folder = write_series(
            tmp_path / f"data/images/p{number}", pixels, series=str(number), PatientID=f"{IDENTITY}{number}"
        )
        mask = np.zeros((24, 24, 4), np.uint8)
        mask[6:16, 6:16] = 1
        write_nifti(tmp_path / f"data/masks/p{number}.nii.gz", mask, open_volume(folder).grid.affine)
    settings = (*SMALL, "stages.0.epochs=1", "split.test=0.3", "split.validation=0.3")
    pocketseg.train("thin-unet", tmp_path / "data", tmp_path / "run", overrides=settings, device="cpu", report=False)
    for form, suffix in FORMATS.items():
        found = texts(pocketseg.report(tmp_path / "run", out=tmp_path / f"page{suffix}", form=form))
        for canary in (NAME, NAME.split("^")[0], IDENTITY, str(tmp_path)):
            assert canary not in found


def test_a_comparison_stands_on_its_numbers(runs, tmp_path):
    page = read_json(pocketseg.report(*runs, out=tmp_path / "page.json", form="json"))
    sections = {section["key"]: section for section in page["sections"]}
    assert list(sections) == [
        "card", "results", "sizes", "examples", "behavior", "training", "data", "cases", "net", "reproduce",
    ]  # fmt: skip
    models = next(item for item in sections["results"]["items"] if item.get("title") == "Models")
    rows = [dict(zip(models["columns"], row, strict=True)) for row in models["rows"]]
    assert [row["model"] for row in rows] == ["width 4", "width 8", "small"]
    for run, row in zip(runs, rows, strict=True):
        summary = next(one for one in read_json(run / "fold-0/summary.json") if one["part"] == "test")
        assert row["Dice"] == summary["dice"] and row["HD95 [px]"] == summary["metrics"]["hd95"]["mean"]
        assert row["cases"] == summary["cases"] and row["misses"] == summary["misses"]
        assert row["ms"] > 0
    assert rows[0]["difference to width 4"] is None
    assert rows[1]["difference to width 4"] == pytest.approx(rows[1]["Dice"] - rows[0]["Dice"])
    packed = runs[2] / "fold-0/model.pseg"
    assert (rows[2]["KiB"], rows[2]["file"]) == (packed.stat().st_size / 1024, "packed model")
    assert rows[2]["precision"] == "w8a8"
    charts = [item["title"] for section in page["sections"] for item in section["items"] if item["kind"] == "chart"]
    wanted = {"Dice against size", "Dice against time", "Calibration", "Dice against threshold"}
    assert wanted <= set(charts), "the plots are there"
    (cases,) = sections["cases"]["items"]
    assert len(cases["rows"]) == rows[0]["cases"]
    (pictures,) = sections["examples"]["items"]
    assert len(pictures["pictures"]) % 3 == 0 and pictures["pictures"]


def test_the_stages_of_a_run_stand_beside_each_other(runs, tmp_path):
    page = read_json(pocketseg.report(runs[2], out=tmp_path / "page.json", form="json"))
    models = next(item for section in page["sections"] for item in section["items"] if item.get("title") == "Models")
    assert [row[0] for row in models["rows"]] == ["float", "int8"] and "difference to float" in models["columns"]
    only = pocketseg.report(runs[2] / "fold-0/float", out=tmp_path / "one.json", form="json")
    assert '"Model float"' in only.read_text("utf-8") and "difference to" not in only.read_text("utf-8")


@pytest.mark.slow("test_report_in_browser.py opens one")
def test_three_models_in_a_browser(runs, tmp_path, tool):
    """No console error, no request, nothing blank; the picture is kept."""
    browser = tool("chromium")
    began = time.process_time()
    page = pocketseg.report(*runs, out=tmp_path / "comparison.html")
    assert time.process_time() - began < 60
    ARTIFACTS.mkdir(exist_ok=True)
    picture = ARTIFACTS / "comparison.png"
    printed, requests = open_page(browser, page, tmp_path, picture)
    assert "CONSOLE" not in printed, printed
    assert not requests
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.shape == (2400, 1280) and pixels.std() > 10, "the page is blank"


@pytest.mark.slow("writes every form of the report by the command; each is written by Python above")
def test_command_line(runs, tmp_path):
    """One page for all, or one for each; a baseline by name; clear errors."""
    done = run_cli("report", *runs[:2], "--compare", "--compare-to", "width 8", "--format", "json")
    assert done.returncode == 0, done.stderr
    made = runs[0].parent / "comparison.json"
    assert done.stdout.strip() == str(made)
    assert '"difference to width 8"' in made.read_text("utf-8")
    made.unlink()
    done = run_cli("report", *runs[:2], "--format", "markdown", "--set", "card.intended_use=to be tested")
    assert done.stdout.split("\n")[:2] == [str(run / "report.md") for run in runs[:2]]
    assert "to be tested" in (runs[0] / "report.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--compare"], "has 1 run to compare"),
        (["--set", "seed=3"], "only sets its card"),
        (["--set", "card.use=x"], "card"),
        (["--compare-to", "nobody"], "not among the models"),
        (["--fold", "7"], "has one fold, 0, and no fold 7"),
    ],
)
def test_what_cannot_be_reported_is_reported(runs, arguments, said):
    done = run_cli("report", runs[0], *arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_damaged_scores_are_reported(runs, tmp_path):
    shutil.copytree(runs[0], tmp_path / "run")
    (tmp_path / "run/fold-0/cases-test.csv").write_text("case,group\nx,y\n")
    done = run_cli("report", tmp_path / "run")
    assert done.returncode == 2 and "cannot be read" in done.stderr
    assert json.loads((runs[0] / "manifest.json").read_text("utf-8"))

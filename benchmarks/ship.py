"""Puts the model of a fold of the leaderboard into the package, with its card: its figures are those of the line.

The test cases of that fold were in no training and no choice of it.

    python benchmarks/ship.py --out runs/leaderboard --json benchmarks/results/leaderboard.jsonl --sets nuclei
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaderboard import LINES, ROWS, SETS, Result
from tables import read_lines

from pocketseg.metrics import bootstrap_interval
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.shipped import CARD, FOLDER, PACKED, ModelCard

NO_DIAGNOSIS = "Not a medical device: no figure here says how it does on images of another scanner or hospital."


@dataclass(frozen=True)
class Shipped:
    """What nobody can read from a line of the leaderboard."""

    name: str
    title: str
    data: str
    license: str
    unit: str
    limits: tuple[str, ...]


MODELS = {
    "nuclei": Shipped(
        "nuclei", "cell nuclei in fluorescence and stained microscopy images",
        "670 images of the 2018 Data Science Bowl (Broad Bioimage Benchmark Collection, BBBC038), resized to "
        "96×96 pixels with their shape not kept, all nuclei of an image in one mask",
        "the images are in the public domain (CC0); the model is under the license of pocketseg", "image",
        (
            "Nuclei that touch are one object of the mask.",
            "Images are resized to 96×96 pixels: nuclei of a few pixels at that size are lost.",
            "Images of one slide may be in training and test: the set does not say which belong together.",
            NO_DIAGNOSIS,
        ),
    ),
    "hc18": Shipped(
        "fetal-head", "the fetal head in standard planes of obstetric ultrasound",
        "431 images of 353 examinations of the HC18 challenge (van den Heuvel et al., PLOS ONE 2018, "
        "doi:10.1371/journal.pone.0200412), outlines filled, resized to 256×256 pixels",
        "the article and the data's record are under CC BY 4.0: name them where you use the model, which is under the "
        "license of pocketseg",
        "examination",
        (
            "It has seen standard planes alone: in every image there was a head.",
            "Images of one hospital and few ultrasound machines.",
            NO_DIAGNOSIS,
        ),
    ),
    "busi": Shipped(
        "breast-lesion", "lesions in breast ultrasound",
        "670 images of the Breast Ultrasound Images data set (Al-Dhabyani et al., Data in Brief 2020, "
        "doi:10.1016/j.dib.2019.104863): benign, malignant and normal, resized to 256×256 pixels",
        "the article is under CC BY 4.0; the authors' page states no terms for the images, mirrors say CC0: ask before "
        "the images are passed on; the model is under the license of pocketseg",
        "cluster of near-duplicate images",
        (
            "Images of one hospital and two machines; the data do not name patients, near-duplicates stay together.",
            "Some masks of the data contradict each other.",
            NO_DIAGNOSIS,
        ),
    ),
}  # fmt: skip


def card(line: dict[str, Any], about: Shipped) -> ModelCard:
    result = Result([line])
    groups = result.column("group")
    low, high = bootstrap_interval(result.where_found("dice"), groups)
    dice = f"{result.mean('dice'):.3f} ({low:.3f} to {high:.3f})"
    scores = {"Dice, rules off": dice, "missed": f"{result.count('miss')} of {result.count('scored', 'miss')}"}
    if empty := result.count("false alarm", "true negative"):
        scores["false alarms"] = f"{result.count('false alarm')} of {empty}"
    if (objects := result.mean("lesion_f1")) is not None:
        scores["object F1"] = f"{objects:.3f}"
    settings = [*SETS[line["set"]].settings, *ROWS[line["row"]].settings]
    return ModelCard(
        title=about.title, data=about.data, license=about.license,
        split=f"{line['of']} folds by {about.unit}; this is fold {line['fold']}, whose {len(groups)} test images were "
        "in no training and no choice; intervals of 95 % over test images",
        scores=scores, limits=list(about.limits), recipe=" --set ".join([line["row"], *settings]),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/leaderboard"), help="where the leaderboard's runs lie")
    parser.add_argument("--json", type=Path, default=LINES)
    parser.add_argument("--sets", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--row", default="tiny-40k", choices=list(ROWS))
    parser.add_argument("--fold", type=int, default=0)
    asked = parser.parse_args()
    lines = {(line["set"], line["row"], line["fold"]): line for line in read_lines(asked.json)}
    for name in asked.sets:
        about, line = MODELS[name], lines[name, asked.row, asked.fold]
        shutil.copyfile(
            RunFolder(asked.out / name / asked.row).packed_file(asked.fold), FOLDER / f"{about.name}{PACKED}"
        )
        text = json.dumps(card(line, about).model_dump(), indent=1, ensure_ascii=False)
        (FOLDER / f"{about.name}{CARD}").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

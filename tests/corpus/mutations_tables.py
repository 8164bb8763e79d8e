"""Accidents with arrays, tables, annotations and descriptions."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mutations import Mutation, Place, State, operator, same, without

from pocketseg.data.readers import stem_of


@operator(12)
def array_changed(place: Place) -> Mutation | None:
    if place.kind != "npz":
        return None
    with np.load(place.root) as held:
        made = {name: held[name] for name in held.files}
    images, masks = made["images"], made["masks"]
    how = place.pick(
        "float images", "16 bits", "float masks", "bool masks", "255", "one 255", "one fewer", "turned masks",
        "names twice",
        "fewer names", "no groups", "other groups", "channels first", "fourth axis", "renamed", "nan", "objects",
        "negative",
        "packed", "color", "stray", "int64",
    )  # fmt: skip
    right: Callable[[State], State] | None = None
    told = False
    if how == "float images":
        made["images"] = images / np.float32(255)
        right, told = (lambda state: [replace(case, image=case.image / np.float32(255)) for case in state]), True
    elif how in ("16 bits", "int64"):
        kind = np.uint16 if how == "16 bits" else np.int64
        made["images"] = images.astype(kind)
        right, told = (lambda state: [replace(case, image=case.image.astype(kind)) for case in state]), True
    elif how == "float masks":
        made["masks"], right = masks.astype(np.float64), same
    elif how == "bool masks":
        made["masks"], right = masks.astype(bool), same
    elif how == "255":
        made["masks"], right = masks * 255, same
    elif how == "one 255":
        masks[3] *= 255
    elif how == "one fewer":
        made["masks"] = masks[1:]
    elif how == "turned masks":
        made["masks"] = masks.swapaxes(1, 2)
    elif how == "names twice":
        made["names"][1] = made["names"][0]
    elif how == "fewer names":
        made["names"] = made["names"][1:]
    elif how == "no groups":
        del made["groups"]
        right, told = (lambda state: [replace(case, group=case.name) for case in state]), True
    elif how == "other groups":
        made["groups"][0] = "g9"
        right = lambda state: [replace(case, group="g9") if case.name == "n0" else case for case in state]  # noqa: E731
    elif how == "channels first":
        made["images"] = np.stack([images] * 3, axis=1)
    elif how == "fourth axis":
        made["images"], made["masks"], right = images[..., None], masks[..., None], same
    elif how == "renamed":
        made["x"], made["y"] = made.pop("images"), made.pop("masks")
    elif how == "nan":
        made["images"] = images.astype(np.float32)
        made["images"][2, 3, 4] = np.nan
    elif how == "objects":
        made["groups"] = made["groups"].astype(object)
    elif how == "negative":
        made["masks"] = -masks.astype(np.int8)
    elif how == "packed":
        np.savez_compressed(place.root, **made)
        return Mutation(how, (place.root.name,), same)
    elif how == "color":
        made["images"], right = np.stack([images] * 3, axis=-1), same
    else:
        masks[2, 0, 0] = 9
    np.savez(place.root, **made)
    names = (place.root.name, "groups") if how == "no groups" else (place.root.name,)
    return Mutation(how, names, right, told)


# Tables and annotations.


@operator(8)
def groups_changed(place: Place) -> Mutation | None:
    path = place.folder / "groups.csv"
    if not path.exists():
        return None
    rows = list(csv.reader(path.open(encoding="utf-8")))
    row = int(place.random.integers(1, len(rows)))
    how = place.pick(
        "row gone", "row twice", "two groups", "header", "semicolons", "bom", "with endings", "stranger", "no group",
        "no header",
        "blank line", "table gone", "upper case", "spaces",
    )  # fmt: skip
    right: Callable[[State], State] | None = None
    told = False
    sign, before = ",", ""
    if how == "row gone":
        del rows[row]
    elif how == "row twice":
        rows.append(rows[row])
        right = same
    elif how == "two groups":
        rows.append([rows[row][0], "p77"])
    elif how == "header":
        rows[0] = ["case", "patient"]
    elif how == "semicolons":
        sign, right = ";", same
    elif how == "bom":
        before, right = "\ufeff", same
    elif how == "with endings":
        rows, right = [rows[0], *([f"{name}.png", group] for name, group in rows[1:])], same
    elif how == "stranger":
        rows.append(["scan99", "p1"])
        right = same
    elif how == "no group":
        rows[row][1] = ""
    elif how == "no header":
        del rows[0]
    elif how == "blank line":
        rows, right = [*rows[:row], [], *rows[row:]], same
    elif how == "upper case":
        rows[row][0] = rows[row][0].upper()
    elif how == "spaces":
        rows = [[f" {cell} " for cell in each] for each in rows]
    if how == "table gone":
        path.unlink()
        right, told = (lambda state: [replace(case, group=case.name) for case in state]), True
    else:
        path.write_text(before + "".join(sign.join(each) + "\n" for each in rows), encoding="utf-8")
    return Mutation(f"{how} in groups.csv", ("groups",), right, told)


@operator(10)
def paths_changed(place: Place) -> Mutation | None:
    path = place.folder / "cases.csv"
    if not path.exists():
        return None
    rows = list(csv.reader(path.open(encoding="utf-8")))
    row, other = (int(each) for each in place.random.choice(np.arange(1, len(rows)), 2, replace=False))
    how = place.pick(
        "row gone", "row twice", "path wrong", "exchanged", "part unknown", "no group", "semicolons", "bom", "header",
        "quotes",
        "backslashes", "cell more", "cell fewer", "absolute", "mask of another", "no part", "crlf", "upper case",
        "blank line",
    )  # fmt: skip
    right: Callable[[State], State] | None = None
    cells, sign, before, end = rows[row], ",", "", "\n"
    if how == "row gone":
        gone = rows.pop(row)
        right = without(place.folder / gone[0])
        # Image and mask lie there still, and no line names them.
        path.write_text("".join(",".join(each) + "\n" for each in rows))
        return Mutation(
            f"{gone} is gone from cases.csv", tuple(stem_of(Path(cell)) for cell in gone[:2]), right, told=True
        )
    if how == "row twice":
        rows.append(cells)
    elif how == "path wrong":
        column = place.pick(0, 1)
        cells[column] = cells[column].replace("0", "9")
    elif how == "exchanged":
        cells[0], cells[1] = cells[1], cells[0]
    elif how == "part unknown":
        cells[3] = "holdout"
    elif how == "no group":
        cells[2] = ""
    elif how == "semicolons":
        sign, right = ";", same
    elif how == "bom":
        before, right = "\ufeff", same
    elif how == "crlf":
        end, right = "\r\n", same
    elif how == "header":
        rows[0] = ["Image", " Mask ", "Patient ID", "Set"]
        right = same
    elif how == "quotes":
        rows, right = [rows[0], *([f'"{cell}"' for cell in each] for each in rows[1:])], same
    elif how == "backslashes":
        cells[0], right = cells[0].replace("/", "\\"), same
    elif how == "cell more":
        cells.append("checked")
        right = same
    elif how == "cell fewer":
        del cells[3]
    elif how == "absolute":
        cells[0], right = str(place.folder / cells[0]), same
    elif how == "mask of another":
        cells[1] = rows[other][1]
    elif how == "no part":
        rows = [each[:3] for each in rows]
        right = lambda state: [replace(case, part=None) for case in state]  # noqa: E731
    elif how == "upper case":
        cells[0] = cells[0].upper()
    else:
        rows, right = [*rows[:row], [], *rows[row:]], same
    names = ("cases.csv", *(stem_of(Path(cell)) for cell in (cells[0], cells[1])))
    path.write_text(before + "".join(sign.join(each) + end for each in rows), encoding="utf-8", newline="")
    return Mutation(f"{how} in line {row + 1} of cases.csv", names, right)


@operator(10)
def annotations_changed(place: Place) -> Mutation | None:
    path = place.folder / "annotations.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    number = int(place.random.integers(6))
    image, note = content["images"][number], content["annotations"][number]
    file = place.folder / "images" / image["file_name"]
    how = place.pick(
        "note gone", "note twice", "image gone", "name wrong", "category renamed", "category gone", "second category",
        "id as text", "size wrong", "folder in name", "empty shape", "out of the image", "image twice", "other image",
        "crowd",
        "turned", "text", "bom", "odd numbers", "extra keys", "case of name",
    )  # fmt: skip
    right: Callable[[State], State] | None = None
    told = False
    names: tuple[str, ...] = ("annotations.json", f"c{number}.png")
    if how == "note gone":
        content["annotations"].remove(note)
        right, told = with_mask_of(file, np.zeros_like), True
    elif how == "note twice":
        content["annotations"].append(note | {"id": 99})
        right = same
    elif how == "image gone":
        content["images"].remove(image)
    elif how == "name wrong":
        image["file_name"] = "nowhere.png"
        names = (*names, "nowhere")
    elif how == "category renamed":
        content["categories"][0]["name"] = "tumor"
        right = same
    elif how == "category gone":
        content["categories"] = []
    elif how == "second category":
        content["categories"].append({"id": 2, "name": "cyst"})
        note["category_id"] = 2
    elif how == "id as text":
        note["image_id"] = str(number)
        right = same
    elif how == "size wrong":
        image["height"] += 1
    elif how == "folder in name":
        image["file_name"] = f"/home/me/images/c{number}.png"
        right = same
    elif how == "empty shape":
        note["segmentation"] = []
    elif how == "out of the image":
        note["segmentation"] = [[cell + 20 for cell in note["segmentation"][0]]]
    elif how == "image twice":
        content["images"].append(image | {"id": 77})
    elif how == "other image":
        note["image_id"] = 55
    elif how == "crowd":
        note["iscrowd"] = 1
        right = same
    elif how == "turned":
        image["height"], image["width"] = image["width"], image["height"]
    elif how == "text":
        path.write_text(json.dumps(content)[:-20])
        return Mutation(how, names, None)
    elif how == "bom":
        path.write_text("\ufeff" + json.dumps(content), encoding="utf-8")
        return Mutation(how, names, same)
    elif how == "odd numbers":
        note["segmentation"][0][0] = place.pick("x", None, -5, [1])
    elif how == "extra keys":
        content["info"], note["score"], right = {"year": 2024}, 0.9, same
    else:
        image["file_name"] = f"C{number}.PNG"
        right = same
    path.write_text(json.dumps(content))
    return Mutation(f"{how} of {image['file_name']}", names, right, told)


def with_mask_of(image: Path, change: Callable[[Any], Any]) -> Callable[[State], State]:
    return lambda state: [replace(case, mask=change(case.mask)) if image in case.files else case for case in state]


@operator(3)
def description_changed(place: Place) -> Mutation | None:
    """The file that describes volumes: wrong, gone, of other channels."""
    path = place.folder / "dataset.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    how = place.pick("gone", "more channels", "damaged", "other names", "labels gone", "label values", "count", "list")
    right: Callable[[State], State] | None = same
    if how == "gone":
        path.unlink()
        return Mutation(how, (path.name,), same, refused=False)
    if how == "more channels":
        content["channel_names"]["2"], right = "T3", None
    elif how == "other names":
        content["channel_names"] = {"0": "CT", "1": "PET"}
    elif how == "labels gone":
        del content["labels"]
    elif how == "label values":
        content["labels"]["lesion"] = 2
    elif how == "count":
        content["numTraining"] = 7
    elif how == "list":
        content = [content]
        right = None
    path.write_text(json.dumps(content)[:-9] if how == "damaged" else json.dumps(content))
    return Mutation(f"{how} of dataset.json", (path.name,), None if how == "damaged" else right)

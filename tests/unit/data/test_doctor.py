"""The doctor: what it finds, what it does not, and what a repaired copy holds."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pocketseg.data import Cases
from pocketseg.data.doctor import pictures, references
from pocketseg.data.doctor.finding import CODES
from pocketseg.data.doctor.likeness import near_pairs, thumbnail
from pocketseg.data.doctor.sets import split_findings
from pocketseg.data.groups import joined
from pocketseg.errors import DataError
from pocketseg.flows.doctor import doctor
from pocketseg.pipeline import drawn as drawn_in
from pocketseg.recipes import load_recipe
from pocketseg.runs.opening import make_split


def smooth(seed: int, shape=(96, 120)):
    noise = np.random.default_rng(seed).integers(10, 140, (7, 9)).astype(np.uint8)
    return np.asarray(Image.fromarray(noise).resize(shape[::-1], Image.Resampling.BICUBIC))


def blob(seed: int, shape=(96, 120)):
    top, left = np.random.default_rng(seed).integers(4, 40, 2)
    mask = np.zeros(shape, np.uint8)
    mask[top : top + 30, left : left + 30] = 255
    return mask


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)


def good(root, count=8):
    for number in range(count):
        save(root / f"images/c{number}.png", smooth(number))
        save(root / f"masks/c{number}.png", blob(number))
    return root


def add(root, name, image, mask):
    save(root / f"images/{name}.png", image)
    save(root / f"masks/{name}.png", mask)


def codes(root, **options):
    return {finding.code for finding in doctor(root, **options).found.findings}


def test_a_good_set_has_no_error_and_only_known_warnings(tmp_path):
    done = doctor(good(tmp_path))
    assert done.healthy
    assert {finding.code for finding in done.found.findings} == {"ungrouped", "no-spacing"}
    assert done.counts() == {"error": 0, "warning": 1, "note": 1}
    assert doctor(tmp_path, overrides=["data.group_regex=.*"]).counts() == {"error": 0, "warning": 0, "note": 1}


def test_everything_is_reported_in_one_pass_the_worst_first(tmp_path):
    good(tmp_path)
    (tmp_path / "images/c1.png").write_bytes(b"")
    (tmp_path / "masks/c2.png").unlink()
    save(tmp_path / "masks/c3.png", smooth(3))
    add(tmp_path, "flat", np.full((96, 120), 9, np.uint8), np.zeros((96, 120), np.uint8))
    found = doctor(tmp_path).found
    assert [finding.code for finding in found.errors] == ["layout", "image", "mask"]
    levels = [finding.level for finding in found.findings]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert {"constant", "empty-masks"} <= {finding.code for finding in found.findings}
    assert found.readable == {f"c{number}" for number in (0, 4, 5, 6, 7)} | {"flat"}


def test_near_duplicates_of_every_kind_and_no_others(tmp_path):
    good(tmp_path)
    add(tmp_path, "brighter", (smooth(0) * 0.8 + 30).astype(np.uint8), blob(0))
    add(tmp_path, "mirrored", smooth(1)[:, ::-1], blob(1)[:, ::-1])
    add(tmp_path, "cropped", smooth(2)[2:-2, 2:-2], blob(2)[2:-2, 2:-2])
    done = doctor(tmp_path)
    assert done.found.clusters == [["brighter", "c0"], ["c1", "mirrored"], ["c2", "cropped"]] or sorted(
        map(sorted, done.found.clusters)
    ) == [["brighter", "c0"], ["c1", "mirrored"], ["c2", "cropped"]]
    assert not {"contradictory-mask", "contradictory-class"} & codes(tmp_path)
    groups = done.found.groups()
    assert groups["brighter"] == groups["c0"] != groups["c1"] == groups["mirrored"]


def test_one_picture_with_two_references(tmp_path):
    for label in ("benign", "malignant"):
        for number in range(6):
            name = f"{label}{number}"
            save(tmp_path / label / f"{name}.png", smooth(number + 50 * (label == "benign")))
            save(tmp_path / label / f"{name}_mask.png", blob(number))
    save(tmp_path / "benign/x.png", smooth(3))
    save(tmp_path / "benign/x_mask.png", blob(3)[::-1, ::-1])
    found = {finding.code: finding for finding in doctor(tmp_path).found.findings}
    assert "malignant and benign" in found["contradictory-class"].what
    assert "x.png" in found["contradictory-mask"].where


def test_every_pair_that_is_alike_is_found():
    random = np.random.default_rng(0)
    images = [smooth(number, (40, 40)) for number in range(300)]
    images += [np.clip(images[number] + random.normal(0, 6, (40, 40)), 0, 255).astype(np.uint8) for number in range(60)]
    small = [thumbnail(image) for image in images]
    whole = np.stack([each.small.ravel() for each in small]).astype(np.float32)
    wanted = {(a, b) for a, b in np.argwhere(np.triu(whole @ whole.T >= 0.951, 1)).tolist()}
    found = {(pair.first, pair.second) for pair in near_pairs(small) if not any(pair.flip)}
    assert wanted == found == {(number, 300 + number) for number in range(60)}


def fundus(seed: int, side: int = 160):
    """An image like those of other eyes, but for the vessels: a bright disk with a vignette, and the optic disc."""
    random = np.random.default_rng(seed)
    down, across = np.mgrid[:side, :side] / side - 0.5
    tilt, gain, left = random.normal(0, 20, 2), random.uniform(0.8, 1.2), random.choice([-1, 1])
    nerve = np.hypot(down - random.normal(0, 0.03), across - left * random.normal(0.15, 0.03))
    eye = gain * (120 - 130 * (down**2 + across**2)) + tilt[0] * down + tilt[1] * across
    eye += random.uniform(40, 80) * np.exp(-((nerve / 0.05) ** 2))
    picture = Image.fromarray(np.where(np.hypot(down, across) < 0.47, eye, 4).clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(8):
        steps = np.cumsum(random.normal(0, 0.25, 40)) + random.uniform(0, 2 * np.pi)
        path = side * (0.5 + left * 0.15) + 4 * np.cumsum(np.cos(steps)), side / 2 + 4 * np.cumsum(np.sin(steps))
        pen.line(list(zip(*path, strict=True)), fill=70, width=2)
    return np.clip(np.asarray(picture) + random.normal(0, 2, (side, side)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", [0, 1000, 2000])
def test_images_of_one_kind_are_not_near_duplicates(seed):
    eyes = [fundus(seed + number) for number in range(28)]
    small = [thumbnail(eye) for eye in eyes]
    flat = np.stack([each.small.ravel() for each in small]).astype(np.float32)
    assert (np.triu(flat @ flat.T, 1) >= 0.95).sum() >= 30  # what made them near-duplicates once
    assert near_pairs(small) == []
    copies = [eyes[0][1:, 1:], (eyes[1] * 0.8 + 20).astype(np.uint8), eyes[2][:, ::-1]]
    found = {(pair.first, pair.second) for pair in near_pairs([thumbnail(eye) for eye in (*eyes, *copies)])}
    assert found == {(0, 28), (1, 29), (2, 30)}


def test_a_film_of_one_scene_is_one_cluster():
    random = np.random.default_rng(0)
    scene = smooth(5, (160, 160)).astype(int) + fundus(5)
    film = [np.clip(scene + random.normal(0, 5, scene.shape), 0, 255).astype(np.uint8) for _ in range(20)]
    pairs = near_pairs([thumbnail(frame) for frame in film])
    assert len(joined(20, [(pair.first, pair.second) for pair in pairs])) == 1


def test_groups_that_the_user_gave_are_kept(tmp_path):
    root = good(tmp_path / "data")
    add(root, "c9", (smooth(0) * 0.8 + 30).astype(np.uint8), blob(0))
    done = doctor(root, overrides=["data.group_regex=c."], fix=tmp_path / "out")
    (finding,) = done.kinds()["near-duplicate"]
    assert set(finding.files) == {"c0", "c9"} and "`joined`" in finding.fix
    with (tmp_path / "out/groups.csv").open() as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert rows["c0"]["group"] == "c0" and rows["c9"]["group"] == "c9"
    assert rows["c0"]["joined"] == rows["c9"]["joined"] != rows["c1"]["joined"]
    table = ["data.group_csv=groups.csv", "data.group_column=joined"]
    assert "near-duplicate" not in codes(tmp_path / "out", overrides=table)


def test_blank_images_are_like_nothing():
    assert near_pairs([thumbnail(np.full((9, 9), value, np.uint8)) for value in (3, 3, 200)]) == []
    assert near_pairs([]) == []


def test_drawn_text_and_colored_marks():
    plain = smooth(4, (200, 240)) // 3
    drawn = Image.fromarray(plain)
    ImageDraw.Draw(drawn).text((10, 10), "LEFT BREAST 12:30 RADIAL", fill=255)
    assert pictures.suspicions(plain) == []
    assert pictures.suspicions(np.asarray(drawn)) == ["text"]
    assert not drawn_in.has_text(np.asarray(drawn)[:12, :12])
    color = np.stack([plain] * 3, axis=-1)
    assert pictures.suspicions(color) == []
    color[50:53, 60:80] = 250, 240, 0
    assert pictures.suspicions(color) == ["marks"]
    # A color picture is not a gray one with marks.
    assert pictures.suspicions(np.stack([smooth(seed) for seed in (1, 2, 3)], axis=-1)) == []


def speckle(seed: int, shape=(180, 200)):
    """Bright and dark grains with fine noise, as in ultrasound."""
    random = np.random.default_rng(seed)
    grains = np.asarray(Image.fromarray(random.integers(0, 110, (36, 40)).astype(np.uint8)).resize(shape[::-1]))
    return np.clip(grains + random.normal(20, 12, shape), 0, 255).astype(np.uint8)


def crossed(image, kind, arm, places, value=240):
    """An image with crosses or a dotted line at places (row, column)."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    for row, column in places:
        if kind == "dots":
            pen.point([(column + 5 * step, row + 2 * step) for step in range(10)], fill=value)
        else:
            slant = arm if kind == "×" else 0
            pen.line((column - arm, row - slant, column + arm, row + slant), fill=value)
            pen.line((column - slant, row + arm, column + slant, row - arm), fill=value)
    return np.asarray(picture)


@pytest.mark.parametrize("kind", ["+", "×", "dots"])
def test_calipers(kind):
    places, arms = ((60, 70), (120, 110)), (2, 3, 4, 5, 6, 7)
    found = [drawn_in.has_calipers(crossed(speckle(arm), kind, arm, places)) for arm in arms]
    assert sum(found) >= 5, found
    assert not [arm for arm in arms if drawn_in.has_calipers(speckle(arm))]
    # In a large image, which is reduced, they are as large as in its reduced form.
    large = crossed(speckle(9, (720, 800)), kind, 4, places).repeat(2, axis=0).repeat(2, axis=1)
    assert drawn_in.has_calipers(large)
    # Bright blobs, edges and crossing bands are no calipers.
    other = speckle(3)
    other[40:46, 30:36] = other[100:, 150] = other[140:150] = other[:, 60:70] = 230
    assert not drawn_in.has_calipers(other)


def test_what_is_drawn_is_found_up_to_the_smallest_image():
    for side in (1, 2, 5, 15, 16):
        image = np.full((side, 40), 255, np.uint8)
        image[::2, ::2] = 0
        assert not drawn_in.has_text(image) or side > 5
        drawn_in.has_calipers(image)


def test_saturated_images():
    bright = np.clip(smooth(4).astype(int) * 3, 0, 255).astype(np.uint8)
    assert (bright == 255).mean() > 0.1
    assert "saturated" in pictures.suspicions(bright)


def test_specks_and_borders():
    mask = np.zeros((100, 100), np.uint8)
    mask[20:60, 20:60] = 1
    assert references.suspicions(mask) == []
    mask[90, 90] = 1
    assert references.suspicions(mask) == ["specks"]
    frame = np.ones((100, 100), np.uint8)
    assert references.suspicions(frame) == []
    frame[40:60, 40:60] = 0
    assert references.suspicions(frame) == ["border"]


def test_small_classes_and_unusual_sizes(tmp_path):
    for label, count in (("benign", 24), ("rare", 2)):
        for number in range(count):
            save(tmp_path / label / f"{label}{number}.png", smooth(number + 100 * (label == "rare"), (24, 30)))
            save(tmp_path / label / f"{label}{number}_mask.png", blob(number, (24, 30))[:24, :30])
    save(tmp_path / "benign/benign0.png", smooth(0, (240, 300)))
    save(tmp_path / "benign/benign0_mask.png", blob(0, (240, 300)))
    found = {finding.code: finding for finding in doctor(tmp_path).found.findings}
    assert "benign 24, rare 2" in found["imbalance"].what
    assert found["size-outlier"].files[0].endswith("benign0.png")


# --- advice -------------------------------------------------------------------------------------------------


def of_two_spacings(root, shapes):
    """Images as HC18 has them, of pixel sizes from 0.1 mm on in equal steps."""
    rows = [("filename", "pixel size(mm)", "head circumference (mm)")]
    for number, shape in enumerate(shapes):
        save(root / f"training_set/{number:03}_HC.png", smooth(number, shape))
        save(root / f"training_set/{number:03}_HC_Annotation.png", blob(number, shape))
        rows.append((f"{number:03}_HC.png", 0.1 + 0.05 * number, 200))
    with (root / "training_set_pixel_size_and_HC.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def masks_of(root, values):
    for number in range(6):
        image, mask = smooth(number), (blob(number) // 255 * values[number % len(values)]).astype(np.uint8)
        add(root, f"c{number}", image, mask)


def gray_edges(root):
    for number in range(6):
        mask = Image.fromarray(blob(number)).resize((60, 48), Image.Resampling.BICUBIC).resize((120, 96))
        add(root, f"c{number}", smooth(number), mask)


def deep(root):
    for number in range(6):
        add(root, f"c{number}", Image.fromarray(smooth(number).astype(np.uint16) * 16), blob(number))


def classes_in_one(root):
    for number in range(6):
        mask = blob(number) // 255
        mask[:10, :10] = 2
        add(root, f"c{number}", smooth(number), mask)


def linked(root):
    good(root)
    (root / "images/c1.png").rename(root.parent / "outside.png")
    (root / "images/c1.png").symlink_to(root.parent / "outside.png")


@pytest.mark.parametrize(
    ("code", "build"),
    [
        ("mixed-spacing", lambda root: of_two_spacings(root, [(96, 120)] * 8)),
        ("mixed-spacing", lambda root: of_two_spacings(root, [(300, 400)] * 8)),
        ("mixed-coding", lambda root: masks_of(root, [255, 1])),
        ("odd-value", lambda root: masks_of(root, [7])),
        ("mask", gray_edges),
        ("mask", classes_in_one),
        ("few-bits", deep),
        ("link", linked),
        ("inverted", lambda root: [add(root, f"c{n}", smooth(n), 255 - blob(n) * (blob(n + 9) > 0)) for n in range(8)]),
        ("mostly-empty", lambda root: masks_of(root, [0, 0, 255])),
        ("constant", lambda root: add(good(root), "flat", np.full((96, 120), 9, np.uint8), blob(0))),
    ],
)
def test_advice_can_be_followed(tmp_path, code, build):
    """The first options that a finding names settle it, and a recipe with them loads and brings no new error."""
    build(tmp_path / "data")
    before = doctor(tmp_path / "data").kinds()
    alternatives = [
        re.findall(r"(?:--set |set )'?((?:data|stages)\.[a-z_.*]+=(?:\[[^\]]*\]|[^\s;,']+))", part)
        for part in re.split(r"; |, or ", before[code][0].fix)
    ]
    advice = next((options for options in alternatives if options), None)
    assert advice, before[code][0].fix
    load_recipe("thin-unet", advice)
    after = doctor(tmp_path / "data", overrides=advice)
    assert {finding.code for finding in after.found.errors} <= set(before) - {code}
    if code not in ("mostly-empty", "constant"):  # what is trained without stays in the data
        assert code not in after.kinds()


def test_images_that_cannot_come_to_the_grid_are_reported(tmp_path):
    of_two_spacings(tmp_path, [(96, 120)] * 8)
    padded = ["data.fit=pad", "data.size=[96,112]"]
    (finding, *others) = doctor(tmp_path, overrides=padded).kinds()["fit"]
    assert len(others) == 7 and "96×120 pixels, more than the 96×112" in finding.what
    assert finding.files[0].endswith("000_HC.png")
    coarse = doctor(tmp_path, overrides=[*padded, "data.spacing_mm=[0.2,0.2]"])
    assert len(coarse.kinds()["fit"]) == 6 and "letterbox" not in coarse.kinds()["fit"][0].fix
    assert "fit" not in doctor(tmp_path, overrides=["data.fit=tile", "data.spacing_mm=[0.2,0.2]"]).kinds()
    unknown = doctor(good(tmp_path / "plain"), overrides=["data.fit=tile", "data.spacing_mm=[0.2,0.2]"])
    assert len(unknown.kinds()["fit"]) == 8


# --- the repaired copy --------------------------------------------------------------------------------------


@pytest.fixture
def corrected(tmp_path):
    root = good(tmp_path / "data")
    exif = Image.Exif()
    exif[274] = 6
    save(root / "images/turned.png", Image.fromarray(smooth(20)), exif=exif)
    save(root / "masks/turned.png", blob(20))
    add(root, "transposed", smooth(21), blob(21).T)
    add(root, "again", smooth(0), blob(0))
    add(root, "ones", smooth(22), blob(22) // 255)
    add(root, "red", smooth(23), (blob(23)[..., None] // 255 * np.array([200, 0, 0])).astype(np.uint8))
    add(root, "broken", smooth(24), smooth(25))
    add(root, "nearly", (smooth(1) * 0.9).astype(np.uint8), blob(1))
    before = {path: path.read_bytes() for path in root.rglob("*.png")}
    done = doctor(root, fix=tmp_path / "out")
    assert before == {path: path.read_bytes() for path in root.rglob("*.png")}
    return done, tmp_path / "out"


def test_a_repaired_copy_has_no_errors_any_more(corrected):
    done, out = corrected
    assert {finding.code for finding in done.found.errors} == {"transposed", "mask", "mixed-coding"} | (
        {"split-duplicate"} & {finding.code for finding in done.found.errors}
    )
    again = doctor(out, overrides=["data.group_csv=groups.csv", "data.group_column=group"])
    assert again.healthy, again.found.errors
    assert len(again.found.cases) == done.repaired.cases == 13
    assert "split-leak" not in {finding.code for finding in again.found.findings}


def test_a_repaired_copy_holds_what_was_meant(corrected):
    done, out = corrected
    cases = Cases.open(out)
    for name, image, mask in (
        ("turned", smooth(20).T[:, ::-1], blob(20).T[:, ::-1]),
        ("transposed", smooth(21), blob(21)),
        ("ones", smooth(22), blob(22)),
        ("red", smooth(23), blob(23)),
    ):
        (case,) = cases.named([name])
        np.testing.assert_array_equal(cases.image(case), image)
        np.testing.assert_array_equal(case.masks[0].mask(gray=False), mask)
    assert {case.name for case in cases} == {*(f"c{number}" for number in range(1, 8)), "nearly", "turned"} | {
        "transposed", "again", "ones", "red",
    }  # fmt: skip
    left = dict(done.repaired.left_out)
    assert any("broken" in where for where in left)
    assert any("same image and mask" in what for what in left.values())
    with (out / "groups.csv").open() as file:
        groups = {row["case"]: row["group"] for row in csv.DictReader(file)}
    assert groups["nearly"] == groups["c1"] != groups["c2"]
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


def test_a_copy_never_goes_where_something_is(tmp_path):
    root = good(tmp_path / "data")
    for place in (root, root / "inside", tmp_path):
        with pytest.raises(DataError, match=r"already exists|in the data set"):
            doctor(root, fix=place)
    assert not (root / "inside").exists()


# --- the whole ----------------------------------------------------------------------------------------------


def test_json_is_one_object(tmp_path):
    good(tmp_path)
    add(tmp_path, "again", smooth(0), blob(0))
    content = json.loads(doctor(tmp_path).as_json())
    assert content["near_duplicates"] == [["again", "c0"]] == content["duplicates"]
    for problem in content["problems"]:
        assert set(problem) == {"code", "level", "files", "message", "why", "fix"}
        assert problem["why"] == CODES[problem["code"]][1]


def test_what_train_tells_is_what_costs_no_decoding(tmp_path):
    good(tmp_path)
    add(tmp_path, "again", smooth(0), blob(0))
    checked = Cases.open(tmp_path).check()
    assert checked.duplicates == (("again", "c0"),)
    assert any("the same in every pixel" in note for note in checked.notes)
    assert not any("near-duplicates" in note for note in checked.notes)


def test_rules_keep_equal_images_together_and_given_parts_are_reported(tmp_path):
    good(tmp_path / "data", 40)
    for number in range(0, 40, 2):
        add(tmp_path / "data", f"again{number}", smooth(number), blob(number))
    cases = Cases.open(tmp_path / "data")
    duplicates = cases.check().duplicates
    assert len(duplicates) == 20
    recipe = load_recipe("thin-unet")
    split = make_split(recipe.split, cases, duplicates)
    torn = make_split(recipe.split, cases, ())
    assert not list(split_findings(split, duplicates, (), "s"))
    assert {finding.code for finding in split_findings(torn, duplicates, (), "s")} == {"split-duplicate"}
    torn.write(tmp_path / "torn.json")
    assert doctor(tmp_path / "data").healthy
    assert {finding.code for finding in doctor(tmp_path / "data", split=tmp_path / "torn.json").found.errors} == {
        "split-duplicate"
    }


def test_too_few_different_images_are_reported_as_such(tmp_path):
    for number in range(8):
        add(tmp_path, f"c{number}", smooth(0), blob(number))
    with pytest.raises(DataError, match="8 images show 1 different pictures"):
        make_split(load_recipe("thin-unet").split, cases := Cases.open(tmp_path), cases.check().duplicates)


def test_every_code_is_documented_and_used():
    from pathlib import Path

    root = Path(__file__).parents[3]
    text = (root / "docs/doctor.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (root / "src/pocketseg/data").rglob("*.py"))
    sources += (root / "src/pocketseg/flows/doctor.py").read_text(encoding="utf-8")
    for code, (level, _) in CODES.items():
        assert f"| `{code}` | {level} | " in text
        assert sources.count(f'"{code}"') > 1, code


@pytest.mark.real_data
def test_near_duplicates_of_breast_ultrasound(real_data, tmp_path):
    """Pairs of the same cluster, against the table that came with the data (by another method)."""
    root = real_data / "busi_gray256"
    with (root / "near_duplicate_clusters.csv").open() as file:
        cluster = {row["case"]: row["cluster"] for row in csv.DictReader(file)}
    done = doctor(root)
    found = {(a, b) for names in done.found.clusters for a in names for b in names if a < b}
    wanted = {(a, b) for a in cluster for b in cluster if a < b and cluster[a] == cluster[b]}
    assert len(found & wanted) / len(wanted) >= 0.95
    assert len(found & wanted) / len(found) >= 0.95
    with (root / "contradictory_pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    kinds = done.kinds()
    assert len(kinds["contradictory-class"]) == sum(row["class_differs"] == "True" for row in rows)
    assert abs(len(kinds["contradictory-mask"]) - sum(float(row["mask_iou_256"]) < 0.7 for row in rows)) <= 1
    leaks = "split-leak"
    assert leaks in kinds
    own = ["data.group_csv=near_duplicate_clusters.csv", "data.group_column=cluster"]
    assert leaks not in doctor(root, overrides=own).kinds()


@pytest.mark.real_data
@pytest.mark.slow("reads four sets, of thousands of images")
def test_no_near_duplicates_among_images_of_one_kind(real_data):
    """What is found in other sets is one picture: a cell in two frames, and two examinations with two images."""
    for folder, options, pairs in (
        ("dsb2018_96", ["data.mask.threshold=128"], 1),
        ("isbi2012_membrane", [], 0),
        ("msd_hippocampus", ["data.classes=[anterior,posterior]"], 0),
        ("hc18_gray256", [], 2),
    ):
        clusters = doctor(real_data / folder, overrides=options).found.clusters
        assert [len(names) for names in clusters] == [2] * pairs, folder


@pytest.mark.parametrize("linked", [False, True])
def test_one_mask_for_two_images(tmp_path, linked):
    """By a table, or by a link beside the other masks."""
    good(tmp_path)
    used = 2
    if linked:
        (tmp_path / "masks/c3.png").unlink()
        (tmp_path / "masks/c3.png").symlink_to(tmp_path / "masks/c2.png")
        data = tmp_path
    else:
        rows = [f"images/c{n}.png,masks/c{used if n == 3 else n}.png" for n in range(8)]
        data = tmp_path / "cases.csv"
        data.write_text("\n".join(["image,mask", *rows]))
    [told] = [each for each in doctor(data).found.findings if each.code == "shared-mask"]
    assert told.what == "2 images have one mask, c2.png"
    assert [name.rpartition("/")[2] for name in told.files] == ["c2.png", "c3.png"]
    assert "2 images have one mask, c2.png" in "\n".join(Cases.open(data).check().notes)


def test_a_copied_mask_is_reported_between_groups_alone(tmp_path):
    good(tmp_path)
    save(tmp_path / "masks/c5.png", blob(4))
    for number in (6, 7):
        save(tmp_path / f"masks/c{number}.png", np.zeros((96, 120), np.uint8))
    [told] = [each for each in doctor(tmp_path).found.findings if each.code == "shared-mask"]
    assert told.what == "2 images have masks that are the same in every pixel"
    assert [name.rpartition("/")[2] for name in told.files] == ["c4.png", "c5.png"]
    (tmp_path / "groups.csv").write_text("case,group\n" + "\n".join(f"c{n},{min(n, 4)}" for n in range(8)))
    assert "shared-mask" not in codes(tmp_path)


def test_annotations_of_images_in_one_file_are_not_shared_masks(tmp_path):
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "lesion"}]}
    for number in range(4):
        save(tmp_path / f"{number}/scan.png", smooth(number))
        coco["images"].append({"id": number, "file_name": f"{number}/scan.png", "width": 120, "height": 96})
        box = [8 + number, 8, 40, 8, 40, 40 + number]
        coco["annotations"].append({"id": number, "image_id": number, "category_id": 1, "segmentation": [box]})
    (tmp_path / "annotations.json").write_text(json.dumps(coco))
    assert "shared-mask" not in codes(tmp_path)

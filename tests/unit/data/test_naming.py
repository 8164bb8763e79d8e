"""How masks are called after images: what is found, what is in doubt, and what is never guessed."""

from __future__ import annotations

import pytest

from pocketseg.data.layouts.naming import Naming, hint, match, match_folder


def paired(images, masks, *given):
    return dict(match(images, masks, [Naming.of(text) for text in given]).masks)


STEMS = ["p1", "p2", "p10"]
PATTERNS = [
    "{stem}_segmentation", "{stem}_gt", "{stem}-mask", "mask_{stem}", "GT-{stem}", "{stem}.jpg", "{stem}_lesion_seg",
    "seg_{stem}_final", "{stem}_manual1", "{stem} label",
]  # fmt: skip


@pytest.mark.whole
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("stems", [STEMS, ["ISIC_0000000", "ISIC_0000001"], ["0cdf5b5d0ce1_01", "1ae8a68a40e4_16"]])
def test_one_text_that_all_masks_share_is_found(pattern, stems):
    masks = [pattern.replace("{stem}", stem) for stem in stems]
    wanted = {stem: [mask] for stem, mask in zip(stems, masks, strict=True)}
    found = match(stems, masks)
    assert found.masks == wanted and not found.raters and found.rule == pattern
    images, apart, together = match_folder([*stems, *masks])
    assert images == set(stems) and apart == set(masks) and together.masks == wanted


@pytest.mark.whole
@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["1", "2"], ["11", "12"]),
        (["1", "2"], ["1_2", "2_2"]),
        (["patient1_01", "patient1_02"], ["patient2_01", "patient2_02"]),
        (["train_1", "train_2"], ["test_1", "test_2"]),
        (["a", "b"], ["ax", "bx"]),
        (["a", "b", "c"], ["a_x", "b_y", "c_z"]),
        (["a", "b"], ["c_mask", "d_mask"]),
    ],
)
def test_what_may_be_chance_does_not_pair(images, masks):
    assert not match(images, masks).masks
    assert not match_folder([*images, *masks])[2].masks or any("mask" in mask for mask in masks)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["image_1", "image_2"], ["mask_1", "mask_2"]),
        (["img01", "img02"], ["mask01", "mask02"]),
        (["21_training", "22_training"], ["21_manual1", "22_manual1"]),
        (["12_sat", "13_sat"], ["12_mask", "13_mask"]),
        (["Scan-a", "Scan-b"], ["a", "b"]),
    ],
)
def test_images_may_carry_a_word_too(images, masks):
    assert paired(images, masks) == {image: [mask] for image, mask in zip(images, masks, strict=True)}


def test_a_stem_goes_before_any_text():
    assert paired(["a", "b", "a_mask"], ["a", "a_mask"]) == {"a": ["a"], "a_mask": ["a_mask"]}


@pytest.mark.parametrize(("image", "mask"), [("IMG_1", "img_1"), ("caf\u00e9", "cafe\u0301"), ("Straße", "STRASSE")])
def test_names_that_are_one_on_some_systems(image, mask):
    assert paired([image, "b"], [mask, "b"]) == {image: [mask], "b": ["b"]}
    assert paired([image, mask], [mask]) == {mask: [mask]}, "two images, one mask: only the exact one"


@pytest.mark.whole
@pytest.mark.parametrize(
    "kinds", [("_1stHO", "_2ndHO"), ("_manual1", "_manual2"), ("_rater_1", "_rater_2", "_rater_3"), ("-obs", "-r")]
)
def test_raters(kinds):
    kinds = kinds if kinds != ("-obs", "-r") else ("-observerA", "-observerB")
    masks = [stem + kind for stem in STEMS for kind in kinds]
    for found in (match(STEMS, masks), match_folder([*STEMS, *masks])[2]):
        assert found.raters == tuple(kind.strip("_-") for kind in kinds)
        assert found.masks == {stem: [stem + kind for kind in kinds] for stem in STEMS}


@pytest.mark.parametrize("kinds", [("_mask", "_edge"), ("_liver", "_tumor", "_seg")])
def test_several_candidates_are_shown(kinds):
    masks = [stem + kind for stem in STEMS for kind in kinds]
    for found in (match(STEMS, masks), match_folder([*STEMS, *masks])[2]):
        assert not found.masks and found.doubt
        what, fix = found.doubt
        assert all(f"{{stem}}{kind}" in what and f"data.mask.suffix={kind}" in fix for kind in kinds)
    given = [Naming.of(kinds[0])]
    wanted = {stem: [stem + kinds[0]] for stem in STEMS}
    left = {stem + kind for stem in STEMS for kind in kinds[1:]}
    images, apart, found = match_folder([*STEMS, *masks], given)
    assert images == set(STEMS) and apart == {stem + kinds[0] for stem in STEMS}
    assert found.masks == wanted and found.beside == left
    assert match(STEMS, masks, given).masks == wanted and match(STEMS, masks, given).beside == left


def test_numbers_at_the_end_are_parts_of_a_mask():
    found = match_folder(["a", "a_gt", "a_gt_1", "b", "b_gt"])[2]
    assert found.masks == {"a": ["a_gt", "a_gt_1"], "b": ["b_gt"]} and not found.raters


@pytest.mark.parametrize("text", ["_seg2", "mask_{stem}", "x{stem}y", "1"])
def test_what_is_given_is_obeyed(text):
    naming = Naming.of(text)
    masks = [naming.before + stem + naming.after for stem in STEMS]
    assert paired(STEMS, [*masks, "lost"], text) == {stem: [mask] for stem, mask in zip(STEMS, masks, strict=True)}
    assert not paired(STEMS, STEMS, text), "the same stem is not what was given"


def test_the_closest_is_told():
    what, fix = hint([*STEMS, "q"], [f"{stem}_1" for stem in STEMS] + ["r_1"])
    assert what == "3 of 4 masks are the image's stem as {stem}_1" and fix == "--set data.mask.suffix=_1 pairs them"
    assert hint(["a"], ["x"]) == ("images are called like 'a', masks like 'x'", "")
    assert hint([], ["x"]) == ("", "")


@pytest.mark.parametrize("stems", [["a", "b", "c"], ["scan", "scan_left"], ["x", "x_1", "x_2"], []])
def test_a_folder_of_images_alone_has_no_masks(stems):
    images, masks, found = match_folder(stems)
    assert images == set(stems) and not masks and not found.masks and not found.doubt


def test_many_names_are_quick():
    stems = [f"{number:05d}-a1b2-c3d4" for number in range(20_000)]
    assert len(match(stems, [f"{stem}_segmentation" for stem in stems]).masks) == 20_000

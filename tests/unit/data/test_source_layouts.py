"""The layouts of the source projects, by name and by detection."""

from __future__ import annotations

import numpy as np
import pytest
from builders import blob, make_suffix_dataset, noise, write_image, write_pair

from helpers.volume_files import write_nifti, write_series
from pocketseg.data import Cases, Fold, Grouping, given
from pocketseg.data.split import given_text
from pocketseg.data.volumes import open_volume
from pocketseg.errors import DataError
from pocketseg.recipes.schema import SplitSection
from pocketseg.runs.opening import make_split


def found(root, layout: str, **options) -> Cases:
    """The data set as detected, which must be what its name gives."""
    cases = Cases.open(root, **options)
    assert cases.layout == layout
    assert [case.name for case in cases] == [case.name for case in Cases.open(root, layout, **options)]
    cases.check()
    return cases


def test_kaggle_nerve(tmp_path):
    for stem in ("1_1", "1_2", "2_1"):
        write_pair(tmp_path / f"{stem}.tif", tmp_path / f"{stem}_mask.tif")
    cases = found(tmp_path, "kaggle-nerve")
    assert [case.group for case in cases] == ["1", "1", "2"] and cases.grouped


def test_light_unet_keeps_its_parts(tmp_path):
    for part in ("train", "val", "test"):
        for stem in ("a", "b"):
            write_pair(tmp_path / part / "images" / f"{stem}.png", tmp_path / part / "mask" / f"{stem}.png")
    cases = found(tmp_path, "light-unet")
    fold = given(cases).folds[0]
    assert fold.train == ("train/a", "train/b") and fold.validation == ("validation/a", "validation/b")
    assert fold.test == ("test/a", "test/b")


@pytest.mark.parametrize(("layout", "image"), [("isbi-em", "data"), ("nih", "img")])
def test_png_parts_of_the_fixed_point_study(tmp_path, layout, image):
    for stem in ("1", "2", "10"):
        write_pair(tmp_path / image / f"{stem}.PNG", tmp_path / "mask" / f"{stem}.PNG")
    write_pair(tmp_path / "val_img/11.PNG", tmp_path / "val_mask/11.PNG")
    cases = found(tmp_path, layout)
    assert [(case.name, case.part) for case in cases] == [
        ("1", "train"), ("2", "train"), ("10", "train"), ("11", "validation"),
    ]  # fmt: skip
    assert given(cases).folds[0].test == ()


def test_dic_has_weights(tmp_path):
    make_suffix_dataset(tmp_path, ["7", "8"])
    weights = np.random.default_rng(0).random((6, 7))
    np.save(tmp_path / "7_weights.npy", weights)
    cases = found(tmp_path, "dic")
    np.testing.assert_allclose(cases.weights(cases[0]), weights)
    assert cases.weights(cases[1]) is None
    np.save(tmp_path / "8_weights.npy", np.zeros((3, 3)))
    with pytest.raises(DataError, match=r"8_weights\.npy: holds float64 of the shape \(3, 3\)"):
        Cases.open(tmp_path).check()


def test_hc18_fills_outlines_and_knows_pixel_sizes(tmp_path):
    ring = np.zeros((20, 20), np.uint8)
    ring[4:15, 4:15] = 255
    ring[5:14, 5:14] = 0
    for stem in ("000_HC", "000_2HC", "001_HC"):
        write_image(tmp_path / f"training_set/{stem}.png", noise(20, 20))
        write_image(tmp_path / f"training_set/{stem}_Annotation.png", ring)
    table = "filename,pixel size(mm),hc\n000_HC.png,0.1,44\n001_HC.png,0.2,50\n"
    (tmp_path / "training_set_pixel_size_and_HC.csv").write_text(table)
    cases = found(tmp_path / "training_set", "hc18")
    sizes = {case.name: (case.group, case.spacing_mm) for case in cases}
    assert sizes == {"000_HC": ("000", (0.1, 0.1)), "000_2HC": ("000", None), "001_HC": ("001", (0.2, 0.2))}
    assert cases.mask(cases[0]).sum() == 121
    ring[10, 4] = 0
    write_image(tmp_path / "training_set/000_HC_Annotation.png", ring)
    with pytest.raises(DataError, match="the outline is not closed"):
        Cases.open(tmp_path).check()


def test_dsb2018_unites_objects(tmp_path):
    for name in ("aa", "bb"):
        write_image(tmp_path / name / "images" / f"{name}.png", noise())
        for row in range(3):
            mask = np.zeros((6, 7), np.uint8)
            mask[2 * row, 1:3] = 255
            write_image(tmp_path / name / "masks" / f"{row}.png", mask)
    cases = found(tmp_path, "dsb2018")
    assert [cases.mask(case).sum() for case in cases] == [6, 6]


def volume(seed: int = 0):
    return np.random.default_rng(seed).normal(size=(4, 5, 3)).astype(np.float32)


def test_medical_decathlon(tmp_path):
    for name in ("a", "b"):
        write_nifti(tmp_path / f"imagesTr/{name}.nii.gz", volume())
        write_nifti(tmp_path / f"labelsTr/{name}.nii.gz", np.ones((4, 5, 3), np.uint8))
    cases = found(tmp_path, "medical-decathlon")
    assert [case.name for case in cases][:4] == ["a#000", "a#001", "a#002", "b#000"]
    assert {case.group for case in cases} == {"a", "b"} and cases[0].spacing_mm == (1, 1)


def test_channels_of_nnunet(tmp_path):
    for channel in (0, 1):
        write_nifti(tmp_path / f"imagesTr/a_{channel:04d}.nii.gz", volume(channel))
    write_nifti(tmp_path / "labelsTr/a.nii.gz", np.ones((4, 5, 3), np.uint8))
    cases = found(tmp_path, "medical-decathlon")
    image = cases.image(cases[0])
    assert image.shape == (5, 4, 2) and (image[..., 0] != image[..., 1]).any()
    assert cases[0].image.endings == ("_0000", "_0001") and cases.check().contrasts == {2}
    # A channel less would be taken twice.
    write_nifti(tmp_path / "imagesTr/b_0001.nii.gz", volume())
    write_nifti(tmp_path / "labelsTr/b.nii.gz", np.ones((4, 5, 3), np.uint8))
    with pytest.raises(DataError, match=r"has the files b_0001, others have NAME . _0000, _0001"):
        Cases.open(tmp_path)


def test_pancreas_ct(tmp_path):
    for number in ("0001", "0002"):
        folder = write_series(tmp_path / f"PANCREAS_{number}/study/series", volume().astype(np.int16), series=number)
        grid = open_volume(folder).grid
        write_nifti(tmp_path / f"labels/label{number}.nii.gz", np.ones(grid.shape, np.uint8), grid.affine)
    cases = found(tmp_path, "pancreas-ct")
    # Both have one patient identity, so they are one group; it has a file's name and not the identity.
    assert len(cases) == 8 and {case.group for case in cases} == {"PANCREAS_0001"}


def test_images_and_labels(tmp_path):
    write_nifti(tmp_path / "images/a.nii.gz", volume())
    write_nifti(tmp_path / "labels/a.nii", np.ones((4, 5, 3), np.uint8), np.diag([1, 1, 1.5, 1]))
    with pytest.raises(DataError, match=r"a\.nii: has voxels of 1, 1, 1.5 mm, its image of 1, 1, 1 mm"):
        Cases.open(tmp_path)
    write_nifti(tmp_path / "labels/a.nii", np.ones((4, 5, 3), np.uint8))
    assert len(found(tmp_path, "images-labels")) == 3


def test_a_picture_is_no_mask_of_a_volume(tmp_path):
    write_nifti(tmp_path / "images/a.nii.gz", volume())
    write_image(tmp_path / "masks/a.png", blob())
    with pytest.raises(DataError, match="is a picture, but"):
        Cases.open(tmp_path)


@pytest.mark.real_data
def test_real_hc18(real_data):
    cases = Cases.open(real_data / "hc18")
    assert cases.layout == "hc18" and len(cases) == 18
    assert len({case.group for case in cases}) == 15
    checked = cases.check()
    assert not checked.empty and all(case.spacing_mm for case in cases)
    assert min(cases.mask(case).mean() for case in cases) > 0.05


@pytest.mark.real_data
def test_real_hippocampus(real_data):
    from pocketseg.data import MaskCoding

    cases = Cases.open(real_data / "msd_hippocampus", coding=MaskCoding(classes=2))
    assert cases.layout == "images-labels" and len({case.group for case in cases}) == 80
    assert {int(value) for case in cases[:36] for value in np.unique(cases.mask(case))} == {0, 1, 2}


FORMS = {
    "inside": ("{part}/images/{name}.png", "{part}/masks/{name}.png"),
    "singular": ("{part}/image/{name}.png", "{part}/label/{name}.png"),
    "suffix": ("{part}/{name}.png", "{part}/{name}_mask.png"),
    "classes": ("{part}/benign/{name}.png", "{part}/benign/{name}_mask.png"),
    "outside": ("images/{part}/{name}.png", "labels/{part}/{name}.png"),
    "joined": ("{part}_img/{name}.png", "{part}_mask/{name}.png"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "testing")])
def test_parts_of_the_data_are_kept(tmp_path, form, names):
    for part, name in zip(names, "abc", strict=True):
        for number in range(2):
            image, mask = (text.format(part=part, name=f"{name}{number}") for text in FORMS[form])
            write_pair(tmp_path / image, tmp_path / mask)
    cases = found(tmp_path, "parts")
    split = make_split(SplitSection(), cases, [])
    assert split.folds[0] == Fold(("a0", "a1"), ("b0", "b1"), ("c0", "c1")) and split.rule == {"kind": "given"}
    assert "2 train, 2 validation, 2 test" in given_text(split) and "split.ignore_parts=true" in given_text(split)
    again = make_split(SplitSection(ignore_parts=True, test=0.3, validation=0.3), cases, [])
    assert again.rule["kind"] == "holdout" and set(again.groups) == set(split.groups)


def test_validation_is_taken_from_train_where_there_is_none(tmp_path):
    for part, count in (("train", 8), ("test", 2)):
        for number in range(count):
            write_pair(tmp_path / f"{part}/images/{part}{number}.png", tmp_path / f"{part}/masks/{part}{number}.png")
    split = make_split(SplitSection(validation=0.25), found(tmp_path, "parts"), [])
    fold = split.folds[0]
    assert fold.test == ("test0", "test1") and (len(fold.train), len(fold.validation)) == (6, 2)
    assert "validation is taken from train" in given_text(split)


def test_parts_that_tear_a_group_apart_are_refused_with_a_way_out(tmp_path):
    for part in ("train", "val", "test"):
        for number in range(4):
            name = f"p{number}_{part}.png"
            write_pair(tmp_path / part / "images" / name, tmp_path / part / "masks" / name)
    cases = Cases.open(tmp_path, grouping=Grouping(regex="^p(.)"))
    with pytest.raises(DataError, match="the group '0' lies in") as caught:
        make_split(SplitSection(), cases, [])
    assert "split.ignore_parts=true" in str(caught.value)
    assert make_split(SplitSection(ignore_parts=True, test=0.25, validation=0.25), cases, []).rule["kind"] == "holdout"


def test_a_train_folder_alone_is_no_split(tmp_path):
    write_pair(tmp_path / "train/images/a.png", tmp_path / "train/masks/a.png")
    assert [case.part for case in Cases.open(tmp_path)] == [None]


# --- usual names, patients, what nnU-Net says --------------------------------------------------------------


@pytest.mark.whole
@pytest.mark.parametrize(
    ("images", "masks"),
    [("imgs", "gt"), ("Img", "Ground Truth"), ("scans", "annotations"), ("input", "segmentations"),
     ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"), ("x_images", "x_labels")],
)  # fmt: skip
def test_folders_of_all_usual_names(tmp_path, images, masks):
    for number, stem in enumerate("abc"):
        write_pair(tmp_path / images / f"{stem}.jpg", tmp_path / masks / f"{stem}_seg.png", seed=number)
    assert [case.name for case in found(tmp_path, "folders")] == ["a", "b", "c"]


@pytest.mark.whole
@pytest.mark.parametrize("masks", ["labels", "gt", "ground_truth", "annotations", "seg"])
@pytest.mark.parametrize(
    "outer", ["{part}/imgs+{part}/{masks}", "images/{part}+{masks}/{part}", "{part}_img+{part}-{masks}"]
)
def test_parts_of_all_usual_names(tmp_path, outer, masks):
    images, drawn = outer.replace("{masks}", masks).split("+")
    for part in ("train", "test"):
        for number in range(2):
            stem = f"{part}{number}"
            write_pair(
                tmp_path / images.format(part=part) / f"{stem}.png",
                tmp_path / drawn.format(part=part) / f"mask_{stem}.png",
            )
    cases = found(tmp_path, "parts")
    assert [(case.name, case.part) for case in cases] == [
        (f"{part}{number}", part) for part in ("test", "train") for number in range(2)
    ]
    given = Cases.open(tmp_path, naming=["mask_{stem}"])
    assert [case.name for case in given] == [case.name for case in cases]


def test_parts_as_isic_publishes_them(tmp_path):
    for part, count in (("Training", 3), ("Validation", 2), ("Test", 1)):
        for number in range(count):
            stem = f"ISIC_{part}{number}"
            write_image(tmp_path / f"ISIC2018_Task1-2_{part}_Input/{stem}.jpg", noise())
            write_image(tmp_path / f"ISIC2018_Task1_{part}_GroundTruth/{stem}_segmentation.png", blob())
    parts = [case.part for case in found(tmp_path, "parts")]
    assert sorted(parts) == ["test"] + ["train"] * 3 + ["validation"] * 2


def test_images_of_a_part_without_masks_are_left_out(tmp_path):
    for stem in "ab":
        write_pair(tmp_path / f"train_images/{stem}.png", tmp_path / f"train_masks/{stem}.png")
        write_image(tmp_path / f"test_images/{stem}.png", noise())
    cases = found(tmp_path, "folders")
    assert len(cases) == 2 and [finding.code for finding in cases.said] == ["left-out"]


def test_a_suffix_where_names_are_not_looked_at_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 8, 8)), masks=np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(DataError, match="has no effect on the layout npz"):
        Cases.open(tmp_path / "a.npz", "npz", naming=["_mask"])


def test_two_folders_of_masks_are_for_the_user_to_choose(tmp_path):
    """As DRIVE has them: fields of view lie in mask, what was drawn in 1st_manual."""
    for number in (21, 22):
        stem = f"{number}_training"
        write_pair(tmp_path / f"images/{stem}.tif", tmp_path / f"mask/{stem}_mask.gif")
        write_image(tmp_path / f"1st_manual/{number}_manual1.gif", 255 - blob())
    with pytest.raises(DataError, match="several folders of masks: 1st_manual, mask"):
        Cases.open(tmp_path)
    cases = Cases.open(tmp_path, images="images", masks="1st_manual")
    assert [case.masks[0].path.name for case in cases] == ["21_manual1.gif", "22_manual1.gif"]


@pytest.mark.parametrize("inner", ["images/{}.png+masks/{}.png", "{}.png+{}_mask.png", "{}.jpg+{}.png"])
def test_a_folder_a_patient(tmp_path, inner):
    image, mask = inner.split("+")
    for patient in range(5):
        for stem in ("1", "2"):
            write_pair(
                tmp_path / f"P{patient:02d}" / image.format(stem), tmp_path / f"P{patient:02d}" / mask.format(stem)
            )
    cases = Cases.open(tmp_path)
    assert cases.layout == "patients" and cases.grouped
    assert [(case.name, case.group) for case in cases[:3]] == [("P00/1", "P00"), ("P00/2", "P00"), ("P01/1", "P01")]
    assert [finding.code for finding in cases.said] == ["patient-folders"]
    (tmp_path / "P07").mkdir()
    with pytest.raises(DataError, match="P07: holds no images with masks"):
        Cases.open(tmp_path)


def test_a_few_folders_of_masks_beside_images_are_classes(tmp_path):
    for name in ("grade1", "grade2", "grade3"):
        make_suffix_dataset(tmp_path / name, [f"{name}-a", f"{name}-b"])
    assert {case.label for case in found(tmp_path, "busi")} == {"grade1", "grade2", "grade3"}


@pytest.mark.whole
@pytest.mark.parametrize(
    "labels", ['{"background": 0, "front": 1, "back": 2}', '{"0": "background", "1": "front", "2": "back"}']
)
def test_dataset_json_names_classes_and_counts_channels(tmp_path, labels):
    mask = blob() // 255
    mask[5, 5] = 2
    for part in ("Tr", "Ts"):
        for name in ("a", "b"):
            for channel in ("0000", "0001"):
                write_image(tmp_path / f"images{part}/{part}{name}_{channel}.png", noise(seed=int(channel)))
            write_image(tmp_path / f"labels{part}/{part}{name}.png", mask)
    said = tmp_path / "dataset.json"
    said.write_text(f'{{"labels": {labels}, "channel_names": {{"0": "T1", "1": "T2"}}, "file_ending": ".png"}}')
    cases = Cases.open(tmp_path)
    assert [(case.name, case.part) for case in cases] == [
        ("Tra", "train"), ("Trb", "train"), ("Tsa", "test"), ("Tsb", "test")
    ]  # fmt: skip
    assert cases.image(cases[0]).shape == (6, 7, 2)
    with pytest.raises(DataError, match=r"'data.classes=\[front,back\]'"):
        cases.check()
    said.write_text(f'{{"labels": {labels}, "modality": {{"0": "T1", "1": "T2", "2": "FLAIR"}}}}')
    with pytest.raises(DataError, match="names 3 channels, and images have 2 files each"):
        Cases.open(tmp_path)
    said.write_text("[1, 2]")
    with pytest.raises(DataError, match="json: is not a description"):
        Cases.open(tmp_path)


def test_weights_in_a_folder_of_their_own(tmp_path):
    """The second form of the cells' training: image, mask and weights of one stem in three folders."""
    for name in ("a", "b"):
        write_pair(tmp_path / f"images/{name}.tif", tmp_path / f"masks/{name}.tif")
    (tmp_path / "weights").mkdir()
    np.save(tmp_path / "weights/a.npy", np.full((6, 7), 2.5, np.float32))
    cases = Cases.open(tmp_path)
    assert cases.layout == "folders" and [case.weights is not None for case in cases] == [True, False]
    np.testing.assert_array_equal(cases.weights(cases[0]), np.full((6, 7), 2.5))
    given = Cases.open(tmp_path, images="images", masks="masks")
    assert given[0].weights == tmp_path / "weights/a.npy"

"""What a file says of a person stays in it: nothing of it is reported, logged, or written elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin
from places import here

from helpers.commands import overrides

CANARIES = [f"CANARY{number:02}" for number in range(12)]


def plant(phantom: Path, data: Path) -> Path:
    """The phantom with a canary in every field of text: PNG, TIFF and JPEG with EXIF and GPS, NIfTI beside them."""
    (data / "images").mkdir(parents=True)
    (data / "masks").mkdir()
    for number, path in enumerate(sorted((phantom / "images").iterdir())):
        with Image.open(path) as image, Image.open(phantom / "masks" / path.name) as mask:
            mask.save(data / "masks" / path.name)
            save(image.convert("L"), data / "images" / path.stem, number % 3)
    return data


def save(image: Image.Image, stem: Path, kind: int) -> None:
    exif = Image.Exif()
    exif[315], exif[270], exif[33432] = CANARIES[0], CANARIES[1], CANARIES[2]  # artist, description, copyright
    exif.get_ifd(34853)[29] = CANARIES[3]  # date of the GPS
    if kind == 0:
        text = PngImagePlugin.PngInfo()
        text.add_text("Author", CANARIES[4])
        text.add_text("Comment", CANARIES[5], zip=True)
        text.add_itxt("Title", CANARIES[6])
        image.save(f"{stem}.png", pnginfo=text, exif=exif)
    elif kind == 1:
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[270], tags[305], tags[316] = CANARIES[7], CANARIES[8], CANARIES[9]
        image.save(f"{stem}.tif", tiffinfo=tags)
    else:
        image.save(f"{stem}.jpg", exif=exif, comment=CANARIES[10].encode(), quality=95)


@pytest.mark.row("S25", "S26")
def test_nothing_of_a_person_leaves_the_file(phantom_data, tmp_path, monkeypatch):
    import nibabel

    monkeypatch.setenv("POCKETSEG_DEBUG", "1")
    data, out = plant(phantom_data, tmp_path / "data"), tmp_path / "out"
    held = b"".join(path.read_bytes() for path in data.rglob("*.*"))
    assert sum(canary.encode() in held for canary in CANARIES) == 10, "all but the compressed one can be seen"
    volume = nibabel.Nifti1Image(np.zeros((48, 48, 3), np.uint8), np.eye(4))
    volume.header["descrip"], volume.header["aux_file"] = CANARIES[11].encode(), CANARIES[11].encode()
    nibabel.save(volume, tmp_path / "volume.nii.gz")
    (tmp_path / "torn.png").write_bytes(next((data / "images").glob("*.png")).read_bytes()[:-200])
    run = out / "run"
    small = overrides("stages.0.epochs=1", "evaluate.metrics=[dice]", "data.group_csv=null", "data.group_column=null")
    said = [
        here("doctor", data),
        here("doctor", data, "--json", "--fix", tmp_path / "fixed"),  # copies of images are images still
        here("train", "demo", "--data", data, "--out", run, "--device", "cpu", *small),
        here("predict", run, data / "images", tmp_path / "volume.nii.gz", "--out", out / "masks", "--overlay"),
        here("predict", run, tmp_path / "torn.png", "--out", out / "torn"),
        here("evaluate", run, data, "--out", out / "scores"),
        here("export", run, "--out", out / "model.onnx"),
        here("inspect", run, "--out", out / "drawn"),
        here("data", "convert", "auto", data, out / "converted"),
    ]  # fmt: skip
    assert [code for code, _ in said[2:4] + said[5:]] == [0] * 6 and said[4][0] == 2, said
    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) > 100
    for canary in CANARIES:
        assert not [text for _, text in said if canary in text]
        assert not [path for path in written if canary.encode() in path.read_bytes()], canary
    for path in out.rglob("*.png"):
        with Image.open(path) as image:
            assert not image.getexif() and not set(image.info) - {"dpi", "transparency", "Software"}, (path, image.info)

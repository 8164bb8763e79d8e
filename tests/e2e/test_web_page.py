"""`pocketseg web` in a real browser: masks of `pocketseg predict`, no request, bad files survived."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import struct
import threading
import zipfile
import zlib
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import nibabel
import numpy as np
import pydicom
import pytest
from browser import ARTIFACTS
from PIL import Image
from places import here

import pocketseg
from helpers.chromium import Browser, chromium
from helpers.javascript import engine_file
from helpers.packed_models import changed
from helpers.random_pipelines import small_net
from helpers.volume_files import dicom_image, save_dicom, write_nifti, write_series
from pocketseg.flows.web import SOURCES, rendered
from pocketseg.pipeline import Normalization, Pipeline, Postprocess

READY = "document.querySelector('#card')?.children.length > 0"
SEGMENTED = "!document.querySelector('#save-mask').disabled && !document.querySelector('#state').innerText"
TOLD = "!document.querySelector('#problem').hidden && document.querySelector('#problem').innerText"
PIPELINE = Pipeline(
    size=(48, 64), multiple=8, classes=("lesion",), fit="letterbox", normalization=Normalization("z-score"),
    postprocess=Postprocess(min_pixels=5, fill_holes=True),
)  # fmt: skip
SMALL = 400 * 1024


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("page") / "model.pseg"
    file.write_bytes(changed(small_net(1, 1), card={"pipeline": PIPELINE.to_dict(), "description": "<b>a net</b>"}))
    return file


@pytest.fixture(scope="module")
def page(model) -> Path:
    engine_file()
    out = model.parent / "page.html"
    code, said = here("web", model, "--out", out)
    assert code == 0, said
    return out


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("missing tool: chromium (scripts/system-packages installs it)")
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with chromium(program, tmp_path_factory.mktemp("chromium"), *camera) as opened:
        yield opened


@pytest.fixture
def browser(started, page):
    """The page, opened anew; it complains of nothing, and asks for nothing."""
    started.open(page)
    started.wait(READY)
    yield started
    assert not started.console, started.console
    assert all(url.startswith(("file:", "blob:", "data:")) for url in started.requests), started.requests


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(8)
    soft = np.kron(random.random((9, 7)), np.ones((10, 13)))
    gray, color = (255 * soft).astype(np.uint8), (255 * np.stack([soft, soft[::-1], soft * 0.5], -1)).astype(np.uint8)
    Image.fromarray(gray).save(folder / "gray.png")
    Image.fromarray((40_000 * soft).astype(np.uint16)).save(folder / "sixteen.png")
    Image.fromarray((50_000 * soft).astype(np.uint16)).save(folder / "stored.tif", compression="tiff_lzw")
    Image.fromarray(color).save(folder / "color.png")
    Image.fromarray(gray).convert("P").save(folder / "palette.png")
    Image.fromarray(gray > 128).save(folder / "bits.png")
    Image.fromarray(gray).save(folder / "photo.jpg", quality=90)
    Image.fromarray(color).save(folder / "photo-in-color.jpg", quality=90, subsampling=0)
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(gray).save(folder / "turned.jpg", exif=turned)
    return folder


def given(browser: Browser, *files: Path) -> None:
    browser.give("#files", *files)
    browser.wait(f"document.querySelector('#canvas').ariaLabel.includes({files[0].name!r}) && {SEGMENTED}")


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


@pytest.mark.row("N21")
def test_masks_are_those_of_predict(browser, model, pictures, tmp_path):
    pocketseg.predict(model, [pictures], tmp_path / "masks")
    for file in sorted(pictures.iterdir()):
        given(browser, file)
        mask = pixels(browser.download("#save-mask", tmp_path, f"{file.stem}.png"))
        wanted = pixels(tmp_path / "masks" / f"{file.stem}.png")
        assert np.array_equal(mask, wanted) and 0 < mask.mean() < 255, file.name
        (tmp_path / f"{file.stem}.png").unlink()


def test_measures_reference_and_table(browser, pictures, tmp_path):
    given(browser, pictures / "gray.png")
    browser.value("for (const at of document.querySelectorAll('.spacing input')) { at.value = 0.5; at.onchange(); }")
    mask = pixels(browser.download("#save-mask", tmp_path, "gray.png"))
    area = int((mask > 0).sum())
    browser.wait("document.querySelector('#found').innerText.includes('mm²')")
    assert f"{area:,} px" in browser.text("#found")
    browser.give("#reference-file", tmp_path / "gray.png")
    browser.wait("document.querySelector('#found').innerText.includes('1.0000')")
    rows = list(csv.DictReader(browser.download("#save-table", tmp_path, "pocketseg.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == ["lesion"] and int(rows[0]["area_px"]) == area
    assert float(rows[0]["area_mm2"]) == area / 4 and float(rows[0]["dice"]) == 1
    Image.fromarray(mask[:-1]).save(tmp_path / "other.png")
    browser.give("#reference-file", tmp_path / "other.png")
    assert "the mask has 91×89 pixels, its picture 91×90" in browser.wait(TOLD)
    Image.fromarray(mask).save(tmp_path / "mask.tif")
    browser.give("#reference-file", tmp_path / "mask.tif")
    assert "read from PNG alone" in browser.wait(f"({TOLD} || '').includes('mask.tif') && {TOLD}")


@pytest.mark.row("C01", "C02", "C03")
def test_bad_files_are_named_and_the_page_lives_on(browser, pictures, tmp_path, model):
    whole = (pictures / "gray.png").read_bytes()
    bad = {
        "cut.png": (whole[: len(whole) // 2], "damaged or cut off"),
        "empty.png": (b"", "empty"),
        "renamed.png": (b"hello, world", "no PNG, JPEG, TIFF, DICOM or NIfTI"),
        "cut.jpg": (b"\xff\xd8\xff\xe0" + bytes(40), "JPEG"),
        "scan.dcm": (bytes(128) + b"DICM" + bytes(90), "names no SOP class"),
        "renamed.dcm": (whole, "damaged or cut off"),
        "scan.nii.gz": (b"\x1f\x8b" + bytes(90), "damaged or cut off"),
        "huge.png": (whole[:16] + struct.pack(">II", 13_000, 13_000) + whole[24:29]
                     + struct.pack(">I", zlib.crc32(whole[12:16] + struct.pack(">II", 13_000, 13_000) + whole[24:29]))
                     + whole[33:], "above the limit of 144,000,000 pixels"),
        "scan.tif": (b"II*\0" + bytes(90), "damaged"),
        "other.pseg": (b"hello", "not a packed model"),
        "altered.pseg": (model.read_bytes()[:-1] + b"\0\0", "truncated"),
        "newer.pseg": (model.read_bytes()[:8] + b"\x09" + model.read_bytes()[9:], "version"),
    }  # fmt: skip
    for name, (content, words) in bad.items():
        (tmp_path / name).write_bytes(content)
        browser.give("#files", tmp_path / name)
        told = browser.wait(TOLD)
        assert told.startswith(f"{name}: ") and words in told, told
        given(browser, pictures / "gray.png")
        assert not browser.value(TOLD)


def test_another_model_can_be_dropped(browser, model, pictures, tmp_path):
    other = Pipeline(size=(32, 32), classes=("a", "b"), fit="tile", multiple=8)
    (tmp_path / "other.pseg").write_bytes(changed(small_net(1, 2), card={"pipeline": other.to_dict()}))
    given(browser, pictures / "gray.png")
    browser.give("#files", tmp_path / "other.pseg")
    browser.wait(f"document.querySelector('#name').innerText === 'a, b' && {SEGMENTED}")
    pocketseg.predict(tmp_path / "other.pseg", [pictures / "gray.png"], tmp_path / "masks")
    mask = pixels(browser.download("#save-mask", tmp_path, "gray.png"))
    assert np.array_equal(mask, pixels(tmp_path / "masks/gray.png")) and mask.max() == 2
    # While a picture is at work, too: its mask is that of the model that is there at the end.
    browser.give("#files", pictures / "sixteen.png")
    browser.give("#files", model)
    browser.wait(f"document.querySelector('#name').innerText === 'lesion' && {SEGMENTED}")
    browser.wait("document.querySelector('#canvas').ariaLabel.includes('sixteen.png')")
    pocketseg.predict(model, [pictures / "sixteen.png"], tmp_path / "again")
    mask = pixels(browser.download("#save-mask", tmp_path, "sixteen.png"))
    assert np.array_equal(mask, pixels(tmp_path / "again/sixteen.png"))


def test_a_page_whose_model_cannot_be_opened_waits_for_another(started, model, pictures, tmp_path):
    """Pictures are told of it, once, and segmented when there is one."""
    (tmp_path / "page.html").write_text(
        rendered(b"hello", "hello.pseg", "nothing", engine_file().read_bytes(), {"scores": [], "facts": []})
    )
    started.open(tmp_path / "page.html")
    assert "not a packed model" in started.wait(TOLD)
    started.value("""
        window.reads = 0;
        const read = Blob.prototype.arrayBuffer;
        Blob.prototype.arrayBuffer = function () { ++window.reads; return read.call(this); };
    """)
    started.give("#files", pictures / "gray.png")
    assert "there is no model" in started.wait(f"({TOLD} || '').includes('gray.png') && {TOLD}")
    started.wait("new Promise((done) => setTimeout(done, 300, true))")
    assert started.value("window.reads") == 1
    started.give("#files", model)
    started.wait(SEGMENTED)


def test_a_model_and_pictures_can_be_dropped_together(browser, pictures, tmp_path):
    other = Pipeline(size=(32, 32), classes=("a", "b"), fit="tile", multiple=8)
    (tmp_path / "other.pseg").write_bytes(changed(small_net(1, 2), card={"pipeline": other.to_dict()}))
    browser.give("#files", pictures / "gray.png", tmp_path / "other.pseg")
    browser.wait(f"document.querySelector('#canvas').ariaLabel.includes('gray.png') && {SEGMENTED}")
    assert browser.text("#name") == "a, b"


def test_what_was_begun_on_one_picture_does_not_come_to_the_next(browser, pictures, tmp_path):
    """A mask keeps its name, and a reference its picture, where another one of the same size is shown meanwhile."""
    given(browser, pictures / "gray.png", pictures / "color.png")
    browser.wait(f"!document.querySelector('#save-table').disabled && {SEGMENTED}")
    to = "document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Arrow%s', bubbles: true }))"
    shown = f"document.querySelector('#canvas').ariaLabel.includes('%s') && {SEGMENTED}"
    away = f"addEventListener(%r, () => {to % 'Right'}, {{ once: true }})"
    browser.value(f"document.querySelector('#save-mask').{away % 'click'}")
    mask = pixels(browser.download("#save-mask", tmp_path, "gray.png"))
    browser.wait(shown % "color.png")
    browser.value(to % "Left")
    browser.wait(shown % "gray.png")
    Image.fromarray(mask).save(tmp_path / "reference.png")
    browser.value(f"document.querySelector('#reference-file').{away % 'change'}")
    browser.give("#reference-file", tmp_path / "reference.png")
    browser.wait(shown % "color.png")
    browser.wait("new Promise((done) => setTimeout(done, 200, true))")
    browser.value(to % "Left")
    browser.wait("document.querySelector('#found').innerText.includes('1.0000')")
    browser.value(to % "Right")
    browser.wait(shown % "color.png")
    assert browser.value("document.querySelector('#dice-title').hidden")


def test_camera(browser):
    browser.click("#camera")
    browser.wait("/[1-9]\\d* frames a second/.test(document.querySelector('#state').innerText)")
    browser.click("#camera")
    assert browser.wait("document.querySelector('#camera').ariaPressed === 'false'")


def test_a_camera_that_was_asked_for_twice_is_off_when_it_is_off(browser):
    browser.value("""
        window.streams = [];
        const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => {
          const found = await ask(wanted);
          window.streams.push(found);
          return found;
        };
        for (const _ of [1, 2]) document.querySelector('#camera').click();
    """)
    browser.wait(
        "window.streams.length === 2 && document.querySelector('#state').innerText.includes('frames a second')"
    )
    browser.click("#camera")
    browser.wait("document.querySelector('#camera').ariaPressed === 'false'")
    assert browser.value("window.streams.flatMap((each) => each.getTracks().map((track) => track.readyState))") == [
        "ended", "ended",
    ]  # fmt: skip


@pytest.mark.row("S16")
def test_nothing_can_be_asked_of_a_network(browser):
    """The policy holds where a script tries."""
    assert browser.value("fetch('http://127.0.0.1:9/').then(() => 'asked', () => 'refused')") == "refused"
    browser.value("void (new Image().src = 'http://127.0.0.1:9/x.png')")
    browser.wait("new Promise((done) => setTimeout(done, 200, true))")
    assert all(any(rule in line for line in browser.console) for rule in ("connect-src 'none'", "img-src data: blob:"))
    browser.console.clear()


def test_a_page_that_asks_would_be_seen(started, tmp_path):
    """The check for requests can fail."""
    (tmp_path / "bad.html").write_text("<img src='http://127.0.0.1:9/x.png'>")
    started.open(tmp_path / "bad.html")
    assert "http://127.0.0.1:9/x.png" in started.requests


def test_the_page_fits_every_screen(browser, pictures, page):
    assert page.stat().st_size + 40 * 1024 * 4 / 3 <= SMALL
    given(browser, *sorted(pictures.iterdir()))
    for name, width, height in (("phone", 390, 844), ("tablet", 820, 1100), ("desktop", 1280, 860)):
        browser.size(width, height)
        assert browser.value("document.documentElement.scrollWidth <= innerWidth"), name
        shot = pixels(browser.picture(ARTIFACTS / f"page-{name}.png"))
        assert shot.std() > 10, "the page is blank"
        assert browser.value("document.querySelector('.warn').getBoundingClientRect().bottom <= innerHeight")


def test_keys_and_names_for_screen_readers(browser, pictures):
    given(browser, pictures / "gray.png", pictures / "color.png")
    press = "document.dispatchEvent(new KeyboardEvent('keydown', { key: %r, bubbles: true }))"
    browser.value(press % "ArrowRight")
    browser.wait(f"document.querySelector('#canvas').ariaLabel.includes('color.png') && {SEGMENTED}")
    browser.value(press % "w")
    assert browser.value("document.querySelector('#windowing').ariaPressed") == "true"
    browser.value(press % "]")
    assert browser.value("document.querySelector('#opacity').value") == "40"
    nameless = """[...document.querySelectorAll('button, input, canvas')].filter((each) =>
        !(each.innerText || each.ariaLabel || each.labels?.length || each.ariaHidden)).map((each) => each.outerHTML)"""
    assert browser.value(nameless) == []


@pytest.fixture
def served(model, tmp_path):
    """The module and a page that uses it, from a server on this machine."""
    engine_file()
    shutil.copytree(SOURCES, tmp_path / "site/pocketseg")
    shutil.copy(model, tmp_path / "site/model.pseg")
    (tmp_path / "site/index.html").write_text(
        """<!doctype html><script type="module">
        import { open } from "./pocketseg/pocketseg.js";
        const model = await open(await (await fetch("model.pseg")).arrayBuffer());
        const image = new ImageData(60, 50);
        image.data.forEach((_, i) => (image.data[i] = (i * 7919) % 251));
        const data = Uint8Array.from({ length: 3000 }, (_, i) => (i * i) % 251);
        const mask = await model.segment({ width: 60, height: 50, data });
        const refused = await model.segment({ width: 9, height: 9, data }).catch((error) => error.name);
        const color = await model.segment(image);
        model.close();
        window.found = { data: [...mask.data], refused, color: color.data.length, classes: model.classes };
        </script>"""
    )
    with serving(tmp_path / "site") as address:
        yield address


@contextmanager
def serving(folder: Path):
    """The address of a page in a folder, from a server on this machine, until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/index.html"
    finally:
        server.shutdown(), thread.join(), server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    extensions_map: ClassVar[dict[str, str]] = {
        ".js": "text/javascript", ".wasm": "application/wasm", ".html": "text/html", "": "application/octet-stream",
    }  # fmt: skip

    def log_message(self, *said: object) -> None:
        pass


def test_the_module_in_a_page_of_ones_own(started, served, model):
    """With a worker of its own and the engine beside it, as from npm."""
    started("Page.navigate", url=served)
    found = started.wait("window.found")
    image = (np.arange(3000) ** 2 % 251).astype(np.uint8).reshape(50, 60)
    assert np.array_equal(found["data"], pocketseg.load(model).mask(image).ravel()) and 0 < np.mean(found["data"]) < 1
    assert (found["refused"], found["color"], found["classes"]) == ("PocketsegError", 3000, ["lesion"])


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """DICOM of five transfer syntaxes and of several frames, a series, and a volume in NIfTI."""
    folder, random = tmp_path_factory.mktemp("scans"), np.random.default_rng(3)
    voxels = np.kron(random.random((4, 6, 5)), np.ones((1, 9, 11))) * 2000 - 900
    for name, uid in (("explicit", "1"), ("implicit", ""), ("big", "2"), ("deflated", "1.99"), ("rle", "5")):
        uid = f"1.2.840.10008.1.2.{uid}".rstrip(".")
        made = dicom_image(voxels[0].astype(np.int16), series=name, number=1, position=(0, 0, 0), RescaleSlope=2)
        if name == "rle":
            made.compress(uid)
        made.file_meta.TransferSyntaxUID = uid
        if name == "big":
            made.PixelData = voxels[0].astype(">i2").tobytes()
        pydicom.dcmwrite(
            folder / f"{name}.dcm", made, implicit_vr=name == "implicit", little_endian=name != "big",
            force_encoding=True,
        )  # fmt: skip
    frames = (voxels + 900).astype(np.uint16)
    made = dicom_image(frames[0], series="frames", number=1, position=(0, 0, 0), NumberOfFrames=4)
    made.PixelData = frames.tobytes()
    save_dicom(made, folder / "frames.dcm")
    write_series(folder / "series", voxels.astype(np.int16))
    write_nifti(folder / "volume.nii.gz", voxels.transpose(2, 1, 0).astype(np.float32), np.diag([-0.7, -0.8, 3, 1]))
    return folder


def pages_of(folder: Path, name: str) -> list[np.ndarray]:
    """The masks of an image that `predict --to png` wrote."""
    return [pixels(file) for file in sorted((folder / name).iterdir())] if (folder / name).is_dir() else [
        pixels(folder / f"{name}.png")
    ]  # fmt: skip


@pytest.mark.row("N21")
def test_masks_of_scans_are_those_of_predict(browser, model, scans, tmp_path):
    pocketseg.predict(model, [scans], tmp_path / "png", to="png")
    pocketseg.predict(model, [scans / "volume.nii.gz"], tmp_path / "nifti")
    for file in sorted(scans.glob("*.dcm")):
        given(browser, file)
        several = file.stem == "frames"
        saved = browser.download("#save-mask", tmp_path, f"{file.stem}.{'zip' if several else 'png'}")
        if not several:
            found = [pixels(saved)]
        else:
            with zipfile.ZipFile(saved) as archive:
                assert archive.testzip() is None
                found = [pixels(io.BytesIO(archive.read(name))) for name in sorted(archive.namelist())]
        wanted = pages_of(tmp_path / "png", file.stem)
        assert len(found) == len(wanted) and all(map(np.array_equal, found, wanted)), file.name
        assert 0 < np.mean(found) < 255, file.name
    given(browser, scans / "volume.nii.gz")
    saved = browser.download("#save-mask", tmp_path, "volume.nii.gz")
    assert gzip.decompress(saved.read_bytes()) == gzip.decompress((tmp_path / "nifti/volume.nii.gz").read_bytes())
    assert browser.text("#place") == "3 of 4" and "0.8 × 0.7 mm" in browser.text("#known-spacing")
    browser.value("document.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowDown', bubbles: true }))")
    assert browser.text("#place") == "4 of 4" and "slice 4 of 4" in browser.value(
        "document.querySelector('#canvas').ariaLabel"
    )
    volume = nibabel.load(saved)
    mm3 = float((np.asarray(volume.dataobj) > 0).sum()) * 0.7 * 0.8 * 3
    rows = list(csv.DictReader(browser.download("#save-table", tmp_path, "pocketseg.csv").read_text().splitlines()))
    assert float(
        next(row for row in rows if row["slice"] == "all" and row["file"] == "volume.nii.gz")["volume_mm3"]
    ) == (pytest.approx(mm3, rel=1e-6))
    browser.give("#reference-file", saved)
    browser.wait("document.querySelector('#found').innerText.includes('1.0000')")


def test_a_folder_is_a_list_and_one_archive_of_masks(browser, model, pictures, scans, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(scans / "series", folder / "ct")
    for name in ("gray.png", "color.png"):
        shutil.copy(pictures / name, folder / name)
    (folder / "notes.txt").write_text("of no use")
    (folder / "cut.png").write_bytes((pictures / "gray.png").read_bytes()[:200])
    browser.give("#folder", folder)
    browser.wait(f"document.querySelectorAll('#strip button').length === 4 && {SEGMENTED}")
    browser.wait("document.querySelector('#tally').innerText.includes('1 cannot be read')")
    assert "1 other files left out" in browser.text("#tally")
    names = browser.value("[...document.querySelectorAll('#strip span')].map((each) => each.innerText)")
    assert sorted(names) == ["color.png", "ct", "cut.png", "gray.png"]
    browser.click("#next"), browser.click("#next")
    browser.wait(f"document.querySelector('#canvas').ariaLabel.includes({names[2]!r}) || {TOLD}")
    saved = browser.download("#save-all", tmp_path, "pocketseg-masks.zip")
    pocketseg.predict(model, [folder / "gray.png", folder / "color.png", folder / "ct"], tmp_path / "out", to="png")
    with zipfile.ZipFile(saved) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
    rows = list(csv.DictReader(found.pop("pocketseg.csv").decode().splitlines()))
    assert {row["file"] for row in rows} == {"gray.png", "color.png", "ct"}
    masks = {str(file.relative_to(tmp_path / "out")): file for file in (tmp_path / "out").rglob("*.png")}
    assert set(found) == set(masks)
    for name, file in masks.items():
        assert np.array_equal(pixels(io.BytesIO(found[name])), pixels(file)), name
    browser.click("#clear")
    assert browser.value("document.querySelector('#list').hidden && document.querySelector('#save-all').disabled")


def test_reference_masks_are_dropped_on_the_panel_by_name(browser, model, pictures, tmp_path):
    given(browser, pictures / "gray.png", pictures / "color.png")
    browser.wait(f"document.querySelector('#tally').innerText === '1 of 2' && {SEGMENTED}")
    pocketseg.predict(model, [pictures / "gray.png", pictures / "color.png"], tmp_path)
    files = {name: list((tmp_path / f"{name}.png").read_bytes()) for name in ("gray", "color")}
    files["gray"] = list((tmp_path / "color.png").read_bytes())  # which is another
    browser.value(f"""
        const transfer = new DataTransfer();
        for (const [name, bytes] of Object.entries({json.dumps(files)}))
          transfer.items.add(new File([Uint8Array.from(bytes)], `${{name}}_mask.png`));
        const drop = new DragEvent('drop', {{ dataTransfer: transfer, bubbles: true }});
        document.querySelector('#found').dispatchEvent(drop);
    """)
    browser.wait("!document.querySelector('#dice-title').hidden")
    browser.click("#next")
    browser.wait(f"document.querySelector('#canvas').ariaLabel.includes('color.png') && {SEGMENTED}")
    browser.wait("!document.querySelector('#dice-title').hidden")
    rows = list(csv.DictReader(browser.download("#save-table", tmp_path, "pocketseg.csv").read_text().splitlines()))
    mine, other = pixels(tmp_path / "gray.png") > 0, pixels(tmp_path / "color.png") > 0
    dice = {row["file"]: float(row["dice"]) for row in rows}
    assert dice["color.png"] == 1 and dice["gray.png"] == pytest.approx(
        2 * (mine & other).sum() / (mine.sum() + other.sum())
    )


def test_an_installed_page_works_without_a_network(started, model, pictures, tmp_path):
    code, said = here("web", model, "--folder", tmp_path / "site")
    assert code == 0, said
    with serving(tmp_path / "site") as address:
        started("Page.navigate", url=address)
        started.wait(f"location.protocol === 'http:' && {READY}")
        started.wait("navigator.serviceWorker.ready.then(() => navigator.serviceWorker.controller !== null)")
        found = started("Page.getInstallabilityErrors")["installabilityErrors"]
        assert [each["errorId"] for each in found] in ([], ["in-incognito"]), found
    started("Page.navigate", url="about:blank")
    started.wait("location.href === 'about:blank'")
    started("Page.navigate", url=address)
    started.wait(f"location.protocol === 'http:' && {READY}")
    given(started, pictures / "gray.png")
    assert "0 requests" in started.text("#requests")
    assert started.value("fetch('http://127.0.0.1:9/').then(() => 'asked', () => 'refused')") == "refused"
    code, said = here("web", model, "--folder", tmp_path / "site")
    assert code == 0, said
    (tmp_path / "site/index.html").write_text("mine")
    code, said = here("web", model, "--folder", tmp_path / "site")
    assert code == 2 and "was not written by web" in said


def test_the_page_of_a_run_makes_the_masks_of_predict(started, trained_run, phantom_data, tmp_path):
    """As of the demo: without a network, and with the scores of the run."""
    engine_file()
    code, said = here("web", trained_run, "--out", tmp_path / "page.html")
    assert code == 0, said
    images = sorted((phantom_data / "images").iterdir())
    pocketseg.predict(trained_run, images, tmp_path / "masks")
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    started("Network.emulateNetworkConditions", offline=True, **network)
    started.open(tmp_path / "page.html")
    started.wait(READY)
    assert started.text("#score").startswith("Dice of lesion: ") and "95 % interval" in started.text("#score")
    given(started, *images)
    started.wait(f"document.querySelector('#tally').innerText === '1 of {len(images)}' && {SEGMENTED}")
    with zipfile.ZipFile(started.download("#save-all", tmp_path, "pocketseg-masks.zip")) as archive:
        for image in images:
            name = f"{image.stem}.png"
            assert np.array_equal(pixels(io.BytesIO(archive.read(name))), pixels(tmp_path / "masks" / name)), name
    started("Network.emulateNetworkConditions", offline=False, **network)

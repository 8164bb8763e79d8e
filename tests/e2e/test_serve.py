"""What the service answers: the bytes of `predict`, for every kind of image and answer."""

from __future__ import annotations

import gzip
import io
import json
import threading
import zipfile
from pathlib import Path

import jsonschema
import numpy as np
import pydicom
import pytest
from PIL import Image

import pocketseg
from helpers.headed_files import write_meta, write_nrrd
from helpers.service import IMAGE, MODEL, OTHER, Service, needed, serving
from helpers.volume_files import IDENTITY, NAME, ball, dicom_image, write_nifti, write_pages, write_series

needed()
SHAPE = (24, 20, 4)
VOXELS = (ball(SHAPE, radius=7) * 900).astype(np.int16)
PNG, NIFTI, DICOM, TIFF = "image/png", "application/x-nifti", "application/dicom", "image/tiff"


@pytest.fixture(scope="module")
def service():
    with serving("--workers", "2", models=(f"m={MODEL}", f"f={OTHER}")) as found:
        yield found


def predicted(tmp_path: Path, content: bytes, name: str, **options) -> dict[str, bytes]:
    """What `predict` writes for a file, by its name."""
    source = tmp_path / "in" / name
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(content)
    done = pocketseg.predict(MODEL, [source], tmp_path / "out", **options)
    return {path.name: path.read_bytes() for path in done.written}


def pictures() -> dict[str, bytes]:
    """A picture in several formats, and others of several sizes."""
    made = {}
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "c.tif", "d.bmp", "e.png", "f.png"):
        pixels = generator.integers(0, 256, (40 + 7 * len(made), 64), np.uint8)
        pixels[10:25, 10:30] = 230
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, {"jpg": "JPEG", "tif": "TIFF"}.get(name[2:], name[2:]))
        made[name] = content.getvalue()
    return made


def packed(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, each in files.items():
            archive.writestr(name, each)
    return content.getvalue()


def unpacked(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.row("L01", "N22")
def test_many_clients_get_the_bytes_of_predict(service: Service, tmp_path):
    """Whatever else is asked at the time."""
    images = pictures()
    right = {name: predicted(tmp_path / name[0], content, name) for name, content in images.items()
             if (tmp_path / name[0]).mkdir() is None}  # fmt: skip
    wrong: list[str] = []
    answered = 0

    def client(number: int) -> None:
        nonlocal answered
        for turn in range(12):
            name = [*images][(number + turn) % len(images)]
            answer = service.segment(images[name], "?model=m", Accept=PNG)
            if answer.status == 503 and int(answer.headers["retry-after"]) >= 1:
                continue
            answered += 1
            if answer.status != 200 or answer.body != right[name][f"{name[0]}.png"]:
                wrong.append(f"{name}: {answer.status}")

    clients = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    assert not wrong and answered > 60


def test_a_volume_comes_back_in_its_format(service: Service, tmp_path):
    path = write_nifti(tmp_path / "v.nii.gz", VOXELS, np.diag([0.5, 0.5, 2, 1]))
    content = path.read_bytes()
    (name, right), = predicted(tmp_path, content, "v.nii.gz").items()  # fmt: skip
    assert name == "v.nii.gz"
    answer = service.segment(content, "?model=m")
    assert answer.status == 200 and answer.headers["content-type"] == NIFTI
    assert answer.headers["content-disposition"] == 'attachment; filename="mask.nii.gz"'
    assert gzip.decompress(answer.body) == gzip.decompress(right)
    plain = write_nifti(tmp_path / "w.nii", VOXELS).read_bytes()
    assert service.segment(plain, "?model=m").headers["content-disposition"].endswith('"mask.nii"')


@pytest.mark.parametrize("write", [write_nrrd, write_meta], ids=["nrrd", "mha"])
def test_volumes_of_other_programs(service: Service, tmp_path, write):
    path = tmp_path / f"v.{write.__name__[-4:]}".replace("meta", "mha")
    write(path, VOXELS, np.diag([0.5, 0.5, 2, 1]))
    (right,) = predicted(tmp_path, path.read_bytes(), path.name).values()
    assert service.segment(path.read_bytes(), "?model=m").body == right


def test_pages_of_a_tiff(service: Service, tmp_path):
    path = write_pages(tmp_path / "pages.tif", VOXELS.astype(np.uint8).transpose(2, 0, 1))
    content = path.read_bytes()
    (right,) = predicted(tmp_path, content, "pages.tif").values()
    answer = service.segment(content, "?model=m", Accept=TIFF)
    assert answer.status == 200 and answer.body == right
    one = service.segment(content, "?model=m", Accept=PNG)
    assert one.status == 406 and "4 files" in one.problem
    whole = unpacked(service.segment(content, "?model=m&to=png", Accept="application/zip").body)
    assert sorted(whole) == [f"image/{index:03d}.png" for index in range(4)]


def test_dicom_becomes_a_segmentation_without_a_name(service: Service, tmp_path):
    folder = write_series(tmp_path / "series", VOXELS)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    answer = service.segment(packed(files), "?model=m", Accept=DICOM)
    assert answer.status == 200, answer.body
    made = pydicom.dcmread(io.BytesIO(answer.body))
    assert made.Modality == "SEG" and str(made.PatientName) == "" and NAME.encode() not in answer.body
    right = pydicom.dcmread(pocketseg.predict(MODEL, [folder], tmp_path / "out").written[0])
    assert made.PixelData == right.PixelData and made.NumberOfFrames == right.NumberOfFrames
    kept = service.segment(packed(files), "?model=m&keep_identity=true", Accept=DICOM)
    assert pydicom.dcmread(io.BytesIO(kept.body)).PatientID == IDENTITY
    one = next(iter(files.values()))
    assert pydicom.dcmread(io.BytesIO(service.segment(one, "?model=m").body)).NumberOfFrames == 1
    as_nifti = service.segment(packed(files), "?model=m", Accept=NIFTI)
    assert as_nifti.status == 200 and gzip.decompress(as_nifti.body)[344:348] == b"n+1\0"


@pytest.mark.row("S25")
def test_nothing_of_a_patient_is_logged(service: Service):
    """Neither what headers and names hold nor what errors say of them."""
    image = dicom_image(np.zeros((8, 8), np.int16), series="1", number=1, position=(0, 0, 0))
    image.BitsStored = 99
    content = io.BytesIO()
    image.save_as(content)
    canary = "Canary-Person"
    damaged = {f"{canary}/{canary}.png": b"\x89PNG\r\n\x1a\n" + canary.encode(), "x.dcm": content.getvalue()}
    for body in (content.getvalue(), packed(damaged), canary.encode()):
        service.segment(body, f"?model=m&{canary}=1")
        service.segment(body, "?model=m", X_Name=canary)
    service.ask(f"/{canary}?image={canary}")
    service.ask(f"/infer/{canary}?image={canary}", b"")
    assert service.segment(IMAGE.read_bytes(), "?model=m").status == 200
    text = "\n".join(service.log)
    assert "POST /v1/segment 422" in text and "POST /v1/segment 200" in text
    assert not [word for word in (canary, NAME, IDENTITY, "Secret") if word in text]
    assert canary not in service.ask("/metrics").body.decode()


def test_measurements(service: Service, tmp_path):
    answer = service.segment(IMAGE.read_bytes(), "?model=m", Accept="application/json")
    done = pocketseg.predict(MODEL, [IMAGE], tmp_path, table=True)
    (row,) = answer.json["measurements"]
    assert list(row.values())[1:] == list(done.rows[0])[1:] and row["area_px"] > 0
    assert answer.json["sha256"] == answer.headers["model-sha256"]


def test_a_zip_of_images(service: Service, tmp_path):
    """Names and folders stay; what cannot be done is told, beside the rest."""
    images = pictures()
    files = {f"a/{name}": content for name, content in images.items()}
    answer = service.segment(packed(files), "?model=m")
    assert answer.headers["content-type"] == "application/zip"
    found = unpacked(answer.body)
    assert sorted(found) == [f"a/{name[0]}.png" for name in sorted(images)]
    assert found["a/b.png"] == predicted(tmp_path, images["b.jpg"], "b.jpg")["b.png"]
    names = ["a.png", "images/a.png", "images/mask-a.png", "mask-a.png"]
    same = unpacked(service.segment(packed(dict.fromkeys(names, images["a.png"])), "?model=m").body)
    assert sorted(same) == names
    more = service.segment(packed({"a.png": images["a.png"]}), "?model=m&overlay=true&probabilities=1")
    assert sorted(unpacked(more.body)) == ["a.png", "a_overlay.png", "a_probability.png"]
    partly = service.segment(packed({**files, "bad.png": images["a.png"][:60]}), "?model=m")
    assert partly.status == 200 and partly.headers["pocketseg-problems"] == "1"
    (problem,) = json.loads(unpacked(partly.body)["problems.json"])
    assert problem["where"] == "images/bad.png"
    table = service.segment(packed(files), "?model=m", Accept="application/json").json
    assert {row["image"] for row in table["measurements"]} == {f"images/{name}" for name in files}


@pytest.mark.row("S04", "S05", "S22")
@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png", "a\\b.png", ".."])
def test_names_in_a_zip_lead_nowhere(service: Service, name):
    answer = service.segment(packed({name: IMAGE.read_bytes()}), "?model=m")
    assert answer.status == 422 and "name in the zip" in answer.problem


def test_which_model(service: Service):
    image = IMAGE.read_bytes()
    models = {each["name"]: each for each in service.ask("/v1/models").json["models"]}
    assert models["m"]["classes"] == ["lesion"] and models["m"]["precision"] == "w8a8"
    for name in ("m", "f"):
        assert service.segment(image, f"?model={name}").headers["model-sha256"] == models[name]["sha256"]
    assert service.segment(image).status == 400 and service.segment(image, "?model=x").status == 404
    assert service.segment(image, "?model=m&nothing=1").status == 400


@pytest.mark.parametrize(
    ("accept", "status"),
    [("image/png", 200), ("image/*", 200), ("*/*", 200), ("application/json;q=0.5, image/png", 200), ("text/html", 406),
     ("image/png;q=0", 406), ("application/x-nifti", 406), ("application/zip", 200)],
)  # fmt: skip
def test_accept(service: Service, accept, status):
    answer = service.segment(IMAGE.read_bytes(), "?model=m", Accept=accept)
    assert answer.status == status
    if status == 200:
        assert answer.headers["content-type"] == ("application/zip" if "zip" in accept else PNG)


@pytest.mark.row("S22")
@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 422), (b"hello", 415), (b"%PDF-1.7", 415), (b"\x1f\x8b\x08" + b"x" * 99, 415), (b"PK\3\4 no zip", 422),
     (b"\x89PNG\r\n\x1a\n and no more", 422), (b"\0" * 128 + b"DICM" + b"junk" * 9, 422), (b"NRRD0005\nx: y\n", 422),
     (b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 1\nencoding: raw\ndata file: /etc/passwd\n\n", 422)],
)  # fmt: skip
def test_what_is_no_image(service: Service, body, status):
    """It is refused by its content, in words that name no place of the machine."""
    answer = service.segment(body, "?model=m", Content_Type="image/png")
    assert answer.status == status, answer.body
    text = answer.body.decode()
    assert answer.json["problems"][0]["fix"]
    assert not [word for word in ("/tmp", "/home", "/work", "Traceback", "pocketseg-serve", ".py") if word in text]


@pytest.mark.parametrize(
    "body",
    [b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n\x89PNG\r\n\x1a\n\r\n--x--\r\n', b"image=@scan.png",
     IMAGE.read_bytes().replace(b"\n", b"").replace(b"\r", b"").replace(b"\0", b"")],
)  # fmt: skip
def test_a_form_is_named_as_one(service: Service, body):
    answer = service.segment(body, "?model=m")
    assert answer.status == 415 and "curl --data-binary @FILE" in answer.json["problems"][0]["fix"]


def test_the_description_fits_the_routes(service: Service):
    """Every route is described, every one that is described is there, and answers are as it says."""
    told = service.ask("/openapi.json").json
    assert told["openapi"].startswith("3.1")
    for path, methods in told["paths"].items():
        for method in set(methods) - {"parameters"}:
            body = b"" if method in ("post", "put") else None
            url = path.replace("{model}", "m").replace("{id}", "x")
            answer = service.ask(url, body, method.upper())
            assert str(answer.status) in methods[method]["responses"], (path, method, answer.status)
            assert answer.status != 405 and (answer.status != 404 or "no such route" not in answer.problem)
    schemas = told["components"]["schemas"]
    wrong = service.segment(b"x", "?model=m").json
    jsonschema.validate(wrong, schemas["Problems"])
    for each in service.ask("/v1/models").json["models"]:
        jsonschema.validate(each, schemas["Model"])
    measured = service.segment(IMAGE.read_bytes(), "?model=m", Accept="application/json").json
    schema = json.loads(json.dumps({**schemas["Measurements"], "components": told["components"]}))
    jsonschema.validate(measured, schema)


@pytest.mark.row("S23", "S20")
def test_headers_of_answers(service: Service):
    for answer in (service.segment(IMAGE.read_bytes(), "?model=m"), service.ask("/nothing"), service.ask("/healthz")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_metrics(service: Service):
    service.wait_ready(2)
    before = service.metric('pocketseg_requests_total{route="/v1/segment",status="415"}')
    service.segment(b"x", "?model=m")
    assert service.metric('pocketseg_requests_total{route="/v1/segment",status="415"}') == before + 1
    assert service.metric("pocketseg_workers_busy") == 0

"""The plug-in of MONAI Label in 3D Slicer: a client that sends what it sends, and reads answers as it does."""

from __future__ import annotations

import email.parser
import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import numpy as np
import pytest

import pocketseg
from helpers.service import MODEL, Service, needed, serving
from helpers.volume_files import ball, read_nifti, write_nifti
from pocketseg.data.volumes import open_volume

needed()
VOXELS = (ball((20, 16, 3), radius=6) * 900).astype(np.int16)
# As the plug-in writes it, with a sign that has to be taken as it is.
BOUNDARY = "----------lImIt_of_THE_fIle_eW_$"


@pytest.fixture(scope="module")
def service():
    with serving(models=(f"lesion={MODEL}",)) as found:
        yield found


@pytest.fixture
def volume(tmp_path) -> Path:
    return write_nifti(tmp_path / "Patient Name 1.nii.gz", VOXELS, np.diag([0.5, 0.75, 2, 1]))


def form(fields: dict[str, str], files: dict[str, Path]) -> tuple[str, bytes]:
    """A form: texts without a type, files under their whole path on the client's machine."""
    lines: list[bytes] = []
    for name, text in fields.items():
        lines += [
            f"--{BOUNDARY}".encode(),
            f'Content-Disposition: form-data; name="{name}"'.encode(),
            b"",
            text.encode(),
        ]
    for name, path in files.items():
        head = f'Content-Disposition: form-data; name="{name}"; filename="{path}"'
        lines += [
            f"--{BOUNDARY}".encode(),
            head.encode(),
            b"Content-Type: application/octet-stream",
            b"",
            path.read_bytes(),
        ]
    lines += [f"--{BOUNDARY}--".encode(), b"", b""]
    return f"multipart/form-data; boundary={BOUNDARY}", b"\r\n".join(lines)


def send(service: Service, method: str, selector: str, fields: dict[str, str], files: dict[str, Path]) -> Any:
    type_, body = form(fields, files)
    return service.ask(selector, body, method, content_type=type_)


def infer(service: Service, image: str, params: dict[str, Any], **more: Any) -> tuple[dict[str, Any], str, bytes]:
    """What the plug-in's `infer` gives: params, and the name and content of the mask."""
    selector = f"/infer/lesion?image={quote_plus(image)}" + "".join(f"&{name}={value}" for name, value in more.items())
    answer = send(service, "POST", selector, {"params": json.dumps(params)}, {})
    assert answer.status == 200, answer.body
    text = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode() + answer.body
    parts = {part.get_param("name", header="content-disposition"): part
             for part in email.parser.BytesParser().parsebytes(text).get_payload()}  # fmt: skip
    mask = parts["image"]
    return json.loads(parts["params"].get_payload()), mask.get_filename(), mask.get_payload(decode=True)


def test_info(service: Service):
    """What the plug-in reads of it."""
    info = service.ask("/info/").json
    assert info["labels"] == ["lesion"] and info["config"] == {}
    model = info["models"]["lesion"]
    assert model["type"] == "segmentation" and model["labels"] == {"lesion": 1} and model["dimension"] == 3
    assert service.ask("/auth/").json == {"enabled": False}


def test_upload_and_infer(service: Service, volume, tmp_path):
    """The mask of an uploaded volume is that of `predict`."""
    answer = send(service, "PUT", f"/datastore/?image={quote_plus(volume.name)}", {"params": "{}"}, {"file": volume})
    assert answer.status == 200 and answer.json["image"] == volume.name
    right = pocketseg.predict(MODEL, [volume], tmp_path / "out").written[0]
    for _ in range(2):  # it is kept
        params, name, mask = infer(service, volume.name, {})
        assert params["label_names"] == {"lesion": 1} and name == "mask.nii.gz"
        assert gzip.decompress(mask) == gzip.decompress(right.read_bytes())
    assert read_nifti(right).any()


def test_sessions(service: Service, volume, tmp_path):
    """Newer versions upload into a session, and ask for NRRD."""
    answer = send(service, "PUT", "/session/", {"client_id": "user-xyz"}, {"files": volume})
    session = answer.json["session_id"]
    assert service.ask(f"/session/{session}").status == 200
    asked = {"result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "user-xyz"}
    _, name, mask = infer(service, "other", asked, session_id=session)
    assert name.endswith(".nrrd")
    (tmp_path / name).write_bytes(mask)
    right = pocketseg.predict(MODEL, [volume], tmp_path / "out").written[0]
    np.testing.assert_array_equal(open_volume(tmp_path / name).voxels() > 0, read_nifti(right) > 0)
    assert service.ask(f"/session/{session}", method="DELETE").status == 200
    assert service.ask(f"/session/{session}").status == 404


def test_an_image_in_the_request(service: Service, volume):
    fields = {"params": "{}"}
    answer = send(service, "POST", "/infer/lesion?output=image", fields, {"file": volume})
    assert answer.status == 200 and gzip.decompress(answer.body)[344:348] == b"n+1\0"
    told = send(service, "POST", "/infer/lesion?output=json", fields, {"file": volume})
    assert told.json == {"label_names": {"lesion": 1}}
    assert send(service, "POST", "/infer/lesion?output=dicom_seg", fields, {"file": volume}).status == 422


def test_what_is_not_there(service: Service, volume):
    assert send(service, "POST", "/infer/lesion?image=/etc/passwd", {"params": "{}"}, {}).status == 404
    assert send(service, "POST", "/infer/other?image=x", {"params": "{}"}, {"file": volume}).status == 404
    assert send(service, "POST", "/infer/lesion?image=x", {"params": "[1]"}, {"file": volume}).status == 400
    assert send(service, "POST", "/infer/lesion?image=x", {"params": "{"}, {"file": volume}).status == 400
    assert send(service, "PUT", "/datastore/?image=x", {}, {"other": volume}).status == 400
    for path in ("/activelearning/random", "/train/", "/logs/"):
        assert service.ask(path, b"{}", "POST").status == 404


def test_volumes_are_kept_in_a_bounded_number(service: Service, volume):
    for number in range(10):
        assert send(service, "PUT", f"/datastore/?image={number}", {}, {"file": volume}).status == 200
    assert send(service, "POST", "/infer/lesion?image=0&output=json", {}, {}).status == 404
    assert send(service, "POST", "/infer/lesion?image=9&output=json", {}, {}).status == 200

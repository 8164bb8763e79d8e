"""Files with random bytes in them: read rightly, or refused by an error that says so; never anything else."""

from __future__ import annotations

import gzip
import io
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rows_dicom import made
from rows_volumes import AFFINE, labels, voxels

from helpers.headed_files import segments, write_meta, write_nrrd
from helpers.pictures import picture, reference, save
from helpers.volume_files import save_dicom, write_nifti
from pocketseg.data import Cases
from pocketseg.errors import PocketsegError
from pocketseg.recipes import load_recipe
from pocketseg.recipes.loading import shipped_text

FORMATS = ("png", "tif", "nii", "nii.gz", "nrrd", "mha", "webp", "jp2", "dcm", "yaml")


def original(kind: str, folder: Path) -> bytes:
    """A valid file of each kind; a data set around it is in the folder."""
    if kind == "yaml":
        return shipped_text("thin-unet").encode()
    if kind.startswith("nii"):
        path = write_nifti(folder / f"images/a.{kind}", voxels(1), AFFINE)
        write_nifti(folder / "masks/a.nii.gz", labels(1), AFFINE)
    elif kind in ("nrrd", "mha"):
        path = (write_nrrd if kind == "nrrd" else write_meta)(folder / f"images/a.{kind}", voxels(1), AFFINE)
        write_nrrd(folder / "masks/a.seg.nrrd", labels(1), AFFINE, texts=segments(("lesion", 1, 0)))
    elif kind == "dcm":
        path = save_dicom(made(1), folder / "images/a.dcm")
        save(folder / "masks/a.png", reference(1, (16, 20)))
    else:
        options = {"lossless": True} if kind == "webp" else {}
        path = save(folder / f"images/a.{kind}", picture(1), **options)
        save(folder / "masks/a.png", reference(1))
    return path.read_bytes()


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """A few bytes changed, cut out, doubled, or put in; most often near the head."""
    changed = bytearray(content)
    for _ in range(random.integers(1, 6)):
        end = min(len(changed), 400) if random.random() < 0.6 else len(changed)
        at, length = int(random.integers(0, max(1, end))), int(random.integers(1, 9))
        how = random.integers(0, 5)
        if how <= 1:
            changed[at : at + 1] = bytes([int(random.integers(0, 256))])
        elif how == 2:
            del changed[at : at + length]
        elif how == 3:
            changed[at:at] = changed[at : at + length]
        else:
            changed[at : at + length] = random.bytes(length)
    return bytes(changed)


def outcome(kind: str, content: bytes, folder: Path) -> str:
    """`read` or `refused`; any other exception is a failure."""
    try:
        if kind == "yaml":
            (folder / "a.yaml").write_bytes(content)
            load_recipe(folder / "a.yaml")
            return "read"
        (folder / f"images/a.{kind}").write_bytes(content)
        cases = Cases.open(folder)
        for case in cases:
            look = cases.look(case)
            assert look.image.shape[:2] == look.mask.shape
            assert set(np.unique(look.mask)) <= {0, 1}
            assert np.isfinite(look.image.astype(np.float64)).all()
    except PocketsegError as error:
        assert error.exit_code == 2
        assert "Secret" not in str(error)
        return "refused"
    return "read"


def run(count: int, seed: int, folder: Path, outcomes: Callable[[str, str], None]) -> None:
    failures = []
    for number in range(count):
        kind = FORMATS[number % len(FORMATS)]
        place = folder / kind
        if not place.exists():
            place.mkdir()
            (place / "original").write_bytes(original(kind, place))
        random = np.random.default_rng((seed, number))
        content = mutated((place / "original").read_bytes(), random)
        if kind == "nii.gz":  # what is inside changes, not the packing
            plain = gzip.decompress((place / "original").read_bytes())
            content = gzip.compress(mutated(plain, random), 1)
        try:
            outcomes(kind, outcome(kind, content, place))
        except Exception:
            failures.append(f"seed {seed}, number {number}, {kind}: {traceback.format_exc(limit=-3)}")
    assert not failures, f"{len(failures)} of {count}:\n" + "\n".join(failures[:10])


@pytest.mark.parametrize(
    ("count", "seed"), [(500, 1), pytest.param(10_000, 2, marks=pytest.mark.slow("minutes of more random bytes"))]
)
@pytest.mark.filterwarnings("ignore")
def test_only_answers_and_refusals(count, seed, tmp_path, caplog):
    found: dict[tuple[str, str], int] = {}

    def tell(kind: str, result: str) -> None:
        found[kind, result] = found.get((kind, result), 0) + 1

    run(count, seed, tmp_path, tell)
    # Warnings about values cite them, and they may name a person.
    assert not [record.message for record in caplog.records if record.name == "pydicom"]
    for kind in FORMATS:
        assert found.get((kind, "refused"), 0) > count / len(FORMATS) / 20, found
    assert sum(number for (_, result), number in found.items() if result == "read") > count / 20, found


def test_what_is_not_mutated_is_read(tmp_path):
    for kind in FORMATS:
        place = tmp_path / kind
        place.mkdir()
        assert outcome(kind, original(kind, place), place) == "read"


def test_a_header_that_is_damaged_where_its_kind_is_reported(tmp_path):
    """Found by random bytes: a value whose type is unknown is reported when it is asked for."""
    (tmp_path / "images").mkdir()
    content = original("dcm", tmp_path).replace(b"\x08\x00\x16\x00UI", b"\x08\x00\x16\x00UU")
    assert outcome("dcm", content, tmp_path) == "refused"


def test_a_palette_beyond_its_colors_is_no_crash(tmp_path):
    content = io.BytesIO()
    Image.fromarray(picture(1)).convert("P").save(content, format="PNG")
    (tmp_path / "images").mkdir()
    save(tmp_path / "masks/a.png", reference(1))
    assert outcome("png", content.getvalue(), tmp_path) == "read"

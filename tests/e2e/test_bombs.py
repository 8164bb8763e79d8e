"""Files that are small on disk and large in memory: refused or done right, in 512 MiB above what a small one takes and
five seconds; memory that ends; and places that cannot be written to, reported before anything is computed."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from helpers.pictures import good, picture, save
from helpers.volume_files import dicom_image, save_dicom
from pocketseg.data.rois import roi_bytes

SECONDS, BYTES = 5.0, 512 * 2**20
# A command of ours in a process of its own: its exit code, what it said, its processor's seconds and its peak.
COMMAND = """
import json, resource, sys
from pocketseg.cli.main import main
limit = int(sys.argv.pop(1))
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
code = 0
try:
    main()
except SystemExit as done:
    code = done.code
used = resource.getrusage(resource.RUSAGE_SELF)
child = resource.getrusage(resource.RUSAGE_CHILDREN)
sys.stdout.flush()
print(json.dumps([code or 0, used.ru_utime + used.ru_stime, max(used.ru_maxrss, child.ru_maxrss) * 1024]))
"""


def run(*arguments: object, limit: int = 0) -> tuple[int, str, float, int]:
    """Exit code, output, seconds and bytes of a command."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(limit), *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    *lines, last = done.stdout.splitlines() or [""]
    code, seconds, peak = json.loads(last)
    return code, "\n".join(lines) + done.stderr, seconds, peak


def zeros(count: int) -> bytes:
    """So many zero bytes, deflated in no time: the same block over and over."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(2**20)) for _ in range(count >> 20)]
    return b"".join([*parts, packer.compress(bytes(count % 2**20)), packer.flush()])


def gzip_zeros(start: bytes, count: int) -> bytes:
    """A gzip file that unpacks to some bytes and then so many zeros."""
    return gzip.compress(start) + gzip.compress(bytes(2**22)) * (count >> 22)


def nifti_head(**fields: object) -> bytes:
    header = nibabel.Nifti1Image(np.zeros((8, 9, 4), np.uint8), np.eye(4)).header
    for key, value in fields.items():
        header[key] = value
    return header.binaryblock


def npz_bomb(path: Path) -> Path:
    """A GB of zeros in two arrays."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (512, 1024, 1024, 1)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in ("images", "masks"):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(head.getvalue())
                for _ in range(2**7):
                    member.write(bytes(2**22))
    return path


def lying_zip(path: Path) -> Path:
    """A set of regions whose directory says that its member has a hundred bytes; it has half a gigabyte."""
    content, region = zeros(2**29)[2:-4], roi_bytes([[(1, 1), (1, 9), (9, 9)]])
    assert region
    name = b"0001.roi"
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 8, 0, 33, 0, len(content), 100, len(name), 0) + name
    central = struct.pack(
        "<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 8, 0, 33, 0, len(content), 100, len(name), 0, 0, 0, 0, 0, 0
    )
    start = len(local) + len(content)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(central) + len(name), start, 0)
    path.write_bytes(local + content + central + name + end)
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def text_bomb(path: Path) -> Path:
    content = io.BytesIO()
    Image.fromarray(picture(1)).save(content, format="PNG")
    whole = content.getvalue()
    path.write_bytes(whole[:33] + chunk(b"zTXt", b"a\0\0" + zeros(600 * 2**20)) + whole[33:])
    return path


def pages_bomb(path: Path) -> Path:
    """Twenty pages of 40 million pixels, all the same strip on disk."""
    side, strip, pages = 6400, zeros(6400 * 6400), 20
    offset = 8 + len(strip)
    out = [b"II*\0" + struct.pack("<I", offset) + strip]
    for number in range(pages):
        entries = [(256, 3, 1, side), (257, 3, 1, side), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1),
                   (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, side), (279, 4, 1, len(strip))]  # fmt: skip
        offset += 2 + 12 * len(entries) + 4
        following = offset if number + 1 < pages else 0
        body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        out.append(struct.pack("<H", len(entries)) + body + struct.pack("<I", following))
    path.write_bytes(b"".join(out))
    return path


def volume_bomb(path: Path) -> Path:
    """Two GB of voxels that a megabyte and a half holds."""
    head = nifti_head(dim=[3, 1280, 1280, 1280, 1, 1, 1, 1])
    path.write_bytes(gzip_zeros(head + bytes(4), 2**31 - 2**22))
    return path


def extension_bomb(path: Path) -> Path:
    """A header extension of one and a half GB before the voxels."""
    size = 1536 * 2**20
    head = nifti_head(vox_offset=352 + size)
    path.write_bytes(gzip_zeros(head + b"\1\0\0\0" + struct.pack("<II", size, 6), size))
    return path


def deflated_bomb(path: Path) -> Path:
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    one = dicom_image(np.zeros((16, 20), np.int16), series="bomb", number=1, position=(0, 0, 0))
    one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = save_dicom(one, path).read_bytes()
    path.write_bytes(content[: 144 + struct.unpack("<I", content[140:144])[0]] + zeros(2**30)[2:-4])
    return path


BOMBS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a.nii.gz": (volume_bomb, "times its size"),
    "b.nii.gz": (extension_bomb, "times its size"),
    "c.dcm": (deflated_bomb, "unpacks to more than"),
    "d.tif": (pages_bomb, "more than 256 times its size"),
    "e.png": (text_bomb, "damaged or cut off"),
}


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed net that answers by a fixed rule."""
    from dataclasses import asdict

    from helpers.packed_models import packed
    from pocketseg.engine.codec import file_of, program_in
    from pocketseg.engine.session import Session
    from pocketseg.pipeline import Pipeline

    content = packed()
    program, _ = program_in(content, "small")
    multiple = Session(content, "small").multiple
    path = tmp_path_factory.mktemp("model") / "small.pseg"
    path.write_bytes(file_of(program, {"pipeline": asdict(Pipeline((64, 64), multiple=multiple))}))
    return path


@pytest.fixture(scope="module")
def baseline(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[float, int]:
    """Seconds and bytes of a small image; volumes load more libraries than pictures."""
    folder = tmp_path_factory.mktemp("baseline")
    image = nibabel.Nifti1Image(np.arange(8 * 9 * 4, dtype=np.uint8).reshape(8, 9, 4), np.eye(4))
    nibabel.save(image, folder / "small.nii.gz")
    code, told, seconds, peak = run("predict", small_model, folder / "small.nii.gz", "--out", folder / "out")
    assert code == 0, told
    return seconds, peak


@pytest.mark.row("S05", "S07", "C25", "C26", "D13", "D14", "X11")
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_by_predict(name, small_model, baseline, tmp_path):
    make, words = BOMBS[name]
    path = make(tmp_path / name)
    assert path.stat().st_size < 5 * 2**20
    good(tmp_path / "good", 1)
    out = tmp_path / "out"
    code, told, seconds, peak = run("predict", small_model, path, tmp_path / "good/images", "--out", out)
    if code or name != "e.png":  # a text beside the pixels may be passed over
        assert code == 2 and str(path) in told and words in told
    assert (out / "c0.png").exists()
    assert seconds - baseline[0] < SECONDS and peak - baseline[1] < BYTES


@pytest.mark.row("S05", "S07")
def test_a_bomb_of_arrays(tmp_path, baseline):
    code, told, seconds, peak = run("doctor", npz_bomb(tmp_path / "a.npz"))
    assert code == 2 and "times its size" in told and "a.npz" in told
    assert seconds - baseline[0] < SECONDS and peak - baseline[1] < BYTES


@pytest.mark.row("S05", "S07")
def test_a_zip_of_regions_that_lies(tmp_path, baseline):
    save(tmp_path / "images/a.png", picture(1))
    lying_zip(tmp_path / "a.zip")
    code, told, seconds, peak = run(
        "data", "convert", "rois-to-masks", tmp_path / "a.zip", tmp_path / "out", "--images", tmp_path / "images"
    )
    assert code == 2 and "a.zip" in told
    assert seconds - baseline[0] < SECONDS and peak - baseline[1] < BYTES


@pytest.mark.row("C25", "S07")
def test_a_large_picture_is_done_in_bounded_memory(tmp_path, small_model, baseline):
    """Whole slides are honest: 25 million pixels take what docs/data.md says, and their mask is whole."""
    side = 5000
    rows = (np.indices((side, side), np.uint16).sum(axis=0) // 40).astype(np.uint8)
    save(tmp_path / "big.png", rows)
    code, told, _, peak = run("predict", small_model, tmp_path / "big.png", "--out", tmp_path / "out", "--overlay")
    assert code == 0, told
    with Image.open(tmp_path / "out/big.png") as mask:
        assert mask.size == (side, side)
    assert peak - baseline[1] < 16 * side * side + 64 * 2**20


LIMITS = [round(0.25 * 10 ** (step / 9) * 2**30) for step in range(10)]


@pytest.mark.row("F20")
@pytest.mark.parametrize("limit", [LIMITS[0], LIMITS[4], pytest.param(LIMITS[9])])
def test_memory_that_ends_is_reported_and_the_others_are_done(limit, tmp_path, small_model):
    levels(limit, tmp_path, small_model)


@pytest.mark.slow("more of the same")
@pytest.mark.row("F20")
@pytest.mark.parametrize("limit", LIMITS)
def test_ten_levels_of_memory(limit, tmp_path, small_model):
    levels(limit, tmp_path, small_model)


def levels(limit: int, folder: Path, model: Path) -> None:
    good(folder / "in", 3)
    save(folder / "in/images/b_big.png", np.zeros((9000, 9000), np.uint8))
    code, told, _, _ = run("predict", model, folder / "in/images", "--out", folder / "out", limit=limit)
    assert code in (0, 3), told
    assert {path.name for path in (folder / "out").iterdir()} >= {"c0.png", "c1.png", "c2.png"}
    if code == 3:
        assert "b_big.png: there is not enough memory for it; 9000×9000 pixels take about" in told
    if limit == LIMITS[9]:
        assert code == 0
    if limit == LIMITS[0]:
        assert code == 3


@pytest.mark.slow("fills gigabytes of memory")
@pytest.mark.row("F20")
def test_training_says_what_memory_was_too_small_for(tmp_path):
    good(tmp_path / "data", 12)
    code, told, _, _ = run(
        "train", "thin-unet", "--data", tmp_path / "data", "--out", tmp_path / "run",
        "--set", "data.size=[2048,2048]", "--set", "stages.*.net.width=256", "--set", "stages.*.epochs=1",
        "--set", "data.group_csv=null", "--set", "data.group_column=null", limit=4 * 2**30,
    )  # fmt: skip
    assert code == 3, told
    assert "a step needs about" in told and "so the system may end it" in told
    assert "there is not enough memory for it; a batch of" in told and "bug" not in told

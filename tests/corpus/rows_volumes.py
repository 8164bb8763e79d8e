"""D: volumes and geometry."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from corpus import Try, row
from helpers.headed_files import meta_head, nrrd_head, segments, write_meta, write_nrrd
from helpers.pictures import good, picture, reference, save
from helpers.volume_files import write_nifti

SHAPE = (12, 14, 4)
AFFINE = np.diag([0.5, 0.75, 2.0, 1.0])


def voxels(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 200, SHAPE).astype(np.int16)


def labels(seed: int) -> Any:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2 + seed % 3 : 8, 3:9] = 1
    return mask


def volumes(folder: Path, affine: Any = AFFINE, count: int = 5) -> Path:
    for number in range(count):
        write_nifti(folder / f"images/v{number}.nii.gz", voxels(number), affine)
        write_nifti(folder / f"masks/v{number}.nii.gz", labels(number), affine)
    return folder


def with_header(folder: Path, change: Callable[[Any], None], part: str = "images") -> Path:
    """Volumes, the first of them with a changed header, written as it is."""
    volumes(folder)
    made = nibabel.Nifti1Image(voxels(0) if part == "images" else labels(0), AFFINE)
    plain = folder / "plain.nii"
    nibabel.save(made, plain)
    content = bytearray(plain.read_bytes())
    plain.unlink()
    header = np.frombuffer(bytes(content[:348]), nibabel.nifti1.header_dtype).copy()
    change(header[0])
    content[:348] = header.tobytes()
    (folder / part / "v0.nii.gz").write_bytes(gzip.compress(bytes(content)))
    return folder


def setting_fields(**fields: Any) -> Callable[[Any], None]:
    def change(header: Any) -> None:
        for key, value in fields.items():
            header[key] = value

    return change


@row("D01")
def other_shape(folder: Path) -> Iterator[Try]:
    volumes(folder)
    write_nifti(folder / "masks/v1.nii.gz", labels(1)[:-1], AFFINE)
    yield Try(folder, "error", "volume", ("masks/v1.nii.gz", "11×14×4", "12×14×4"))
    save(good(folder / "flat") / "masks/c1.png", reference(1, (30, 30)))
    yield Try(folder / "flat", "error", "size", ("masks/c1.png", "30×30", "32×40"))


@row("D02")
def transposed(folder: Path) -> Iterator[Try]:
    save(good(folder) / "masks/c1.png", reference(1).T)
    yield Try(folder, "error", "transposed", ("masks/c1.png", "transposed?", "--fix"))


@row("D03")
def other_spacing(folder: Path) -> Iterator[Try]:
    write_nifti(volumes(folder) / "masks/v1.nii.gz", labels(1), AFFINE * [[1.01], [1], [1], [1]])
    yield Try(folder, "error", "volume", ("masks/v1.nii.gz", "voxels of"))
    # 0.5 microns in an image beside 0.5 mm in its mask.
    yield Try(in_microns(folder / "microns"), "error", "volume", ("masks/v0.nii.gz", "voxels of"))
    unknown = with_header(folder / "unknown", setting_fields(xyzt_units=6))
    yield Try(unknown, "error", "volume", ("images/v0.nii.gz", "xyzt_units"))


@row("D04")
def other_origin(folder: Path) -> Iterator[Try]:
    moved = AFFINE.copy()
    moved[0, 3] = 0.2
    write_nifti(volumes(folder) / "masks/v1.nii.gz", labels(1), moved)
    yield Try(folder, "error", "volume", ("masks/v1.nii.gz", "begins at"))
    moved[0, 3] = 0.04
    write_nifti(folder / "masks/v1.nii.gz", labels(1), moved)
    yield Try(folder, "works")


@row("D05")
def other_direction(folder: Path) -> Iterator[Try]:
    turned = AFFINE.copy()
    turned[:3, :3] = (
        np.array([[np.cos(0.1), -np.sin(0.1), 0], [np.sin(0.1), np.cos(0.1), 0], [0, 0, 1]]) @ AFFINE[:3, :3]
    )
    write_nifti(volumes(folder) / "masks/v1.nii.gz", labels(1), turned)
    yield Try(folder, "error", "volume", ("masks/v1.nii.gz", "turned against"))


@row("D06")
def left_is_right(folder: Path) -> Iterator[Try]:
    flipped = AFFINE.copy()
    flipped[0, 0], flipped[0, 3] = -0.5, 0.5 * (SHAPE[0] - 1)
    volumes(folder)
    for part, content in (("images", voxels(1)), ("masks", labels(1))):
        write_nifti(folder / part / "v1.nii.gz", content[::-1], flipped)

    def check(data: Path) -> None:
        assert_same_slices(data, voxels(1), labels(1))

    yield Try(folder, "works", check=check)
    # Image and mask of one anatomy may be stored in different orders.
    write_nifti(folder / "masks/v1.nii.gz", labels(1), AFFINE)
    yield Try(folder, "works", check=check)


def assert_same_slices(data: Path, image: Any, mask: Any) -> None:
    """Slices of v1 hold what these RAS voxels hold, seen with the front on top and the left on the right."""
    from pocketseg.data import Cases
    from pocketseg.pipeline import Reading

    cases = Cases.open(data, reading=Reading(raw=True))
    for number in range(SHAPE[2]):
        case = cases.named([f"v1#{number:03d}"])[0]
        np.testing.assert_array_equal(cases.mask(case), mask[::-1, ::-1, number].T)
        np.testing.assert_array_equal(cases.image(case), image[::-1, ::-1, number].T)


@row("D07")
def all_orientations(folder: Path) -> Iterator[Try]:
    def check(data: Path) -> None:
        from pocketseg.data.volumes import open_volume
        from pocketseg.data.volumes import write_nifti as write_back

        for path in sorted((data / "images").iterdir()):
            volume = open_volume(path)
            axis = volume.grid.axis("auto")
            canonical = volume.grid.canonical(volume.voxels())
            planes = [canonical.take(index, axis)[::-1, ::-1].T for index in range(canonical.shape[axis])]
            back = write_back(data / "back.nii.gz", volume.grid.rebuild(planes, axis), volume)
            stored, again = nibabel.load(path), nibabel.load(back)
            assert np.abs(stored.affine - again.affine).max() < 1e-6
            np.testing.assert_array_equal(np.asanyarray(stored.dataobj), np.asanyarray(again.dataobj))
            back.unlink()

    for number, (order, signs) in enumerate(
        itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
    ):
        affine = np.eye(4)
        affine[:3, :3] = (np.diag(signs) @ np.diag([0.5, 0.75, 2.0]))[list(order)]
        write_nifti(folder / f"images/v{number:02d}.nii.gz", voxels(number), affine)
        write_nifti(folder / f"masks/v{number:02d}.nii.gz", labels(number), affine)
    yield Try(folder, "works", check=check)


@row("D08")
def no_orientation(folder: Path) -> Iterator[Try]:
    volumes(folder)
    image, mask = nibabel.Nifti1Image(voxels(0), None), nibabel.Nifti1Image(labels(0), None)
    for part, made in (("images", image), ("masks", mask)):
        made.header.set_zooms((0.5, 0.75, 2.0))
        made.header["sform_code"] = made.header["qform_code"] = 0
        nibabel.save(made, folder / part / "v0.nii.gz")

    def check(data: Path) -> None:
        from pocketseg.data import Cases

        assert sorted(Cases.open(data).named(["v0#000"])[0].spacing_mm or ()) == [0.5, 0.75]

    yield Try(folder, "warning", "no-geometry", ("images/v0.nii.gz",), check=check)


@row("D09")
def two_geometries(folder: Path) -> Iterator[Try]:
    data = with_header(folder, setting_fields(qform_code=1, sform_code=1, qoffset_x=30.0))
    yield Try(data, "error", "volume", ("images/v0.nii.gz", "sform and qform"))


@row("D10")
def impossible_spacing(folder: Path) -> Iterator[Try]:
    for size in (0.0, -0.5):
        data = with_header(folder / str(size), setting_fields(pixdim=[1, size, 0.75, 2, 1, 1, 1, 1]))
        yield Try(data, "error", "volume", ("images/v0.nii.gz", "declares voxels"))


@row("D11")
def impossible_affine(folder: Path) -> Iterator[Try]:
    for kind, line in (("nan", [np.nan, 0, 0, 0]), ("flat", [0, 0, 0, 0])):
        data = with_header(folder / kind, setting_fields(sform_code=1, qform_code=0, srow_x=line))
        yield Try(data, "error", "volume", ("images/v0.nii.gz", "affine"))


@row("D12")
def four_dimensions(folder: Path) -> Iterator[Try]:
    write_nifti(volumes(folder) / "images/v0.nii.gz", voxels(0)[..., None], AFFINE)
    yield Try(folder, "works")
    write_nifti(folder / "images/v0.nii.gz", np.stack([voxels(0)] * 20, axis=-1), AFFINE)
    yield Try(folder, "error", "volume", ("images/v0.nii.gz", "series of 20", "NAME_0000"))
    for number in range(5):
        write_nifti(folder / f"images/v{number}.nii.gz", np.stack([voxels(number)] * 2, axis=-1), AFFINE)
    yield Try(folder, "works")


def in_microns(folder: Path) -> Path:
    return with_header(folder, setting_fields(xyzt_units=3))


@row("D13")
def lying_size(folder: Path) -> Iterator[Try]:
    data = with_header(folder, setting_fields(dim=[3, 1000, 1000, 1000, 1, 1, 1, 1]))
    yield Try(data, "error", "volume", ("images/v0.nii.gz", "more than the file can hold"))


@row("D14")
def faulty_gzip(folder: Path) -> Iterator[Try]:
    data = volumes(folder / "plain")
    (data / "images/v0.nii.gz").write_bytes(b"no gzip at all" * 50)
    yield Try(data, "error", "volume", ("images/v0.nii.gz", "gzip"))
    # A header of its own for 5 GB of zeros that the file does hold.
    bomb = with_header(folder / "bomb", setting_fields(dim=[3, 1700, 1700, 1700, 1, 1, 1, 1], datatype=2, bitpix=8))
    path = bomb / "images/v0.nii.gz"
    head = gzip.decompress(path.read_bytes())[:352]
    path.write_bytes(gzip.compress(head) + gzip.compress(bytes(2**20)) * 4800)
    yield Try(bomb, "error", "volume", ("images/v0.nii.gz", "limit"))


@row("D15")
def slopes(folder: Path) -> Iterator[Try]:
    for slope, wanted in ((0.0, "works"), (-2.0, "works"), (np.nan, "works or error")):
        data = with_header(folder / str(slope), setting_fields(scl_slope=slope, scl_inter=0.0))
        yield Try(data, wanted, told=("images/v0.nii.gz",))


@row("D16")
def big_endian(folder: Path) -> Iterator[Try]:
    volumes(folder)
    for part, content in (("images", voxels(1)), ("masks", labels(1))):
        header = nibabel.Nifti1Header(endianness=">")
        header.set_data_dtype(content.dtype)
        nibabel.save(nibabel.Nifti1Image(content, AFFINE, header), folder / part / "v1.nii.gz")
    yield Try(folder, "works", check=lambda data: assert_same_slices(data, voxels(1), labels(1)))


@row("D17")
def no_pixel_size(folder: Path) -> Iterator[Try]:
    yield Try(good(folder), "warning", "no-spacing", ("pixel size",))
    assert picture(0).shape == reference(0).shape


def headed(folder: Path, texts: str = "") -> Path:
    """Images and masks as NRRD and as MetaImage, one of them with its voxels beside its header."""
    for number in range(4):
        write_nrrd(folder / f"images/v{number}.nrrd", voxels(number), AFFINE)
        write_nrrd(folder / f"masks/v{number}.seg.nrrd", labels(number), AFFINE, texts=texts)
    write_meta(folder / "images/v4.mha", voxels(4), AFFINE, packed=True)
    write_meta(folder / "masks/v4.mha", labels(4), AFFINE)
    (folder / "images/v5.mhd").write_text(meta_head(voxels(5), AFFINE, file="v5.raw"))
    (folder / "images/v5.raw").write_bytes(voxels(5).tobytes(order="F"))
    write_nifti(folder / "masks/v5.nii.gz", labels(5), AFFINE)
    return folder


@row("D18")
def nrrd_and_metaimage(folder: Path) -> Iterator[Try]:
    data = headed(folder)
    yield Try(data, "works", check=lambda data: assert_same_slices(data, voxels(1), labels(1)))
    for space in ("RAS", "left-anterior-superior"):
        write_nrrd(data / "images/v1.nrrd", voxels(1), AFFINE, space=space)
        yield Try(data, "works", check=lambda data: assert_same_slices(data, voxels(1), labels(1)))
    flipped = AFFINE.copy()
    flipped[0, 0], flipped[0, 3] = -0.5, 0.5 * (SHAPE[0] - 1)
    write_meta(data / "masks/v1.mha", labels(1)[::-1], flipped)
    (data / "masks/v1.seg.nrrd").unlink()
    yield Try(data, "works", check=lambda data: assert_same_slices(data, voxels(1), labels(1)))


@row("D19")
def segments_with_names(folder: Path) -> Iterator[Try]:
    texts = segments(("nodule", 1, 0))
    yield Try(headed(folder / "one", texts), "works", check=lambda data: assert_same_slices(data, voxels(1), labels(1)))
    data = headed(folder / "two", texts)
    both = labels(2) + (labels(1) > labels(2)) * np.uint8(2)
    write_nrrd(data / "masks/v2.seg.nrrd", both, AFFINE, texts=segments(("nodule", 1, 0), ("cyst", 2, 0)))
    yield Try(data, "error", "mask", ("nodule (in 4 images)", "cyst (in 1 image)", "data.classes=["))
    write_nrrd(data / "masks/v2.seg.nrrd", both, AFFINE, texts=texts)
    yield Try(data, "error", "mask", ("masks/v2.seg.nrrd", "holds the labels 2", "nodule"))


@row("D20")
def headers_of_text_that_lie(folder: Path) -> Iterator[Try]:
    head = {"nrrd": nrrd_head(voxels(0), AFFINE, sizes="{}"), "mha": meta_head(voxels(0), AFFINE, DimSize="{}")}
    files = {"nrrd": "images/v0.nrrd", "mha": "images/v4.mha"}
    for kind, name in files.items():
        data = headed(folder / kind)
        whole = (data / name).read_bytes()
        for content in (whole[: len(whole) // 2], whole[:-1], b"", b"<html>", whole[:60]):
            (data / name).write_bytes(content)
            yield Try(data, "error", told=(name,))
        for sides in ("12 14 9999", "12 14 3", "99999999 99999999 99999999", "-1 -1 4", "0 0 0", "1e9 1 1"):
            text = head[kind].format(sides) + ("\n" if kind == "nrrd" else "")
            (data / name).write_bytes(text.encode() + voxels(0).tobytes(order="F"))
            yield Try(data, "error", told=(name,))


@row("D21")
def text_headers_that_are_bombs(folder: Path) -> Iterator[Try]:
    data = headed(folder)
    content = gzip.compress(bytes(2**20)) * 4800
    (data / "images/v0.nrrd").write_bytes(
        nrrd_head(labels(0), AFFINE, sizes="1700 1700 1700").encode() + b"\n" + content
    )
    (data / "images/v1.nrrd").write_bytes(b"NRRD0004\n" + b"# more\n" * 2_000_000)
    (data / "images/v2.nrrd").write_bytes(nrrd_head(labels(0), AFFINE).encode() + b"\n" + content)
    for name, told in (("v0", "limit"), ("v1", "header of more than"), ("v2", "more than")):
        yield Try(data, "error", told=(f"images/{name}.nrrd", told))


@row("D22")
def headers_that_lead_out(folder: Path) -> Iterator[Try]:
    secret = folder / "secret.raw"
    secret.parent.mkdir(parents=True, exist_ok=True)
    secret.write_bytes(voxels(0).tobytes(order="F"))
    for number, name in enumerate(("../../secret.raw", str(secret))):
        data = headed(folder / str(number))
        (data / "images/v5.mhd").write_text(meta_head(voxels(5), AFFINE, file=name))
        yield Try(data, "error", "volume", ("images/v5.mhd", "not a file in its folder"))
        (data / "images/v0.nrrd").unlink()
        (data / "images/v0.nhdr").write_text(nrrd_head(voxels(0), AFFINE, encoding="raw", data_file=name))
        yield Try(data, "error", "volume", ("images/v0.nhdr", "not a file in its folder"))
    data = headed(folder / "link")
    (data / "images/v5.raw").unlink()
    (data / "images/v5.raw").symlink_to(secret)
    yield Try(data, "error", told=("v5.raw",))

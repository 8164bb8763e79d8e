"""What is fuzzed: how a kind of file is mutated, and what is done with it."""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import json
import os
import random
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mutate import Mutator, below_gzip, below_png, below_zip, of_json, raw, text

from pocketseg.errors import ModelFileError


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        use: what is done with a file; returns, or raises a PocketsegError.
        mutators: each is used as often as it stands here.
        mib: of memory that a file may take; a picture's pixels are bounded, and 144 million take more than others may.
    """

    use: Callable[[Path], Any]
    mutators: tuple[Mutator, ...] = (raw,)
    mib: int = 512


def look(values: Any) -> None:
    """Touch every number."""
    assert isinstance(values, np.ndarray)
    assert values.dtype.kind in "buif"
    assert values.dtype.kind != "f" or np.isfinite(values).all()


def image(path: Path) -> None:
    from pocketseg.data.readers import read_image

    look(read_image(path))


def mask(path: Path) -> None:
    from pocketseg.data.masks import MaskCoding
    from pocketseg.data.readers import read_mask

    found = MaskCoding().decode(read_mask(path), str(path))
    assert found.ndim == 2 and set(np.unique(found)) <= {0, 1}


def volume(path: Path) -> None:
    from pocketseg.data.volumes import open_volume, slices_of
    from pocketseg.pipeline import Reading

    slices = slices_of(open_volume(path), Reading())
    look(slices[0].image())
    look(slices[-1].mask(gray=False)) if slices[0].image().ndim == 2 else None


def arrays(path: Path) -> None:
    from pocketseg.data import Cases

    cases = Cases.open(path)
    for case in cases:
        found = cases.look(case)
        assert found.image.shape[:2] == found.mask.shape


def regions(path: Path) -> None:
    from pocketseg.data.polygons import fill_all
    from pocketseg.data.rois import read_rois
    from pocketseg.errors import DataError

    try:
        assert fill_all(read_rois(path), (40, 50)).shape == (40, 50)
    except ValueError as error:  # `data convert` gives it the name of the file
        raise DataError(str(path), str(error)) from None


def annotations(layout: str, name: str, folder: str = "two") -> Callable[[Path], None]:
    """A file of annotations beside its images, read and painted."""

    def use(path: Path) -> None:
        from pocketseg.data import Cases, MaskCoding

        root = pictures() / folder
        target = root / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
        try:
            cases = Cases.open(root, layout, coding=MaskCoding(threshold=1))
            for case in cases:
                assert cases.mask(case).shape == cases.image(case).shape
        finally:
            target.unlink()

    return use


@cache
def pictures() -> Path:
    """Folders with one image and with two."""
    from PIL import Image

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("one/a", "two/images/a", "two/images/b"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)).save(folder / f"{name}.png")
    return folder


def weights(path: Path) -> None:
    from pocketseg.weights import read_weights

    for tensor in read_weights(path).values():
        assert tensor.is_contiguous()


def checkpoint(path: Path) -> None:
    from pocketseg.training.checkpoint import read_checkpoint

    read_checkpoint(path)


def keras(path: Path) -> None:
    """In a fork, which the library may crash or hang: `read_apart` tells either as a damaged file."""
    import h5py  # noqa: F401 - once, and not in every fork

    hdf5 = alone("weights/hdf5.py")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            hdf5.SECONDS = 1.0
            # What other tests have loaded into this process counts as well.
            hdf5.LIBRARIES_BYTES += int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            hdf5.limit_this_process(path.stat().st_size)
            hdf5.read_here(path)
            code = 0
        except (hdf5.RefusedError, MemoryError):
            code = 2
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 2) or code < 0
    if code:
        raise ModelFileError(str(path), "refused" if code == 2 else "the library failed")


@cache
def alone(name: str) -> Any:
    """A module without its room, whose other modules need torch."""
    import pocketseg

    spec = importlib.util.spec_from_file_location(Path(name).stem, Path(pocketseg.__file__).parent / name)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recipe(path: Path) -> None:
    from pocketseg.recipes import load_recipe

    load_recipe(path)


def split(path: Path) -> None:
    from pocketseg.data import Split

    Split.read(path, named_cases())
    Split.read(path)


def groups(path: Path) -> None:
    from pocketseg.data.groups import Grouping

    Grouping(csv=str(path), column="patient").assign(named_cases(), path.parent)


def named_cases() -> Any:
    from pocketseg.data.case import Case, FileSource

    def source(folder: str, name: str) -> FileSource:
        return FileSource(Path(folder) / f"{name}.png")

    names = [f"c{number}" for number in range(6)]
    return [Case(name, source("images", name), (source("masks", name),), group=name) for name in names]


def packed(path: Path) -> None:
    from pocketseg.predictors import load_pseg

    load_pseg(path, 1)


def onnx(path: Path) -> None:
    from pocketseg.predictors import load_onnx

    load_onnx(path, 1)


def pipeline(path: Path) -> None:
    """The pipeline of a model file: read, and where it is a usual one run with a net that answers 0."""
    from pocketseg.pipeline import Pipeline

    try:
        found = Pipeline.from_dict(json.loads(path.read_bytes()), str(path))
    except ValueError as error:  # whoever has the text says so
        raise ModelFileError(str(path), str(error)) from None
    height, width = found.net_size
    if max(height, width) > 512 or found.channels > 4:
        return
    outputs = 1 if len(found.classes) == 1 else len(found.classes) + 1
    shape = (20, 30) if found.channels == 1 else (20, 30, found.channels)
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    found.mask(
        found.predict(pixels, lambda batch: np.zeros((len(batch), outputs, *batch.shape[2:]), np.float32), (1, 1))
    )


def card(content: bytes, rng: random.Random) -> bytes:
    """The card of a packed model changed; lengths and digest are right."""
    head, body = content[:48], content[80:]
    length = struct.unpack("<Q", head[24:32])[0]
    changed = of_json(body[:length], rng)
    body = changed + body[length:]
    head = head[:16] + struct.pack("<QQ", 80 + len(body), len(changed)) + head[32:]
    return head + hashlib.sha256(head + body).digest() + body


def digest(content: bytes, rng: random.Random) -> bytes:
    """Any byte of a packed model changed, and a right digest."""
    changed = raw(content, rng)
    return changed[:48] + hashlib.sha256(changed[:48] + changed[80:]).digest() + changed[80:]


def metadata(content: bytes, rng: random.Random) -> bytes:
    """The pipeline in an ONNX file's metadata changed."""
    import onnx

    model = onnx.load_model_from_string(content)
    entry = model.metadata_props[0]
    entry.value = of_json(entry.value.encode(), rng).decode("utf-8", "replace")
    return model.SerializeToString()


PICTURE_MIB = 1536
TARGETS = {
    "png": Target(image, (raw, below_png, below_png), PICTURE_MIB),
    "jpg": Target(image, (raw,), PICTURE_MIB),
    "tif": Target(image, (raw,), PICTURE_MIB),
    "bmp": Target(image, (raw,), PICTURE_MIB),
    "mask": Target(mask, (raw, below_png), PICTURE_MIB),
    "stack": Target(volume, (raw,), PICTURE_MIB),
    "nii": Target(volume),
    "nii.gz": Target(volume, (raw, below_gzip, below_gzip, below_gzip)),
    "dcm": Target(volume),
    "npz": Target(arrays, (raw, below_zip, below_zip)),
    "roi": Target(regions),
    "roi.zip": Target(regions, (raw, below_zip)),
    "coco": Target(annotations("coco", "coco.json"), (of_json,)),
    "labelme": Target(annotations("labelme", "a.json", "one"), (of_json,)),
    "via": Target(annotations("via", "via.json"), (of_json,)),
    "cvat": Target(annotations("cvat", "annotations.xml"), (raw, text)),
    "yolo": Target(annotations("yolo", "labels/a.txt"), (text,)),
    "rle": Target(annotations("rle-csv", "train.csv"), (text,)),
    "pth": Target(weights, (raw, below_zip)),
    "pth.legacy": Target(weights),
    "safetensors": Target(checkpoint),
    "h5": Target(keras),
    "recipe": Target(recipe, (text,)),
    "split": Target(split, (of_json,)),
    "groups": Target(groups, (text,)),
    "pseg": Target(packed, (raw, card, card, digest)),
    "pipeline": Target(pipeline, (of_json,)),
    "onnx": Target(onnx, (raw, metadata)),
}

"""Make the seeds of the corpus: small, valid files of every kind. What fuzzing found lies beside them.

PYTHONPATH=tests python tests/fuzz/make_corpus.py
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import h5py
import nibabel
import numpy as np
import onnx
import torch
from PIL import Image

from helpers.packed_models import packed
from helpers.volume_files import dicom_image, save_dicom
from pocketseg.data.rois import roi_bytes, write_rois
from pocketseg.engine.codec import file_of, program_in
from pocketseg.pipeline import Normalization, Pipeline, Postprocess
from pocketseg.recipes.loading import shipped_text
from pocketseg.training.checkpoint import write_checkpoint

HERE = Path(__file__).parent
RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 255, (12, 16), np.uint8)
COLOR = RNG.integers(0, 255, (12, 16, 3), np.uint8)
MASK = np.zeros((12, 16), np.uint8)
MASK[3:8, 4:12] = 255


def place(kind: str, name: str) -> Path:
    path = HERE / "corpus" / kind / f"seed-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def pictures() -> None:
    for name, pixels in (("gray", GRAY), ("color", COLOR)):
        for kind, ending in (("png", "png"), ("jpg", "jpg"), ("tif", "tif"), ("bmp", "bmp")):
            Image.fromarray(pixels).save(place(kind, f"{name}.{ending}"))
    Image.fromarray(GRAY.astype(np.uint16) * 250).save(place("png", "deep.png"))
    Image.fromarray(COLOR).quantize(8).save(place("png", "palette.png"))
    Image.fromarray(COLOR).save(place("jpg", "progressive.jpg"), progressive=True)
    Image.fromarray(COLOR).convert("CMYK").save(place("jpg", "printing.jpg"))
    for compression in ("tiff_lzw", "tiff_deflate", "packbits"):
        Image.fromarray(GRAY).save(place("tif", f"{compression}.tif"), compression=compression)
    Image.fromarray(GRAY.astype(np.float32)).save(place("tif", "float.tif"))
    Image.fromarray(MASK).save(place("mask", "mask.png"))
    Image.fromarray(MASK > 0).save(place("mask", "bits.png"))
    pages = [Image.fromarray(GRAY), Image.fromarray(MASK), Image.fromarray(GRAY)]
    for name, compression in (("plain", None), ("deflate", "tiff_deflate")):
        pages[0].save(place("stack", f"{name}.tif"), save_all=True, append_images=pages[1:], compression=compression)


def volumes() -> None:
    voxels = RNG.integers(-90, 900, (6, 7, 4)).astype(np.int16)
    for number, made in enumerate(
        (nibabel.Nifti1Image(voxels, np.diag([0.5, 0.75, 2, 1])), nibabel.Nifti2Image(voxels, np.eye(4)))
    ):
        made.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, b"hello"))
        made.header.set_slope_inter(2 - number, number)
        for kind in ("nii", "nii.gz"):
            nibabel.save(made, place(kind, f"{number}.{kind}"))
    single = dicom_image(voxels[:, :, 0], series="a", number=1, position=(0, 0, 0))
    save_dicom(single, place("dcm", "one.dcm"))
    single.RescaleSlope, single.PhotometricInterpretation = -10, "MONOCHROME1"
    save_dicom(single, place("dcm", "negative.dcm"))


def data() -> None:
    images, masks = RNG.integers(0, 255, (3, 8, 9, 1), np.uint8), RNG.integers(0, 2, (3, 8, 9, 1), np.uint8)
    np.savez(place("npz", "plain.npz"), images=images, masks=masks)
    np.savez_compressed(place("npz", "packed.npz"), arr_0=images / np.float32(255), arr_1=masks)
    square, hole = [(2, 2), (2, 30), (30, 30), (30, 2)], [(8, 8), (8, 20), (20, 20), (20, 8)]
    place("roi", "polygon.roi").write_bytes(roi_bytes([square]))
    place("roi", "shape.roi").write_bytes(roi_bytes([square, hole]))
    write_rois(place("roi.zip", "set.zip"), [roi_bytes([square]), roi_bytes([square, hole])])
    names = [f"c{number}" for number in range(6)]
    folds = [{"train": names[:3], "validation": names[3:4], "test": names[4:]}]
    content = {"rule": {"kind": "holdout"}, "folds": folds, "groups": {name: name for name in names}}
    place("split", "split.json").write_text(json.dumps(content))
    rows = "".join(f"{name},p{number // 2},left\n" for number, name in enumerate(names))
    place("groups", "groups.csv").write_text(f"case,patient,side\n{rows}")
    for name in ("thin-unet", "pocket"):
        place("recipe", f"{name}.yaml").write_text(shipped_text(name))


def annotations() -> None:
    """Of the images a.png and b.png, 12 × 16 pixels."""
    square = [2, 2, 9, 2, 9, 8, 2, 8]
    images = [{"id": number, "file_name": f"{name}.png", "height": 12, "width": 16} for number, name in enumerate("ab")]
    shapes = [
        [square, [1, 1, 3, 1, 3, 3]],
        {"size": [12, 16], "counts": [5, 7, 180]},
        {"size": [12, 16], "counts": "57d5"},
    ]
    notes = [
        {"id": n, "image_id": n % 2, "category_id": 1 + n % 2, "segmentation": each} for n, each in enumerate(shapes)
    ]
    categories = [{"id": 1, "name": "lesion"}, {"id": 2, "name": "cyst"}]
    content = {"images": images, "annotations": notes, "categories": categories}
    place("coco", "all.json").write_text(json.dumps(content))
    points = [("polygon", [[2, 2], [9, 2], [9, 8]]), ("rectangle", [[1, 1], [4, 5]]), ("circle", [[6, 6], [8, 8]])]
    drawn = [{"label": "lesion", "shape_type": kind, "points": each} for kind, each in points]
    labelme = {"imagePath": "a.png", "imageData": None, "imageHeight": 12, "imageWidth": 16, "shapes": drawn}
    place("labelme", "a.json").write_text(json.dumps(labelme))
    regions = [
        {"name": "polygon", "all_points_x": [2, 9, 9], "all_points_y": [2, 2, 8]},
        {"name": "rect", "x": 1, "y": 1, "width": 4, "height": 3},
        {"name": "ellipse", "cx": 6, "cy": 6, "rx": 4, "ry": 2, "theta": 0.5},
    ]
    each = [{"shape_attributes": region, "region_attributes": {"type": "lesion"}} for region in regions]
    place("via", "via.json").write_text(json.dumps({"a.png9": {"filename": "a.png", "size": 9, "regions": each}}))
    place("cvat", "annotations.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<meta></meta>\n'
        '<image id="0" name="a.png" width="16" height="12">\n'
        '<polygon label="lesion" points="2,2;9,2;9,8" z_order="1"></polygon>\n'
        '<mask label="lesion" rle="1, 2, 3" left="4" top="5" width="3" height="2"></mask>\n'
        '<box label="lesion" xtl="1" ytl="1" xbr="4" ybr="5" rotation="20"></box>\n'
        '<ellipse label="cyst" cx="6" cy="6" rx="4" ry="2"></ellipse>\n</image>\n</annotations>\n'
    )
    place("yolo", "a.txt").write_text("0 0.1 0.1 0.6 0.1 0.6 0.7\n1 0.2 0.3 0.4 0.5 0.6 0.3 0.4 0.2\n")
    place("rle", "train.csv").write_text("ImageId,ClassId,EncodedPixels\na.png,1,14 5 26 5\na.png,2,40 3\nb,1,\n")


def models() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 2, 1))
    torch.save({"state_dict": net.state_dict(), "epoch": 3}, place("pth", "new.pth"))
    torch.save(net.state_dict(), place("pth.legacy", "old.pth"), _use_new_zipfile_serialization=False)
    write_checkpoint(place("safetensors", "best.safetensors"), net.state_dict(), {"kind": "model", "epoch": 3})
    with h5py.File(place("h5", "keras.h5"), "w") as file:
        file.attrs["layer_names"] = [b"conv", b"norm"]
        file.attrs["model_config"] = json.dumps({"layers": [{"name": "norm", "epsilon": 0.001}]})
        roles = {"conv": {"kernel": (3, 3, 1, 4), "bias": (4,)}, "norm": dict.fromkeys(("gamma", "beta"), (4,))}
        for layer, shapes in roles.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{role}:0".encode() for role in shapes]
            for role, shape in shapes.items():
                group[f"{layer}/{role}:0"] = np.ones(shape, np.float32)
    pipeline = Pipeline(
        (32, 32), multiple=8, classes=("lesion",),
        normalization=Normalization("train-mean-std", mean=(0.4,), std=(0.2,)),
        postprocess=Postprocess(0.6, min_peak=0.7, fill_holes=True),
    )  # fmt: skip
    place("pipeline", "one.json").write_text(pipeline.to_json())
    several = Pipeline((16, 24), classes=("a", "b"), fit="tile", channels=3, spacing_mm=(0.5, 0.5))
    place("pipeline", "several.json").write_text(several.to_json())
    program, _ = program_in(packed(), "seed")
    place("pseg", "model.pseg").write_bytes(
        file_of(program, {"pipeline": asdict(pipeline), "verification": {"kind": "exact"}})
    )
    onnx_file(place("onnx", "model.onnx"), pipeline)


def onnx_file(path: Path, pipeline: Pipeline) -> None:
    from onnx import TensorProto, helper

    shape = ["images", 1, 32, 32]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["image"], ["logits"])], "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"pocketseg": json.dumps({"version": 1, "pipeline": asdict(pipeline)})})
    onnx.save_model(model, path)


if __name__ == "__main__":
    pictures()
    volumes()
    data()
    annotations()
    models()

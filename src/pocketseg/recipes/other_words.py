"""Keys of other tools (nnU-Net, MONAI, Lightning, Ultralytics, scikit-learn), which a recipe may use for ours."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

log = logging.getLogger("pocketseg")

# Section, with * for each stage: their key -> ours.
WORDS: dict[tuple[str, ...], dict[str, str]] = {
    (): {"random_seed": "seed", "normalization": "normalize", "augmentation": "augment", "augmentations": "augment"},
    ("data",): {
        "image_size": "size", "img_size": "size", "imgsz": "size", "patch_size": "size", "spatial_size": "size",
        "in_channels": "channels", "num_channels": "channels", "class_names": "classes", "labels": "masks",
        "spacing": "spacing_mm", "pixdim": "spacing_mm",
    },
    ("split",): {
        "val": "validation", "n_splits": "folds", "num_folds": "folds", "n_folds": "folds", "random_state": "seed",
    },
    ("stages", "*"): {
        "batch_size": "batch", "num_epochs": "epochs", "max_epochs": "epochs", "early_stopping": "early_stop",
        "scheduler": "schedule", "lr_scheduler": "schedule", "quantization": "quant", "distillation": "distil",
    },
    ("stages", "*", "net"): {"name": "arch", "architecture": "arch"},
    ("stages", "*", "optimizer"): {
        "name": "kind", "learning_rate": "lr", "initial_lr": "lr", "lr0": "lr", "grad_clip": "clip_norm",
    },
    ("stages", "*", "schedule"): {"name": "kind"},
    ("postprocess",): {"min_size": "min_pixels", "min_area": "min_pixels", "fill": "fill_holes"},
}  # fmt: skip


def our_key(section: list[str], key: str) -> str:
    """Our name of a key, which is its own unless another tool's.

    Example:
        >>> our_key(["stages", "float"], "batch_size"), our_key(["stages", "float"], "batch")
        ('batch', 'batch')
    """
    known = ("stages", "*", *section[2:]) if section[:1] == ["stages"] and len(section) > 1 else tuple(section)
    ours = WORDS.get(known, {}).get(key)
    if ours is None:
        return key
    log.info("%s is called %s here", ".".join([*section, key]), ".".join([*section, ours]))
    return ours


def our_override(text: str) -> str:
    """`KEY=VALUE` under our name of the key.

    Example:
        >>> our_override("stages.*.num_epochs=5"), our_override("data.imgsz=[64, 64]")
        ('stages.*.epochs=5', 'data.size=[64, 64]')
    """
    path, equals, value = text.partition("=")
    parts = path.split(".")
    return ".".join(our_key(parts[:at], part) for at, part in enumerate(parts)) + equals + value


def with_our_keys(values: Any, section: Sequence[str] = ()) -> Any:
    """Plain values of a recipe with our names; a key that is there under both stays as it is, and is refused later."""
    if isinstance(values, dict):
        named = {}
        for key, value in values.items():
            ours = our_key([*section], str(key))
            ours = key if ours != key and ours in values else ours
            named[ours] = with_our_keys(value, (*section, str(ours))) if len(section) < 3 else value
        return named
    if isinstance(values, list) and tuple(section) == ("stages",):
        return [with_our_keys(each, (*section, str(number))) for number, each in enumerate(values)]
    return values

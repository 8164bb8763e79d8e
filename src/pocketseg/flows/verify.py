"""`verify`: whether a packed model computes here what it computed where it was packed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pocketseg.engine.verification import Verified, verified
from pocketseg.errors import ModelFileError
from pocketseg.predictors import open_pseg, pipeline_of
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.shipped import shipped_file


def verify(model: str | Path) -> Verified:
    """Run a packed model, or a run's first one, on generated images and compare with what it gave where it was packed.

    Raises:
        ModelFileError: the file is damaged, its pipeline is not valid, or the results differ.
    """
    path = Path(model)
    shipped = shipped_file(model)
    if shipped is not None and not path.exists():
        path = shipped
    session, card = open_pseg(RunFolder.existing(path).packed_file(0) if path.is_dir() else path)
    pipeline_of(card, session)
    record = card.get("verification")
    if not isinstance(record, Mapping):
        raise ModelFileError(str(model), "holds nothing to be verified by", "pack the model again")
    return verified(session, record)

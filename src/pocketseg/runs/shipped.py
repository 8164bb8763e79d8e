"""Small trained models that ship with the package, each with a card; `models/README.md` says how to add one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pocketseg.errors import ModelFileError, RecipeError
from pocketseg.files import MAX_TEXT, read_file
from pocketseg.text import brief, bytes_text

FOLDER = Path(__file__).parents[1] / "models"
NAME, LONGEST = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*"), 64
MAX_BYTES = 40 * 2**10
PACKED, CARD, WEIGHTS = ".pseg", ".json", ".safetensors"


class ModelCard(BaseModel):
    """What somebody has to know before a model is used."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    title: str = Field(min_length=1)
    """What it finds, in what images."""
    data: str = Field(min_length=1)
    """What it was trained on, and where that comes from."""
    license: str = Field(min_length=1)
    """Of the data, and what it means for the model."""
    split: str = Field(min_length=1)
    """How training and test cases were divided."""
    scores: dict[str, str] = Field(min_length=1)
    """Measured on test cases: name -> value with its interval."""
    limits: list[str] = Field(min_length=1)
    """What it was not tried on, and cannot do."""
    recipe: str = Field(min_length=1)
    """How it was trained: the name of a recipe, and its settings."""


@dataclass(frozen=True, repr=False)
class ShippedModel:
    """A model of the package.

    Attributes:
        name: by which `predict`, `evaluate`, `inspect`, `benchmark` and `load` know it.
        file: the packed model.
        card: what is known of it.
        weights: what a training can start from (`init.weights`), where that ships too.
    """

    name: str
    file: Path
    card: ModelCard
    weights: Path | None

    @property
    def size(self) -> str:
        return bytes_text(self.file.stat().st_size)

    def __repr__(self) -> str:
        return brief(self, f"{self.name}, {self.size}: {self.card.title}")


def shipped_models() -> list[ShippedModel]:
    """All models of the package, by name.

    Raises:
        ModelFileError: a card is missing or not valid, which is a fault of the package.
    """
    return [_model(file) for file in sorted(FOLDER.glob(f"*{PACKED}"))]


def shipped_file(name: str | Path) -> Path | None:
    """The packed model of this name; None where it is a path, or no such model ships."""
    return _file(str(name), PACKED)


def weights_file(given: str) -> Path:
    """The file of weights that a recipe means: a path, or what ships of a model.

    Raises:
        RecipeError: the model ships without weights to train on.
    """
    if _file(given, PACKED) is None or Path(given).exists():
        return Path(given)
    found = _file(given, WEIGHTS)
    if found is None:
        raise RecipeError(f"init.weights={given}", "ships as a packed model alone", "give a file of weights")
    return found


def _file(name: str, ending: str) -> Path | None:
    file = FOLDER / f"{name}{ending}"
    return file if len(name) <= LONGEST and NAME.fullmatch(name) and file.is_file() else None


def _model(file: Path) -> ShippedModel:
    place = file.with_suffix(CARD)
    try:
        card = ModelCard.model_validate_json(read_file(place, MAX_TEXT))
    except (OSError, ValidationError) as error:
        what = f"is not the card of a model ({error})"
        raise ModelFileError(str(place), what, "install pocketseg again") from None
    return ShippedModel(file.stem, file, card, _file(file.stem, WEIGHTS))

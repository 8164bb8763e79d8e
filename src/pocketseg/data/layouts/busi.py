"""Class folders (benign/, malignant/, normal/), each in the suffix layout; the folder is the case's label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pocketseg.data.layouts import suffix
from pocketseg.data.layouts.listing import Listing, subfolders
from pocketseg.data.layouts.naming import Naming

NAME = "busi"
LOOKS_LIKE = "CLASS/NAME.png + CLASS/NAME_mask.png"


def matches(root: Path, naming: Sequence[Naming] = ()) -> bool:
    return any(suffix.matches(folder, naming) for folder in subfolders(root))


def find(root: Path, naming: Sequence[Naming] = ()) -> Listing:
    """Cases of all class folders; where a stem stands in two of them, the folder joins the name."""
    listings = [suffix.find(folder, naming, label=folder.name) for folder in subfolders(root)]
    cases = [case for listing in listings for case in listing.cases]
    stems = [case.name for case in cases]
    if len(set(stems)) < len(stems):
        cases = [replace(case, name=f"{case.label}/{case.name}") for case in cases]
    rules = dict.fromkeys(listing.rule for listing in listings if listing.cases)
    problems = [problem for listing in listings for problem in listing.problems]
    return Listing(cases, problems, rule=", ".join(rules))

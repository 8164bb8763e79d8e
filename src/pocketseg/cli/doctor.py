"""`pocketseg doctor`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketseg.cli import console
from pocketseg.errors import Problem, lines
from pocketseg.text import counted

if TYPE_CHECKING:
    from pocketseg.flows.doctor import Diagnosis

FAULTY = 2
# Lines of one kind.
SHOWN = 20


def command(
    data: Annotated[Path, typer.Argument(help="Folder of images and masks, or an .npz file.")],
    fix: Annotated[Path | None, typer.Option(metavar="OUT", help="New folder for a repaired copy.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    split: Annotated[Path | None, typer.Option(help="Split file to examine (default: the recipe's rule).")] = None,
    recipe: Annotated[str, typer.Option(help="Recipe that says how data is read and split.")] = "thin-unet",
    set_: Annotated[list[str], typer.Option("--set", help="KEY=VALUE of it, such as data.mask.invert=true.")] = [],  # noqa: B006
) -> None:
    """Find everything that is wrong or suspicious about a data set, in one pass; the data is never changed.

    Errors (exit code 2) stop a training, warnings make its result doubtful, notes are good to know. Beside files that
    cannot be read or paired: equal and nearly equal images, contradicting masks and classes, marks and text in images,
    masks that are inverted, empty or full, and what a split would tear apart. docs/doctor.md explains every code.

    Examples:

        pocketseg doctor scans

        pocketseg doctor scans --fix scans-repaired

        pocketseg doctor scans --split runs/first/split.json --set data.group_csv=t.csv --set data.group_column=patient

        pocketseg doctor scans --json > findings.json
    """
    from pocketseg.flows.doctor import doctor

    console.log_to_terminal()
    with console.bars() as bars:
        done = doctor(data, recipe=recipe, overrides=set_, split=split, fix=fix, progress=bars)
    if as_json:
        print(done.as_json())
    else:
        _tell(done, set_)
    if not done.healthy:
        raise typer.Exit(FAULTY)


def _tell(done: Diagnosis, overrides: Sequence[str]) -> None:
    """The worst first, each kind under its code."""
    found = done.found
    console.speak(done.title)
    for code, same in done.kinds().items():
        console.speak(f"\n{same[0].level.upper()} {code} ({len(same)}): {same[0].why}")
        fixes = {finding.fix for finding in same}
        problems = [replace(finding.problem, fix=finding.fix if len(fixes) > 1 else "") for finding in same]
        for line in lines(problems, SHOWN):
            console.speak(f"  {line.replace(f'{found.root}/', '')}")
        if len(fixes) == 1 and same[0].fix:
            console.speak(f"  → {same[0].fix}")
    _tell_repair(done)
    console.speak(f"\n{done.verdict}" + ("; every file by name: --json" if found.findings else ""))
    if found.cases:
        rules = "".join(f" --set {shlex.quote(text)}" for text in overrides)
        console.advise(f"pocketseg data preview {shlex.quote(str(found.root))} --out preview.html{rules}")


def _tell_repair(done: Diagnosis) -> None:
    made = done.repaired
    if made is None:
        return
    console.speak(f"\nrepaired copy with {counted(made.cases, 'case')}: {made.out}")
    for title, shown in (("done", made.done), ("left out", made.left_out)):
        for line in lines([Problem(where, what) for where, what in shown], SHOWN):
            console.speak(f"  {title}: {line.replace(f'{done.found.root}/', '')}")
    if made.groups is not None:
        console.advise(f"add --set data.group_csv={made.groups.name} --set data.group_column=group")
        if done.found.groups_given:
            console.speak("        these are your groups; the column `joined` also joins those with near-duplicates")

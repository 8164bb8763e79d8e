"""The gate for a run of `train`: its last stage, where that is quantized, beside the float one that it began as."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pocketseg.errors import ModelFileError, RecipeError
from pocketseg.files import sha256_of, write_atomically, write_json
from pocketseg.predictors import read_pseg
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.gate import SHOWN, read_gate
from pocketseg.runs.packed import Packed, Packing, check_target, pack_model
from pocketseg.runs.source import ModelSource, float_stage
from pocketseg.search.gate import Validation, Verdict, compared
from pocketseg.text import counted

log = logging.getLogger("pocketseg")

# In Dice, where nobody says another.
MARGIN = 0.005


def gate_fold(run: RunFolder, fold: int, data: str | Path) -> None:
    """Hold the packed model of a fold against the float net, and say and write what was found; it stays what it is.

    Nothing is done where the last stage has no quantizers, went on from no float stage or was not packed, where that
    file was compared before, or where there are no validation cases.
    """
    recipe, packed = run.recipe(), run.packed_file(fold)
    last = recipe.stages[-1].name
    plain = float_stage(recipe, last)
    if plain in (None, last) or not packed.is_file():
        return
    digest, before = sha256_of(packed), read_gate(run, fold)
    if before is not None and before["sha256"] == digest:
        return
    on = Validation.of(run, fold, data)
    if not on.part:
        return
    try:
        beside = pack_model(ModelSource.of_run(run, fold, plain)).file
    except ModelFileError as error:
        log.warning("fold %d passes no gate: stage %s is not packed (%s)", fold, plain, error.problems[0])
        return
    found = compared({str(plain): beside, last: packed}, on, MARGIN)
    _tell(f"fold {fold}, stage {last}", found, len(on.part), run.path)
    files = {each.bits: {key: getattr(each, key) for key in SHOWN} for each in found}
    content = {"sha256": digest, "margin": MARGIN, "cases": len(on.part), "groups": len(set(on.groups)), "files": files}
    write_json(run.gate_file(fold), content)


def _tell(what: str, found: Sequence[Verdict], cases: int, run: Path) -> None:
    plain, each = found
    figures = (
        f"{100 * each.change:+.2f} points of Dice to stage {plain.bits} ({100 * each.low:+.2f} to "
        f"{100 * each.high:+.2f}; {counted(cases, 'validation case')}), {each.ratio:.2f} of its time, "
        f"{each.size_bytes / 1024:.1f} of {plain.size_bytes / 1024:.1f} KiB"
    )
    if each.refused:
        log.warning(
            "%s: refused by the gate: %s (%s); it is the run's model all the same, as the recipe asks, and %s is the "
            "float one", what, each.refused, figures, plain.file.relative_to(run),
        )  # fmt: skip
    else:
        log.info("%s: passes the gate: %s", what, figures)


def pack_through_gate(source: ModelSource, out: Path | None, how: Packing, max_drop: float) -> Packed:
    """Pack a model, and write it only where it passes the gate.

    Args:
        source: a run's model: a quantized stage that went on from a float one, or one that packing quantizes or rounds.
        out, how: as for `pack_model`.
        max_drop: the margin, in Dice.

    Raises:
        RecipeError: there is no float net of the run that it could be held against.
        ModelFileError: it is refused; nothing is written.
    """
    run = source.run
    if run is None or run.is_imported:
        what = "compares on validation cases of a run, and this is none"
        raise RecipeError("--gate", what, f"give the run folder in place of {source.path}")
    recipe = run.recipe()
    name = recipe.stages[-1].name if source.name == "model" else source.name
    plain = float_stage(recipe, name)
    if plain is None or (plain == name and not how.changes):
        what = f"has nothing to compare: stage {name} " + (
            "went on from no float stage of its run" if plain is None else "is the float net itself"
        )
        raise RecipeError("--gate", what, "leave it out, or give --calibrate, --weights or --constants")
    path = out or source.folder / ("-".join([source.name, *how.changes]) + ".pseg")
    check_target(path)
    with TemporaryDirectory() as place:
        files = {f"float stage {plain}": Path(place) / "float.pseg", name: Path(place) / "packed.pseg"}
        beside, target = files.values()
        pack_model(ModelSource.of_run(run, source.fold, plain), beside)
        packed = pack_model(source, target, how)
        on = Validation.of(run, source.fold, _data_of(run))
        if not on.part:
            raise RecipeError("--gate", "compares on validation cases, and the run has none", "leave it out")
        _, verdict = compared(files, on, max_drop)
        if verdict.refused:
            margin = f"; {verdict.needs[0]} accepts it" if verdict.needs else ""
            raise ModelFileError(
                str(path), f"is refused by the gate, and was not written: {verdict.refused}",
                f"--stage {plain} packs the float net{margin}",
            )  # fmt: skip
        write_atomically(path, read_pseg(target))
    log.info("%s passes the gate: %+.2f points of Dice, %.2f of the time", path, 100 * verdict.change, verdict.ratio)
    return Packed(path, packed.size_bytes, packed.arena_bytes, packed.parity, packed.tuning)


def _data_of(run: RunFolder) -> Path:
    found = Path(run.manifest()["data"]["path"])
    if not found.exists():
        what = f"compares on validation cases, and the run's data are no longer at {found}"
        raise RecipeError("--gate", what, "put them back, or leave it out")
    return found

"""A run folder as a training begins, resumes and finishes it; the manifest says with what."""

from __future__ import annotations

import hashlib
import logging
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketseg.data import CheckedData, Split
from pocketseg.data.split import given_text
from pocketseg.errors import RunError, named
from pocketseg.experiments.plan import OpenedData, RunPlan, file_stamps
from pocketseg.files import remove, resolved, write_atomically
from pocketseg.recipes import Recipe, changed_keys, dump_recipe, parse_yaml
from pocketseg.runs.folder import IMPORTED, RunFolder
from pocketseg.text import counted
from pocketseg.version import VERSION

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pocketseg.experiments.initialization import Start
    from pocketseg.training.model import Model

log = logging.getLogger("pocketseg")

LIBRARIES = ("accelerate", "numpy", "pillow", "pydantic", "safetensors", "torch")
# Of other versions of these a resumed training would not end in the same bytes.
COMPUTE = ("numpy", "torch")
# Of a recipe, that an error names.
MAX_KEYS = 12


def check_out(run: RunFolder, resume: bool) -> None:
    if resume:
        # A run that was killed before its first checkpoint begins again.
        if not run.recipe_file.exists() and not run.was_begun():
            raise RunError(str(run.path), "holds no run to resume", "check the path, or train without --resume")
    elif not run.is_empty():
        what = "already holds a run" if run.manifest_file.exists() else "is not empty"
        raise RunError(str(run.path), what, "go on with --resume, or choose another --out")


def refuse_begun(run: RunFolder, fold: int | None, resume: bool) -> None:
    """The same once the folder is held: another training may have begun it while the data were read.

    Folds may be begun at one moment by several processes, each its own.
    """
    if not resume and run.manifest_file.exists() and (fold is None or run.fold(fold).exists()):
        raise RunError(str(run.path), "already holds a run", "go on with --resume, or choose another --out")


def begin_run(run: RunFolder, plan: RunPlan, accelerator: Accelerator, resume: bool, allow_changed: bool) -> None:
    """Write what is known before the first step, or hold a resumed run against it. The manifest comes last."""
    from pocketseg.training.device import hardware

    cases, checked = plan.data.cases, plan.data.checked
    text = dump_recipe(plan.recipe)
    with run.manifest_changed() as manifest:
        if manifest:
            changed = changed_since(run, plan, allow_changed)
            lengthen(run, plan.recipe, manifest)
            if changed or resume:
                manifest.setdefault("resumed", []).append(
                    ": ".join([_now(), *([", ".join(changed)] if changed else [])])
                )
            if changed:
                log.warning("what changed since the run began: %s", ", ".join(changed))
            if plan.split.folds != Split.read(run.split_file).folds:
                what = "was begun with another split"
                raise RunError(str(run.path), what, "give the same --split, or choose another --out")
            if not resume:
                return  # another fold has begun the run
            if manifest["hardware"]["threads"] != hardware(accelerator.device)["threads"]:
                log.warning("another number of threads than before: the result will not be the same to the byte")
            log.info("resuming %s", run.path)
            return
        write_atomically(run.recipe_file, text)
        plan.split.write(run.split_file)
        manifest |= {
            **_written_with(),
            "data": {**_data_facts(plan.data), "channels": plan.pipeline.channels},
            "doctor": _findings(checked),
            "recipe_sha256": hashlib.sha256(path_bytes(text)).hexdigest(),
            "code": _code(plan.recipe),
            **({"augmentation": plan.augmentation.name} if plan.augmentation else {}),
            "seed": plan.recipe.seed,
            "processes": accelerator.num_processes,
            "hardware": hardware(accelerator.device),
            "determinism": determinism(accelerator),
            "started": _now(),
            "wall_time_s": 0.0,
        }
    groups = len({case.group for case in cases})
    log.info(
        "%s in %s, layout %s, from %s", counted(len(cases), "case"), counted(groups, "group"), cases.layout, cases.root,
    )  # fmt: skip
    colored = f"{checked.colored} of {counted(len(cases), 'image')}"
    log.info("%s in color; the net takes %s", colored, counted(plan.pipeline.channels, "channel"))
    if plan.split.rule.get("kind") == "given":
        log.info("%s", given_text(plan.split))
    for note in checked.notes:
        log.warning("%s", note)


def begin_imported(run: RunFolder, recipe: Recipe, model: Model, start: Start) -> None:
    """Write what is known of a run that is made of weights alone: no data, no split."""
    import torch

    from pocketseg.nets import parameter_count
    from pocketseg.training.device import hardware

    text = dump_recipe(recipe)
    write_atomically(run.recipe_file, text)
    (stage,) = recipe.stages
    with run.manifest_changed() as manifest:
        manifest |= {
            **_written_with(),
            IMPORTED: start.metadata(),
            "data": {"path": None, "cases": 0, "sha256": None, "channels": model.pipeline.channels},
            "recipe_sha256": hashlib.sha256(path_bytes(text)).hexdigest(),
            "code": _code(recipe),
            "seed": recipe.seed,
            "hardware": hardware(torch.device("cpu")),
            "started": _now(),
            "wall_time_s": 0.0,
            "stages": {
                f"fold-0/{stage.name}": {
                    "net": model.net_options,
                    "parameters": parameter_count(model.net),
                    "precision": "f32",
                    "start": start.metadata(),
                }
            },
            "finished": _now(),
        }


def _written_with() -> dict[str, Any]:
    """Versions of what computes."""
    return {
        "pocketseg": VERSION,
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }


def _code(recipe: Recipe) -> dict[str, str]:
    """File name -> SHA-256 of what defines nets and augmentation of the recipe that are not ours."""
    from pocketseg.nets import allowed_code

    digests = {Path(path).name: digest for path, digest in allowed_code().items()}
    names = [*(stage.net.arch for stage in recipe.stages), recipe.augment.own or ""]
    files = sorted({f"{file}.py" for name in names for file, own, _ in [name.partition(":")] if own})
    return {file: digests[file] for file in files}


def _data_facts(data: OpenedData) -> dict[str, Any]:
    """What is known of a data set as a whole."""
    cases, checked = data.cases, data.checked
    return {
        "path": str(resolved(cases.root)),
        "layout": cases.layout,
        "cases": len(cases),
        "files": checked.files,
        "empty_masks": len(checked.empty),
        "colored": checked.colored,
        "sha256": checked.digest,
    }


def _findings(checked: CheckedData) -> list[dict[str, Any]]:
    """What the check of the data found, kind by kind, without names of files."""
    by_code: dict[str, dict[str, Any]] = {}
    for found in checked.findings:
        kind = by_code.setdefault(found.code, {"code": found.code, "level": found.level, "why": found.why, "files": 0})
        kind["files"] += len(found.files)
    return list(by_code.values())


def longer_stages(run: RunFolder, recipe: Recipe) -> dict[str, tuple[int, int]]:
    """The stages that are to have more epochs than they had: name -> epochs before and now.

    Raises:
        RunError: the recipe differs in something else, or a stage was trained from one that would change.
    """
    before = run.recipe()
    epochs = {stage.name: stage.epochs for stage in before.stages if stage.epochs}
    longer = {
        stage.name: (epochs[stage.name], stage.epochs)
        for stage in recipe.stages
        if stage.epochs > epochs.get(stage.name, stage.epochs)
    }
    shorter = [
        stage.model_copy(update={"epochs": longer[stage.name][0]}) if stage.name in longer else stage
        for stage in recipe.stages
    ]
    if dump_recipe(before) != dump_recipe(recipe.model_copy(update={"stages": shorter})):
        begun, given = (parse_yaml(dump_recipe(each), str(run.recipe_file)) for each in (before, recipe))
        keys = list(changed_keys(begun, given))
        shown = [*keys[:MAX_KEYS], *([f"{len(keys) - MAX_KEYS} more"] if len(keys) > MAX_KEYS else [])]
        what = f"differs from the recipe given now ({', '.join(shown)})"
        fix = "resume with the same values, of which only epochs may grow, or choose another --out"
        raise RunError(str(run.recipe_file), what, fix)
    for stage in recipe.stages:
        sources = [each.stage for each in (stage.init, stage.teacher) if each is not None and each.run is None]
        begun_from = [name for name in sources if name in longer]
        if begun_from and any(run.stage(fold, stage.name).last.exists() for fold in run.folds()):
            name = begun_from[0]
            raise RunError(
                str(run.path),
                f"stage {stage.name!r} was trained from stage {name!r} as it is, which more epochs would change",
                f"begin a new run with --set 'stages.{name}.init={{run: {run.path}, stage: {name}}}'",
            )
    return longer


def lengthen(run: RunFolder, recipe: Recipe, manifest: dict[str, Any]) -> None:
    """Give a run the epochs of a longer recipe, if it is one; what was evaluated of the run no longer is."""
    longer = longer_stages(run, recipe)
    if not longer:
        return
    # Before the recipe: a run with all its epochs and a summary counts as finished.
    for fold in run.folds():
        for place in (None, *(stage.name for stage in recipe.stages)):
            remove(run.summary_file(fold, place))
    text = dump_recipe(recipe)
    write_atomically(run.recipe_file, text)
    changes = [f"stages.{name}.epochs {before} → {now}" for name, (before, now) in longer.items()]
    manifest["recipe_sha256"] = hashlib.sha256(path_bytes(text)).hexdigest()
    manifest.setdefault("resumed", []).append(f"{_now()}: {', '.join(changes)}")
    manifest.pop("finished", None)
    log.info("%s goes on for longer (%s), with the rates of so many epochs", run.path, ", ".join(changes))


def changed_since(run: RunFolder, plan: RunPlan, allowed: bool) -> list[str]:
    """What is not as it was when the run began: data, and versions of what computes.

    Raises:
        RunError: another recipe, but for more epochs; or a change that is not allowed.
    """
    longer_stages(run, plan.recipe)
    manifest = run.manifest()
    before, given_now = manifest.get("augmentation"), plan.augmentation and plan.augmentation.name
    if before != given_now:
        what = f"was begun with the augmentation {before or 'of the recipe alone'}, not {given_now or 'without one'}"
        fix = "give it again, as pocketseg.train(…, augment=FUNCTION, resume=True)" if before else "leave it out"
        raise RunError(str(run.path), what, fix)
    then = {"pocketseg": manifest["pocketseg"], **{name: manifest["libraries"].get(name) for name in COMPUTE}}
    now = {"pocketseg": VERSION, **{name: metadata.version(name) for name in COMPUTE}}
    changed = [f"{name} {then[name]} → {now[name]}" for name in then if then[name] != now[name]]
    if manifest["data"]["sha256"] != plan.data.checked.digest:
        found = _data_facts(plan.data)
        # What was not written of a run is not held against it.
        known = {name: manifest["data"].get(name, found[name]) for name in found}
        changed.append(f"other data ({', '.join(changed_keys(known, found))})")
    for file, digest in _code(plan.recipe).items():
        before = manifest.get("code", {}).get(file)
        if before != digest:
            changed.append(f"other code in {file} (SHA-256 {str(before)[:12]}… → {digest[:12]}…)")
    if changed and not allowed:
        what = f"was begun with something else: {', '.join(changed)}"
        raise RunError(str(run.path), what, "resume with the same; or with --allow-changed, and the manifest tells")
    return changed


def finish_run(run: RunFolder, data: OpenedData) -> None:
    """Tell of data that changed while it was trained on: nobody knows which of its states the run has seen."""
    cases, digest = data.cases, data.checked.digest
    now = file_stamps(cases)
    touched = [str(path) for path in cases.files() if now.get(path) != data.stamps.get(path)]
    seen: str | None = digest
    if touched:
        try:
            seen = cases.digest()
        except OSError:
            seen = None  # a file is gone
    with run.manifest_changed() as manifest:
        if seen != digest:
            manifest["data"]["changed_while_training"] = {"files": len(touched), "sha256": seen}
            log.warning(
                "the data changed while it was trained on: %s; train again to know what was learned", named(touched)
            )
        manifest["finished"] = _now()


def determinism(accelerator: Accelerator) -> str:
    """What a repetition of this run can be expected to give."""
    if accelerator.device.type == "cpu" and accelerator.num_processes == 1:
        return (
            "equal bytes of weights and history on the same kind of CPU with the same library versions and number of "
            "threads, resumed or not"
        )
    return "equal data order and augmentation; sums on this device may be ordered differently from run to run"


def path_bytes(text: str) -> bytes:
    """Text with names of files in it, which may not be UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

"""`fit`: from a folder of images and masks, and a budget, to the smallest accurate file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pocketseg import notebook
from pocketseg.errors import RecipeError, RunError
from pocketseg.evaluation import Summary
from pocketseg.experiments.plan import Progress
from pocketseg.experiments.run import train_run
from pocketseg.flows.report import report as write_run_report
from pocketseg.live import watched
from pocketseg.packages import require_report, require_torch
from pocketseg.recipes.other_words import our_override
from pocketseg.reporting import write_report
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.tables import write_table
from pocketseg.search.begin import Wishes, begin, go_on, winner_recipe, write
from pocketseg.search.budget import milliseconds, number_of_bytes, seconds
from pocketseg.search.profile import Profile
from pocketseg.search.shapes import Budget
from pocketseg.search.start import open_start
from pocketseg.search.state import Search, SearchFolder
from pocketseg.text import brief, bytes_text, number

if TYPE_CHECKING:
    from pocketseg.search.gate import Verdict
    from pocketseg.training.loop import Listener

log = logging.getLogger("pocketseg")


@dataclass(frozen=True, repr=False)
class FitResult:
    """What `fit` found.

    Attributes:
        out: the folder of the search.
        said: the result in a sentence; what the data cannot carry comes first.
        model: the accepted file; None where only a plan was asked for.
        verdicts: every file of the winner, with its figures and why it was refused.
        tested: the accepted file on the test part, one summary a class.
        report: the page.
        plan: the plan as Markdown.
    """

    out: Path | None
    said: str
    model: Path | None = None
    verdicts: tuple[Verdict, ...] = ()
    tested: tuple[Summary, ...] = ()
    report: Path | None = None
    plan: str = ""

    def __repr__(self) -> str:
        return brief(self, self.said)

    def _repr_html_(self) -> str:
        """The files with their figures, for notebooks."""
        if self.model is None:
            return notebook.paragraph(self.said)
        rows = [
            [each.bits, bytes_text(each.size_bytes), f"{each.ms:.2f}", number(each.dice), each.refused or "accepted"]
            for each in self.verdicts
        ]
        facts = {"model": self.model, "report": self.report or ""}
        columns = ["file", "size", "ms", "validation Dice", "verdict"]
        return notebook.paragraph(self.said) + notebook.table(columns, rows) + notebook.facts(facts)


def fit(
    data: str | Path,
    out: str | Path | None = None,
    *,
    size: str | int | None = None,
    latency: str | float | None = None,
    memory: str | int | None = None,
    time: str | float = "30min",
    steps: int | None = None,
    max_drop: float = 0.5,
    overrides: Sequence[str] = (),
    plan: bool = False,
    resume: bool = False,
    device: str = "auto",
    jobs: int | None = None,
    cluster: str | None = None,
    profile: str | Path | None = None,
    start_from: str | Path | None = None,
    quiet: bool = False,
    listener: Listener | None = None,
    progress: Progress | None = None,
) -> FitResult:
    """Find the smallest accurate net for a data set, without a recipe.

    The data are looked at, everything but the shape of the net is planned, shapes that cannot keep to the budget are
    left out by computation, the others are trained for a short time, the better half for longer, and the winner in
    full. Its quantized files are accepted where they lose nothing that matters; `out` then has `model.pseg`, a report,
    the plan, and every training as an ordinary run folder. `docs/fit.md` says how it chooses.

    Args:
        data: folder (or `.npz` file) of images and masks.
        out: the folder of the search; new, or with `resume` one that a search left. Not needed for a plan.
        size: of the packed file at most, such as "40KB" (1000 bytes each) or "40KiB" (1024), or a number of bytes.
        latency: of the net for one image on this machine at most, such as "5ms"; a number is milliseconds.
        memory: of the engine for one image at most, such as "2MB", or a number of bytes.
        time: that all may take about, such as "30min"; a number is seconds. It covers the look at the data, counting,
            trainings, packing and the report. The clock is read once, before the first training; what is too little
            is said.
        steps: of the winner's training, instead of `time`; then the result does not depend on how fast this machine is.
        max_drop: points of Dice that a quantized file may lose at most, shown on validation cases.
        overrides: `key=value` of the plan, as --set on the command line.
        plan: only plan; nothing is written.
        resume: go on with a search that was stopped or killed; with another `max_drop` files are accepted by that.
        device: auto, cpu, cuda, cuda:N or mps.
        jobs: trainings side by side.
        cluster: `local` or `ray://HOST:PORT`: trainings are handed to Ray, as in `train`.
        profile: file that `pocketseg benchmark --profile` made on another machine: milliseconds are then estimates for
            that one, in the budget and in the gate.
        start_from: a run folder, a folder of `fit`, weights of one, or the name of a model that ships (`pocketseg
            models`): candidates whose net is the same start from its weights.
        quiet: show nothing.
        listener: informed about every step and epoch of trainings in this process, instead of showing them.
        progress: informed about reading, packing, evaluating and the report.

    Raises:
        PocketsegError: data that cannot be used; a budget that no shape keeps to (the smallest possible is named); no
            file that is accepted and keeps to the budget; or a signal, with the state saved.
    """
    require_torch()
    require_report()
    if not 0 < max_drop < 100:
        raise RecipeError(f"--max-drop {max_drop:g}", "is not between 0 and 100 points of Dice", "for example 0.5")
    if steps is not None and steps < 1:
        raise RecipeError(f"--steps {steps}", "is not a number of steps", "for example 5000")
    budget = Budget(
        number_of_bytes(size, "--size"), milliseconds(latency, "--latency"), number_of_bytes(memory, "--memory")
    )
    if jobs is not None and jobs < 1:
        raise RecipeError(f"--jobs {jobs}", "is not a valid number of jobs", "use 1 or more")
    there = None if profile is None else Profile.read(profile)
    set_ = tuple(map(our_override, overrides))
    start = None if start_from is None else open_start(start_from)
    wishes = Wishes(budget, seconds(time, "--time"), steps, set_, device, jobs or 1, there, start)
    with ExitStack() as stack:
        if not quiet and listener is None and progress is None:
            listener = progress = stack.enter_context(watched())
        if plan:
            found = begin(data, SearchFolder(Path(out or "OUT")), wishes, progress)
            return FitResult(None, f"{len(found.search.taken)} candidates", plan=found.text)
        if out is None:
            raise RunError("--out", "is missing", "name a new folder, or look at the plan alone with --plan")
        folder = SearchFolder(Path(out))
        home = RunFolder(folder.path)
        if not resume and not home.is_empty():
            raise RunError(str(out), "is not empty", "go on with --resume, or choose another --out")
        earlier = go_on(folder, wishes) if resume else None
        stack.enter_context(home.led())
        stack.enter_context(home.logged())
        search = earlier or write(folder, begin(data, folder, wishes, progress))
        for note in search.plan.notes:
            log.warning("%s", note)
        return _search(folder, search, data, max_drop / 100, device, jobs, cluster, listener, progress)


def _search(
    folder: SearchFolder,
    search: Search,
    data: str | Path,
    max_drop: float,
    device: str,
    jobs: int | None,
    cluster: str | None,
    listener: Listener | None,
    progress: Progress | None,
) -> FitResult:
    """Rounds, winner, gate and page; what is done already is read from the disk."""
    from pocketseg.search.accept import Gated, pass_gate, publish, tested
    from pocketseg.search.gate import advice
    from pocketseg.search.page import Found, candidate_table, first_line, page
    from pocketseg.search.rounds import Trainer, all_rounds

    rounds, shapes = all_rounds(folder, search, Trainer(data, device, jobs, cluster, listener, progress))
    tries = list[Gated]()
    for shape, run in zip(shapes, (folder.winner, folder.second), strict=False):
        if tries:
            if not tries[-1].another_may_pass:
                break
            log.warning("no file of %s is accepted; the next shape is trained, for as long again", tries[-1].shape.name)
        if not run.evaluated():
            which = "it is" if tries else "the winner is" if rounds else "one shape is trained, so none are compared:"
            log.info("%s %s; it is trained for %d steps", which, shape.name, search.schedule.full_steps)
            train_run(
                winner_recipe(search, shape), data, run.path, split=folder.split_file, device=device,
                resume=run.was_begun(), listener=listener, progress=progress,
            )  # fmt: skip
        tries.append(pass_gate(search, shape, run, data, max_drop))
    gated = next((each for each in tries if each.accepted), tries[0])
    publish(folder, gated)
    tests = tested(folder, gated.run, data) if gated.accepted else []
    found = Found(search, rounds, gated, tests, [each for each in tries if each is not gated])
    table = candidate_table(found)
    names = [column.name for column in table.columns]
    write_table(folder.table, [dict(zip(names, row, strict=True)) for row in table.rows])
    if not (gated.run.path / "report.html").exists():
        write_run_report(gated.run.path, progress=None if progress is None else partial(progress, "report"))
    write_report(page(found, max_drop, folder.path.name), folder.report)
    if gated.accepted is None:
        least = "; ".join(
            f"{f'{one.shape.name}, ' if len(tries) > 1 else ''}{each.bits}: {each.refused}"
            for one in tries
            for each in one.verdicts
        )
        every = [each for one in tries for each in one.verdicts]
        raise RunError(str(folder.path), f"no file was accepted ({least})", f"{advice(every)}; see {folder.report}")
    return FitResult(folder.path, first_line(found), folder.model, gated.verdicts, tuple(tests), folder.report)

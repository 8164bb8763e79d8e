"""Trainings that run side by side, each a fold of a run folder: in processes of this machine, or handed to Ray.

A training begins or resumes, whatever its folder says. So one whose process was killed is simply started again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from pocketseg import signals
from pocketseg.errors import EnvironmentProblem, Interrupted, PocketsegError, missing_package
from pocketseg.experiments.run import train_run
from pocketseg.runs.folder import RunFolder
from pocketseg.text import counted

if TYPE_CHECKING:
    from pocketseg.training.loop import StopRequest

# A training whose process was killed (by the system for want of memory, say) is started again so many times.
RETRIES = 3
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_STOP = 60
ERROR_CHARACTERS = 2000


@dataclass(frozen=True)
class Task:
    """One fold of a run that has its recipe and its split in its folder; paths are absolute."""

    run: str
    fold: int
    data: str
    device: str
    logs: tuple[str, ...] = ()
    folder: str = ""
    allow_changed: bool = False
    code: tuple[str, ...] = ()


def work(task: Task) -> None:
    """Do a task in this process.

    Raises:
        PocketsegError: as `train`.
    """
    from pocketseg.nets import allow_code

    run = RunFolder(Path(task.run))
    for file in task.code:
        allow_code(file)
    train_run(
        run.recipe(), task.data, run.path, fold=task.fold, device=task.device, trial=True, logs=task.logs,
        allow_changed=task.allow_changed,
    )  # fmt: skip


def _task(values: dict[str, Any]) -> Task:
    """A task that came as JSON, which has no tuples."""
    return Task(**{**values, "logs": tuple(values["logs"]), "code": tuple(values["code"])})


def format_error(error: BaseException) -> str:
    """An error as one line of a table."""
    text = str(error) if isinstance(error, PocketsegError) else f"{type(error).__name__}: {error}"
    return " | ".join(text.split("\n"))[:ERROR_CHARACTERS]


class Workers(Protocol):
    """Who does tasks; `running` holds those that are not ended, `said` is for the log."""

    running: dict[Task, Any]
    said: str

    def start(self, task: Task) -> None: ...
    def has_room(self) -> bool: ...
    def ended(self) -> Iterator[tuple[Task, str]]:
        """Tasks that ended since the last call, each with its error or an empty text."""
        ...

    def stop(self) -> None:
        """Let every task save and stop, and wait for it."""
        ...

    def close(self) -> None: ...


def do_all(
    tasks: Sequence[Task],
    workers: Workers,
    stop: StopRequest,
    ended: Callable[[Task, str], None],
    watch: Callable[[Sequence[Task]], None],
) -> None:
    """Do all tasks, as many at once as the workers take.

    Args:
        tasks: in the order in which they are started.
        workers: who does them.
        stop: asked while waiting.
        ended: reason and error of each task that ended, and its error.
        watch: called now and then with what is running.

    Raises:
        Interrupted: a signal came; what was running has saved its state.
    """
    waiting = deque(tasks)
    while waiting or workers.running:
        while waiting and workers.has_room():
            workers.start(waiting.popleft())
        time.sleep(SECONDS_BETWEEN_LOOKS)
        for task, error in workers.ended():
            ended(task, error)
        watch(list(workers.running))
        if stop.signal_number:
            left = len(waiting) + len(workers.running)
            workers.stop()
            what = f"stopped with {left} of {counted(len(tasks), 'training')} not finished; their state is saved"
            raise Interrupted(stop.signal_number, "training", what, "go on with the same command and --resume")


# --- processes of this machine ----------------------------------------------------------------------------------


@dataclass
class _Process:
    """A child, the files it tells its fate in, and how often it was started."""

    child: subprocess.Popen[bytes]
    output: IO[bytes]
    trace: IO[bytes]
    slot: int
    starts: int


class LocalWorkers:
    """Child processes that share this machine's cores, and its GPUs in turn.

    Args:
        jobs: children at a time.
        threads: of each child.
        gpus: of this machine; with none, or where the task names one, the task's device is taken as it is.
    """

    def __init__(self, jobs: int, threads: int, gpus: int = 0) -> None:
        self.jobs, self.threads, self.gpus = jobs, threads, gpus
        self.running: dict[Task, _Process] = {}
        self.said = f"{jobs} at a time with {counted(threads, 'thread')} each"

    def has_room(self) -> bool:
        return len(self.running) < self.jobs

    def start(self, task: Task) -> None:
        taken = {process.slot for process in self.running.values()}
        self._start(task, next(slot for slot in range(self.jobs) if slot not in taken), 1)

    def _start(self, task: Task, slot: int, starts: int) -> None:
        device = f"cuda:{slot % self.gpus}" if self.gpus and task.device in ("auto", "cuda") else task.device
        output, trace = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        child = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps({**asdict(task), "device": device})],
            # The pipe is never written to: it closes when this process is gone, and the child stops.
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=trace,
            env={**os.environ, "OMP_NUM_THREADS": str(self.threads)},
            **signals.own_group(),
        )
        self.running[task] = _Process(child, output, trace, slot, starts)

    def ended(self) -> Iterator[tuple[Task, str]]:
        for task, process in list(self.running.items()):
            code = process.child.poll()
            if code is None:
                continue
            del self.running[task]
            if signals.killer(code) and process.starts <= RETRIES:
                self._close(process)
                self._start(task, process.slot, process.starts + 1)
                continue
            yield task, "" if code == 0 else self._fate(process, code)
            self._close(process)

    def _fate(self, process: _Process, code: int) -> str:
        """What a child that failed says of it."""
        if killer := signals.killer(code):
            return f"killed by {killer} {process.starts} times (out of memory?)"
        for file in (process.output, process.trace):
            file.seek(0)
            lines = file.read().decode(errors="replace").strip().splitlines()
            if lines:
                return lines[-1][:ERROR_CHARACTERS]
        return f"ended with code {code}"

    def _close(self, process: _Process) -> None:
        assert process.child.stdin is not None
        for file in (process.output, process.trace, process.child.stdin):
            file.close()

    def stop(self) -> None:
        for process in self.running.values():
            signals.ask_to_stop(process.child)
        until = time.monotonic() + SECONDS_TO_STOP
        for process in self.running.values():
            try:
                process.child.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.child.kill()
                process.child.wait()
            self._close(process)
        self.running.clear()

    def close(self) -> None:
        self.stop()


def main() -> None:
    """A child: do the task that is the only argument; an error goes to standard output, in one line."""
    values = json.loads(sys.argv[1])
    threading.Thread(target=_stop_with_the_parent, daemon=True).start()
    try:
        work(_task(values))
    except PocketsegError as error:
        print(format_error(error))
        sys.exit(error.exit_code)


def _stop_with_the_parent() -> None:
    """Standard input ends when the parent does, whatever ended it."""
    sys.stdin.read()
    signals.end_this_process()


# --- Ray ----------------------------------------------------------------------------------------------------------


class RayWorkers:
    """Ray's workers, which start a task again when its process or machine is lost.

    Args:
        cluster: `local`, which starts one on this machine, or `ray://HOST:PORT`.
        jobs: tasks at a time; None leaves it to Ray.
        device: as in `train`; a task takes a GPU where the cluster has some, unless this is `cpu`.

    Raises:
        EnvironmentProblem: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, cluster: str, jobs: int | None, device: str) -> None:
        if cluster != "local" and not cluster.startswith("ray://"):
            raise EnvironmentProblem(f"--cluster {cluster}", "is not a cluster", "use local or ray://HOST:PORT")
        # Nothing about a hospital's trainings goes to anybody.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise missing_package("ray", "cluster", error) from error
        self.ray: Any = ray
        self.jobs = jobs
        self.running: dict[Task, Any] = {}
        self.ours = not self.ray.is_initialized()
        if self.ours:
            self._open(cluster)
        have = self.ray.cluster_resources()
        cpus = max(1, int(have.get("CPU", 1)) // jobs) if jobs else 1
        largest = max((int(node["Resources"].get("CPU", 1)) for node in self.ray.nodes() if node["Alive"]), default=1)
        gpus = 1 if device != "cpu" and have.get("GPU", 0) >= 1 else 0
        self.said = f"on a cluster with {have.get('CPU', 0):g} cores and {have.get('GPU', 0):g} GPUs"
        self.remote = self.ray.remote(max_retries=RETRIES, num_cpus=min(cpus, largest), num_gpus=gpus)(_on_ray)

    def _open(self, cluster: str) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if cluster == "local":
            options["include_dashboard"] = False
        else:
            options["address"] = cluster
        try:
            self.ray.init(**options)
        except Exception as error:  # Ray raises many kinds when it finds no cluster
            reason = " ".join(str(error).split())[:200]
            fix = "check that the cluster runs and that its Ray and Python are the versions of this machine"
            raise EnvironmentProblem(f"--cluster {cluster}", f"cannot be reached ({reason})", fix) from error

    def has_room(self) -> bool:
        return self.jobs is None or len(self.running) < self.jobs

    def start(self, task: Task) -> None:
        self.running[task] = self.remote.remote(asdict(task))

    def ended(self) -> Iterator[tuple[Task, str]]:
        references = list(self.running.values())
        done, _ = self.ray.wait(references, num_returns=len(references), timeout=0) if references else ([], [])
        for task in [task for task, reference in self.running.items() if reference in done]:
            yield task, self._fate(self.running.pop(task))

    def _fate(self, reference: Any) -> str:
        try:
            return str(self.ray.get(reference))
        except self.ray.exceptions.RayError as error:  # the task could not be run to its end
            return format_error(error)

    def stop(self) -> None:
        references = list(self.running.values())
        for reference in references:
            self.ray.cancel(reference, force=False)
        if references:
            self.ray.wait(references, num_returns=len(references), timeout=SECONDS_TO_STOP)
        self.running.clear()

    def close(self) -> None:
        if self.ours:
            self.ray.shutdown()


def _on_ray(values: dict[str, Any]) -> str:
    """A task in a worker of Ray; the error, if any, as text, so that Ray starts again only what was killed."""
    task = _task(values)
    try:
        # A recipe may name files by paths from where the training was started.
        os.chdir(task.folder)
        work(task)
    except Exception as error:
        return format_error(error)
    return ""


if __name__ == "__main__":
    main()

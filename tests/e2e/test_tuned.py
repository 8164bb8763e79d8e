"""`pocketseg pack --tune`: a run and a packed model, what the file asks for, and what is refused."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import pocketseg
from helpers.commands import run_cli
from helpers.packed_models import asking
from helpers.packed_models import packed as small_net
from pocketseg.data import Cases
from pocketseg.engine import tuning as flow
from pocketseg.engine.codec import file_of, program_in
from pocketseg.engine.library import kernel_names
from pocketseg.engine.program import KernelHints
from pocketseg.engine.session import JOINED, Session
from pocketseg.engine.verification import generated
from pocketseg.errors import ModelFileError, RecipeError
from pocketseg.flows.inspect_packed import inspect_packed
from pocketseg.predictors import default_threads

QUICK = 0.85
TIMED = re.compile(r"tuned: (0\.\d\d of the time on this machine|\d+ other kernels? (was|were) tried)")


@pytest.fixture(scope="module")
def packed(trained_run, phantom_data, tmp_path_factory):
    """Float, and the same with 8 by 8 bits."""
    folder = tmp_path_factory.mktemp("untuned")
    small = pocketseg.pack(trained_run, folder / "int8.pseg", calibrate=phantom_data / "images")
    return {"f32": pocketseg.pack(trained_run, folder / "f32.pseg").file, "int8": small.file}


@pytest.fixture
def clock(monkeypatch):
    """Times that the test decides on: kernels that the library does not choose take 1.1 of a net's time each, those in
    `quick`, which is given, `QUICK`."""
    quick: set[str] = set()
    untuned: list[Session] = []

    def ratio(rival: Session, best: Session, image: np.ndarray, turns: int) -> float:
        untuned[:] = untuned or [best]
        return seconds(rival) / seconds(best)

    def seconds(session: Session) -> float:
        pairs = zip(session.kernels, untuned[0].kernels, strict=True)
        return float(np.prod([QUICK if name in quick else 1.1 for name, before in pairs if name not in ("", before)]))

    monkeypatch.setattr(flow, "_ratio", ratio)
    return quick


def kernels(file) -> tuple[str, ...]:
    return Session(file.read_bytes(), "here").kernels


def logits(file, side: int = 48) -> np.ndarray:
    session = Session(file.read_bytes(), "here")
    return session(generated(1, side, side, 5)[None])


@pytest.mark.slow("three commands; what they do is tried here without")
def test_the_command_line(packed, trained_run, tmp_path):
    """By the clock of this machine, whatever it finds."""
    copy = shutil.copytree(trained_run, tmp_path / "run")
    (copy / "fold-0/model.pseg").unlink()
    done = run_cli("pack", copy, "--tune")
    assert done.returncode == 0, done.stderr
    assert TIMED.search(done.stdout) and "model.pseg" in done.stdout, done.stdout
    file = copy / "fold-0/model.pseg"
    assert np.abs(logits(file) - logits(packed["f32"])).max() < 1e-4
    assert run_cli("verify", file).returncode == 0
    again = run_cli("pack", packed["int8"], "--tune", "-o", tmp_path / "b.pseg")
    assert again.returncode == 0 and TIMED.search(again.stdout), again.stderr
    assert np.array_equal(logits(tmp_path / "b.pseg"), logits(packed["int8"]))


@pytest.mark.parametrize("form", ["f32", "int8"])
def test_what_is_faster_is_asked_for(packed, form, clock, tmp_path):
    clock |= {"scalar/convolution_float", "scalar/convolution_codes", "scalar/max_pool", "avx2/max_pool"}
    clock |= {"avx2/convolution_codes", "avx2/convolution_float", "neon/convolution_codes"}
    before = kernels(packed[form])
    seen: list[tuple[int, int]] = []
    done = pocketseg.pack(
        packed[form], tmp_path / "a.pseg", tune=True, progress=lambda done, of: seen.append((done, of))
    )
    assert done.parity is None and done.size_bytes == done.file.stat().st_size
    found = done.tuning
    program, container = program_in(done.file.read_bytes(), "here")
    assert len(found.changes) > 2 or found.machine != "avx512"
    for change in found.changes:
        assert change.after in clock and change.before == (before[change.instruction] or JOINED)
        assert change.ratio <= QUICK + 1e-9
    assert [each.instruction for each in found.changes] == sorted({each.instruction for each in found.changes})
    if found.changes:
        assert program.hints.machine == found.machine
        assert program.hints.kernels == {each.instruction: each.after for each in found.changes}
        assert found.ratio == pytest.approx(QUICK ** len(found.changes))
    assert all(kernels(done.file)[each.instruction] == each.after for each in found.changes)
    assert seen == [(number, len(seen)) for number in range(1, len(seen) + 1)] and len(seen) >= found.tried > 0
    difference = np.abs(logits(done.file) - logits(packed[form])).max()
    assert difference == 0 if form == "int8" else difference < 1e-4
    assert pocketseg.verify(done.file).exact == (form == "int8")
    assert container.card == program_in(packed[form].read_bytes(), "here")[1].card
    metadata = dict(inspect_packed(done.file).metadata)
    assert metadata["tuned for"].startswith(found.machine if found.changes else "no machine")


@pytest.fixture
def joined(packed):
    """A packed net whose depthwise layers are done inside of the next ones, where the machine can."""
    program, _ = program_in(small_net("thin_unet_w32_n4_separable", "w8a8"), "here")
    card = program_in(packed["int8"].read_bytes(), "here")[1].card
    return file_of(program, {"pipeline": card["pipeline"]})


def test_what_is_faster_alone_is_asked_for_by_its_own_name(joined, clock):
    plain = Session(joined, "here")
    inside = {number for number, name in enumerate(plain.kernels) if not name}
    assert bool(inside) == (plain.isa != "scalar")
    clock |= {f"{plain.isa}/convolution_codes"}
    found = flow.tuned(joined, "here", (32, 32), default_threads())
    assert {each.instruction - 1 for each in found.changes if "separable" in each.before} == inside
    assert all(each.after == f"{plain.isa}/convolution_codes" for each in found.changes)
    freed = Session(found.content, "here").kernels
    # The one channel of the first is depthwise and dense.
    assert {freed[number] for number in inside - {1}} <= {f"{plain.isa}/depthwise_codes"}


def test_what_is_inside_of_its_neighbor_waits_for_it(joined, clock):
    """It is tried once the neighbor is alone, and not before."""
    plain = Session(joined, "here")
    if plain.isa != "avx512":
        pytest.skip("only a machine with AVX-512 has two fast sets")
    inside = {number for number, name in enumerate(plain.kernels) if not name}
    clock |= {"avx2/depthwise_codes"}
    assert not inside & {each.instruction for each in flow.tuned(joined, "here", (32, 32), default_threads()).changes}
    clock |= {"avx512/convolution_codes"}
    found = {each.instruction: each for each in flow.tuned(joined, "here", (32, 32), default_threads()).changes}
    assert set(found) == inside | {number + 1 for number in inside}
    assert all(found[number].before == JOINED for number in inside)


def test_a_run_is_tuned_as_it_is_packed(trained_run, packed, clock, tmp_path):
    clock |= set(kernel_names())
    done = pocketseg.pack(trained_run, tmp_path / "a.pseg", tune=True)
    program, container = program_in(done.file.read_bytes(), "here")
    assert done.parity.holds and done.tuning.tried > 0
    assert (program.hints.kernels if program.hints else {}) == {
        each.instruction: each.after for each in done.tuning.changes
    }
    assert program.hints or done.tuning.machine != "avx512"
    assert container.card == program_in(packed["f32"].read_bytes(), "here")[1].card


def test_nothing_faster_is_the_file_as_it_was(packed, clock, tmp_path):
    done = pocketseg.pack(packed["int8"], tmp_path / "a.pseg", tune=True)
    assert done.tuning.changes == () and done.tuning.ratio == 1 and done.tuning.tried > 0
    assert done.file.read_bytes() == packed["int8"].read_bytes()


def test_what_was_asked_before_is_forgotten(packed, clock, tmp_path):
    """A file tuned elsewhere, tuned here."""
    program, container = program_in(packed["int8"].read_bytes(), "here")
    hints = KernelHints("abacus", {1: "abacus/beads"})
    old = tmp_path / "old.pseg"
    old.write_bytes(file_of(dataclasses.replace(program, hints=hints), container.card))
    assert "not for" in dict(inspect_packed(old).metadata)["tuned for"]
    done = pocketseg.pack(old, tune=True)
    assert done.file == old and old.read_bytes() == packed["int8"].read_bytes()


@pytest.mark.parametrize("together", [0.97, 0.98])
def test_changes_must_pay_together(packed, monkeypatch, tmp_path, together):
    """Each by itself looked faster. What is measured twice is all of them, beside none."""
    seen: list[tuple[tuple[str, ...], int]] = []

    def ratio(rival: Session, best: Session, image: np.ndarray, turns: int) -> float:
        again = (rival.kernels, turns) in seen
        seen.append((rival.kernels, turns))
        return together if again else 0.9

    monkeypatch.setattr(flow, "_ratio", ratio)
    done = pocketseg.pack(packed["int8"], tmp_path / "a.pseg", tune=True)
    if together < flow.CLEARLY:
        assert len(done.tuning.changes) > 1 and done.tuning.ratio == together
    else:
        assert done.tuning.changes == () and done.file.read_bytes() == packed["int8"].read_bytes()


def test_the_clock():
    """Plain kernels for wide codes beside those of this machine, on signs: more than one and a half times as slow."""
    plain = small_net("thin_unet", "w1a1")
    count = len(Session(plain, "here").kernels)
    slow, quick = (
        Session(asking(plain, dict.fromkeys(range(count), "scalar/convolution_wide")), "x"),
        Session(plain, "x"),
    )
    image = generated(1, 64, 64)[None]
    assert flow._ratio(slow, quick, image, 3) > 1.5
    assert flow._ratio(quick, slow, image, 3) < 0.67


def test_one_look_is_not_enough(packed, monkeypatch, tmp_path):
    looks: list[int] = []

    def ratio(rival, best, image, turns):
        looks.append(turns)
        return 0.5 if turns < max(flow.LOOKS) else 0.98

    monkeypatch.setattr(flow, "_ratio", ratio)
    done = pocketseg.pack(packed["int8"], tmp_path / "a.pseg", tune=True)
    assert not done.tuning.changes and looks == list(flow.LOOKS) * done.tuning.tried


def test_another_result_is_refused_and_leaves_no_file(packed, clock, monkeypatch, tmp_path):
    clock |= set(kernel_names())
    original, seen = Session.__call__, []

    def wrong(self, batch):
        seen.append(self)
        return original(self, batch) + (self is not seen[0])

    monkeypatch.setattr(Session, "__call__", wrong)
    with pytest.raises(ModelFileError, match=r"differ by .* with the kernel [a-z0-9]+/[a-z_]+"):
        pocketseg.pack(packed["int8"], tmp_path / "a.pseg", tune=True)
    assert not list(tmp_path.iterdir())


def test_time_is_limited(packed, clock, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(flow, "MAX_S", -1.0)
    clock |= set(kernel_names())
    done = pocketseg.pack(packed["int8"], tmp_path / "a.pseg", tune=True)
    assert done.tuning.tried == 0 and "0 of " in caplog.text


@pytest.mark.parametrize(
    "options",
    [{}, {"tune": True, "stage": "float"}, {"tune": True, "fold": 1}, {"tune": True, "weights": "bf16"},
     {"tune": True, "constants": "f16"}, {"tune": True, "calibrate": "scans"}],
    ids=str,
)  # fmt: skip
def test_a_packed_model_can_be_tuned_only(packed, options):
    with pytest.raises(RecipeError, match="packed already"):
        pocketseg.pack(packed["int8"], **options)


@pytest.mark.parametrize("content", [None, b"", b"\x89pseg\r\n\x1a", b"something else"])
def test_what_cannot_be_tuned(tmp_path, content):
    file = tmp_path / "a.pseg"
    if content is not None:
        file.write_bytes(content)
    done = run_cli("pack", file, "--tune")
    assert done.returncode == 2 and "a.pseg" in done.stderr and "Traceback" not in done.stderr
    assert content is None or file.read_bytes() == content


def test_a_damaged_file_stays(packed, tmp_path):
    content = bytearray(packed["int8"].read_bytes())
    content[-5] ^= 1
    (tmp_path / "a.pseg").write_bytes(content)
    done = run_cli("pack", tmp_path / "a.pseg", "--tune")
    assert done.returncode == 2 and "was altered" in done.stderr
    assert (tmp_path / "a.pseg").read_bytes() == content


@pytest.mark.slow("times every kernel in a new process")
def test_tuning_a_packed_model_needs_no_torch(packed, tmp_path):
    code = (
        "import sys, pocketseg\n"
        "pocketseg.pack(sys.argv[1], sys.argv[2], tune=True)\n"
        "heavy = {'torch', 'onnxruntime', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(packed["int8"]), str(tmp_path / "a.pseg")], check=True)


def test_masks_are_the_same(packed, clock, phantom_data, tmp_path):
    clock |= set(kernel_names())
    tuned = pocketseg.load(pocketseg.pack(packed["int8"], tmp_path / "a.pseg", tune=True).file)
    plain, cases = pocketseg.load(packed["int8"]), Cases.open(phantom_data)
    for case in list(cases)[:3]:
        image = np.asarray(cases.image(case))
        assert np.array_equal(tuned.predict(image), plain.predict(image))

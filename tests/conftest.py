"""What all tests share: the real data, tools that may be missing, and the rule that CI skips nothing for a tool."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pytest

from helpers.reliability_rows import HELD, held

pytest_plugins = ["helpers.sampling"]
# Changes the Python that imports it, for good: tests start processes with it, and those who look for doctests may not.
collect_ignore = ["helpers/as_windows/sitecustomize.py"]
MISSING_TOOL = "missing tool"


def shared_data() -> Path | None:
    """The folder of real data sets, beside the checkout or where POCKETSEG_DATA says."""
    places = [os.environ.get("POCKETSEG_DATA"), Path(__file__).parents[2] / "shared/data"]
    return next((Path(place) for place in places if place and Path(place).is_dir()), None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = shared_data()
    if folder is None:
        pytest.skip("no real data: neither ../shared/data nor POCKETSEG_DATA is there")
    return folder


@pytest.fixture(autouse=True)
def logger_as_imported() -> None:
    """The command line sets up the package's logger; each test begins with it as the import leaves it."""
    logger = logging.getLogger("pocketseg")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def tool():
    """Find a program, or skip the test with that reason."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{MISSING_TOOL}: {name} (scripts/system-packages installs it)")
        return path

    return find


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep which rows of the reliability matrix the tests hold, before some are left out; None of a part of them."""
    home, start = Path(__file__).parent, config.invocation_params.dir
    whole = any((start / each).resolve() == home for each in config.args) and not config.getoption("lf")
    config.stash[HELD] = held(items) if whole else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    _count_corpus(terminalreporter)
    _count_mutations(terminalreporter)
    skipped = terminalreporter.stats.get("skipped", [])
    missing = [report for report in skipped if MISSING_TOOL in str(report.longrepr)]
    if missing and os.environ.get("POCKETSEG_NO_SKIPS"):
        terminalreporter.section("skipped for a missing tool, which is a failure here")
        for report in missing:
            terminalreporter.write_line(f"{report.nodeid}: {report.longrepr[2]}")


def _count_corpus(reporter: pytest.TerminalReporter) -> None:
    """How many rows of the corpus of bad and odd inputs give what they must."""
    done = {
        outcome: [report for report in reporter.stats.get(outcome, []) if "corpus" in dict(report.user_properties)]
        for outcome in ("passed", "failed")
    }
    total = sum(map(len, done.values()))
    if total:
        reporter.write_line(f"corpus of bad and odd inputs: {len(done['passed'])}/{total} rows")


def _count_mutations(reporter: pytest.TerminalReporter) -> None:
    """How many random changes of valid data sets came out right."""
    reports = [report for outcome in ("passed", "failed") for report in reporter.stats.get(outcome, [])]
    counts = [dict(report.user_properties).get("mutations") for report in reports if report.when == "call"]
    right, total = (sum(count[place] for count in counts if count) for place in (0, 1))
    if total:
        reporter.write_line(f"random mutations of valid data sets: {right:,}/{total:,} as they should be")


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("POCKETSEG_NO_SKIPS"):
        return
    skipped = reporter.stats.get("skipped", [])
    if any(MISSING_TOOL in str(report.longrepr) for report in skipped) and session.exitstatus == 0:
        session.exitstatus = 1

"""How the command line speaks: results to standard output, everything else to standard error."""

from __future__ import annotations

import codecs
import io
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from io import StringIO
from types import MappingProxyType
from typing import TYPE_CHECKING

from rich.box import ASCII, HEAVY_HEAD, Box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from pocketseg.names import printable
from pocketseg.terminal import LogLines, limit, shown, wrapped

if TYPE_CHECKING:
    from pocketseg.live import StageTable

log = logging.getLogger("pocketseg")

ESCAPED = "pocketseg.escaped"
# Of an image, where a size is given by hand: above every scanner's, and products of two still fit everywhere.
MAX_SIDE = 32_768

out = Console(soft_wrap=True, highlight=False)


def bars() -> AbstractContextManager[StageTable]:
    """What shows progress for the length of a block; see `live.watched`."""
    from pocketseg.live import watched  # what draws bars takes a tenth of a second that --help does not need

    return watched()


def any_encoding() -> None:
    """What the encoding of standard output or error does not have is shown as JSON writes it; so JSON stays JSON."""
    codecs.register_error(ESCAPED, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def log_lines() -> None:
    """Show what the package logs as a service does: plain lines with a time. What cannot be written stops nothing."""
    logging.raiseExceptions = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers[:] = [handler]


def log_to_terminal() -> None:
    """Show what the package logs."""
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers[:] = [LogLines(logging.INFO)]


def speak(message: str, *, hang: int | None = None) -> None:
    """A line of result, or several, broken between words where the terminal is narrow; see `terminal.wrapped`."""
    out.print(shown(wrapped(printable(message, keep="\n"), limit(out), hang), keep="\n"))
    log.debug("%s", message)


def advise(command: str) -> None:
    """What to run next, in one line that can be copied."""
    out.print(shown(f"next:   {command}"))
    log.debug("next:   %s", command)


def pairs(found: Iterable[tuple[str, str]]) -> None:
    """Names and what they stand for, one a line."""
    known = list(found)
    width = max((len(name) for name, _ in known), default=0) + 2
    for name, text in known:
        speak(f"{name:<{width}}{text}", hang=width)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], keys: int = 1) -> None:
    """A table in which nothing is cut.

    Where the terminal is too narrow for it, what is the same in every row is said once, and the other columns stand in
    several tables, one below the other.

    Args:
        title: above it.
        columns: their names.
        rows: a text for each column.
        keys: how many of the first columns tell which row it is; each of the tables has them.
    """
    whole = _grid(title, columns, rows, range(len(columns)), keys)
    plain = StringIO()
    Console(file=plain, width=_width(whole), color_system=None, force_terminal=False).print(whole)
    log.debug("%s", plain.getvalue().rstrip())
    most = limit(out)
    if most is None:  # a file or a pipe, which rich would take for 80 columns
        print(plain.getvalue(), end="", file=out.file)
        return
    if _width(whole) <= most:
        out.print(whole, width=_width(whole), crop=False)
        return
    same = [at for at in range(len(columns)) if len({row[at] for row in rows}) == 1]
    out.print(Text(printable(title), "italic"), soft_wrap=False, overflow="fold")
    width = max((cell_len(columns[at]) for at in same), default=0) + 2
    for at in same:
        out.print(shown(wrapped(f"{columns[at] + ':':<{width}}{printable(rows[0][at])}", most, width), keep="\n"))
    varying = [at for at in range(len(columns)) if at not in same]
    first = sum(at < keys for at in varying) or 1
    # Names that tell which row it is take half of the line at most.
    caps = {at: max(most // (2 * first), 8) if at in varying[:first] else most // 2 - 4 for at in varying}
    needed = {at: min(max([cell_len(columns[at]), *_widths(rows, at)]), caps[at]) + 3 for at in varying}
    for block in _blocks(varying[:first], varying[first:], needed, most - 1):
        out.print(_grid("", columns, rows, block, keys, caps), soft_wrap=False)


def _grid(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    chosen: Sequence[int],
    keys: int,
    caps: Mapping[int, int] = MappingProxyType({}),
) -> Table:
    """Some columns of a table; texts that are longer than the cap of their column take several lines."""
    grid = Table(title=shown(title) or None, title_justify="left", box=_lines())
    for at in chosen:
        justify: JustifyMethod = "left" if at < keys else "right"
        cap = caps.get(at)
        whole = cap is None or max(_widths(rows, at), default=0) <= cap
        grid.add_column(shown(columns[at]), justify=justify, no_wrap=whole, overflow="fold", max_width=cap)
    for row in rows:
        grid.add_row(*(shown(row[at]) for at in chosen))
    return grid


def _lines() -> Box:
    """Lines of tables that the output has: a file or a pipe of Windows knows few characters."""
    try:
        str(HEAVY_HEAD).encode(out.encoding)
    except UnicodeEncodeError:
        return ASCII
    return HEAVY_HEAD


def _blocks(first: Sequence[int], rest: Sequence[int], needed: Mapping[int, int], most: int) -> Iterator[list[int]]:
    """Columns in groups that are narrow enough, each beginning with the first ones."""
    left = list(rest)
    while left or not rest:
        taken = [*first, *left[:1]]
        del left[:1]
        while left and sum(needed[at] for at in [*taken, left[0]]) <= most:
            taken.append(left.pop(0))
        yield taken
        if not rest:
            return


def _widths(rows: Sequence[Sequence[str]], at: int) -> list[int]:
    return [cell_len(printable(row[at])) for row in rows]


def _width(grid: Table) -> int:
    return Console(width=1000).measure(grid).maximum

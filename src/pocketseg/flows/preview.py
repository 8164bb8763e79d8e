"""`data preview`: one page with images and masks as they are read, and what was decided about them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketseg.data import BoundedCache, Case, Cases
from pocketseg.data.annotations.drawing import AnnotationSource
from pocketseg.data.annotations.images import base_of
from pocketseg.data.case import OutlineSource, single
from pocketseg.data.cases import CheckedData
from pocketseg.data.doctor.finding import Finding
from pocketseg.data.doctor.quick import quick_findings
from pocketseg.data.doctor.statistics import CaseStatistics
from pocketseg.data.layouts import LAYOUTS
from pocketseg.data.layouts.listing import kinds_text
from pocketseg.data.layouts.naming import STEM
from pocketseg.errors import DataError, Problem, lines
from pocketseg.files import try_page
from pocketseg.names import printable
from pocketseg.recipes import load_data_recipe
from pocketseg.recipes.schema import DataSection, MaskSection
from pocketseg.reporting import Gallery, Highlights, Notes, Panel, Properties, Report, Section, write_report
from pocketseg.runs.opening import cases_options
from pocketseg.text import brief, counted

# Cases are looked at once, one after the other; those that are shown are read again.
CACHE_BYTES = 64 * 2**20
# One part of the pictures shows each of these kinds: no foreground, least, most.
SHARE, FEWEST = 6, 3
SHOWN = 24
# Cases that cannot be read, where others can.
FAULTY = 6
NOTES = 20
COMMAND = "data preview"
RULE = (
    "Empty masks, the smallest and the largest masks by their share of the image (a sixth of the pictures each, where "
    "there are so many), and others drawn at random, always the same ones; a case of every class is among them."
)


@dataclass(frozen=True, repr=False)
class Previewed:
    """What was written.

    Attributes:
        page: the file.
        cases: how many the data set has.
        shown: how many the page shows.
        problems: what stands in the way of a training, one a kind.
    """

    page: Path
    cases: int
    shown: int
    problems: tuple[Problem, ...] = ()

    def __repr__(self) -> str:
        return brief(self, f"{self.page}: {self.shown} of {counted(self.cases, 'case')}")


def preview(
    data: str | Path,
    out: str | Path,
    *,
    cases: int = SHOWN,
    recipe: str | Path = "thin-unet",
    overrides: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Previewed:
    """Write a page of images with their masks as they are read, and of what was decided about the data.

    Args:
        data: the data set.
        out: an HTML file, which needs nothing else; names of files stand in it.
        cases: how many are shown.
        recipe: whose data section says how the data is read.
        overrides: `key=value` of it, as --set on the command line.
        progress: informed about reading.

    Raises:
        RecipeError: a recipe or an override that makes no sense.
        DataError: no image or mask can be shown, or `out` cannot be written, or is a page of others.
    """
    section = load_data_recipe(recipe, overrides).data
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise DataError(str(out), "is not a name of a page", "name an .html file")
    found, problems = Cases.found(data, section.layout, **cases_options(section))
    found.cache = BoundedCache(CACHE_BYTES)
    try_page(out, COMMAND, *found.files()[:1])
    looked, faults = _look(found, progress)
    problems = [*problems, *(problem for some in faults.values() for problem in some)]
    chosen = sample(looked, cases)
    galleries = [
        Gallery(title, [_panel(found, each) for each in some], section.classes) for title, some in chosen.items()
    ]
    faulty = [case for case in found if case.name in faults][: min(cases, FAULTY) if looked else cases]
    stored = [panel for case in faulty for panel in _stored_panels(case)]
    if not looked and not stored:
        raise DataError.of(problems)
    if stored:
        galleries.insert(0, Gallery("Cases with errors: image and mask as they are stored", stored, section.classes))
    findings = list(quick_findings(found.cases, looked, found))
    shown = sum(map(len, chosen.values())) + len({panel.title for panel in stored})
    subtitle = f"{counted(len(found), 'case')}, {shown} of them shown; names of files stand in this page"
    sections = [
        Section("decided", "How it is read", [_highlights(found, looked), _decided(found, looked, section, overrides)]),
        Section("attention", "What to look at", _attention(found.root, problems, findings), _advice(str(data))),
        Section("cases", "Images with their masks", galleries, RULE),
    ]
    write_report(Report(printable(f"Preview of {data}"), subtitle, sections, COMMAND), out)
    return Previewed(out, len(found), shown, tuple(problems))


def _look(
    cases: Cases, progress: Callable[[int, int], None] | None
) -> tuple[list[CaseStatistics], dict[str, list[Problem]]]:
    """What all cases tell that can be read, and the faults of the others by their names."""
    looked: list[CaseStatistics] = []
    faults: dict[str, list[Problem]] = {}
    for done, case in enumerate(cases, start=1):
        try:
            looked.append(cases.look(case).statistics)
        except DataError as error:
            faults[case.name] = error.problems
        if progress:
            progress(done, len(cases))
    return looked, faults


def _stored_panels(case: Case) -> list[Panel]:
    """The image of a case that cannot be read whole, and its masks as pictures, as far as there are any."""
    panels = []
    for what, source in [("image", case.image), *(("mask", mask) for mask in case.masks)]:
        try:
            pixels = source.image()
        except DataError:
            continue
        said = f"{what}, {pixels.shape[0]}×{pixels.shape[1]}"
        panels.append(Panel(printable(case.name), said, pixels, None))
    return panels


def sample(looked: Sequence[CaseStatistics], count: int) -> dict[str, list[CaseStatistics]]:
    """The cases that are shown, under titles, by the rule that the page states (`RULE`)."""
    draw = random.Random(0)
    share = max(count // SHARE, int(count >= FEWEST))
    empty = [each for each in looked if not each.foreground]
    filled = sorted((each for each in looked if each.foreground), key=lambda each: each.foreground)
    chosen = {
        "Empty masks": draw.sample(empty, min(share, len(empty))),
        "Smallest masks": filled[:share],
        "Largest masks": filled[share:][::-1][:share],
    }
    left = max(0, count - sum(map(len, chosen.values())))
    taken = {each.name for some in chosen.values() for each in some}
    rest = [each for each in looked if each.name not in taken]
    shown = {index for some in chosen.values() for each in some for index in each.classes}
    others: list[CaseStatistics] = []
    for index in sorted({index for each in looked for index in each.classes} - shown)[:left]:
        others += [next(each for each in rest if index in each.classes)]
    others = list({each.name: each for each in others}.values())
    rest = [each for each in rest if each.name not in {other.name for other in others}]
    others += draw.sample(rest, min(left - len(others), len(rest)))
    place = {each.name: number for number, each in enumerate(looked)}
    chosen["Others, at random"] = sorted(others, key=lambda each: place[each.name])
    return {title: some for title, some in chosen.items() if some}


def _panel(cases: Cases, each: CaseStatistics) -> Panel:
    case = cases.named([each.name])[0]
    said = [f"{each.shape[0]}×{each.shape[1]}", f"{100 * each.foreground:.1f} %" if each.foreground else "empty"]
    said += [text for text in (case.part, case.label) if text]
    return Panel(printable(case.name), ", ".join(said), cases.image(case), cases.mask(case))


def _highlights(cases: Cases, looked: Sequence[CaseStatistics]) -> Highlights:
    groups = len({case.group for case in cases})
    empty = sum(not each.foreground for each in looked)
    mean = sum(each.foreground for each in looked) / max(1, len(looked))
    average = (f"{100 * mean:.1f} %", f"of an image on average; {counted(empty, 'mask')} empty")
    return Highlights(
        [
            ("Cases", f"{len(cases):,}", f"layout {cases.layout}"),
            ("Groups", f"{groups:,}", "one a case" if groups == len(cases) else "kept together by a split"),
            ("Foreground", *(average if looked else ("unknown", "no mask can be read"))),
        ]
    )


def _decided(
    cases: Cases, looked: Sequence[CaseStatistics], section: DataSection, overrides: Sequence[str]
) -> Properties:
    entries = {
        "Layout": f"{cases.layout}: {LAYOUTS[cases.layout].LOOKS_LIKE}",
        "Masks are called": "as their images" if cases.rule == STEM else cases.rule,
        "Images": _files(source for case in cases for source in case.image.files),
        "Masks": _files(path for case in cases for source in case.masks for path in source.files),
        "Channels": _channels(looked, section) if looked else "",
        "Read as": _stored(looked),
        "Sizes": _sizes(looked) if looked else "",
        "Pixel size": _spacing(cases.cases),
        "Classes": (_classes(looked, section.classes) if looked else ", ".join(section.classes))
        + "; they may overlap" * section.multilabel,
        "Foreground is": _drawn(cases.cases) or (_values(looked, section.mask) if looked else ""),
        "Raters": _raters(cases.cases, section),
        "Groups": _groups(cases, section),
        "Parts": _counts(case.part for case in cases) or "none given; the recipe's rule divides the cases",
        "Class folders": _counts(case.label for case in cases),
    }
    entries["Set"] = ", ".join(overrides)
    return Properties("What was decided", [(name, printable(text)) for name, text in entries.items() if text])


def _files(paths: Iterable[Path]) -> str:
    return kinds_text(sorted(set(paths)))


def _counts(values: Iterable[str | None]) -> str:
    return ", ".join(f"{value} {count:,}" for value, count in Counter(value for value in values if value).items())


def _channels(looked: Sequence[CaseStatistics], section: DataSection) -> str:
    stored = frozenset(each.channels for each in looked)
    colored = sum(each.colored for each in looked)
    contrasts = frozenset(each.channels for each in looked if each.contrasts)
    fitting = CheckedData("", 0, frozenset(), stored, contrasts=contrasts, colored=colored).fitting_channels
    net = fitting if section.channels == "auto" else section.channels
    held = ", ".join(map(str, sorted(stored)))
    return f"a net gets {net}; files hold {held}; {counted(colored, 'image') if colored else 'no image is'} in color"


def _stored(looked: Sequence[CaseStatistics]) -> str:
    ranges: dict[str, tuple[float, float]] = {}
    for each in looked:
        low, high = ranges.get(each.kind, (each.low, each.high))
        ranges[each.kind] = min(low, each.low), max(high, each.high)
    return ", ".join(f"{kind} from {low:g} to {high:g}" for kind, (low, high) in ranges.items())


def _sizes(looked: Sequence[CaseStatistics]) -> str:
    sizes = Counter(each.shape for each in looked)
    (height, width), count = sizes.most_common(1)[0]
    if len(sizes) == 1:
        return f"{height}×{width} (rows×columns), all"
    heights, widths = ([shape[axis] for shape in sizes] for axis in (0, 1))
    span = f"{min(heights)} to {max(heights)} rows, {min(widths)} to {max(widths)} columns"
    return f"{len(sizes)} sizes, {span}; {height}×{width} in {count:,}"


def _spacing(cases: Sequence[Case]) -> str:
    known = [case.spacing_mm for case in cases if case.spacing_mm is not None]
    if not known:
        return "unknown; distances are in pixels"
    low, high = min(map(min, known)), max(map(max, known))
    span = f"{low:.3g} mm" if low == high else f"{low:.3g} to {high:.3g} mm"
    return span + (f"; unknown in {len(cases) - len(known):,}" if len(known) < len(cases) else "")


def _classes(looked: Sequence[CaseStatistics], names: Sequence[str]) -> str:
    found = Counter(index for each in looked for index in each.classes)
    return ", ".join(
        f"{number} {name} in {counted(found[number], 'case')}" for number, name in enumerate(names, start=1)
    )


def _drawn(cases: Sequence[Case]) -> str:
    """What masks are made of that are not stored as such."""
    kinds = {type(source) for case in cases for source in single(case.masks)}
    if OutlineSource in kinds:
        return "what outlines enclose"
    return "what annotations draw" if AnnotationSource in kinds else ""


def _values(looked: Sequence[CaseStatistics], mask: MaskSection) -> str:
    """Which stored values are foreground, and by which rule."""
    rules = {"data.mask.colors": mask.colors, "data.mask.values": mask.values, "data.mask.layers": mask.layers}
    rule = next((key for key, given in rules.items() if given), "")
    if mask.threshold is not None:
        return f"everything {'below' if mask.invert else 'from'} {mask.threshold:g} (data.mask.threshold)"
    seen = sorted({value for each in looked for value in each.values})
    text = ", ".join(f"{value:g}" for value in seen[:8]) + (", …" if len(seen) > 8 else "")
    text = f"stored as {text}" if seen else "stored as true"
    if mask.invert:
        return f"0; {text} is background (data.mask.invert)"
    return text + (f" ({rule})" if rule else "")


def _raters(cases: Sequence[Case], section: DataSection) -> str:
    raters = sorted({rater for case in cases for rater in case.raters})
    how = {"each": "a case each", "staple": "fused by STAPLE", "majority": "what more than half drew"}[section.raters]
    return f"{', '.join(raters)}: {how}" if raters else ""


def _groups(cases: Cases, section: DataSection) -> str:
    count = len({case.group for case in cases})
    ways = {"data.group_csv": section.group_csv, "data.group_regex": section.group_regex}
    given = [f"{key}={value}" for key, value in ways.items() if value] + ["data.group_folder"] * section.group_folder
    beside = [finding.files[0] for finding in cases.said if finding.code == "groups-table"]
    source = [*given, *(Path(name).name for name in beside), "the layout" if cases.grouped else "every case is its own"]
    return f"{count:,} for {counted(len(cases), 'case')} ({source[0]})"


def _attention(root: Path, problems: Sequence[Problem], findings: Sequence[Finding]) -> list[Notes]:
    """Errors, then warnings and notes, each kind in a line."""
    warned = [finding for finding in findings if finding.level != "note"]
    noted = [finding for finding in findings if finding.level == "note"]
    kinds = {
        "Errors: a training would stop": problems,
        "Warnings": [finding.problem for finding in warned],
        "Notes": [finding.problem for finding in noted],
    }
    base = f"{base_of(root)}/"
    shown = {title: [line.replace(base, "") for line in lines(found, NOTES)] for title, found in kinds.items()}
    return [Notes(title, found) for title, found in shown.items() if found]


def _advice(data: str) -> str:
    return f"What listing and decoding tell. Everything else: pocketseg doctor {printable(data)}"

"""`web`: a packed model as one page that segments pictures in any browser, without a network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg import notebook
from pocketseg.engine.container import read_container
from pocketseg.engine.session import Session
from pocketseg.errors import DataError, EnvironmentProblem, ModelFileError
from pocketseg.evaluation import Summary, read_summaries
from pocketseg.files import inside, read_file, read_text, try_folder, try_page, write_atomically
from pocketseg.pipeline import Pipeline
from pocketseg.png import png_bytes
from pocketseg.predictors import pipeline_of, read_pseg
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.shipped import ModelCard, shipped_models
from pocketseg.text import brief, bytes_text, counted, interval, number
from pocketseg.written import Written

# The JavaScript module and the page, as they lie in a checkout and in a wheel.
SOURCES = Path(__file__).parents[1] / "web"
ENGINE = "pocketseg.wasm"
# Each behind those that it imports.
WORKER = ("engine", "worker")
PAGE = ("engine", "png", "tiff", "volume", "dicom", "nifti", "files", "measure", "zip", "view", "pocketseg", "page")
IMPORT = re.compile(r'^import (\{.*?\}) from "\./(\w+)\.js";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?:(?:async )?function |class |const )(\w+)", re.MULTILINE)
EXPORTED_TOO = re.compile(r"^export \{ (.*) \};\n", re.MULTILINE)
MAX_ENGINE = 2**22
# Nothing runs but the page's own script, and nothing is asked for: no connection, no picture, no font.
POLICY = (
    "default-src 'none'; script-src '{script}' 'wasm-unsafe-eval'; style-src '{style}'; worker-src {own}blob:; "
    "img-src {own}data: blob:; media-src blob:; connect-src 'none'; form-action 'none'; base-uri 'none'{more}"
)
# Of a page that can be installed, also its own files: the service worker, and what an icon is made of.
OWN, MANIFEST_TOO = "'self' ", "; manifest-src 'self'"
INSTALLED = """
<link rel="manifest" href="app.webmanifest">
<link rel="apple-touch-icon" href="icon-192.png">
<meta name="theme-color" content="#0b6b80">"""
INDEX, MANIFEST, OFFLINE, ICON = "index.html", "app.webmanifest", "offline.js", "icon-{}.png"
ICON_SIZES = (192, 512)
ICON_COLORS = ((11, 107, 128), (238, 242, 245), (86, 180, 233))


@dataclass(frozen=True, repr=False)
class Page:
    """The page of a model.

    Attributes:
        file: where it is.
        bytes: its size.
    """

    file: Path
    bytes: int

    def __repr__(self) -> str:
        return brief(self, f"{self.file}, {bytes_text(self.bytes)}")

    def _repr_html_(self) -> str:
        """What was written, for notebooks."""
        return notebook.facts({"file": self.file, "size": bytes_text(self.bytes)})


def web(model: str | Path, out: str | Path = "page.html", *, folder: str | Path | None = None) -> Page:
    """Write a page that holds a packed model and the engine: it opens from a disk, and works without a network.

    Args:
        model: packed model; a run folder, whose first one is taken; or the name of a model that ships. Of the last two
            the page shows the scores.
        out: the page, which ends in .html.
        folder: in place of `out`, a folder for a web server: a page that phones and computers can install, and that
            then opens without a network.

    Raises:
        DataError: another ending, or a file is there that `web` did not write.
        ModelFileError: the model is missing, damaged, of another kind, or too new; or its pipeline asks for what
            the native library does not do (calipers painted out, classes that overlap, limits of presence).
        EnvironmentProblem: this installation has no engine for browsers, or the file cannot be written.
    """
    path, page = Path(model), Path(out)
    run = RunFolder.existing(path) if path.is_dir() else None
    shipped = next((each for each in shipped_models() if each.name == str(model)), None) if not path.exists() else None
    path = shipped.file if shipped else path if run is None else run.packed_file(0)
    if folder is None:
        if page.suffix.lower() != ".html":
            raise DataError(str(page), "is written as HTML", "give a name that ends in .html")
        try_page(page, "web", path)
    content = read_pseg(path)
    session = Session(content, str(path))
    pipeline = pipeline_of(read_container(content, str(path)).card, session)
    _refuse_what_needs_numpy(session, pipeline)
    title = ", ".join(pipeline.classes)
    about = _about_shipped(shipped.card) if shipped else _about(run) if run else {"scores": [], "facts": []}
    text = rendered(content, path.name, title, engine(), about, installed=folder is not None)
    if folder is not None:
        return _site(Path(folder), title, text)
    write_atomically(page, text)
    return Page(page, len(text.encode()))


def _about(run: RunFolder) -> dict[str, Any]:
    """What the file of a run's first model does not hold: its scores, and what its maker says of its use."""
    card = run.recipe().card
    facts = {
        "Intended use": card.intended_use,
        "Not intended for": card.not_intended_use,
        "Limits": "; ".join(card.limits),
        "Contact": card.contact,
    }
    file = run.summary_file(0)
    found = read_summaries(file) if file.exists() else []
    test = [one for one in found if one.part == "test"]
    scores = [_score(one) for one in test or found if one.positive]
    return {"scores": scores, "facts": [[name, text] for name, text in facts.items() if text]}


def _about_shipped(card: ModelCard) -> dict[str, Any]:
    """The same of a model that ships, from its card."""
    facts = {"Finds": card.title, "Trained on": card.data, "License": card.license, "Limits": " ".join(card.limits)}
    scores = [f"{name}: {value}" for name, value in card.scores.items()]
    return {"scores": [*scores, card.split], "facts": [[name, text] for name, text in facts.items()]}


def _score(one: Summary) -> str:
    seen = "that training did not see" if one.part == "test" else "by which the model was chosen, so it is optimistic"
    spread = interval(one.dice_low, one.dice_high)
    cases = f"the mean of {counted(one.positive, 'image')} with it, among {one.cases} {seen}"
    return f"Dice of {one.class_name}: {number(one.dice)} (95 % interval {spread}), {cases}"


def _site(folder: Path, title: str, page: str) -> Page:
    """The page, and what makes it one that can be installed."""
    manifest = {
        "name": f"{title} (pocketseg)", "short_name": title[:12], "start_url": "./", "scope": "./",
        "display": "standalone", "background_color": "#f5f7f9", "theme_color": "#0b6b80",
        "icons": [{"src": ICON.format(size), "sizes": f"{size}x{size}", "type": "image/png"} for size in ICON_SIZES],
    }  # fmt: skip
    digest = hashlib.sha256(page.encode()).hexdigest()[:16]
    files: dict[str, bytes | str] = {
        INDEX: page,
        MANIFEST: json.dumps(manifest, ensure_ascii=False, indent=1) + "\n",
        OFFLINE: source(OFFLINE).replace("{digest}", digest),
        **{ICON.format(size): png_bytes(_icon(size)) for size in ICON_SIZES},
    }
    paths = {inside(folder, name): content for name, content in files.items()}
    own = Written(folder, "web")
    own.refuse_others(paths)
    try_folder(folder)
    with own.writing(lambda: paths):
        for path, content in paths.items():
            write_atomically(path, content)
    return Page(folder / INDEX, sum(path.stat().st_size for path in paths))


def _icon(size: int) -> NDArray[np.uint8]:
    """A region and its contour, uint8 (size, size, 3)."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    distance = np.hypot(x / 0.27, y / 0.22) + 0.12 * np.sin(3 * np.arctan2(y, x))
    pixels = np.empty((size, size, 3), np.uint8)
    for limit, color in zip((np.inf, 1.15, 1.0), ICON_COLORS, strict=True):
        pixels[distance < limit] = color
    return pixels


def _refuse_what_needs_numpy(session: Session, pipeline: Pipeline) -> None:
    """The page runs the native pipeline, which says what it does not do."""
    image = np.zeros((*pipeline.size, pipeline.channels), np.uint8)
    try:
        session.segment(image, pipeline.to_json(), pipeline.spacing_mm, False)
    except ModelFileError as error:
        raise ModelFileError(session.where, error.problems[0].what, "use `pocketseg predict`") from None


def engine() -> bytes:
    """The engine for browsers.

    Raises:
        EnvironmentProblem: it was not built.
    """
    file = SOURCES / ENGINE
    if not file.is_file():
        fix = "in a checkout: make wasm; or install a wheel that was built behind it"
        raise EnvironmentProblem(str(file), "the engine for browsers is not there", fix)
    return read_file(file, MAX_ENGINE)


def rendered(
    model: bytes, name: str, title: str, engine: bytes, about: Mapping[str, Any], *, installed: bool = False
) -> str:
    """The page of a model file of this name; equal inputs give equal bytes.

    Args:
        model, name, title, engine: the file, what it is called, the page's title, and `pocketseg.wasm`.
        about: `scores`, lines of text, and `facts`, pairs of name and text, that the file does not hold.
        installed: whether it lies in a folder with what makes it one that can be installed.
    """
    script, style = joined(PAGE), source("page.css")
    own, more = (OWN, MANIFEST_TOO) if installed else ("", "")
    return source("page.html").format(
        policy=POLICY.format(script=_digest(script), style=_digest(style), own=own, more=more),
        title=html.escape(title),
        installed=INSTALLED if installed else "",
        about=json.dumps(about).replace("<", "\\u003c"),
        model_name=html.escape(name),
        style=style,
        engine=_packed(engine),
        model=_packed(model),
        worker=joined(WORKER),
        script=script,
    )


def joined(names: tuple[str, ...]) -> str:
    """Modules as one: each in a function of its own, which gives what it exports."""
    return "\n".join(f"const module_{name} = (() => {{\n{_as_function(source(f'{name}.js'))}\n}})();" for name in names)


def source(name: str) -> str:
    return read_text(SOURCES / name)


def _as_function(text: str) -> str:
    exported = EXPORT.findall(text)
    for names in EXPORTED_TOO.findall(text):
        exported += names.split(", ")
    body = IMPORT.sub(r"const \1 = module_\2;", EXPORTED_TOO.sub("", text))
    body = re.sub(r"^export ", "", body, flags=re.MULTILINE)
    return f"{body}\nreturn {{ {', '.join(exported)} }};"


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

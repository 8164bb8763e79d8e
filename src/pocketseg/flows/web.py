"""`web`: a packed model as one page that segments pictures in any browser, without a network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketseg import notebook
from pocketseg.engine.container import read_container
from pocketseg.engine.session import Session
from pocketseg.errors import DataError, EnvironmentProblem, ModelFileError
from pocketseg.files import read_file, read_text, try_page, write_atomically
from pocketseg.pipeline import Pipeline
from pocketseg.predictors import pipeline_of, read_pseg
from pocketseg.runs.folder import RunFolder
from pocketseg.text import brief, bytes_text

# The JavaScript module and the page, as they lie in a checkout and in a wheel.
SOURCES = Path(__file__).parents[1] / "web"
ENGINE = "pocketseg.wasm"
# Each behind those that it imports.
WORKER = ("engine", "worker")
PAGE = ("engine", "png", "tiff", "volume", "dicom", "nifti", "files", "measure", "view", "pocketseg", "page")
IMPORT = re.compile(r'^import (\{.*?\}) from "\./(\w+)\.js";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?:(?:async )?function |class |const )(\w+)", re.MULTILINE)
EXPORTED_TOO = re.compile(r"^export \{ (.*) \};\n", re.MULTILINE)
MAX_ENGINE = 2**22
# Nothing runs but the page's own script, and nothing is asked for: no connection, no picture, no font.
POLICY = (
    "default-src 'none'; script-src '{script}' 'wasm-unsafe-eval'; style-src '{style}'; worker-src blob:; "
    "img-src data: blob:; media-src blob:; connect-src 'none'; form-action 'none'; base-uri 'none'"
)


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


def web(model: str | Path, out: str | Path = "page.html") -> Page:
    """Write a page that holds a packed model and the engine: it opens from a disk, and works without a network.

    Args:
        model: packed model, or a run folder, whose first one is taken.
        out: the page, which ends in .html.

    Raises:
        DataError: another ending, or a file is there that `web` did not write.
        ModelFileError: the model is missing, damaged, of another kind, or too new; or its pipeline asks for what
            the native library does not do (calipers painted out, classes that overlap, limits of presence).
        EnvironmentProblem: this installation has no engine for browsers, or the file cannot be written.
    """
    path, page = Path(model), Path(out)
    path = RunFolder.existing(path).packed_file(0) if path.is_dir() else path
    if page.suffix.lower() != ".html":
        raise DataError(str(page), "is written as HTML", "give a name that ends in .html")
    try_page(page, "web", path)
    content = read_pseg(path)
    session = Session(content, str(path))
    pipeline = pipeline_of(read_container(content, str(path)).card, session)
    _refuse_what_needs_numpy(session, pipeline)
    text = rendered(content, path.name, ", ".join(pipeline.classes), engine())
    write_atomically(page, text)
    return Page(page, len(text.encode()))


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


def rendered(model: bytes, name: str, title: str, engine: bytes) -> str:
    """The page of a model file of this name; equal inputs give equal bytes."""
    script, style = joined(PAGE), source("page.css")
    return source("page.html").format(
        policy=POLICY.format(script=_digest(script), style=_digest(style)),
        title=html.escape(title),
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

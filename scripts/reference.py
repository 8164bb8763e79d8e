"""Write the generated pages of the site below `docs`: `python scripts/reference.py`.

Nothing here repeats what the code says: recipe keys come from the JSON Schema, verbs from the command line's own
parser, errors from the exception tree, the C interface from its header. It needs pocketseg's own dependencies only.
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import sys
import tomllib
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
import yaml
from typer.models import ArgumentInfo, OptionInfo

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

import pocketseg  # noqa: E402
from pocketseg import errors  # noqa: E402
from pocketseg.cli.verbs import app  # noqa: E402
from pocketseg.recipes import recipe_schema  # noqa: E402

# The packages and modules that are a documented interface, beside the verbs.
PACKAGES = {
    "metrics": "Metrics as pure functions of arrays.",
    "quant": "Quantizers, and the arithmetic of low-bit numbers.",
    "nets": "The nets and their options.",
    "pipeline": "From an image to the net's input, and from its output to a mask.",
    "training.losses": "Losses on logits, as functions of tensors; they need the extra `train`.",
    "training.schedules": "Learning-rate schedules, as functions of where a training stands.",
}
EXTRAS = {
    "report": "evaluate and report",
    "train": "train, evaluate and report",
    "medical": "NIfTI and DICOM",
    "onnx": "run ONNX files with ONNX Runtime",
    "openvino": "run ONNX files with OpenVINO",
    "export": "write ONNX files",
    "tflite": "write TensorFlow Lite files",
    "keras-weights": "start from Keras weights",
    "lite0-weights": "the published weights of EfficientNet-Lite0",
    "encoders": "encoders of segmentation-models-pytorch",
    "tensorboard": "watch a training in TensorBoard",
    "cluster": "train on a Ray cluster",
    "serve": "answer requests over HTTP",
    "dicom-node": "be a DICOM node",
    "video": "segment videos",
}
DEVELOPERS = {"dev", "docs"}
# Bounds from here on are those of the number's type.
WHOLE = 2**62
ENVIRONMENT = {
    "POCKETSEG_CACHE": "Folder of downloaded starting weights; without it `XDG_CACHE_HOME/pocketseg` or "
    "`~/.cache/pocketseg`.",
    "POCKETSEG_CACHE_MIB": "Memory for decoded images during a training, in MiB; 1024 unless set.",
    "POCKETSEG_DEBUG": "Any text: show the traceback of an error, as `--debug` does.",
    "POCKETSEG_ISA": "Kernels that the engine uses: `scalar`, `sse41`, `avx2`, `avxvnni`, `avx512`, `amx`, `neon`, "
    "`dotprod` or `wasm`; without it the best that the processor has.",
    "POCKETSEG_PIPELINE": "What runs the pipeline around the net of a packed model: `native` (default) or `numpy`; "
    "results are the same.",
    "POCKETSEG_WEIGHTS_URL": "Address of a mirror of the published starting weights.",
}


def main() -> None:
    """Write every page below `docs`."""
    for name, page in pages().items():
        (ROOT / "docs" / name).write_text(page, encoding="utf-8")


def pages() -> dict[str, str]:
    """Path below `docs` -> Markdown."""
    reference = {
        "recipe": recipe_page(recipe_schema()),
        "commands": commands_page(),
        "errors": errors_page(),
        "environment": environment_page(),
        "extras": extras_page(),
        "c": c_page((ROOT / "native/include/pocketseg.h").read_text(encoding="utf-8")),
        "python": python_page(),
        **{f"python-{name}": package_page(name, what) for name, what in PACKAGES.items()},
    }
    return {
        **{f"reference/{name}.md": linked(page) for name, page in reference.items()},
        "decisions/index.md": decisions_page(),
    }


def linked(text: str) -> str:
    """Links for the paths of pages that texts of the code name.

    Example:
        >>> linked("`docs/nets.md` lists both.")
        '[nets](../nets.md) lists both.'
    """
    return re.sub(r"`?docs/([\w/-]+)\.md`?", r"[\1](../\1.md)", text)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; bars within cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


# --- recipe keys ---


def recipe_page(schema: dict[str, Any]) -> str:
    """A table for each section of a recipe, outermost first."""
    text = [
        "# Recipe keys\n",
        "Every key of a recipe. `--set KEY=VALUE` takes the same keys with dots, such as `--set data.channels=3`. A "
        "stage goes by its number or its name: `stages.0.epochs`, `stages.float.epochs`. "
        "[Recipes](../recipes.md) explains stages, `sweep` and `presets`, and how an "
        "[editor](../recipes.md#in-an-editor) completes and checks them.\n",
    ]
    for path, section in sections(schema):
        text += [f"## {path} {{ #{anchor(path)} }}\n" if path else "## The file\n", described(section) + "\n"]
        text.append(table(["key", "values", "default", "what it does"], list(key_rows(schema, path, section))))
    return "\n".join(text)


def sections(
    schema: dict[str, Any], path: str = "", section: dict[str, Any] | None = None
) -> Iterator[tuple[str, Any]]:
    """(dotted path, schema) of each section, in the order of the file; schedules have a section for each kind."""
    section = schema if section is None else section
    yield path, section
    for key, field in section["properties"].items():
        inner = f"{path}.{key}".lstrip(".") + (".N" if field.get("type") == "array" else "")
        members = list(references(field))
        for name in members:
            member = schema["$defs"][name]
            kind = member["properties"].get("kind", {}).get("const")
            yield from sections(schema, f"{inner}, kind: {kind}" if len(members) > 1 else inner, member)


def references(node: Any) -> Iterator[str]:
    """Names of the sections that a field may hold, each once."""
    found: dict[str, None] = {}
    for inner in walk(node):
        if "$ref" in inner:
            found[inner["$ref"].rpartition("/")[2]] = None
    return iter(found)


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(inner)


def key_rows(schema: dict[str, Any], path: str, section: dict[str, Any]) -> Iterator[list[str]]:
    """Key, allowed values, default and description of each key."""
    required = section.get("required", [])
    for key, field in section["properties"].items():
        inner = f"{path}.{key}".lstrip(".") + (".N" if field.get("type") == "array" else "")
        default = "required" if key in required and "const" not in field else default_of(schema, field)
        yield [f"`{key}`", values_of(field, inner), default, field["description"]]


def values_of(node: dict[str, Any], path: str) -> str:
    """What a key may hold, in words."""
    if "$ref" in node:
        return f"[section](#{anchor(path)})"
    if "oneOf" in node:
        return "section, one for each `kind`"
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(values_of(choice, path) for choice in node["anyOf"]))
    if "enum" in node or "const" in node:
        return ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    kind = node.get("type")
    if kind == "array":
        return array_of(node, path)
    if kind == "object":
        return "mapping"
    if isinstance(kind, list):
        return " or ".join(kind)
    names = {"boolean": "`true`, `false`", "null": "`null`", "string": "text"}
    return names.get(str(kind)) or f"{kind}{bounds(node)}"


def array_of(node: dict[str, Any], path: str) -> str:
    if "prefixItems" in node:
        return "[" + ", ".join(values_of(item, path) for item in node["prefixItems"]) + "]"
    item = values_of(node.get("items", {"type": "object"}), path)
    if node.get("minItems") and node.get("minItems") == node.get("maxItems"):
        return f"{node['minItems']} × {item if ' ' not in item else f'({item})'}"
    return f"list of {item}" + (", at least one" if node.get("minItems") else "")


def bounds(node: dict[str, Any]) -> str:
    """Bounds of a number, but for those that only keep it in 64 bits.

    Example:
        >>> bounds({"minimum": 0, "exclusiveMaximum": 1}), bounds({"exclusiveMinimum": 0}), bounds({})
        (' ≥ 0 and < 1', ' > 0', '')
    """
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {node[key]:,}" for key, sign in signs.items() if abs(node.get(key, WHOLE)) < WHOLE]
    return " " + " and ".join(found) if found else ""


def default_of(schema: dict[str, Any], field: dict[str, Any]) -> str:
    """The default as it would be written; of a section only what differs from the section's own defaults."""
    if "default" not in field:
        return ""
    value = field["default"]
    if isinstance(value, dict):
        value = {key: inner for key, inner in value.items() if inner != own_default(schema, field, value, key)}
        if not value:
            return ""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
    return f"`{text}`"


def own_default(schema: dict[str, Any], field: dict[str, Any], value: dict[str, Any], key: str) -> Any:
    for name in references(field):
        properties = schema["$defs"][name]["properties"]
        if set(value) <= set(properties) and properties.get("kind", {}).get("const", value.get("kind")) == value.get(
            "kind"
        ):
            return None if "const" in properties[key] else properties[key].get("default")
    return None


def described(section: dict[str, Any]) -> str:
    return str(section.get("description", ""))


def anchor(path: str) -> str:
    """
    Example:
        >>> anchor("stages.N.schedule, kind: cosine")
        'stages-n-schedule-kind-cosine'
    """
    return re.sub(r"\W+", "-", path.lower()).strip("-")


# --- the command line ---


def commands_page() -> str:
    """Every verb with its arguments and options."""
    text = ["# Commands\n", "The same as `pocketseg VERB --help`. `--debug` shows the traceback of an error.\n"]
    for name, verb in verbs(app, "pocketseg"):
        text += [f"## {name} {{ #{anchor(name.removeprefix('pocketseg '))} }}\n", inspect.getdoc(verb) + "\n"]
        params = inspect.signature(verb, eval_str=True).parameters.values()
        for kind, head in ((ArgumentInfo, "argument"), (OptionInfo, "option")):
            rows = [
                parameter_row(param, info) for param in params for info in facts_of(param) if isinstance(info, kind)
            ]
            if rows:
                text.append(table([head, "value", "default", "what"], rows))
    return "\n".join(text)


def verbs(group: typer.Typer, name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(name, function) of each verb but old names; a group that does something by itself is one too."""
    own = group.registered_callback
    if own and own.callback and own.invoke_without_command is True:
        yield name, own.callback
    for command in group.registered_commands:
        if not command.hidden:
            yield f"{name} {command.name or command.callback.__name__}", command.callback  # type: ignore[union-attr,misc]
    for inner in group.registered_groups:
        yield from verbs(inner.typer_instance, f"{name} {inner.name}")  # type: ignore[arg-type]


def facts_of(param: inspect.Parameter) -> tuple[Any, ...]:
    """What `Annotated` says of a parameter beside its type."""
    return getattr(param.annotation, "__metadata__", ())


def parameter_row(param: inspect.Parameter, info: Any) -> list[str]:
    """Name, values, default and help of an argument or option."""
    plain = param.annotation.__origin__
    option = isinstance(info, OptionInfo)
    # Within `Annotated`, Typer holds the first name where it holds a default elsewhere.
    names = [name for name in (info.default, *(info.param_decls or ())) if isinstance(name, str)]
    name = ", ".join(names or [f"--{param.name.replace('_', '-')}"]) if option else param.name.upper()
    required = param.default is inspect.Parameter.empty
    shown = getattr(param.default, "value", param.default)
    default = "required" if required else "" if shown in (None, [], False, True) else f"`{shown}`"
    return [f"`{name}`", type_words(plain) + limits(info), default, info.help or ""]


def type_words(plain: Any) -> str:
    """
    Example:
        >>> type_words(list[str]), type_words(int | None), type_words(bool)
        ('text, repeatable', 'integer', '')
    """
    inner = [kind for kind in typing.get_args(plain) if kind is not type(None)]
    if typing.get_origin(plain) is list:
        return f"{type_words(inner[0])}, repeatable"
    if typing.get_origin(plain) is tuple:
        return f"{len(inner)} × {type_words(inner[0])}"
    if inner:
        return type_words(inner[0])
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        return ", ".join(f"`{member.value}`" for member in plain)
    return {bool: "", int: "integer", float: "number", Path: "path"}.get(plain, "text")


def limits(info: Any) -> str:
    """
    Example:
        >>> limits(typer.Option(min=1, max=255))
        ' ≥ 1 and ≤ 255'
    """
    return bounds({key: value for key, value in (("minimum", info.min), ("maximum", info.max)) if value is not None})


# --- errors and the environment ---


def errors_page() -> str:
    """The exception tree with its exit codes."""
    rows = [
        [
            f"`{kind.__name__}`",
            "128 + the signal's number" if kind is errors.Interrupted else str(kind.exit_code),
            first_line(kind),
        ]
        for kind in subclasses(errors.PocketsegError)
    ]
    return "\n".join(
        [
            "# Errors and exit codes\n",
            first_paragraphs(errors) + "\n",
            "In Python, all errors are classes of `pocketseg.errors` below `PocketsegError`; `error.problems` lists "
            "every problem with `where`, `what`, `fix` and `code`.\n",
            table(["error", "exit code", "what"], rows),
        ]
    )


def subclasses(kind: type) -> Iterator[type]:
    for inner in kind.__subclasses__():
        yield inner
        yield from subclasses(inner)


def first_line(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__).splitlines()[0]


def first_paragraphs(module: types.ModuleType) -> str:
    return inspect.cleandoc(module.__doc__ or "")


def environment_page() -> str:
    """Environment variables, each described."""
    unknown = environment_variables() ^ set(ENVIRONMENT)
    if unknown:
        raise SystemExit(f"scripts/reference.py: ENVIRONMENT and the code differ in {', '.join(sorted(unknown))}")
    rows = [[f"`{name}`", what] for name, what in sorted(ENVIRONMENT.items())]
    return "# Environment variables\n\n" + table(["variable", "what it does"], rows)


def extras_page() -> str:
    """What each extra of the package is for, and what it installs."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    unknown = (set(extras) - DEVELOPERS) ^ set(EXTRAS)
    if unknown:
        raise SystemExit(f"scripts/reference.py: EXTRAS and pyproject.toml differ in {', '.join(sorted(unknown))}")
    rows = [[f"`{name}`", what, ", ".join(f"`{package}`" for package in extras[name])] for name, what in EXTRAS.items()]
    text = "`pip install 'pocketseg[train,medical]'` adds extras to the base, which runs packed models.\n"
    return f"# Extras\n\n{text}\n" + table(["extra", "for", "packages"], rows)


def environment_variables() -> set[str]:
    """Names of pocketseg's own variables that the package and its library read."""
    python = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    native = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "native/src").rglob("*.cpp"))
    return {*re.findall(r'"(POCKETSEG_\w+)"', python), *re.findall(r'getenv\("(POCKETSEG_\w+)"\)', native)}


# --- decisions ---


def decisions_page() -> str:
    """The decisions in order, with their status."""
    rows = []
    for path in sorted((ROOT / "docs/decisions").glob("[0-9]*.md")):
        text = path.read_text(encoding="utf-8")
        status = re.search(r"\*\*Status\.\*\* (.*?)(?:\n\n|$)", text, re.DOTALL)
        if status is None:
            raise SystemExit(f"{path}: has no line **Status.**; write one below the heading")
        number, _, title = text.partition("\n")[0].removeprefix("# ").partition(" ")
        rows.append([number, f"[{title}]({path.name})", " ".join(status[1].split())])
    text = (
        "Why things are as they are. A choice that costs more than a day to undo gets a page: context, decision, "
        "alternatives, consequences.\n"
    )
    return f"# Decisions\n\n{text}\n" + table(["number", "decision", "status"], rows)


# --- the C interface ---


def c_page(header: str) -> str:
    """The comment and declaration of each type and function of the header."""
    head = comment_text(re.search(r"/\*.*?\*/", header, re.DOTALL)[0])  # type: ignore[index]
    text = ["# C interface\n", "From `native/include/pocketseg.h`; `examples/c/segment_pgm.c` uses it.\n", head + "\n"]
    pattern = r"^(?:(/\*(?:(?!\*/).)*\*/)\n)?((?:enum|typedef struct|typedef int|PSEG_API) [^;{]*(?:\{.*?\}[^;]*)?;)"
    for comment, declaration in re.findall(pattern, header, re.DOTALL | re.MULTILINE):
        name = re.search(r"(pseg_\w+)\(|(pseg_\w+)", declaration)
        text += [f"## {next(filter(None, name.groups()))}\n", f"```c\n{declaration.replace('PSEG_API ', '')}\n```\n"]  # type: ignore[union-attr]
        text += [comment_text(comment) + "\n"] if comment else []
    return "\n".join(text)


def comment_text(comment: str) -> str:
    """The text of a C comment; what is indented in it stays a block of code."""
    return inspect.cleandoc("\n".join(re.sub(r"^ ?\* ?", "", line) for line in comment[2:-2].strip(" ").splitlines()))


# --- Python ---


def python_page() -> str:
    """The verbs and `load`, by mkdocstrings."""
    text = ["# Python\n", inspect.cleandoc(pocketseg.__doc__ or "").partition("\nExample:")[0] + "\n"]
    for name in ("load", *pocketseg.VERBS):
        text.append(f"::: pocketseg.{name}\n")
    text += ["## What `load` returns\n", "::: pocketseg.predictors.NetPredictor\n"]
    text += ["## Packages\n", *(f"- [`pocketseg.{name}`](python-{name}.md): {what}" for name, what in PACKAGES.items())]
    return "\n".join(text) + "\n"


def package_page(name: str, what: str) -> str:
    """What a package or module exports, by mkdocstrings."""
    folder = ROOT / "src/pocketseg" / name.replace(".", "/")
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    source = ast.parse(file.read_text(encoding="utf-8"))
    exported = next(
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    text = [f"# pocketseg.{name}\n", what + "\n"]
    for member in exported:
        public = f"pocketseg.{name}.{member}"
        defined = [node.module for node in source.body if isinstance(node, ast.ImportFrom) and imports(node, member)]
        if (folder / f"{member}.py").exists() and defined != [f"pocketseg.{name}"]:
            # A function of its module's name: griffe would take the module.
            text.append(
                f"::: {defined[0]}.{member}\n    options:\n      heading: {public}\n      toc_label: {member}\n"
            )
        else:
            text.append(f"::: {public}\n")
    return "\n".join(text)


def imports(node: ast.ImportFrom, name: str) -> bool:
    return any(alias.name == name for alias in node.names)


if __name__ == "__main__":
    main()

"""Reading recipes: safe YAML, dotted overrides, and all faults reported at once."""

from __future__ import annotations

import copy
import json
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pocketseg.errors import Problem, RecipeError, near
from pocketseg.files import read_text
from pocketseg.recipes.importers.fixed_point import is_fixed_point, to_train
from pocketseg.recipes.other_words import WORDS, our_key, with_our_keys
from pocketseg.recipes.schema import DataRecipe, Recipe
from pocketseg.text import shortened

MAX_RECIPE_BYTES = 1_000_000
SWEEP = "sweep"
PRESETS = "presets"
# As recipe files called them before.
OLD_PRESETS = "forms"
EVERY_STAGE = "stages.*."

# (stage as written, its key) -> faults. Nets and quantizers check their own options; this room does not know them.
StageCheck = Callable[[dict[str, Any], str], list[Problem]]


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses duplicate keys and aliases, and reads 1e-3 as the number it is."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not allowed", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool) or key in seen:
                what = f"the key {key!r} appears twice" if isinstance(key, str) else f"{key!r} cannot be a key"
                raise yaml.constructor.ConstructorError(None, None, what, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back as it was."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


# YAML 1.1 reads 1e-3 (no dot) as a string. YAML 1.2, and everybody, means a number.
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def parse_yaml(text: str, where: str) -> Any:
    """Plain values from YAML text; nothing is executed.

    Raises:
        RecipeError: not valid YAML, with line and column.
    """
    if len(text) > MAX_RECIPE_BYTES:
        raise RecipeError(
            where, f"has {len(text):,} characters, more than any recipe", "check that it is the right file"
        )
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        hint = (
            "indent with spaces, not tabs" if "\\t" in str(error.problem) else "see `pocketseg recipes show thin-unet`"
        )
        raise RecipeError(f"{where}{place}", str(error.problem or error.context), hint) from None
    except Exception as error:  # a tag that its value does not fit (!!int x) raises what its conversion raises
        raise RecipeError(where, f"is not valid YAML ({error})", "see `pocketseg recipes show thin-unet`") from None


def shipped_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("pocketseg.recipes") / "shipped"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def shipped_text(name: str) -> str:
    """The YAML text of a shipped recipe."""
    if name not in shipped_names():
        raise RecipeError(f"recipe {name!r}", "is neither shipped nor a file", near(name, shipped_names()))
    return (resources.files("pocketseg.recipes") / "shipped" / f"{name}.yaml").read_text(encoding="utf-8")


def load_recipe(
    source: str | Path | dict[str, Any], overrides: Sequence[str] = (), check_stage: StageCheck | None = None
) -> Recipe:
    """A validated recipe from a shipped name, a file, or plain values.

    Args:
        source: name, path to a `.yaml` file, or mapping; a configuration file of the fixed-point study is one too.
            NAME:PRESET takes one of the recipe's `presets`.
        overrides: `key.path=value` with YAML values, for example `stages.0.epochs=5`.
        check_stage: tells faults of a stage's `net` and `quant` options.

    Raises:
        RecipeError: every fault of the recipe and of the overrides, together.
    """
    where, values, problems = overridden(source, overrides)
    return validated(values, where, problems, check_stage)


def load_data_recipe(source: str | Path | dict[str, Any], overrides: Sequence[str] = ()) -> DataRecipe:
    """The sections of a recipe that say how a data set is read, split and measured; its stages are not looked at.

    Args and errors: as `load_recipe`; faults of other sections are not found.
    """
    where, values, problems = overridden(source, overrides)
    problems += [
        Problem(str(key), "is not a key of a recipe", _near_key(str(key)))
        for key in values
        if key not in (*Recipe.model_fields, SWEEP)
    ]
    try:
        found = DataRecipe.model_validate({key: values[key] for key in DataRecipe.model_fields if key in values})
    except ValidationError as error:
        raise RecipeError.of(list(_problems(error, where)) + problems) from None
    if problems:
        raise RecipeError.of(problems)
    return found


def overridden(source: str | Path | dict[str, Any], overrides: Sequence[str]) -> tuple[str, Any, list[Problem]]:
    """Where a recipe comes from, its values with the overrides in them, and what is wrong with the overrides."""
    source, preset = _preset_apart(source)
    where, values = read_values(source)
    if is_fixed_point(values):
        values = to_train(values, where)
    if not isinstance(values, dict):
        raise RecipeError(where, "is not a mapping of keys to values", "see `pocketseg recipes show thin-unet`")
    values = with_our_keys({"name": _name(source, preset), **values})
    problems = [
        problem
        for key, value in _preset(_presets_of(values, where), preset, where).items()
        for problem in set_key(values, key, value, f"{PRESETS}.{preset}.{key}")
    ]
    _leave_out(values)  # so that overrides count the stages that the preset has
    problems += [problem for override in overrides for problem in _override(values, override)]
    _leave_out(values)
    return where, values, problems


def _leave_out(values: dict[str, Any]) -> None:
    """Take out the stages that were set to null, in place."""
    if isinstance(values.get("stages"), list):
        values["stages"] = [stage for stage in values["stages"] if stage is not None]


def preset_names(source: str | Path | dict[str, Any]) -> list[str]:
    """The presets a recipe can be had in besides its own: `presets: {NAME: {KEY: VALUE, …}}`, with dotted keys."""
    values = read_values(source)[1]
    return list(_presets_of(dict(values), str(source)) or {}) if isinstance(values, dict) else []


def preset_text(source: str) -> str:
    """A preset of a recipe as YAML, without the comments and the other presets."""
    return dump_values(overridden(source, ())[1])


def _preset_apart(source: str | Path | dict[str, Any]) -> tuple[str | Path | dict[str, Any], str | None]:
    """`NAME:PRESET` in its two parts.

    Example:
        >>> _preset_apart("pocket:quick"), _preset_apart("pocket"), _preset_apart("C:/mine.yaml")
        (('pocket', 'quick'), ('pocket', None), ('C:/mine.yaml', None))
    """
    found = re.fullmatch(r"(.+):([\w-]+)", source) if isinstance(source, str) and not Path(source).exists() else None
    return (found[1], found[2]) if found else (source, None)


def _name(source: str | Path | dict[str, Any], preset: str | None) -> str:
    """What a recipe is called that has no name of its own.

    Example:
        >>> _name("pocket", "quick"), _name("mine/small.yaml", None), _name({}, None)
        ('pocket:quick', 'small', '')
    """
    if isinstance(source, dict):
        return ""
    name = Path(source).name.removesuffix(".yaml").removesuffix(".yml")
    return f"{name}:{preset}" if preset else name


def _presets_of(values: dict[str, Any], where: str) -> Any:
    """The presets of a recipe's values, which are taken out of them."""
    if PRESETS in values and OLD_PRESETS in values:
        raise RecipeError(
            f"{where}: {OLD_PRESETS}", f"is the old name of `{PRESETS}`, which is there too", "unite them"
        )
    return values.pop(OLD_PRESETS, values.pop(PRESETS, {}))


def _preset(presets: Any, name: str | None, where: str) -> dict[str, Any]:
    """What a preset sets."""
    shape = "write presets: {NAME: {KEY: VALUE, …}} with dotted keys, for example {quick: {stages.0.epochs: 5}}"
    if not isinstance(presets, dict) or not all(isinstance(keys, dict) and keys for keys in presets.values()):
        raise RecipeError(f"{where}: {PRESETS}", "is not a mapping of names to what they set", shape)
    if name is None:
        return {}
    if name not in presets:
        fix = near(name, presets) if presets else "it has none; remove the colon and what follows"
        raise RecipeError(where, f"has no preset {name!r}", fix)
    return {str(key): copy.deepcopy(value) for key, value in presets[name].items()}


def validated(
    values: dict[str, Any], where: str, problems: list[Problem], check_stage: StageCheck | None = None
) -> Recipe:
    """The recipe of plain values; its faults are reported together with those that were found before."""
    if values.pop(SWEEP, None) is not None:
        raise RecipeError(SWEEP, "makes several recipes of this one", "train it with `pocketseg train`, or remove it")
    values = expand_steps(values)
    if check_stage:
        problems += _stage_problems(values, check_stage)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError.of(list(_problems(error, where)) + problems) from None
    if problems:
        raise RecipeError.of(problems)
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """YAML with every key, defaults included but for an empty card; loads back to an equal recipe."""
    values = recipe.model_dump(mode="json")
    if not any(values["card"].values()):
        del values["card"]  # it decides nothing
    return dump_values(values)


def dump_values(values: Any) -> str:
    """YAML of plain values, as they are."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def changed_keys(before: Any, now: Any, key: str = "") -> Iterator[str]:
    """`KEY OLD → NEW` for each value that differs, the keys as --set takes them.

    Example:
        >>> list(changed_keys({"seed": 0, "stages": [{"name": "a", "epochs": 5}]}, {"stages": [{"name": "a"}]}))
        ['seed 0 → (none)', 'stages.a.epochs 5 → (none)']
    """
    old, new = _by_key(before), _by_key(now)
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            yield from changed_keys(old.get(name, _ABSENT), new.get(name, _ABSENT), f"{key}.{name}".lstrip("."))
    elif before != now:
        yield f"{key} {_in_a_line(before)} → {_in_a_line(now)}"


_ABSENT = object()
# Of a value, where it is reported; a whole section is longer.
_LONGEST_VALUE = 60


def _by_key(value: Any) -> Any:
    """A list of stages as a mapping by name, everything else as it is."""
    if isinstance(value, list) and value and all(isinstance(each, dict) and "name" in each for each in value):
        return {each["name"]: each for each in value}
    return value


def _in_a_line(value: Any) -> str:
    return "(none)" if value is _ABSENT else shortened(json.dumps(value, ensure_ascii=False), _LONGEST_VALUE)


def recipe_text(values: dict[str, Any], head: Iterable[str]) -> str:
    """YAML of the given keys only, with comments above."""
    comments = "".join(f"# {line}".rstrip() + "\n" for line in head)
    return comments + yaml.dump(
        values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )


def read_values(source: str | Path | dict[str, Any]) -> tuple[str, Any]:
    """Where a recipe comes from, for messages, and its values as they are written."""
    if isinstance(source, dict):
        return "recipe", copy.deepcopy(source)
    path = Path(source)
    if path.suffix not in (".yaml", ".yml") and (not path.exists() or path.is_dir()):
        return f"recipe {source}", parse_yaml(shipped_text(str(source)), str(source))
    try:
        return str(path), parse_yaml(read_text(path), str(path))
    except FileNotFoundError:
        raise RecipeError(str(path), "the recipe file does not exist", "check the path") from None
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise RecipeError(str(path), f"cannot be read ({what})", "give a YAML text file") from None


def _override(values: dict[str, Any], override: str) -> Iterator[Problem]:
    """Set one dotted key in place; yields what is wrong with it."""
    path, equals, text = override.partition("=")
    where = f"--set {override}"
    if not equals or not path:
        yield Problem(where, "is not KEY=VALUE", "for example --set stages.0.epochs=5")
        return
    try:
        value = parse_yaml(text, where)
    except RecipeError as error:
        yield from error.problems
        return
    yield from set_key(values, path, value, where)


def set_key(values: dict[str, Any], path: str, value: Any, where: str) -> Iterator[Problem]:
    """Set a dotted key in place; yields what is wrong with the key.

    List items go by number, stages by name too; `stages.*.KEY` sets a key of every stage.
    """
    if path.startswith(EVERY_STAGE) and isinstance(values.get("stages"), list):
        for number, stage in enumerate(values["stages"]):
            if stage is not None:
                yield from set_key(values, f"stages.{number}.{path.removeprefix(EVERY_STAGE)}", value, where)
        return
    target: Any = values
    parts = path.split(".")
    parts = [our_key(parts[:at], part) for at, part in enumerate(parts)]
    *parents, last = parts
    for part in parents:
        target = _child(target, part)
    index = _index(target, last)
    if index is not None:
        target[index] = value
    elif isinstance(target, dict):
        target[last] = with_our_keys(value, tuple(parts))
    else:
        fix = "list items are counted from 0, as in stages.0.epochs; a stage may be called by its name"
        yield Problem(where, f"there is no {path} to set", fix)


def _index(target: Any, part: str) -> int | None:
    """The place in a list that a part of a dotted key means: a number, or the name of a stage."""
    if not isinstance(target, list):
        return None
    if part.isdecimal():
        return int(part) if int(part) < len(target) else None
    return next((at for at, item in enumerate(target) if isinstance(item, dict) and item.get("name") == part), None)


def _child(target: Any, part: str) -> Any:
    """The value under one part of a dotted key; a missing section is made."""
    index = _index(target, part)
    if index is not None:
        return target[index]
    if isinstance(target, dict):
        if target.get(part) is None:
            target[part] = {}
        return target[part]
    return None


def expand_steps(values: dict[str, Any]) -> dict[str, Any]:
    """A stage whose `quant` is a list becomes a chain of stages, each starting from the one before.

    They share the epochs; the last keeps the name, the others are NAME.1, NAME.2, …

    Example:
        >>> stages = [{"name": "low", "epochs": 5, "quant": [{"scheme": "w4"}, {"scheme": "w4a4"}]}]
        >>> [(s["name"], s["epochs"], s.get("init")) for s in expand_steps({"stages": stages})["stages"]]
        [('low.1', 2, None), ('low', 3, {'stage': 'low.1'})]
    """
    stages = values.get("stages")
    if not isinstance(stages, list):
        return values
    return {**values, "stages": [step for stage in stages for step in _steps(stage)]}


def _steps(stage: Any) -> list[Any]:
    steps = stage.get("quant") if isinstance(stage, dict) else None
    if not isinstance(steps, list) or not steps or type(stage.get("epochs", 0)) is not int:
        return [stage]
    name, last = str(stage.get("name")), len(steps) - 1
    each = stage.get("epochs", 60) // len(steps)
    chain: list[dict[str, Any]] = []
    for index, quant in enumerate(steps):
        step = {**stage, "quant": quant, "name": name if index == last else f"{name}.{index + 1}"}
        step["epochs"] = each if index < last else stage.get("epochs", 60) - each * last
        if index:
            step["init"] = {"stage": chain[-1]["name"]}
        chain.append(step)
    return chain


def _stage_problems(values: dict[str, Any], check_stage: StageCheck) -> list[Problem]:
    stages = values.get("stages")
    if not isinstance(stages, list):
        return []
    known = [(index, stage) for index, stage in enumerate(stages) if isinstance(stage, dict)]
    return [problem for index, stage in known for problem in check_stage(stage, f"stages.{index}")]


def _problems(error: ValidationError, where: str) -> Iterator[Problem]:
    for fault in error.errors():
        location, known = _walk(fault["loc"])
        key = ".".join(str(part) for part in location) or where
        if fault["type"] == "extra_forbidden":
            name = str(fault["loc"][-1])
            fix = near(name, known) if location else _near_key(name)
            yield Problem(".".join([*map(str, location), name]), "is not a key of a recipe", fix)
        elif fault["type"] == "missing":
            yield Problem(key, "is missing", "add it")
        elif fault["type"] in ("tuple_type", "list_type"):
            fix = f"write it in brackets: {key}: [A, B], or --set '{key}=[A, B]'"
            yield Problem(key, f"is not a list (given: {fault['input']!r})", fix)
        else:
            message = fault["msg"].removeprefix("Value error, ")
            shown = fault["input"]
            given = f" (given: {shown!r})" if not isinstance(shown, dict | list | BaseModel) else ""
            yield Problem(key, message[0].lower() + message[1:] + given, "")


def _near_key(name: str) -> str:
    """A hint for a key that is none at the top: where a section has it, under our name or another tool's.

    Example:
        >>> _near_key("epochs"), _near_key("learning_rate"), _near_key("sed")
        ('did you mean stages.0.epochs?', 'did you mean stages.0.optimizer.lr?', 'did you mean seed?')
    """
    ours = next((words[name] for words in WORDS.values() if name in words), name)
    places = sorted(_places(ours, Recipe), key=lambda path: path.count("."))[:3]
    return f"did you mean {' or '.join(places)}?" if places else near(name, Recipe.model_fields)


def _places(name: str, model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted keys of a section, and of those in it, that end in a name."""
    found = [f"{prefix}{name}"] if name in model.model_fields else []
    for key, field in model.model_fields.items():
        section = f"{prefix}{key}.0." if typing.get_origin(field.annotation) is list else f"{prefix}{key}."
        found += [path for inner in _models_in(field.annotation) for path in _places(name, inner, section)]
    return list(dict.fromkeys(found))


def _walk(location: Sequence[Any]) -> tuple[list[Any], set[str]]:
    """The parts of an error's location that stand in the recipe, and the keys known at its end.

    Pydantic puts the chosen member of a union into the location: `schedule.cosine.warmup`, `threshold.float`.
    """
    path: list[Any] = []
    models: list[type[BaseModel]] = [Recipe]
    for part in location:
        fields = {name: field for model in models for name, field in model.model_fields.items()}
        if isinstance(part, int):
            path.append(part)
        elif len(models) > 1:
            models = [model for model in models if model.model_fields["kind"].default == part]
        elif part in fields:
            path.append(part)
            models = _models_in(fields[part].annotation)
    return path, {name for model in models for name in model.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Recipe sections named anywhere in a type, for example in `list[StageSection]` or `AffineSection | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in typing.get_args(annotation) for model in _models_in(inner)]

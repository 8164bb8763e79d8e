"""What can be checked of the documentation without running it: options, keys, paths, words, generated pages."""

from __future__ import annotations

import doctest
import inspect
import re

import jsonschema
from blocks import ROOT, blocks, load_script, pages, pocketseg_commands

from pocketseg.cli.verbs import app
from pocketseg.recipes import load_sweep, parse_yaml, recipe_schema, shipped_names

REFERENCE = load_script("reference")
VALIDATOR = jsonschema.Draft202012Validator(recipe_schema())
STAGE = {"name": "float", "net": {"arch": "thin_unet"}}
# Files that a reader makes, not files of the repository.
MADE = {"build/site", "src/pocketseg/web/pocketseg.wasm"}


def options() -> dict[str, set[str]]:
    """Verb, such as `data convert` -> its options."""
    found = {}
    for name, verb in REFERENCE.verbs(app, "pocketseg"):
        params = inspect.signature(verb, eval_str=True).parameters.values()
        rows = [REFERENCE.parameter_row(param, info) for param in params for info in REFERENCE.facts_of(param)]
        found[name.removeprefix("pocketseg ")] = {part for row in rows for part in re.split(", |/", row[0].strip("`"))}
    return found


def test_every_option_of_a_command_exists() -> None:
    known = options()
    for block, words in pocketseg_commands():
        verb = next(" ".join(words[:count]) for count in (2, 1) if " ".join(words[:count]) in known)
        given = {word for word in words if word.startswith("--")}
        assert given <= known[verb] | {"--debug", "--help"}, f"{block}: {words}"


def test_every_recipe_and_key_of_a_training_exists() -> None:
    count = 0
    for block, words in pocketseg_commands():
        recipe = words[1] if words[0] == "train" else ""
        if recipe.partition(":")[0] in shipped_names():
            load_sweep(recipe, [words[at + 1] for at, word in enumerate(words) if word == "--set"])
            count += 1
        else:
            assert words[0] != "train" or recipe in ("mine.yaml", "config.yaml"), block
    assert count > 15


def test_every_recipe_shown_is_valid() -> None:
    shown = [block for page in pages() for block in blocks(page) if block.language == "yaml"]
    for block in shown:
        # Alternatives for one key are written below each other.
        parts = re.split(r"(?m)^(?=init:)", block.text)
        for values in filter(None, (parse_yaml(part, str(block)) for part in parts)):
            recipe = {"stages": values} if isinstance(values, list) else values
            if "init" in recipe:
                recipe = {"stages": [{**STAGE, **recipe}]}
            VALIDATOR.validate({"stages": [STAGE], **recipe})
    assert len(shown) > 5


def test_files_that_are_named_are_there() -> None:
    """Paths in backticks, so that a move of a file is not forgotten in the texts."""
    places = r"`((?:src|native|tests|scripts|benchmarks|examples|docs)/[\w./-]+)`"
    for page in pages():
        for path in re.findall(places, (ROOT / page).read_text(encoding="utf-8")):
            known = path in MADE or "NEW" in path or "NNNN" in path or "/reference/" in path
            assert known or (ROOT / path).exists() or list(ROOT.glob(path + "*")) or (ROOT / "tests" / path).exists(), (
                f"{page}: {path}"
            )


def test_benchmarks_take_the_options_that_are_shown() -> None:
    for page in pages():
        for block in blocks(page):
            for command in block.commands if block.language == "sh" else ():
                words = command.split()
                if words[0] == "python":
                    source = (ROOT / words[1]).read_text(encoding="utf-8")
                    assert all(f'"{word}"' in source for word in words if word.startswith("--")), f"{block}: {command}"


def test_make_has_the_targets_that_are_shown() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in pages():
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page}: make {target}"


# Options and folders that are called so.
NAMES = re.compile(r"--truth|ground_truth|[\"|]truths?[\"|]|-\]\?truth", re.IGNORECASE)


def test_words_that_readers_stumble_over() -> None:
    """In documentation, messages and names; the change log quotes some."""
    words = re.compile(
        r"(?<![a-z])(anew|mend(ed|s)?|judg(e|ed|es|ing)|told|twins?|truths?)(?![a-z])(?! value)"
        r"|\bis no \w+ of\b|stands? twice|by turns|flatter|colour|quantis|(?<![a-z])grey(?![a-z]|_(erosion|dilation))",
        re.IGNORECASE,
    )
    texts = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "src").rglob("*.yaml"),
    ]
    for path in texts:
        if path.name != "CHANGELOG.md":
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                assert not words.search(NAMES.sub("", line)), f"{path}:{number}: {line}"


def test_examples_of_the_generator() -> None:
    assert doctest.testmod(REFERENCE).failed == 0


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110


def test_generated_pages() -> None:
    """Every page is made and has what it is for; a variable, extra or decision that is not described is an error."""
    made = REFERENCE.pages()
    recipe = made["reference/recipe.md"]
    for key in ("copies", "early_stop", "freeze", "precision", "l2_kernel", "dice_smoothing", "min_peak"):
        assert f"| `{key}` |" in recipe
    assert (
        "| `--calibrate` |" in made["reference/commands.md"]
        and "## pocketseg data convert" in made["reference/commands.md"]
    )
    assert "`RecipeError` | 2" in made["reference/errors.md"]
    assert "## pseg_run\n" in made["reference/c.md"]
    assert "::: pocketseg.train" in made["reference/python.md"]
    assert "POCKETSEG_ISA" in made["reference/environment.md"]


def test_numbers_of_decisions_are_unique() -> None:
    numbers = [path.name[:4] for path in (ROOT / "docs/decisions").glob("[0-9]*.md")]
    assert len(numbers) == len(set(numbers)) > 14


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    for page in pages():
        assert not page.startswith("docs/") or f'"{page.removeprefix("docs/")}"' in navigation, page

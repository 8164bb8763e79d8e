"""Recipes: what decides a result, in one YAML file."""

from pocketseg.recipes.json_schema import recipe_schema
from pocketseg.recipes.loading import (
    changed_keys,
    dump_recipe,
    load_data_recipe,
    load_recipe,
    parse_yaml,
    preset_names,
    preset_text,
    shipped_names,
    shipped_text,
)
from pocketseg.recipes.schema import DataRecipe, Recipe, StageSection
from pocketseg.recipes.sweep import Sweep, Variant, load_sweep

__all__ = [
    "DataRecipe",
    "Recipe",
    "StageSection",
    "Sweep",
    "Variant",
    "changed_keys",
    "dump_recipe",
    "load_data_recipe",
    "load_recipe",
    "load_sweep",
    "parse_yaml",
    "preset_names",
    "preset_text",
    "recipe_schema",
    "shipped_names",
    "shipped_text",
]

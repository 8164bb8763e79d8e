"""Recipes: what decides a result, in one YAML file."""

from pocketseg.recipes.loading import dump_recipe, load_recipe, parse_yaml, shipped_names, shipped_text
from pocketseg.recipes.models import Recipe, StageSection

__all__ = [
    "Recipe",
    "StageSection",
    "dump_recipe",
    "load_recipe",
    "parse_yaml",
    "shipped_names",
    "shipped_text",
]

"""What `pocketseg phantom` says to do next."""

import shlex

import pytest

from pocketseg.cli.phantom import SETTINGS
from pocketseg.data.groups import TABLES
from pocketseg.data.phantom import KINDS
from pocketseg.recipes import load_recipe


def test_every_kind_has_settings():
    assert SETTINGS.keys() == KINDS.keys()


@pytest.mark.whole
@pytest.mark.parametrize("kind", SETTINGS)
def test_the_settings_are_a_recipe(kind):
    words = shlex.split(SETTINGS[kind])
    load_recipe("thin-unet", words[1::2])
    assert set(words[::2]) <= {"--set"}


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.group])
def test_its_table_of_groups_is_found_without_a_setting(kind):
    group = KINDS[kind].group
    assert TABLES[f"{group}s.csv"] == group

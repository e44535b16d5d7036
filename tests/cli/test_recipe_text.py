"""Overlays laid over recipes as text: the same values as with two files, and the comments stay."""

import pytest
import yaml

from weakseg_lightning.cli.recipe_text import merged
from weakseg_lightning.cli.recipes import is_method, known_recipes, recipes_folder

RECIPE = """\
# A recipe.

seed: 0

model:
  class_path: A    # the method
  init_args:
    # about the network
    network:
      class_path: Small
      init_args:
        width: 3
    rules:
      - class_path: R   # first
      - class_path: S
    rate: 1e-3      # paper

data:
  root: here
"""


def layered(below, above):
    """Two configurations as the command merges them: another class takes its own arguments alone."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    if "class_path" in above and above["class_path"] != below.get("class_path"):
        return above
    return {
        key: layered(below[key], above[key]) if key in below and key in above else {**below, **above}[key]
        for key in [*below, *(key for key in above if key not in below)]
    }


def read(name: str) -> str:
    return (recipes_folder() / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("overlay", ["hardware/cpu", "hardware/cpu_whole", "data/scenes"])
@pytest.mark.parametrize("name", [name for name in known_recipes() if is_method(name)])
def test_values_are_those_of_two_configurations(name, overlay):
    text = merged(read(name), read(overlay))
    assert yaml.safe_load(text) == layered(yaml.safe_load(read(name)), yaml.safe_load(read(overlay)))


def test_comments_stay_and_new_ones_come():
    overlay = "# Mine.\n\nmodel:\n  init_args:\n    rate: 2e-3   # mine\n    more: 1\n"
    expected = RECIPE.replace("# A recipe.", "# Mine.").replace(
        "rate: 1e-3      # paper", "rate: 2e-3   # mine\n    more: 1"
    )
    assert merged(RECIPE, overlay) == expected


def test_another_class_replaces_all_arguments():
    text = merged(
        RECIPE, "model:\n  init_args:\n    network:\n      class_path: Large\n      init_args:\n        depth: 9\n"
    )
    network = yaml.safe_load(text)["model"]["init_args"]["network"]
    assert network == {"class_path": "Large", "init_args": {"depth": 9}}
    assert "- class_path: R   # first" in text


def test_nothing_over_a_recipe_leaves_it_as_it_is():
    assert merged(RECIPE, "") == RECIPE

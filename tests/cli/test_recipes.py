from pathlib import Path

import pytest

from weakseg_lightning.cli.recipes import find_recipe, given_configs, known_recipes, place_configs, recipes_folder


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["recipes/adm_grid.yaml", "adm_grid.yaml", "adm_grid", "recipes/adm_grid"])
def test_a_shipped_recipe_is_found_from_anywhere(name):
    assert Path(find_recipe(name)) == recipes_folder() / "adm_grid.yaml"


def test_a_shipped_overlay_is_found():
    assert Path(find_recipe("recipes/data/scenes.yaml")).is_file()


def test_the_working_directory_comes_first():
    Path("recipes").mkdir()
    Path("recipes/adm_grid.yaml").write_text("name: mine")
    assert find_recipe("recipes/adm_grid.yaml") == "recipes/adm_grid.yaml"


@pytest.mark.parametrize("text", ["name: mine", "{name: mine}", "trainer:\n  max_steps: 3"])
def test_a_configuration_in_place_of_a_file_is_left_alone(text):
    assert find_recipe(text) == text


def test_an_unknown_recipe_is_an_error_that_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match=r"did you mean `recipes/adm_grid.yaml`\?") as raised:
        find_recipe("recipes/adm_gird.yaml")
    assert all(name in str(raised.value) for name in known_recipes())


def test_known_recipes_are_the_files_but_those_of_other_commands():
    files = {path.relative_to(recipes_folder()).as_posix() for path in recipes_folder().rglob("*.yaml")}
    others = {file for file in files if file.startswith("experiments/")}
    assert "experiments/label_noise_digits.yaml" in others
    assert {f"{name}.yaml" for name in known_recipes()} == files - others
    assert {"adm_grid", "pce", "grid_gd", "full", "data/scenes", "hardware/cpu"} <= set(known_recipes())


def test_recipes_go_before_options_in_their_order():
    Path("a.yaml").write_text("name: a")
    Path("b.yaml").write_text("name: b")
    placed = place_configs(["fit", "--trainer.max_steps=3", "-c", "a.yaml", "--model.gamma", "2", "--config=b.yaml"])
    expected = ["fit", "--config", "a.yaml", "--config", "b.yaml", "--trainer.max_steps=3", "--model.gamma", "2"]
    assert placed == expected
    assert list(given_configs(placed)) == [Path("a.yaml"), Path("b.yaml")]


def test_a_config_option_without_a_value_is_left_to_the_parser():
    assert place_configs(["fit", "--config"]) == ["fit", "--config"]

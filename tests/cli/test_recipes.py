from pathlib import Path

import pytest

from weakseg_lightning.cli.recipes import (
    METHODS,
    check_configs,
    find_recipe,
    given_configs,
    is_method,
    known_recipes,
    place_configs,
    recipes_folder,
    yaml_files,
)


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name", ["recipes/adm/adm_grid.yaml", "adm/adm_grid", "recipes/adm_grid.yaml", "adm_grid.yaml", "adm_grid"]
)
def test_a_shipped_recipe_is_found_from_anywhere(name):
    assert Path(find_recipe(name)) == recipes_folder() / "adm/adm_grid.yaml"


def test_a_name_without_its_folder_is_that_of_a_method():
    assert Path(find_recipe("full")) == recipes_folder() / "baselines/full.yaml", "not acdc/full"
    methods = [name.rpartition("/")[2] for name in known_recipes() if is_method(name)]
    assert len(set(methods)) == len(methods) > 30


def test_every_folder_holds_methods_or_overlays():
    folders = {path.parent.name for path in recipes_folder().rglob("*.yaml")}
    assert folders == {*METHODS, "acdc", "data", "experiments", "hardware", "networks", "refine", "training"}


def test_a_file_of_ones_own_comes_before_the_recipe_of_that_name():
    Path("adm_grid.yaml").write_text("name: mine")
    assert find_recipe("adm_grid") == find_recipe("adm_grid.yaml") == "adm_grid.yaml"


def test_a_shipped_overlay_is_found():
    assert Path(find_recipe("recipes/data/scenes.yaml")).is_file()


def test_the_working_directory_comes_first():
    Path("recipes/adm").mkdir(parents=True)
    Path("recipes/adm/adm_grid.yaml").write_text("name: mine")
    assert find_recipe("recipes/adm/adm_grid.yaml") == "recipes/adm/adm_grid.yaml"


@pytest.mark.parametrize("text", ["name: mine", "{name: mine}", "trainer:\n  max_steps: 3"])
def test_a_configuration_in_place_of_a_file_is_left_alone(text):
    assert find_recipe(text) == text


def test_an_unknown_recipe_is_an_error_that_names_the_nearest_or_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match=r"did you mean `recipes/adm/adm_grid.yaml`\?$"):
        find_recipe("recipes/adm_gird.yaml")
    with pytest.raises(FileNotFoundError) as raised:
        find_recipe("zzzzzz")
    assert all(name in str(raised.value) for name in known_recipes())


def test_known_recipes_are_the_files_but_those_of_other_commands():
    files = {path.relative_to(recipes_folder()).as_posix() for path in recipes_folder().rglob("*.yaml")}
    others = {file for file in files if file.startswith("experiments/")}
    assert "experiments/label_noise_digits.yaml" in others
    assert {f"{name}.yaml" for name in known_recipes()} == files - others
    assert {"adm/adm_grid", "baselines/pce", "data/scenes", "hardware/cpu"} <= set(known_recipes())


def test_recipes_go_before_options_in_their_order():
    Path("a.yaml").write_text("name: a")
    Path("b.yaml").write_text("name: b")
    placed = place_configs(["fit", "--trainer.max_steps=3", "-c", "a.yaml", "--model.gamma", "2", "--config=b.yaml"])
    expected = ["fit", "--config", "a.yaml", "--config", "b.yaml", "--trainer.max_steps=3", "--model.gamma", "2"]
    assert placed == expected
    assert list(given_configs(placed)) == [Path("a.yaml"), Path("b.yaml")]


def test_a_config_option_without_a_value_is_left_to_the_parser():
    assert place_configs(["fit", "--config"]) == ["fit", "--config"]


# ---- what is wrong with a recipe as a whole -----------------------------------------------------------------

TWICE = [
    ("trainer:\n  max_steps: 960\n  max_steps: 7\n", "the key `max_steps` stands in lines 2 and 3"),
    ("trainer: {max_steps: 1}\nname: x\ntrainer:\n  max_epochs: 2\n", "the key `trainer` stands in lines 1 and 3"),
    ("data: {init_args: {root: a, root: b}}\n", "the key `root` stands 2 times in line 1"),
    (
        "trainer:\n  callbacks:\n    - class_path: A\n      class_path: B\n",
        "the key `class_path` stands in lines 3 and 4",
    ),
    ('name: a\n"name": b\n', "the key `name` stands in lines 1 and 2"),
    ("trainer:\n  max_steps: 3\ntrainer.max_steps: 7\n", "`trainer.max_steps` stands in lines 2 and 3"),
    ("model.init_args.gamma: 1\nmodel:\n  init_args: {gamma: 2}\n", "`model.init_args.gamma` stands in lines 1 and 3"),
]


@pytest.mark.parametrize(("text", "expected"), TWICE)
@pytest.mark.parametrize("given", ["--config=mine.yaml", "--model=mine.yaml", "--model.network=mine.yaml"])
def test_equal_keys_are_refused_in_recipes_and_in_parts(text, expected, given):
    Path("mine.yaml").write_text(text)
    args = place_configs(["fit", "--config", "adm_grid", given])
    with pytest.raises(ValueError, match=r"keep one of them$") as raised:
        check_configs(args)
    assert str(raised.value) == f"mine.yaml: {expected}: keep one of them"


def test_equal_keys_are_refused_in_a_file_that_another_file_names():
    Path("parts").mkdir()
    Path("mine.yaml").write_text("model: {init_args: {network: parts/network.yaml}}")
    Path("parts/network.yaml").write_text("init_args: {weights: weights.yml}\nother: network.yaml\n")
    Path("parts/weights.yml").write_text("a: 1\na: 2\n")
    args = ["fit", "--config", "mine.yaml"]
    assert list(yaml_files(args)) == [Path("mine.yaml"), Path("parts/network.yaml"), Path("parts/weights.yml")]
    with pytest.raises(ValueError, match=r"^parts/weights.yml: the key `a` stands in lines 1 and 2"):
        check_configs(args)
    check_configs(args, parts=False)


@pytest.mark.parametrize("option", ["--config", "--model.network", "--trainer.callbacks"])
def test_equal_keys_are_refused_in_values_that_are_yaml(option):
    with pytest.raises(ValueError, match=rf"^`{option}`: the key `lr` stands 2 times in line 1: keep"):
        check_configs(["fit", option, "{a: [{lr: 1, lr: 2}]}"])


@pytest.mark.parametrize("value", ["{epoch}-{step}", "{epoch:03d}-{val_miou:.4f}", "[a", "a: b: c", "", "'"])
def test_values_need_not_be_yaml(value):
    check_configs(["fit", "--checkpoint.filename", value, f"--name={value}"])


def test_merged_keys_and_shipped_recipes_pass():
    Path("mine.yaml").write_text("model: {init_args: {a: &o {lr: 1e-3}, b: {<<: *o, lr: 2}, c: *o}}\n")
    shipped = [word for path in sorted(recipes_folder().rglob("*.yaml")) for word in ("--config", str(path))]
    assert len(shipped) > 40
    check_configs(["fit", "--config", "mine.yaml", *shipped])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_a_recipe_in_another_encoding_is_named(encoding):
    Path("mine.yaml").write_bytes("name: Bär\n".encode(encoding))
    with pytest.raises(ValueError, match=r"^mine.yaml is not UTF-8 text .*: save it as UTF-8$"):
        check_configs(["fit", "--config", "mine.yaml"])


def test_a_file_that_is_no_yaml_may_stand_for_a_value():
    Path("labels.yaml").write_bytes("- [B\xe4r".encode("latin-1"))
    check_configs(["fit", "--data.labels", "labels.yaml"])

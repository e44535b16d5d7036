"""Recipes as texts, and built from the command line as users build them."""

from pathlib import Path
from typing import Any

import yaml

from weakseg_lightning.cli.command import WeakSegCLI
from weakseg_lightning.cli.errors.cases import Arguments
from weakseg_lightning.cli.recipes import find_recipe, is_method, known_recipes, recipes_folder
from weakseg_lightning.cli.runs import BatchReached

RECIPES = [name.rpartition("/")[2] for name in known_recipes() if is_method(name)]
OVERLAYS = [name for name in known_recipes() if not is_method(name)]
FOLDER = recipes_folder()
CPU = ("--trainer.accelerator=cpu", "--trainer.logger=false")
UNTRAINED = "--model.network.encoder_weights=null"
HERE = (UNTRAINED, *CPU)
SMALL = [
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
    *("--trainer.max_steps=2", "--trainer.max_epochs=-1", "--trainer.log_every_n_steps=1", "--trainer.logger=false"),
    *("--model.network.encoder=tu-test_efficientnet", "--trainer.enable_checkpointing=false"),
    *("--data.num_train=4", "--data.num_val=1", "--data.size=32", "--data.crop_size=32", "--data.batch_size=2"),
    *("--data.num_workers=0", "--trainer.num_sanity_val_steps=0"),
]


def here(name: str) -> tuple[str, ...]:
    """Options that build a recipe without a download; the U-Net of the decomposition has no pretrained weights."""
    return CPU if name == "decompose_dog" else HERE


def overlays_of(name: str) -> tuple[str, str]:
    """The overlays for scenes and for a computer without a GPU that suit a recipe."""
    if name.startswith("decompose"):
        kind = "classifier" if name.endswith("classifier") else "decompose"
        return f"data/scenes_{kind}", f"hardware/cpu_{kind}"
    whole = written(name)["data"]["init_args"]["supervision"] in ("tags", "box")
    return ("data/scenes_whole", "hardware/cpu_whole") if whole else ("data/scenes", "hardware/cpu")


def text_of(name: str) -> str:
    """The text of a recipe."""
    return Path(find_recipe(name)).read_text(encoding="utf-8")


def written(name: str) -> dict[str, Any]:
    """What a recipe says."""
    content: dict[str, Any] = yaml.safe_load(text_of(name))
    return content


def without(name: str, *arguments: str) -> dict[str, Any]:
    """What a recipe says but for some arguments of its model or its data."""
    recipe = written(name)
    for argument in arguments:
        part = "data" if argument.startswith("data.") else "model"
        recipe[part]["init_args"].pop(argument.removeprefix("data."))
    return recipe


def command(*args: str) -> WeakSegCLI:
    """Run `weakseg fit` with recipes, overlays and options."""
    recipes = [find_recipe(name) for name in args if not name.startswith("--")]
    configs = [part for path in recipes for part in ("--config", path)]
    options = [arg for arg in args if arg.startswith("--")]
    return WeakSegCLI(Arguments(["fit", *configs, *options]), BatchReached())

import builtins
import os
import pickle
from pathlib import Path

import pytest
import yaml

from weakseg_lightning.cli.errors.cases import Arguments
from weakseg_lightning.cli.errors.explain import explain
from weakseg_lightning.cli.recipes import recipes_folder
from weakseg_lightning.data.samples import BadSampleError

BASE = (recipes_folder() / "adm/adm_grid.yaml").read_text(encoding="utf-8")

# What is changed in a recipe, and all that the user is told about it.
TYPOS = [
    pytest.param(
        ("max_sweeps:", "max_sweps:"),
        "ADMModule > AlphaExpansion: `max_sweps` is not an option; did you mean `max_sweeps`? (mine.yaml, line {line})",
        id="option of a solver",
    ),
    pytest.param(
        ("          weight: 80", "          weigt: 80"),
        "ADMModule > AlphaExpansion > potts: `weigt` is not an option; did you mean `weight`? (mine.yaml, line {line})",
        id="option of a group",
    ),
    pytest.param(
        ("gamma: 1.5", "gama: 1.5"),
        "ADMModule: `gama` is not an option; did you mean `gamma`? (mine.yaml, line {line})",
        id="option of the method",
    ),
    pytest.param(
        ("pce_optimizer:\n      lr:", "pce_optimizer:\n      rl:"),
        "ADMModule > pce_optimizer: `rl` is not an option; did you mean `lr`? (mine.yaml, line {line})",
        id="option of an optional group",
    ),
    pytest.param(
        ("max_steps:", "max_step:"),
        "`trainer.max_step` is not an option; did you mean `trainer.max_steps`? (mine.yaml, line {line})",
        id="option of the trainer",
    ),
    pytest.param(
        ("\nmodel:", "\nmdel:"),
        "`mdel` is not an option; did you mean `model`? (mine.yaml, line {line})",
        id="outermost word",
    ),
    pytest.param(
        ("class_path: AlphaExpansion", "class_path: AlphaExpansio"),
        "ADMModule: `solver`: `AlphaExpansio` is no Solver; did you mean `AlphaExpansion`? (mine.yaml, line {line})",
        id="class of a part",
    ),
    pytest.param(
        ("class_path: ADMModule", "class_path: ADModule"),
        "`model`: `ADModule` is no WeakSegModule; did you mean `ADMModule`? (mine.yaml, line {line})",
        id="class of the method",
    ),
    pytest.param(
        ("class_path: ADMModule", "class_path: nosuch.place.ADM"),
        "cannot import `nosuch.place.ADM`: No module named 'nosuch' (working directory: {here}) "
        "(mine.yaml, line {line})",
        id="import path",
    ),
    pytest.param(
        ("gamma: 1.5", "gamma: high"),
        "ADMModule: `gamma` must be a number, got 'high' (mine.yaml, line {line})",
        id="type",
    ),
    pytest.param(
        ("labels: seeds", "labels: seed"),
        "ADMModule: `labels` must be seeds, tags or all, got 'seed' (mine.yaml, line {line})",
        id="choice",
    ),
    pytest.param(
        ("class_path: AlphaExpansion\n", "class_path: AlphaExpansion\n      start: zeros\n"),
        "ADMModule: AlphaExpansion: `start` must stand below `init_args:`",
        id="beside init_args",
    ),
    pytest.param(
        ("\ntrainer:\n", "\ntrainer:\n  callbacks: [{class_path: ModelCheckpont}]\n"),
        "`trainer.callbacks`: `ModelCheckpont` is no Callback; did you mean `ModelCheckpoint`? "
        "(mine.yaml, line {line})",
        id="callback",
    ),
    pytest.param(
        ("\ntrainer:\n", "\ntrainer:\n - broken\n"),
        "mine.yaml, line {line}: not YAML: ",
        id="not YAML",
    ),
]


@pytest.mark.parametrize(("change", "expected"), TYPOS)
def test_a_typo_in_a_recipe_is_told_in_one_line(run, change, expected):
    old, new = change
    assert BASE.count(old) == 1
    text = BASE.replace(old, new)
    Path("mine.yaml").write_text(text)
    status, out, err = run("fit", "--config", "mine.yaml")
    line = 1 + next(i for i, (a, b) in enumerate(zip(BASE.splitlines(), text.splitlines(), strict=False)) if a != b)
    assert status == 2
    assert out == ""
    found = expected.format(line=line + expected.startswith("mine.yaml"), here=Path.cwd())
    assert err.startswith(f"weakseg: error: {found}"), err
    assert err.count("\n") == 1


ARGUMENTS = [
    (["fit", "--model.gama=3"], "ADMModule: `gama` is not an option; did you mean `gamma`?"),
    (
        ["fit", "--model.solver.potts.weigt=3"],
        "ADMModule > AlphaExpansion > potts: `weigt` is not an option; did you mean `weight`?",
    ),
    (["fit", "--trainer.max_step=3"], "`--trainer.max_step` is not an option; did you mean `--trainer.max_steps`?"),
    (["fit", "--model.gamma=high"], "ADMModule: `gamma` must be a number, got 'high'"),
    (["fit", "more.yaml"], "cannot use `more.yaml`: a recipe is given as `--config more.yaml`"),
    (["fitt"], "`fitt` is not a command; did you mean `fit`?"),
]


@pytest.mark.parametrize(("args", "expected"), ARGUMENTS)
def test_a_wrong_argument_is_told_in_one_line(refused, args, expected):
    assert refused(*args[:1], "--config", "recipes/adm/adm_grid.yaml", *args[1:]).startswith(expected)


def test_without_a_recipe_the_recipes_are_listed(run):
    status, _, err = run("fit")
    assert status == 2
    assert err.startswith("weakseg: error: no model and no data given: choose a recipe")
    assert "adm_grid_released" in err


def test_an_empty_recipe_is_named(run):
    Path("empty.yaml").write_text("")
    assert run("fit", "--config", "empty.yaml")[2].startswith("weakseg: error: empty.yaml: expected `trainer:`")


WHOLE = [
    ("# all\n# is gone\n", ": expected `trainer:`, `model:`, `data:` at the outermost level, found nothing"),
    (
        "# ours\n\n- max_steps: 3\n",
        ": expected `trainer:`, `model:`, `data:` at the outermost level, found a list (line 3)",
    ),
    ("\nmax_steps\n", ": expected `trainer:`, `model:`, `data:` at the outermost level, found `max_steps` (line 2)"),
    ("trainer:\n\tmax_steps: 3\n", ", line 2: not YAML: indented with a tab, use spaces"),
    (
        "name: a\n---\nname: b\n",
        ", line 2: not YAML: expected a single document in the stream from line 1, but found another document",
    ),
    ("trainer:\n  max_steps: 960\n  max_steps: 7\n", ": the key `max_steps` stands in lines 2 and 3: keep one of them"),
]


@pytest.mark.parametrize(("text", "expected"), WHOLE)
@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_recipe_that_is_wrong_as_a_whole_is_told_in_one_line(run, command, text, expected):
    Path("mine.yaml").write_text(text)
    found = run(command, "--config", "recipes/adm/adm_grid.yaml", "--config", "mine.yaml")
    assert found == (2, "", f"weakseg: error: mine.yaml{expected}\n")


def test_options_of_a_helper_that_are_wrong_as_a_whole_are_told_in_one_line(run):
    parts = ", ".join(f"`{name}:`" for name in ("data", "sheet", "guides", "cases", "channels", "slice_axis"))
    for text, expected in [
        ("data: a\ndata: b\n", ": the key `data` stands in lines 1 and 2: keep one of them"),
        ("- data\n", f": expected {parts} at the outermost level, found a list (line 1)"),
        ("", f": expected {parts} at the outermost level, found nothing"),
    ]:
        Path("mine.yaml").write_text(text)
        assert run("check", "--config", "mine.yaml") == (2, "", f"weakseg: error: mine.yaml{expected}\n")


NO_PART = "ADMModule: `network`: part.yaml: expected `class_path:` and `init_args:`"
PARTS = {
    "class_path: SMPNetwork\ninit_args:\n\tencoder: x\n": "ADMModule: `network`: part.yaml, line 3: not YAML: ",
    "": NO_PART,
    "- class_path: SMPNetwork\n": NO_PART,
    "class_path: SMPNet\n": "ADMModule: `network`: `SMPNet` is no Network; did you mean `SMPNetwork`? "
    "(part.yaml, line 1)",
    "class_path: SMPNetwork\ninit_args: {encoder: x,\n  encodr: y}\n": "ADMModule > SMPNetwork: `encodr` is not an "
    "option; did you mean `encoder`? (part.yaml, line 3)",
}


@pytest.mark.parametrize(("text", "expected"), PARTS.items())
def test_a_file_that_is_no_part_is_told_in_one_line(refused, text, expected):
    Path("part.yaml").write_text(text)
    assert refused("fit", "--config", "recipes/adm/adm_grid.yaml", "--model.network", "part.yaml").startswith(expected)


def test_a_part_in_another_encoding_is_named(refused):
    Path("mine.yaml").write_text("model: {init_args: {network: part.yaml}}")
    Path("part.yaml").write_bytes("class_path: SMPNetwork\n".encode("utf-16"))
    assert "part.yaml is not UTF-8 text" in refused("fit", "--config", "adm_grid", "--config", "mine.yaml")


def test_no_line_is_named_that_may_be_the_wrong_one(refused, tiny):
    overlay = yaml.safe_dump({"model": {"init_args": {"optimizer": {"lr": "fast"}}}})
    Path("mine.yaml").write_text(overlay + "# optimizer: {lr: fast}\n")
    told = refused("fit", "--config", "recipes/adm/adm_grid.yaml", "--config", "mine.yaml")
    assert "`optimizer.lr` must be a number, got 'fast'" in told
    assert "line" not in told


def test_a_bad_value_found_by_a_constructor_names_the_class(run, tiny):
    status, _, err = run("fit", "--config", "recipes/adm/adm_grid.yaml", *tiny, "--model.gamma=-1")
    assert status == 2
    assert err == "weakseg: error: ADMModule: `gamma` must be finite and at least 0, got -1.0\n"


def test_a_conflicting_number_of_classes_is_refused(refused, tiny):
    overlay = "model: {init_args: {num_classes: 21}}"
    assert refused("fit", "--config", "recipes/baselines/pce.yaml", "--config", overlay, *tiny).startswith(
        "`num_classes: 21` conflicts with the data, which has 6 classes"
    )


def test_a_missing_data_set_is_found_before_the_network_is_built(run, monkeypatch):
    def build(*args):
        raise AssertionError("the network was built")

    monkeypatch.setattr("weakseg_lightning.networks.LargeFOV.build", build)
    status, _, err = run("fit", "--config", "recipes/adm/adm_grid.yaml")
    assert status == 2
    assert "recipes/data/scenes.yaml" in err
    assert not Path("runs").exists()


def test_a_wrong_trainer_setting_is_a_users_error(run, tiny):
    status, _, err = run("fit", "--config", "recipes/baselines/pce.yaml", *tiny, "--trainer.accelerator=quantum")
    assert status == 2
    assert "quantum" in err
    assert err.endswith("(WEAKSEG_TRACEBACK=1 shows where)\n")
    assert not any(Path("runs").rglob("*.*"))


# ---- what keeps its traceback -------------------------------------------------------------------------------

BREAKING = """
from lightning.pytorch import Callback

class Breaking{kind}(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        raise {kind}("broken on purpose")
"""


@pytest.mark.parametrize("kind", ["RuntimeError", "ValueError", "FloatingPointError"])
def test_an_error_in_training_keeps_its_traceback(run, tiny, kind):
    Path(f"breaking_{kind.lower()}.py").write_text(BREAKING.format(kind=kind))
    callback = f"--trainer.callbacks+=breaking_{kind.lower()}.Breaking{kind}"
    with pytest.raises(getattr(builtins, kind)) as raised:
        run("fit", "--config", "recipes/baselines/pce.yaml", *tiny, callback)
    assert str(raised.value) == "broken on purpose"


IN_WORKER = """Caught {kind} in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "torch/worker.py", line 350, in _worker_loop
    data = fetcher.fetch(index)
           ^^^^^^^^^^^^^^^^^^^^
  File "read.py", line 7, in read
    raise {kind}(f"mask of another size: {{size}}")
{kind}: mask of another size: (3, 4)
"""


def test_our_complaints_about_data_are_users_errors_also_in_training():
    error = BadSampleError("mask of another size")
    assert explain(error, Arguments([]), started=True) == "mask of another size"


def test_our_complaints_from_a_worker_process_come_without_its_traceback():
    error = BadSampleError(IN_WORKER.format(kind="weakseg_lightning.data.samples.BadSampleError"))
    assert explain(error, Arguments([]), started=True) == "mask of another size: (3, 4)"
    foreign = ValueError(IN_WORKER.format(kind="ValueError"))
    assert explain(foreign, Arguments([]), started=True) is None


@pytest.mark.parametrize("error", [ValueError("v"), FileNotFoundError("f"), pickle.UnpicklingError("u"), OSError("o")])
def test_bad_values_and_missing_files_are_users_errors_before_training(error):
    told = explain(error, Arguments([]), started=False)
    assert told == f"{error} (WEAKSEG_TRACEBACK=1 shows where)"
    assert explain(error, Arguments([]), started=True) is None


@pytest.mark.parametrize("error", [RuntimeError("r"), TypeError("t"), KeyError("k"), AttributeError("a")])
def test_other_errors_are_internal(error):
    assert explain(error, Arguments([]), started=False) is None


def test_the_environment_is_left_for_others(run):
    assert "PL_GLOBAL_SEED" not in os.environ

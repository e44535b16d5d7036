"""The documents: their Python runs as it stands there, their commands are taken, their links lead somewhere."""

import inspect
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer

import weakseg_lightning
from weakseg_lightning import Segmenter, SMPNetwork
from weakseg_lightning.cli import main
from weakseg_lightning.cli.recipes import is_method, known_recipes
from weakseg_lightning.cli.subcommands import SUBCOMMANDS, find_subcommand
from weakseg_lightning.constraints import ImageFacts, compile_constraints
from weakseg_lightning.modules import ADMModule, RegularizedLossModule

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    *("README.md", "recipes/README.md", "tests/benchmarks/README.md", "tests/examples/README.md"),
    "weakseg_lightning/README.md",
]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
README = TEXTS["README.md"]
QUIET = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)


def blocks(language: str, *documents: str) -> list[str]:
    """Code blocks of a language, of all documents by default."""
    texts = [TEXTS[name] for name in documents or DOCUMENTS]
    return [block for text in texts for block in re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)]


# ---- Python and YAML ----------------------------------------------------------------------------------------


def run_blocks(document: str, **names: object) -> dict:
    """Run a document's Python from its first block to its last; what it has defined in the end."""
    for block in blocks("python", document):
        exec(compile(block, document, "exec"), names)
    return names


def train(module, data, steps: int = 2) -> Trainer:
    trainer = Trainer(max_steps=steps, limit_val_batches=1, accelerator="cpu", **QUIET)
    trainer.fit(module, data)
    return trainer


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_blocks("README.md")
    assert names["labels"].shape == names["image"].shape[:2]
    own = names["Smoothed"](names["module"].network, names["data"].num_classes)
    train(own, names["data"])
    assert own.latent_labels is not None


def test_python_of_the_examples_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_blocks("tests/examples/README.md")
    discs = names["DiscsDataModule"](crop_size=48, batch_size=4, num_workers=0)
    adm = ADMModule(names["module"].network, 2, names["Blur"](5), pce_fraction=0.0)
    trainer = train(adm, discs)
    assert adm.latent_labels is not None
    assert torch.isfinite(trainer.callback_metrics["train_latent"])
    tiny = RegularizedLossModule(names["Tiny"](8), 2, pce_fraction=1.0)
    assert train(tiny, discs).callback_metrics["train_pce"] > 0
    assert tiny(torch.rand(2, 3, 37, 21)).shape == (2, 2, 37, 21)
    regularized = RegularizedLossModule(names["module"].network, 2, regularizer=names["Entropy"](), pce_fraction=0.0)
    assert 0 < train(regularized, discs).callback_metrics["train_entropy"] <= 0.1 * torch.tensor(2).log()
    assert names["solved"].message[0] == ""
    assert names["solved"].message[1] != "", "three classes of 0.4 and more"
    areas = names["few"].probabilities.mean((2, 3))
    assert (areas[:, 1:] <= 0.2 + 1e-4).all()
    assert (areas[0, 2], areas[1, 2]) == (0, pytest.approx(0.2, abs=1e-4))
    assert Path("trimaps.png").is_file()


def test_python_of_the_recipes_runs():
    module = RegularizedLossModule(SMPNetwork("linknet", "tu-test_resnet", None), 3)
    slices = np.random.default_rng(0).integers(0, 256, (3, 32, 40, 3), dtype=np.uint8)
    labels = run_blocks("recipes/README.md", segmenter=Segmenter(module, "cpu"), slices=slices, torch=torch)["labels"]
    assert (labels.shape, labels.dtype) == ((3, 32, 40), torch.uint8)


def test_classes_of_ones_own_are_short() -> None:
    classes = [text for text in blocks("python") if "\nclass " in text]
    assert len(classes) == 6
    assert max(text.count("\n") for text in classes) < 40


def test_all_python_is_run() -> None:
    assert blocks("python") == blocks("python", "README.md", "recipes/README.md", "tests/examples/README.md")


def test_yaml_blocks_name_rules_with_their_arguments() -> None:
    (block,) = (yaml.safe_load(text) for text in blocks("yaml") if "constraints:" in text)
    written = block["model"]["init_args"]["constraints"]
    rules = [{"class_path": rule, "init_args": {}} if isinstance(rule, str) else rule for rule in written]
    built = [getattr(weakseg_lightning, rule["class_path"])(**rule["init_args"]) for rule in rules]
    known = ImageFacts(
        ids=["a"],
        class_names=["background", "cat", "dog", "person", "horse"],
        tags=torch.ones(1, 5, dtype=torch.bool),
        valid=torch.ones(1, 8, 8, dtype=torch.bool),
        sizes=torch.tensor([[1, 0, 1, 0, 1]]),
        boxes=[torch.tensor([[0.0, 0.0, 4.0, 4.0, 1.0]])],
    )
    compiled = compile_constraints(built[:-1], known)  # the last reads a file
    # The box leaves the cat alone: the background's two bounds, four rows about the cat.
    assert int(compiled.active.sum()) == 6


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_blocks_are_overlays(text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("block.yaml").write_text(text)
    recipe = "ccnn_tags" if "constraints:" in text else "adm_grid"
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config", f"recipes/{recipe}.yaml", "--config", "block.yaml", "--print_config"])
    assert ended.value.code == 0, capsys.readouterr().err


# ---- commands -----------------------------------------------------------------------------------------------

STUB = """#!/bin/sh
printf '%s\\0' "${0##*/}" "$@" >> "$COMMANDS"
printf '\\n' >> "$COMMANDS"
"""
PROGRAMS = ("weakseg", "bash", "python", "python3", "pip", "torchrun", "srun", "awk", "grep", "mv", "git", "ssh")


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> dict[str, list[list[str]]]:
    """What the shell makes of the commands in each document, words of words; nothing is run."""
    if (bash := shutil.which("bash")) is None:
        pytest.skip("needs bash")
    return {name: _recorded(bash, "\n".join(blocks("bash", name)), tmp_path_factory.mktemp("shell")) for name in TEXTS}


def _recorded(bash: str, script: str, folder: Path) -> list[list[str]]:
    for place in (folder / "stubs", folder / "here" / ".venv" / "bin"):
        place.mkdir(parents=True)
        for program in PROGRAMS:
            (place / program).write_text(STUB)
            (place / program).chmod(0o755)
    (folder / "here" / ".venv" / "bin" / "activate").touch()
    (folder / "here" / "SELECT" / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation").mkdir(parents=True)
    (folder / "commands").touch()
    environment = {"PATH": str(folder / "stubs"), "COMMANDS": str(folder / "commands")}
    done = subprocess.run(
        [bash, "-c", script], cwd=folder / "here", env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == "", "a program that is not known, or a mistake in the shell's language"
    lines = (folder / "commands").read_text(encoding="utf-8").split("\0\n")[:-1]
    return [line.split("\0") for line in lines]


def weakseg_arguments(words: list[str]) -> list[list[str]]:
    """What `weakseg` is given in the end, started by whatever; several times by a script that runs recipes."""
    for name in ("weakseg", "weakseg_lightning"):
        if name in words[:12]:
            return [words[words.index(name) + 1 :]]
    if words[0] == "python" and "--recipes" in words and "--" in words:
        cut = words.index("--")
        first = words.index("--recipes") + 1
        last = next((place for place in range(first, cut) if words[place].startswith("-")), cut)
        recipes = [word for word in words[first:last] if word != "..."]
        configs = (
            [word for name in recipe.split("+") for word in ("--config", f"recipes/{name}.yaml")] for recipe in recipes
        )
        return [["fit", *given, *words[cut + 1 :]] for given in configs]
    return []


def test_the_shell_takes_the_commands(commands):
    assert [words[0] for words in commands["README.md"]].count("weakseg") > 12
    assert len(weakseg_arguments(commands["tests/benchmarks/README.md"][0])) == 2, "pce and adm_grid"
    assert weakseg_arguments(commands["recipes/README.md"][-1]) == [["report", "runs/NAME/version_0"]]


def test_helpers_have_the_options_that_documents_give_them(commands):
    seen = set()
    for words in (words for name in DOCUMENTS for words in commands[name]):
        for args in weakseg_arguments(words):
            if (name := find_subcommand(args)) is None:
                assert args[0] in ("fit", "validate", "test", "predict"), words
                continue
            module, _, function = SUBCOMMANDS[name].path.rpartition(".")
            parameters = inspect.signature(getattr(import_module(module), function)).parameters
            given = {word[2:].replace("-", "_") for word in args if word.startswith("--")} - {"config"}
            given |= {SUBCOMMANDS[name].first} - {""}
            needed = {key for key, value in parameters.items() if value.default is value.empty}
            assert needed <= given <= set(parameters), words
            seen.add(name)
    assert seen == set(SUBCOMMANDS), "each command is in a document"


def test_recipes_take_the_options_that_documents_give_them(commands, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trained = (ROOT / "recipes" / "adm" / "adm_grid.yaml").read_text(encoding="utf-8")
    for path in ("leaves.yaml", "runs/leaves/version_0/config.yaml", "runs/NAME/version_0/config.yaml"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(trained, encoding="utf-8")
    given = [args for name in DOCUMENTS for words in commands[name] for args in weakseg_arguments(words)]
    unique = sorted({tuple(args) for args in given if find_subcommand(args) is None})
    assert len(unique) > 40
    wrong = []
    for args in unique:
        try:
            status: object = main([*args, "--print_config"])
        except SystemExit as ended:
            status = ended.code
        if status != 0:
            wrong.append((args, capsys.readouterr().err))
    assert wrong == []


def test_scripts_have_the_options_that_documents_give_them(commands):
    scripts = set()
    for words in (words for name in DOCUMENTS for words in commands[name] if words[0] == "python"):
        if words[1] == "-m":
            continue
        path = next((ROOT / words[1]).glob(f"*/{words[2]}.py")) if words[1] == "tests/benchmarks" else ROOT / words[1]
        source = path.read_text(encoding="utf-8")
        scripts.add(path.relative_to(ROOT).as_posix())
        own = words[: words.index("--")] if "--" in words else words
        options = {word.partition("=")[0] for word in own if word.startswith("--")}
        assert [option for option in options if f'"{option}"' not in source] == [], words
    measuring = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "benchmarks").glob("*/*.py")}
    # parts of the others, and their tests
    parts = ("test_", "contestants", "instances", "pymaxflow_expansion", "step_clock", "tasks")
    assert scripts - {"tests/fuzz/run.py", "tests/devices/counts.py"} == {
        path for path in measuring if not Path(path).name.startswith(parts)
    }


def test_measurements_start() -> None:
    """All of them find their parts: imported, and asked for help, in one process."""
    program = """
import runpy, sys
from pathlib import Path

sys.path.insert(0, "tests/benchmarks")
main = runpy.run_path("tests/benchmarks/__main__.py")
sys.path[:1] = map(str, [main["HERE"], *main["ROOMS"]])
needs = {"pymic", "gco", "maxflow", "pydensecrf", "playwright"}
for name, path in main["scripts"]().items():
    sys.argv = [name, "--help"]
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as ended:
        assert ended.code == 0, name
    except ModuleNotFoundError as missing:
        assert missing.name.partition(".")[0] in needs, (name, missing.name)
    print("started", name)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("\nstarted ") > 15


@pytest.mark.parametrize("name", ["README.md", "recipes/README.md", "tests/benchmarks/README.md"])
def test_recipes_and_scripts_in_commands_exist(name) -> None:
    named = re.findall(r"(?:recipes|tests)/[\w/]+\.(?:yaml|py|sh)", TEXTS[name])
    assert named
    assert [path for path in named if not (ROOT / path).is_file() and "/NAME." not in path] == []


def test_commands_for_ci_are_marked() -> None:
    assert re.findall(r"<!-- ci: (\w+) -->\n```bash\n.+\n```", README) == ["job", "tests"]


# ---- text ---------------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """Where links into a document lead: its headings, in small letters, with hyphens."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    links = re.findall(r"\]\((?!https://)([^)]*)\)", TEXTS[name])
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def test_every_recipe_is_explained():
    explained = TEXTS["recipes/README.md"]
    for name in known_recipes():
        stem = name.rpartition("/")[2]
        if is_method(name):
            short = stem.removeprefix("trust_region_grid")  # `trust_region_grid_80`, `_50`, ...
            assert f"`{stem}`" in explained or f"`{short}`" in explained, name
        else:
            assert stem in explained, name


def test_the_readme_is_short_and_the_map_fits_a_screen():
    assert README.count("\n") <= 250
    assert len(README.encode()) <= 14_336
    assert TEXTS["weakseg_lightning/README.md"].count("\n") <= 60

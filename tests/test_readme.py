"""The README's Python runs as it stands there; its commands name files that exist."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

import weakseg_lightning
from weakseg_lightning.constraints import Knowledge, compile_constraints
from weakseg_lightning.modules import ADMModule

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    own = names["Smoothed"](names["module"].network, names["data"].num_classes)  # type: ignore[operator, attr-defined]
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    Trainer(max_steps=2, limit_val_batches=1, accelerator="cpu", **quiet).fit(own, names["data"])  # type: ignore[arg-type]
    assert own.latent_labels is not None
    discs = names["DiscsDataModule"](crop_size=48, batch_size=4, num_workers=0)  # type: ignore[operator]
    adm = ADMModule(names["module"].network, 2, names["Blur"](5), pce_fraction=0.0)  # type: ignore[operator, attr-defined]
    trainer = Trainer(max_steps=2, limit_val_batches=1, accelerator="cpu", **quiet)  # type: ignore[arg-type]
    trainer.fit(adm, discs)
    assert adm.latent_labels is not None
    assert torch.isfinite(trainer.callback_metrics["train_latent"])


def test_classes_of_ones_own_are_short() -> None:
    classes = [text for text in blocks("python") if "\nclass " in text]
    assert len(classes) == 3
    assert max(text.count("\n") for text in classes) < 40


def test_yaml_blocks_name_rules_with_their_arguments() -> None:
    (block,) = (yaml.safe_load(text) for text in blocks("yaml") if "constraints:" in text)
    written = block["model"]["init_args"]["constraints"]
    rules = [{"class_path": rule, "init_args": {}} if isinstance(rule, str) else rule for rule in written]
    built = [getattr(weakseg_lightning, rule["class_path"])(**rule["init_args"]) for rule in rules]
    known = Knowledge(
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


def test_recipes_and_scripts_in_commands_exist() -> None:
    named = re.findall(r"(?:recipes|tests)/[\w/]+\.(?:yaml|py)", README)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_commands_for_ci_are_marked() -> None:
    assert re.findall(r"<!-- ci: (\w+) -->\n```bash\n.+\n```", README) == ["job", "tests"]

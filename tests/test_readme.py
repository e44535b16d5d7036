"""The README's Python runs as it stands there; its commands name files that exist."""

import re
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

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


def test_recipes_and_scripts_in_commands_exist() -> None:
    named = re.findall(r"(?:recipes|tests)/[\w/]+\.(?:yaml|py)", README)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_commands_for_ci_are_marked() -> None:
    assert re.findall(r"<!-- ci: (\w+) -->\n```bash\n.+\n```", README) == ["job", "tests"]

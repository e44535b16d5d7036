from pathlib import Path

from dogs import METHODS, command, data_overlay, parse, table

OPTIONS = ["--data", "data", "--weights", "w.safetensors", "--steps", "7"]


def test_the_table_has_a_row_a_method_and_means() -> None:
    scores = {
        (name, seed): {"dog": 0.5 + seed / 10, "dog_everywhere": 0.7, "false": 0.02, "seconds": 60.0, "accuracy": 0.9}
        for name in METHODS
        for seed in (0, 1)
    }
    header, _, *rows, _, last = table(scores, [0, 1]).splitlines()
    assert header.startswith("| method | dog IoU, seeds 0 1 |")
    assert len(rows) == len(METHODS)
    assert rows[1] == "| decomposition | 50.0, 60.0 | 55.0 | 70.0 | 2.0 % | 60 |"
    assert last == "Accuracy of the classifier on held-out photographs: 90.0, 90.0 %."


def test_runs_have_one_budget_and_one_data_set(tmp_path: Path) -> None:
    options = parse([*OPTIONS, "--out", str(tmp_path)])
    (tmp_path / "classifier-3" / "version_0" / "checkpoints").mkdir(parents=True)
    (tmp_path / "classifier-3" / "seconds.txt").write_text("1")
    (tmp_path / "classifier-3" / "version_0" / "checkpoints" / "last.ckpt").touch()
    for name in ("classifier", "decompose", "penalty", "ccnn"):
        words = command(name, 3, options)
        assert words[words.index("--trainer.max_steps") + 1] == ("14" if name == "ccnn" else "7")
        assert words[words.index("--seed_everything") + 1] == "3"
    assert "w.safetensors" in " ".join(command("ccnn", 3, options))
    assert data_overlay(options)["data"]["init_args"]["size"] == 128

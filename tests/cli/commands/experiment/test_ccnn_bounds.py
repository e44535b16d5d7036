import csv

import pytest

from weakseg_lightning.cli.commands.experiment.ccnn_bounds import Bounds, ccnn_bounds, line_search

TINY = (
    "--trainer.max_steps=2 --trainer.check_val_every_n_epoch=1 --trainer.enable_progress_bar=false "
    "--trainer.enable_model_summary=false --data.num_train=4 --data.num_val=2 --data.size=32 --data.crop_size=32 "
    "--data.batch_size=2"
)


def test_the_table_of_the_paper():
    rows = line_search([0.1, 0.2, 0.3, 0.4], [0.2, 0.1, 0.3, 0.4, 0.5], [0.7, 0.5, 0.6, 0.8])
    assert len(rows) == len(set(rows)) == 11
    assert rows[0] == Bounds(0.1, 0.2, 0.7)
    assert rows[3] == Bounds(0.4, 0.2, 0.7)
    assert rows[-1] == Bounds(0.1, 0.2, 0.8)
    changed = [sum(a != b for a, b in zip(vars(row).values(), vars(rows[0]).values(), strict=True)) for row in rows[1:]]
    assert set(changed) == {1}


def test_a_list_without_values_is_refused():
    with pytest.raises(ValueError, match="`background_lower` needs at least one value"):
        line_search([0.1], [], [0.7])


def test_bounds_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match="`lower` must not exceed `upper`"):
        ccnn_bounds(["ccnn_tags"], tmp_path, "tags", [0.05], [0.3], [0.7, 0.2], options=TINY)
    assert not list(tmp_path.iterdir())


def test_every_set_of_bounds_is_trained_once(tmp_path, capsys, monkeypatch):
    recipes = ["ccnn_tags", "data/scenes_whole"]
    ccnn_bounds(recipes, tmp_path, "tags", [0.05], [0.3], [0.7, 0.5], options=TINY)
    said = capsys.readouterr().out
    with (tmp_path / "table.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[-1] == "mIoU"
    assert [row[:3] for row in rows] == [["0.05", "0.3", "0.7"], ["0.05", "0.3", "0.5"]]
    assert all(0 <= float(row[3]) <= 100 for row in rows)
    assert "standard deviation" in said
    config = next(tmp_path.glob("fg0.05_bg0.3-0.5_seed0/run/version_0/config.yaml")).read_text()
    assert "upper: 0.5" in config
    monkeypatch.setattr("subprocess.run", lambda *args, **kwargs: pytest.fail("a finished run is repeated"))
    ccnn_bounds(recipes, tmp_path, "tags", [0.05], [0.3], [0.7, 0.5], options=TINY)
    assert capsys.readouterr().out == said
    for others in ({"constraints": "tags_size"}, {"options": TINY + " --data.flip=false"}, {"recipes": recipes[:1]}):
        asked = {"recipes": recipes, "constraints": "tags", "options": TINY} | others
        with pytest.raises(ValueError, match=r"fg0.05_bg0.3-0.7_seed0 holds a run of other recipes, constraints"):
            ccnn_bounds(
                output=tmp_path, foreground_lower=[0.05], background_lower=[0.3], background_upper=[0.7], **asked
            )


def test_a_run_that_fails_is_told(tmp_path):
    with pytest.raises(OSError, match=r"`weakseg fit` ended with status 2, see .*log.txt: .*num_trian"):
        ccnn_bounds(
            ["ccnn_tags", "data/scenes_whole"], tmp_path, "tags", [0.05], [0.3], [0.7], options="--data.num_trian=1"
        )

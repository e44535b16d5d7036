from pathlib import Path

import numpy as np
from PIL import Image

from weakseg_lightning.cli.commands.experiment.sample_grid import grid_of


def test_samples_of_a_run_are_drawn(run, tiny, refused):
    status, _, errors = run("fit", "--config", "recipes/baselines/pce.yaml", *tiny, "--name", "pce")
    assert status == 0, errors
    folder = "runs/pce/version_0"
    status, said, errors = run(
        "experiment", "sample-grid", "--run", folder, "--images", "2", "--tile", "20", "--class_name", "fish"
    )
    assert status == 0, errors
    assert f"train.png and val.png are in {folder}/samples." in said
    for split in ("train", "val"):
        with Image.open(Path(folder) / "samples" / f"{split}.png") as picture:
            assert picture.width == 21 * 20
            pixels = np.asarray(picture)
        assert (pixels[:, 200:220] == 255).all(), "between the two grids"
        assert pixels[:20, :20].std() > 1
        assert pixels[:20, 220:240].std() > 1
    assert "`class_name`: 'whale' is none of the classes star, fish" in refused(
        "experiment", "sample-grid", "--run", folder, "--class_name", "whale"
    )
    assert "no checkpoint `runs/nothing/checkpoints/last.ckpt`" in refused(
        "experiment", "sample-grid", "--run", "runs/nothing"
    )


def test_tiles_of_both_grids_have_the_same_places():
    pairs = [(Image.new("RGB", (2, 2), (k, 0, 0)), Image.new("RGB", (2, 2), (0, k, 0))) for k in range(12)]
    pixels = np.asarray(grid_of(pairs, 2))
    assert pixels.shape == (4, 42, 3)
    assert (pixels[2:, 2:4] == (11, 0, 0)).all()
    assert (pixels[2:, 24:26] == (0, 11, 0)).all()
    assert (pixels[2:, 4:22] == 255).all()

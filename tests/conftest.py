"""Fixtures shared by all tests."""

import multiprocessing
import os
import random
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from processes import IMPORTED, start, variables_of_ranks, wait_for

ROOT = Path(__file__).resolve().parents[1]


# Files of minutes begin first, so that the last one does not run alone on one core.
LONG = (
    "painting/browser/test_whole_way.py",
    "recipes/test_every_recipe.py",
    "devices/test_simulated.py",
    "cli/runs/test_two_machines.py",
    "cli/test_class_names.py",
    "painting/learning/test_training.py",
    "painting/browser/test_learning_page.py",
    "painting/learning/test_learning.py",
    "painting/browser/test_page.py",
    "painting/browser/test_killed.py",
    "cli/runs/test_killed.py",
    "cli/runs/test_slurm.py",
    "cli/commands/test_init.py",
    "modules/core/test_amortized_distributed.py",
    "prediction/test_rasters.py",
    "modules/core/test_class_names.py",
    "modules/core/test_base.py",
    "modules/test_equal_ranks.py",
    "cli/commands/experiment/test_ccnn_bounds.py",
    "networks/test_smp.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Keep to one thread where there is a worker per core: with all cores in each, torch takes four times as long."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    multiprocessing.set_forkserver_preload(IMPORTED)  # there is one server for each worker: before it starts
    if hasattr(config.option, "loadscopereorder"):  # pytest-xdist's own order: files of many tests first
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first, in their order above."""
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let each test, and its fixtures of any scope, begin with the same seed, in whatever order they run."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries draw from the global one
    torch.manual_seed(0)
    # What a run leaves in the environment, another would begin with.
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real photographs, masks and weights; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("WEAKSEG_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"real data not found in {folder} (set WEAKSEG_SHARED to its folder)")
    return folder


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sockets reach this machine alone, so that a hidden download is a failed test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in {"localhost", "127.0.0.1", "::1"} and self.family != socket.AF_UNIX:
            raise RuntimeError(f"a test tried to reach {host!r}: tests must not use the network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def run_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a file of tests/programs: ``run_program(name, *arguments)``; with ``ranks``, in as many processes."""

    def run(
        name: str, *arguments: object, ranks: int = 0, fails: bool = False, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        folder = tmp_path_factory.mktemp("printed")
        out, err = folder / "out", folder / "err"
        environments = variables_of_ranks(ranks) if ranks else [{}]
        program = ROOT / "tests/programs" / name
        codes = wait_for([start(program, *arguments, out=out, err=err, **more) for more in environments], timeout)
        assert [code != 0 for code in codes] == [fails] * len(codes), err.read_text()[-3000:]
        return subprocess.CompletedProcess([name, *arguments], codes[0], out.read_text(), err.read_text())

    return run


NAMES = ("a.jpg", "b.png", "c d \u00e9.png")


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a sound folder of one's own images with every kind of annotation: ``make_folder()`` returns it.

    Three images of 48 x 40 pixels, the last with a space and an accent in its name; classes background, cat (red) and
    dog (blue); scribbles gray, indexed and in colors; masks of the first two.
    """

    def make(name: str = "photos") -> Path:
        root = tmp_path / name
        for folder in ("images", "scribbles", "masks"):
            (root / folder).mkdir(parents=True)
        mask = np.zeros((40, 48), dtype=np.uint8)
        mask[10:20, 10:30], mask[25:35, 20:40] = 1, 2
        seeds = np.full_like(mask, 255)
        seeds[14:17, 14:26], seeds[28:31, 24:36], seeds[2:5, 5:40] = 1, 2, 0
        palette = np.zeros((256, 3), dtype=np.uint8)
        palette[1:3] = (255, 0, 0), (0, 0, 255)
        palette[255] = 255
        for number, file in enumerate(NAMES):
            noise = np.random.default_rng(number).integers(0, 255, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / "images" / file)
        Image.fromarray(seeds).save(root / "scribbles" / "a.png")
        indexed = Image.fromarray(seeds)
        indexed.putpalette(palette.tobytes())
        indexed.save(root / "scribbles" / "b.png")
        Image.fromarray(np.dstack([palette[seeds], np.uint8(255) * (seeds < 255)])).save(
            root / "scribbles" / "c d \u00e9.png"
        )
        for file in ("a.png", "b.png"):
            Image.fromarray(mask).save(root / "masks" / file)
        (root / "classes.yaml").write_text(
            'classes: [background, {name: cat, color: "#ff0000"}, {name: dog, color: [0, 0, 255]}]\n'
        )
        (root / "points.csv").write_text("image,x,y,class\na.jpg,12,12,cat\nb,22.5,27,dog\n")
        (root / "boxes.csv").write_text("image,x1,y1,x2,y2,class\na.jpg,10,10,30,20,cat\nb.png,20,25,40,35,dog\n")
        (root / "tags.csv").write_text(
            "image,class\na.jpg,cat|dog\nb.png,cat\nb.png,dog\nc d \u00e9.png,cat | dog\n", "utf-8"
        )
        (root / "sizes.csv").write_text("image,class,size\na.jpg,cat,12%\na.jpg,dog,large\nb,1,0.1\nb,2,small\n")
        return root

    return make

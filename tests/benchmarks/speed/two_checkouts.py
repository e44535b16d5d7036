"""Folders of RGB images in two checkouts: processor time to read an image and of a training step, peak memory.

Run from the project's root, with nothing else running::

    git worktree add /tmp/before COMMIT
    python tests/benchmarks two_checkouts --other /tmp/before

Both train on the same generated scenes, saved as JPEG with scribbles, in processes of their own which are called
alternately; medians over ``--repeats`` and their ratio are printed. Both use the compiled core that is installed, so
that a commit with another core is to be installed itself.
"""

import importlib.machinery
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from measuring import HERE, ROOT, command_line, interleaved, machine, markdown, resolved

_CORE = "weakseg_lightning._native._core"
_SIZE = 375  # pixels
_MEASURES = {
    "read": "reading an image (ms of one core)",
    "step": "a training step of 8 crops (ms of one core)",
    "memory": "peak memory (MB)",
}


def write_folder(root: Path, number: int) -> None:
    """Write a folder of scenes with scribbles."""
    from PIL import Image

    from weakseg_lightning.data.scenes.datamodule import Scenes
    from weakseg_lightning.data.scenes.drawing import CLASS_NAMES

    scenes = Scenes("train", number, size=_SIZE)
    for name in ("images", "scribbles"):
        (root / name).mkdir(parents=True)
    for index in range(number):
        scene = scenes[index]
        Image.fromarray(scene.image.permute(1, 2, 0).numpy()).save(root / f"images/{index:03}.jpg", quality=95)
        Image.fromarray(scene.seeds.numpy()).save(root / f"scribbles/{index:03}.png")
    (root / "classes.yaml").write_text(f"classes: {json.dumps(list(CLASS_NAMES))}\n")


def measure(checkout: Path, folder: Path, steps: int) -> dict[str, float]:
    """Measure a checkout in a process of its own."""
    words = [sys.executable, str(HERE), Path(__file__).stem, "--child", str(checkout), str(folder), str(steps)]
    printed = subprocess.run(words, check=True, cwd=folder.parent, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return found


def use_checkout(checkout: Path) -> None:
    """Import the package from a checkout, with the core that is installed."""
    spec = importlib.util.find_spec(_CORE)
    assert spec is not None
    assert spec.origin is not None
    for name in [name for name in sys.modules if name.partition(".")[0] == "weakseg_lightning"]:
        del sys.modules[name]
    sys.meta_path[:] = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
    sys.path.insert(0, str(checkout))
    loader = importlib.machinery.ExtensionFileLoader(_CORE, spec.origin)
    core = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(_CORE, loader, origin=spec.origin))
    sys.modules[_CORE] = core
    loader.exec_module(core)
    import weakseg_lightning

    assert Path(weakseg_lightning.__file__).is_relative_to(checkout), weakseg_lightning.__file__


def run_child(checkout: Path, folder: Path, steps: int) -> None:
    """Measure the package of a checkout, and print what was found as JSON."""
    use_checkout(checkout)
    import torch
    from lightning.pytorch import Callback, Trainer, seed_everything

    from weakseg_lightning import FolderDataModule, RegularizedLossModule, SMPNetwork

    torch.set_num_threads(1)
    seed_everything(0, verbose=False)
    given = {"crop_size": 192, "batch_size": 8, "num_workers": 0, "scale_range": (0.5, 1.25), "val_fraction": 0.0}
    data = FolderDataModule(folder, "scribble", **given)
    data.setup("fit")
    source = data.train_source()
    times = []
    for index in range(len(source.ids)):
        began = time.process_time()
        _ = source[index]
        times.append(time.process_time() - began)

    ends: list[float] = []

    class Watch(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            ends.append(time.process_time())

    network = SMPNetwork("linknet", "timm-mobilenetv3_small_minimal_100", encoder_weights=None)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = Trainer(max_steps=steps + 2, callbacks=[Watch()], enable_model_summary=False, **quiet)
    trainer.fit(RegularizedLossModule(network, data.num_classes), data)
    between = [after - before for before, after in pairwise(ends[1:])]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"read": 1000 * median(times), "step": 1000 * median(between), "memory": peak}))


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["--child"]:
        checkout, folder, steps = sys.argv[2:]
        run_child(Path(checkout), Path(folder), int(steps))
        return
    parser = command_line(__doc__)
    parser.add_argument("--other", type=resolved, required=True, help="the checkout to compare with")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warm_up", type=int, default=1, help="rounds that do not count")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "scenes"
        write_folder(root, given.images)
        checkouts = {"this": ROOT, "other": given.other}
        runs = {name: lambda path=path: measure(path, root, given.steps) for name, path in checkouts.items()}
        found = interleaved(runs, given.repeats, warm_up=given.warm_up)
    print(f"\n{machine()}, one thread, median of {given.repeats}; other: {given.other}\n")
    rows = []
    for key, title in _MEASURES.items():
        this, other = (median(one[key] for one in found[name]) for name in ("this", "other"))
        ratios = [a[key] / b[key] for a, b in zip(found["this"], found["other"], strict=True)]
        rows.append([title, f"{this:.1f}", f"{other:.1f}", f"{median(ratios):.3f}"])
    print(markdown(["", "this", "other", "median ratio"], rows))


if __name__ == "__main__":
    main()

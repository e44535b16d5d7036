"""`weakseg export`: a trained network as a file for other programs."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

from weakseg_lightning.cli.commands.places import shown
from weakseg_lightning.errors import UserError
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.prediction.export import (
    SUFFIXES,
    Exported,
    Format,
    export_network,
    fitting,
    largest_difference,
    runner,
    save,
)
from weakseg_lightning.prediction.loading import load_module

__all__ = ["export"]


def export(
    ckpt_path: Path,
    format: Literal["onnx", "torch", "both"] = "both",
    output: Path | None = None,
    size: list[int] | None = None,
    tolerance: float = 1e-3,
) -> int:
    """Write a trained network as ONNX or torch.export file, and compare what the file computes with the checkpoint.

    The file maps `image`, RGB in 0..1, float32 (1, 3, H, W), or (values - low) / (high - low) of the channels that the
    file names, to `scores`, (1, K, H, W), whose largest is the label; normalization is part of it. Where the network
    can be traced so, H and W are any multiples of its stride (the command says which); pad other images at the right
    and at the bottom with the network's mean color, and cut the scores. The names of the classes are in the file, as
    JSON, and so are the channels: ONNX has them in its metadata, torch.export in the extra files `class_names` and
    `channels`. The largest difference is that of scores of random images of several sizes, relative to the largest
    score where that exceeds 1; above the tolerance the exit status is 1.

    Args:
        ckpt_path: the checkpoint.
        format: onnx (needs the extra `export`), torch (a .pt2 file), or both.
        output: the file, without suffix; by default that of the checkpoint, next to it.
        size: height and width, for a network of this one size; it may be any then.
        tolerance: largest difference that is fine.
    """
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UserError(f"`size` must be a height and a width in pixels, got {size}")
    module = load_module(ckpt_path)
    exported = export_network(module, None if size is None else (size[0], size[1]))
    print(_takes(module, exported))
    if module.class_names is None:
        print(f"{shown(ckpt_path)} does not say the names of its classes: the file has none either")
    stem, fine = output or ckpt_path.with_suffix(""), True
    stem.parent.mkdir(parents=True, exist_ok=True)
    for form in get_args(Format) if format == "both" else (format,):
        path = stem.with_name(stem.name + SUFFIXES[form])
        with TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
            unfinished = Path(folder) / path.name
            save(exported, unfinished, form, module.class_names, module.channels)
            difference = largest_difference(module, runner(unfinished, form), _sizes(module, exported))
            for file in Path(folder).iterdir():  # weights of more than 2 GB are a second file
                file.replace(path.with_name(file.name))
        fine = fine and difference <= tolerance
        verdict = "" if difference <= tolerance else f", more than {tolerance:g}: do not use it"
        print(f"Wrote {shown(path)}: largest difference of scores {difference:.1e}{verdict}")
    return 0 if fine else 1


def _takes(module: WeakSegModule, exported: Exported) -> str:
    """The images that the file takes, in words."""
    if exported.size is not None:
        why = f" (not every size: {exported.why})" if exported.why else ""
        return f"Images of {exported.size[0]} x {exported.size[1]} pixels (height x width){why}"
    net = module.net
    more = f" + {net.remainder}" if net.remainder else ""
    begin = f", {exported.least} or more" if exported.least > fitting(net, 1) else ""
    return f"Images of every height and width {net.stride} n{more}{begin}"


def _sizes(module: WeakSegModule, exported: Exported) -> list[tuple[int, int]]:
    """Heights and widths to compare at."""
    if exported.size is not None:
        return [exported.size]
    net, least = module.net, exported.least
    sizes = ((65, 129), (200, 97), (256, 256))
    return [(fitting(net, max(height, least)), fitting(net, max(width, least))) for height, width in sizes]

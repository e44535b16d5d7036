"""Labelings of volumes with edges between their slices against slices one by one, by 3-D Dice and time.

A network that never saw the volumes gives the scores; people's scribbles are kept in every slice, in every third, or in
none. From the project's root, with a run of `recipes/acdc`::

    python tests/benchmarks volumes --data DATASETS/acdc --checkpoint runs/NAME/version_0/checkpoints/last.ckpt
"""

import time
from functools import partial
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, NamedTuple

import torch
from measuring import command_line, markdown, resolved
from torch import Tensor

from weakseg_lightning import Segmenter
from weakseg_lightning.data import FolderDataModule
from weakseg_lightning.data.folder.source import FolderSource
from weakseg_lightning.energies import GridPotts, VolumePotts
from weakseg_lightning.metrics.cases import volume_scores
from weakseg_lightning.solvers import AlphaExpansion, VolumeExpansion

_EVERY = {"strokes in every slice": 1, "strokes in every third": 3, "no strokes": 0}


class Volume(NamedTuple):
    """A volume: the logarithms of its probabilities, its gray values, scribbles and masks, slice by slice."""

    scores: Tensor
    image: Tensor
    scribbles: Tensor
    mask: Tensor


def main() -> None:
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument(
        "--data", type=resolved, required=True, help="ACDC as recipes/acdc/unet.yaml has it; val.txt is scored"
    )
    parser.add_argument("--checkpoint", type=resolved, required=True, help="of a run that did not see the volumes")
    parser.add_argument("--weight", type=float, default=10.0, help="of the edges within slices")
    parser.add_argument("--connectivity", type=int, nargs="+", choices=[4, 8], default=[4, 8])
    parser.add_argument(
        "--between", type=float, nargs="+", default=[0.5, 1.0, 2.0, 4.0], help="factors of edges between slices"
    )
    parser.add_argument("--spacing", type=float, nargs=3, default=[10.0, 1.5, 1.5], help="mm: slices, rows, columns")
    parser.add_argument("--every_other", type=int, choices=[0, 1], help="the volumes of every other patient alone")
    parser.add_argument("--largest_component", action="store_true", help="score the largest of each class alone")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    volumes, score = read(options), partial(dice, largest_component=options.largest_component)
    rows = []
    for connectivity in options.connectivity:
        within = GridPotts(options.weight, connectivity)
        for between in options.between:
            expansion = VolumeExpansion(VolumePotts(within, between), num_threads=options.threads)
            one_by_one = AlphaExpansion(within, num_threads=options.threads)
            cells, seconds = [], list[tuple[float, float]]()
            for every in _EVERY.values():
                both = []
                for volume in volumes:
                    seeds = kept(volume.scribbles, every)
                    began = time.process_time()
                    flat = one_by_one.solve(volume.scores, volume.image, seeds=seeds).labels
                    between_both = time.process_time()
                    deep = expansion.solve(volume.scores, volume.image, options.spacing, seeds=seeds).labels
                    seconds.append((time.process_time() - between_both, between_both - began))
                    both.append((score(flat, volume.mask), score(deep, volume.mask)))
                gains = [after - before for before, after in both]
                error = stdev(gains) / len(gains) ** 0.5
                before, after = map(fmean, zip(*both, strict=True))
                cells.append(f"{before:.1f} to {after:.1f} ({fmean(gains):+.1f} ± {error:.1f})")
            cells += [f"{median(each):.2f}" for each in zip(*seconds, strict=True)]
            rows.append([str(connectivity), f"{between:g}", *cells])
            print(*rows[-1], flush=True)
    alone = fmean(score(volume.scores.argmax(1), volume.mask) for volume in volumes)
    print(f"{len(volumes)} volumes; the scores alone: {alone:.1f}")
    print(markdown(["neighbors", "between", *_EVERY, "seconds, whole", "seconds, slices"], rows))


def read(options: Any) -> list[Volume]:
    """The volumes of the validation patients with a network's scores."""
    root: Path = options.data
    lists = {"train_list": root / "train.txt", "val_list": root / "val.txt"}
    data = FolderDataModule(root, cases="(.+)_slice_[0-9]+", batch_size=1, **lists)
    segmenter = Segmenter(options.checkpoint, device="cpu")
    held_out = data.val_source()
    contents = held_out.contents
    cases: dict[str, list[str]] = {}
    for name in sorted(held_out.names, key=lambda name: contents.cases[name].place):
        cases.setdefault(contents.cases[name].case, []).append(name)
    patients = sorted({case.split("_")[0] for case in cases})
    chosen = patients if options.every_other is None else patients[options.every_other :: 2]
    source = FolderSource(contents, list(contents.images), "scribble")
    volumes = []
    for case, names in sorted(cases.items()):
        if case.split("_")[0] not in chosen:
            continue
        samples = [source[source.ids.index(name)] for name in names]
        images = [sample.image.permute(1, 2, 0).numpy() for sample in samples]
        scores = torch.stack([torch.from_numpy(segmenter.probabilities(image)) for image in images])
        image = torch.stack([sample.image.float() / 255 for sample in samples])
        seeds, masks = (torch.stack([getattr(one, key) for one in samples]) for key in ("seeds", "mask"))
        volumes.append(Volume(scores.clamp(min=1e-7).log(), image, seeds, masks))
    return volumes


def kept(scribbles: Tensor, every: int) -> Tensor:
    """The scribbles of every so many slices, from the middle of the first ones on; 0 for none."""
    seeds = torch.full_like(scribbles, 255)
    if every > 0:
        seeds[every // 2 :: every] = scribbles[every // 2 :: every]
    return seeds


def dice(labels: Tensor, mask: Tensor, largest_component: bool) -> float:
    """Mean 3-D Dice of the classes but the background, of 100."""
    return 100 * fmean(volume_scores(labels, mask, 4, largest_component=largest_component)[0])


if __name__ == "__main__":
    main()

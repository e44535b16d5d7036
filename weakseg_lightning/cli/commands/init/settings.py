"""The lines that fit a method's recipe to a folder and a computer."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from weakseg_lightning.cli.commands.init.choice import Hardware, Method, kinds_of, words_for
from weakseg_lightning.data.folder.contents import NEGATIVE, POSITIVE, FolderContents
from weakseg_lightning.data.folder.split import split_names
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.data.text import counted
from weakseg_lightning.errors import UserError

_FROZEN_SIDE = 384
_FROZEN_ENLARGED = 4.0  # at most: an encoder knows small images only as they look enlarged
_FROZEN_STEPS = 120
# Validating an image takes the time of a third of a step of the head: so all of them take one percent.
_FROZEN_STEPS_PER_VALIDATED = 40
_FROZEN_PIXELS = 4 * 1024**2  # in a batch

_FROZEN_ADM = """\
    solver:
      init_args:
        potts:
          weight: 10            # between neighboring cells of the map
          connectivity: 4
    gamma: 1.0                  # chosen with the weight, on images that were kept out (benchmark few_images.py)
    latent_grid: map            # cells of 4 x 4 pixels of what the encoder sees
"""

_FROZEN_TRUST_REGION = """\
    solver:
      init_args:
        unary_weight: 0.3       # lambda of eq. 16; chosen by labelings of training images; authors: 0.05 to 0.1
        start: coarse           # ends as low as zeros or lower, sooner
    normalizer: valid           # the mean over an image's pixels
"""

# Of boxes and tags; with 30 images more steps do harm, with 300 images fewer do.
_CONSTRAINED_EPOCHS, _MOST_CONSTRAINED_STEPS = 14, 1500
# After the fit of the head: on a CPU as measured with few_images; a GPU has time for more, which was not measured.
_ENCODER_STEPS = {"cpu": 240, "gpu": 2400}
_LEARNING_ENCODER = """\
    optimizer:
      lr: 1e-4                  # of the encoder
      head_lr_factor: 10
"""

# Of the settings that tests/benchmarks/README.md compares under "Scribbles of several lengths", the best for images.
_TRUST_REGION = """\
    solver:
      init_args:
        unary_weight: 0.3       # lambda of eq. 16; authors: 0.05 to 0.1
    pce_fraction: 0.5           # the first half of the iterations trains with pCE alone
"""


def folder_lines(
    data: Path,
    contents: FolderContents,
    sides: tuple[int, int],
    method: Method,
    hardware: Hardware,
    weights: str | None,
    output: Path,
) -> Iterator[str]:
    """Make the lines of an overlay that fits the method's recipe to the folder, of such sides, and the computer."""
    yield from header_lines(data, contents, method, hardware, output)
    longest, usual = sides
    if method.fits_head:
        scale = _scale(_FROZEN_SIDE, usual, _FROZEN_ENLARGED)
        batch = max(1, min(4, int(_FROZEN_PIXELS / (longest * max(scale, 1)) ** 2)))
        learned, validated = split_of(contents, method)
        every = max(_FROZEN_STEPS, _FROZEN_STEPS_PER_VALIDATED * len(validated))
        yield from _training(hardware, _steps_of_head(method, len(learned), batch, hardware), every)
        yield from _model(method, weights, scale)
        if method.learns == "encoder":
            yield from ("", "speed:", "  channels_last: true           # less time for a step")
        yield from _data(data, contents, method, longest, batch, hardware.workers)
        return
    seen = longest if method.whole else usual
    scale = _scale(200 if hardware.accelerator == "cpu" and method.whole else hardware.side, seen)
    crop = longest if method.whole else min(round(hardware.crop / scale), 32 * -(-usual // 32))
    batch = 4 if hardware.accelerator == "cpu" and method.whole else hardware.batch_size
    steps = hardware.steps * (2 if method.whole else 1)
    yield from _training(hardware, steps, steps // 4)
    yield from _model(method, weights, scale)
    yield from _data(data, contents, method, crop, batch, hardware.workers)


def _steps_of_head(method: Method, images: int, batch: int, hardware: Hardware) -> int:
    """Iterations after the head was fitted; where no labeled pixel shows an object they are all that teaches it."""
    if method.learns == "encoder":
        return _ENCODER_STEPS[hardware.accelerator]
    if method.supervision not in ("box", "tags"):
        return _FROZEN_STEPS
    return min(max(_FROZEN_STEPS, _CONSTRAINED_EPOCHS * images // batch), _MOST_CONSTRAINED_STEPS)


def _scale(side: int, whole: int, most: float = 1.0) -> float:
    """Factor from ``whole`` pixels to about ``side``, in sixteenths: `weakseg predict` aligns its tiles to these."""
    return min(most, max(1, round(16 * side / whole)) / 16)


def header_lines(
    data: Path, contents: FolderContents, method: Method, hardware: Hardware, output: Path
) -> Iterator[str]:
    """Make the comment above a recipe: what it learns from, its command, where its method is described."""
    yield f"# Learns from the {method.why} of {data} on {hardware.name}."
    yield "# Written by `weakseg init`: change what you like."
    yield "#"
    yield f"#   weakseg fit --config {quote(str(output))}"
    yield "#"
    yield f"# The method is that of the package's recipe {method.recipe}, which cites the paper that is meant;"
    yield '# "authors" marks what the official code of its authors says.'
    others = [words_for(contents, kind) for kind in kinds_of(contents) if kind != method.supervision]
    if others and method.supervision is not None:
        yield f"# There are also {', '.join(others)}: `weakseg init {data} --supervision ...` chooses these."
    yield ""


def _training(hardware: Hardware, steps: int, validate_every: int) -> Iterator[str]:
    yield "trainer:"
    yield f"  accelerator: {hardware.accelerator}"
    yield f"  max_steps: {steps:<19}# iterations, whatever the number of images; more are better where time allows"
    yield "  max_epochs: -1                # the iterations count, not the epochs"
    yield f"  val_check_interval: {validate_every:<10}# iterations between validations; the last one is at the end"
    yield "  check_val_every_n_epoch: null"


def _model(method: Method, weights: str | None, scale: float) -> Iterator[str]:
    yield from ("", "model:", "  init_args:", "    network:", "      init_args:")
    yield f"        encoder_weights: {yaml_of(weights)}   # imagenet, a local file, or null to train from scratch"
    yield f"        input_scale: {scale:<11.4g}# images are resized by this factor for the network"
    if method.learns == "encoder":
        yield "        freeze_encoder: false   # it learns on from the fitted head"
        yield from _LEARNING_ENCODER.splitlines()
    if method.recipe == "trust_region_grid":
        yield from (_FROZEN_TRUST_REGION if method.fits_head else _TRUST_REGION).splitlines()
    if method.recipe == "adm_grid":
        yield from _FROZEN_ADM.splitlines()


def yaml_of(weights: str | None) -> str:
    """Write the argument `encoder_weights` as YAML."""
    return "null" if weights is None else weights if re.fullmatch(r"[\w./-]+", weights) else json.dumps(weights)


def _data(data: Path, contents: FolderContents, method: Method, crop: int, batch: int, workers: int) -> Iterator[str]:
    train, val = split_of(contents, method)
    yield from ("", "data:", "  class_path: FolderDataModule", "  init_args:")
    yield f"    root: {json.dumps(str(data), ensure_ascii=False)}"
    yield f"    supervision: {method.supervision:<15}# {counted(len(train), 'image')} to learn from"
    units, held_out = "cases" if contents.cases else "images with masks", len(set(map(contents.unit, val)))
    yield f"    val_fraction: 0.2           # of the {units}, held out for validation: {held_out}"
    yield "    split_seed: 0               # draws them"
    yield "    train_list: null            # or a text file with the names of the training images"
    yield "    val_list: null              # or one with those for validation"
    if method.recipe == "ccnn_tags_size":
        yield "    size_thresholds: [0.1]      # where small ends and large begins"
    size = "whole images: none is larger" if method.whole else "pixels of the image, before `input_scale`"
    yield f"    crop_size: {crop:<17}# {size}"
    yield f"    scale_range: {'[1.0, 1.0]' if method.whole else '[0.5, 1.25]'}"
    yield f"    batch_size: {batch}"
    yield "    flip: true                  # false where left and right differ"
    yield "    color_jitter: 0.0"
    yield f"    num_workers: {workers}"
    yield "    on_bad_sample: error        # or skip, to go on without files that cannot be used"


def learned_from_by_none(contents: FolderContents, method: Method) -> int:
    """Count the images whose masks validate, as they have nothing that the method learns from."""
    assert method.supervision is not None
    learned = set(contents.of(method.supervision))
    return sum(name not in learned for name in split_of(contents, method)[1])


def case_lines(cases: str | None) -> Iterator[str]:
    """Make the last lines of the data module's, where names tell cases."""
    if cases is not None:
        yield f"    cases: {json.dumps(cases)}   # slices of one case have the same text in the parentheses"
        yield "    spacing: [1.0, 1.0, 1.0]    # mm between slices, rows and columns"


def volume_lines(contents: FolderContents) -> Iterator[str]:
    """Make the last lines of the data module's, where images are slices of volumes."""
    if (reader := contents.volumes) is not None:
        axis = "null" if reader.axis is None else reader.axis
        yield f"    neighbors: {reader.neighbors:<17}# slices on each side that are channels of the image, too"
        yield f"    slice_axis: {axis:<16}# 0, 1 or 2; null: the axis of the largest spacing, or else the last"


def split_of(contents: FolderContents, method: Method) -> tuple[list[str], list[str]]:
    """Find the images to learn from and to validate by, as the data module splits them by the recipe's settings."""
    assert method.supervision is not None
    return split_names(contents, method.supervision, 0.2, 0)


def sides_of(contents: FolderContents) -> tuple[int, int]:
    """Find the longest side of any image, and the usual longer side."""
    sides = []
    for name in contents.images:
        try:
            sides.append(max(contents.size_of(name)))
        except BadSampleError:
            continue  # `weakseg check` names it
    if not sides:
        raise UserError(f"no image of {contents.root} can be read: `weakseg check` names what is wrong")
    return max(sides), sorted(sides)[len(sides) // 2]


def pair_lines(data: Path, hardware: Hardware) -> Iterator[str]:
    """Make the lines about hardware and data of two folders, with the class and without it."""
    yield from ("trainer:", f"  accelerator: {hardware.accelerator}")
    yield from ("data:", "  class_path: ImageNetDogDataModule", "  init_args:")
    yield "    root: null                  # no ImageNet"
    yield f"    positive: {json.dumps([str(data / POSITIVE)])}   # images with the class"
    yield f"    negative: {json.dumps([str(data / NEGATIVE)])}   # images without it"
    yield "    num_positive: null          # all"
    yield "    num_negative: null"

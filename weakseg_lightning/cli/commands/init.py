"""`weakseg init`: a recipe for a folder of users' images."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from weakseg_lightning.cli.commands.channels import channel_lines, channels_in_words, find_channels, other_bands
from weakseg_lightning.cli.commands.init_choice import (
    Hardware,
    Learns,
    Method,
    choose_method,
    choose_what_learns,
    counts_of,
    find_hardware,
    kinds_of,
    words_for,
)
from weakseg_lightning.cli.commands.places import existing_folder, options, require_new
from weakseg_lightning.cli.recipe_text import merged
from weakseg_lightning.cli.recipes import find_recipe
from weakseg_lightning.data.folder.classes import CLASSES_FILE, classes_text
from weakseg_lightning.data.folder.contents import NEGATIVE, POSITIVE, FolderContents, read_folder
from weakseg_lightning.data.folder.datamodule import split_names
from weakseg_lightning.data.folder.images.volumes import require_volumes
from weakseg_lightning.data.folder.recipe import recipe_of
from weakseg_lightning.data.folder.tables.cases import CaseRule, cases_in_words
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.images.volumes import VolumeReader
from weakseg_lightning.data.maps.inspection import require_no_maps
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.data.weak_labels import Supervision
from weakseg_lightning.errors import UserError
from weakseg_lightning.files import replacing

__all__ = ["init"]


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

# After the fit of the head, as measured with few_images.
_ENCODER_STEPS = {"cpu": 240, "gpu": 2400}
_LEARNING_ENCODER = """\
    optimizer:
      lr: 1e-4                  # of the encoder
      head_lr_factor: 10
"""

_WHAT_LEARNS = {
    "head": "a head on a frozen encoder (--learns encoder takes longer: the encoder learns, too, after the head)",
    "encoder": "a head on a frozen encoder, then the encoder, too",
    "network": "the whole network",
}

# Of the settings that the README compares under "Scribbles of several lengths", the best for images.
_TRUST_REGION = """\
    solver:
      init_args:
        unary_weight: 0.3       # lambda of eq. 16; authors: 0.05 to 0.1
    pce_fraction: 0.5           # the first half of the iterations trains with pCE alone
"""


def init(
    data: Path,
    output: Path | None = None,
    supervision: Supervision | None = None,
    encoder_weights: str | None = "imagenet",
    learns: Learns = "auto",
    overwrite: bool = False,
    cases: str | None = None,
    channels: dict[str, int | str] | list[str] | None = None,
    guide: list[str] | None = None,
    slice_axis: int | None = None,
    neighbors: int = 0,
) -> int:
    """Write a commented recipe for a folder of your own images, and classes.yaml if there is none.

    The annotations choose the method: scribbles, clicks or labels accepted in `weakseg paint` ADM, or the robust trust
    region where the whole network learns (see --learns), boxes or tags the constrained CNN, two folders `positive` and
    `negative` in place of `images` the decomposition, masks alone full supervision. Network and batch suit the computer
    that this runs on.

    Args:
        data: the folder, which holds `images`.
        output: the recipe to write; FOLDER.yaml in the working directory by default.
        supervision: learn from these annotations, where there are several kinds.
        encoder_weights: imagenet (fetched when training begins), a local file, or null to train from scratch.
        learns: a head on a frozen encoder, which takes a minute for 30 images; with encoder the encoder learns, too,
            once the head is fitted, better for images unlike photographs or more than 500, in five times the time; with
            network the whole network from the beginning. auto takes the head where there is no GPU, or up to 500
            images, and else encoder.
        overwrite: replace a recipe that is there.
        cases: regular expression that tells by the images' names which are slices of one case, as `weakseg check` takes
            it; cases.csv is found without. Cases are held out as wholes, and scored in 3-D.
        channels: names of the channels of images that are not grey or RGB, as `weakseg check` takes them; TIFFs of
            other bands, `.npy` and files such as NAME_nir.tif beside NAME.tif are found without.
        guide: three of the channels, or one, that pictures and graph cuts see; by default red, green and blue, or the
            first three.
        slice_axis: axis of the volumes' arrays along which slices are counted, 0, 1 or 2; by default that of the
            largest spacing, or else the last.
        neighbors: slices of a volume before and after each one that are channels of its image, too.

    Returns:
        The exit status: 1 if the folder has problems that would stop training.
    """
    folder = existing_folder(data)
    require_no_maps(folder, "weakseg init")
    output = output or recipe_of(folder)
    require_new(output, overwrite)
    found = find_channels(folder, channels, guide)
    named = None if found is None else ChannelFiles(found.given)
    contents = read_folder(folder, None, CaseRule(cases), named, VolumeReader(slice_axis, neighbors, named))
    require_volumes(contents, neighbors, slice_axis)
    method = choose_method(contents, supervision)
    hardware = find_hardware()
    if method.supervision is None:
        if found is not None:
            raise UserError(f"two folders, {POSITIVE}/ and {NEGATIVE}/, are learned from as RGB alone: convert them")
        return _write_pair(data, contents, method, hardware, encoder_weights, output, overwrite)
    method = choose_what_learns(method, learns, len(contents.of(method.supervision)), hardware)
    base = Path(find_recipe(method.recipe)).read_text(encoding="utf-8")
    fitting = "networks/frozen" if method.fits_head else f"hardware/{'cpu_whole' if method.whole else 'cpu'}"
    overlay = Path(find_recipe(fitting)).read_text(encoding="utf-8")
    settings = [*_settings(data, contents, method, hardware, encoder_weights, output), *_by_names(cases)]
    settings += [*channel_lines(found, guide), *_of_volumes(contents)]
    text = merged(merged(base, overlay), "\n".join(settings))
    if not contents.classes_given:
        _write_classes(contents, data)
    _write(output, text)
    counts = [f"{count} with {kind}" for kind, count in counts_of(contents).items() if count]
    print(f"Found {len(contents.images)} images, {', '.join(counts)}")
    what = _WHAT_LEARNS[method.learns]
    print(f"Wrote {output}: {method.why}, method of {method.recipe}, {what}, for {hardware.name}")
    if found is not None:
        print(channels_in_words(found, guide))
        contents.problems += other_bands(found, folder)
    if contents.problems:
        print(f"{len(contents.problems)} problems would stop training, as {contents.problems[0]}")
        given = options(cases=cases, channels=channels, slice_axis=slice_axis)
        print(f"See all, then again:\n  weakseg check {quote(str(data))}{given}")
        return 1
    if contents.cases:
        print(f"Validation scores {cases_in_words(contents.cases.values())} in 3-D, too: val_dice_mean, val_hd95_mean")
        print("The best checkpoint has the highest val_miou; after --checkpoint.monitor val_dice_mean, this")
    print(f"Next:\n  weakseg fit --config {quote(str(output))}")
    return 0


def _write_pair(
    data: Path,
    contents: FolderContents,
    method: Method,
    hardware: Hardware,
    weights: str | None,
    output: Path,
    overwrite: bool,
) -> int:
    """Write the recipes of the decomposition and of its classifier, which is trained first."""
    classifier = output.with_name(f"{output.stem}_classifier.yaml")
    require_new(classifier, overwrite)
    for path, kind in ((classifier, "classifier"), (output, "decompose")):
        recipe = method.recipe if kind == "decompose" else f"{method.recipe}_classifier"
        base, overlay = (
            Path(find_recipe(name)).read_text(encoding="utf-8") for name in (recipe, f"hardware/cpu_{kind}")
        )
        lines = [*_header(data, contents, method, hardware, path), *_pair_settings(data, hardware)]
        if kind == "classifier":
            lines += ["model:", "  init_args:", "    network:", "      init_args:"]
            lines += [f"        encoder_weights: {_yaml(weights)}   # imagenet, a local file, or null"]
        else:
            checkpoint = f"runs/{classifier.stem}/version_0/checkpoints/last.ckpt"
            lines += ["model:", "  init_args:", f"    classifier_checkpoint: {checkpoint}   # of the first such run"]
        _write(path, merged(merged(base, overlay), "\n".join(lines)))
    print(f"Wrote {classifier} and {output}: {method.why}, method of {method.recipe}, for {hardware.name}")
    print("Next, one after the other:")
    print(f"  weakseg fit --config {quote(str(classifier))}\n  weakseg fit --config {quote(str(output))}")
    return 0


def _pair_settings(data: Path, hardware: Hardware) -> Iterator[str]:
    yield from ("trainer:", f"  accelerator: {hardware.accelerator}")
    yield from ("data:", "  class_path: ImageNetDogDataModule", "  init_args:")
    yield "    root: null                  # no ImageNet"
    yield f"    positive: {json.dumps([str(data / POSITIVE)])}   # images with the class"
    yield f"    negative: {json.dumps([str(data / NEGATIVE)])}   # images without it"
    yield "    num_positive: null          # all"
    yield "    num_negative: null"


# ---- the text -----------------------------------------------------------------------------------------------


def _settings(
    data: Path, contents: FolderContents, method: Method, hardware: Hardware, weights: str | None, output: Path
) -> Iterator[str]:
    """The lines of an overlay that fits the method's recipe to the folder and the computer."""
    yield from _header(data, contents, method, hardware, output)
    longest, usual = _sides(contents)
    if method.fits_head:
        scale = _scale(_FROZEN_SIDE, usual, _FROZEN_ENLARGED)
        batch = max(1, min(4, int(_FROZEN_PIXELS / (longest * max(scale, 1)) ** 2)))
        _, validated = _split(contents, method)
        steps, every = _FROZEN_STEPS, max(_FROZEN_STEPS, _FROZEN_STEPS_PER_VALIDATED * len(validated))
        if method.learns == "encoder":
            steps = every = _ENCODER_STEPS[hardware.accelerator]
        yield from _training(hardware, steps, every)
        yield from _model(method, weights, scale)
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


def _scale(side: int, whole: int, most: float = 1.0) -> float:
    """Factor from ``whole`` pixels to about ``side``, in sixteenths: `weakseg predict` aligns its tiles to these."""
    return min(most, max(1, round(16 * side / whole)) / 16)


def _header(data: Path, contents: FolderContents, method: Method, hardware: Hardware, output: Path) -> Iterator[str]:
    yield f"# Learns from the {method.why} of {data} on {hardware.name}."
    yield "# Written by `weakseg init`: change what you like."
    yield "#"
    yield f"#   weakseg fit --config {quote(str(output))}"
    yield "#"
    yield f"# The method is that of recipes/{method.recipe}.yaml in the package, which cites the paper that is meant;"
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
    yield f"        encoder_weights: {_yaml(weights)}   # imagenet, a local file, or null to train from scratch"
    yield f"        input_scale: {scale:<11.4g}# the network works on images of this fraction of their size"
    if method.learns == "encoder":
        yield "        freeze_encoder: false   # it learns on from the fitted head"
        yield from _LEARNING_ENCODER.splitlines()
    if method.recipe == "trust_region_grid":
        yield from _TRUST_REGION.splitlines()
    if method.recipe == "adm_grid":
        yield from _FROZEN_ADM.splitlines()


def _yaml(weights: str | None) -> str:
    return "null" if weights is None else weights if re.fullmatch(r"[\w./-]+", weights) else json.dumps(weights)


def _data(data: Path, contents: FolderContents, method: Method, crop: int, batch: int, workers: int) -> Iterator[str]:
    train, val = _split(contents, method)
    yield from ("", "data:", "  class_path: FolderDataModule", "  init_args:")
    yield f"    root: {json.dumps(str(data), ensure_ascii=False)}"
    yield f"    supervision: {method.supervision:<15}# {len(train)} images to learn from"
    units, held_out = "cases" if contents.cases else "images with masks", len(set(map(contents.unit, val)))
    yield f"    val_fraction: 0.2              # of the {units}, held out for validation: {held_out}"
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


def _by_names(cases: str | None) -> Iterator[str]:
    """The last lines of the data module's, where names tell cases."""
    if cases is not None:
        yield f"    cases: {json.dumps(cases)}   # slices of one case have the same text in the parentheses"
        yield "    spacing: [1.0, 1.0, 1.0]    # mm between slices, rows and columns"


def _of_volumes(contents: FolderContents) -> Iterator[str]:
    """The last lines of the data module's, where images are slices of volumes."""
    if (reader := contents.volumes) is not None:
        axis = "null" if reader.axis is None else reader.axis
        yield f"    neighbors: {reader.neighbors:<17}# slices on each side that are channels of the image, too"
        yield f"    slice_axis: {axis:<16}# 0, 1 or 2; null: the axis of the largest spacing, or else the last"


def _split(contents: FolderContents, method: Method) -> tuple[list[str], list[str]]:
    """The images to learn from and to validate by, as the data module splits them by the recipe's settings."""
    assert method.supervision is not None
    return split_names(contents, method.supervision, 0.2, 0)


def _sides(contents: FolderContents) -> tuple[int, int]:
    """The longest side of any image, and the usual longer side."""
    sides = []
    for name in contents.images:
        try:
            sides.append(max(contents.size_of(name)))
        except BadSampleError:
            continue  # `weakseg check` names it
    if not sides:
        raise UserError(f"no image of {contents.root} can be read: `weakseg check` names what is wrong")
    return max(sides), sorted(sides)[len(sides) // 2]


def _write_classes(contents: FolderContents, data: Path) -> None:
    names = contents.classes.names
    if len(names) < 2:
        raise UserError(f"the annotations in {data} hold no class but background: name the classes in {CLASSES_FILE}")
    _write(contents.root / CLASSES_FILE, classes_text(contents.classes))
    print(f"Wrote {data / CLASSES_FILE}: {', '.join(names)}; rename them there if you like")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")

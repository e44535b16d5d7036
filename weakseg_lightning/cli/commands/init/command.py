"""`weakseg init`: a recipe for a folder of users' images."""

from pathlib import Path
from shlex import quote

from weakseg_lightning.cli.commands.channels import (
    channel_lines,
    channels_in_words,
    find_channels,
    guide_in_words,
    other_bands,
)
from weakseg_lightning.cli.commands.init.choice import (
    Hardware,
    Learns,
    Method,
    choose_method,
    choose_what_learns,
    counts_of,
    find_hardware,
)
from weakseg_lightning.cli.commands.init.settings import (
    case_lines,
    folder_lines,
    header_lines,
    learned_from_by_none,
    pair_lines,
    sides_of,
    split_of,
    volume_lines,
    yaml_of,
)
from weakseg_lightning.cli.commands.places import existing_folder, options, require_new
from weakseg_lightning.cli.recipe_text import merged
from weakseg_lightning.cli.recipes import find_recipe
from weakseg_lightning.data.folder.classes import CLASSES_FILE, classes_text
from weakseg_lightning.data.folder.contents import NEGATIVE, POSITIVE, FolderContents, read_folder
from weakseg_lightning.data.folder.files import ACCEPTED
from weakseg_lightning.data.folder.images.separability import choose_guide
from weakseg_lightning.data.folder.images.volumes import require_volumes
from weakseg_lightning.data.folder.recipe import recipe_of
from weakseg_lightning.data.folder.tables.cases import CaseRule, cases_in_words
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.images.volumes import VolumeReader
from weakseg_lightning.data.maps.inspection import require_no_maps
from weakseg_lightning.data.text import counted
from weakseg_lightning.data.weak_labels import Supervision
from weakseg_lightning.errors import MissingFileError, UserError
from weakseg_lightning.files import replacing
from weakseg_lightning.networks.weights import is_file_name

__all__ = ["init"]


_WHAT_LEARNS = {
    "head": "a head on a frozen encoder (--learns encoder takes longer: the encoder learns, too, after the head)",
    "encoder": "a head on a frozen encoder, then the encoder, too",
    "network": "the whole network",
}


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

    The annotations choose the method: scribbles, clicks or labels accepted in `weakseg paint` the robust trust region,
    or ADM where a head on a frozen encoder (see --learns) learns from more than 50 images, or from one of more than
    1,024 pixels a side, or where the encoder learns with it; boxes or tags the constrained CNN, two folders `positive`
    and `negative` in place of `images` the decomposition, masks alone full supervision. Network and batch suit the
    computer that this runs on.

    Args:
        data: the folder, which holds `images`.
        output: the recipe to write; FOLDER.yaml in the working directory by default.
        supervision: learn from these annotations, where there are several kinds.
        encoder_weights: imagenet (fetched when training begins), a local file, or null to train from scratch.
        learns: a head on a frozen encoder, which takes a minute for 30 images; with encoder the encoder learns, too,
            once the head is fitted, better for images unlike photographs or more than 500, in 3 to 5 times the time;
            with network the whole network from the beginning. auto takes the head where there is no GPU, or up to 500
            images, and else encoder.
        overwrite: replace a recipe that is there.
        cases: regular expression that tells by the images' names which are slices of one case, as `weakseg check` takes
            it; cases.csv is found without. Cases are held out as wholes, and scored in 3-D.
        channels: names of the channels of images that are not gray or RGB, as `weakseg check` takes them; TIFFs of
            other bands, `.npy` and files such as NAME_nir.tif beside NAME.tif are found without.
        guide: three of the channels, or one, that pictures and graph cuts see; by default red, green and blue, or the
            first three, unless others tell two classes apart notably better, by pixels that scribbles, clicks or masks
            label.
        slice_axis: axis of the volumes' arrays along which slices are counted, 0, 1 or 2; by default that of the
            largest spacing, where it is a fifth larger than the others, or else the last.
        neighbors: slices of a volume before and after each one that are channels of its image, too.

    Returns:
        The exit status: 1 if the folder has problems that would stop training.
    """
    folder = existing_folder(data)
    require_no_maps(folder, "weakseg init")
    output = output or recipe_of(folder)
    require_new(output, overwrite)
    if encoder_weights is not None and is_file_name(encoder_weights) and not Path(encoder_weights).is_file():
        raise MissingFileError(
            f"`encoder_weights`: there is no file {encoder_weights} (working directory: {Path.cwd()})"
        )
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
    learned, chosen = contents.of(method.supervision), None
    if found is not None and guide is None:
        chosen = choose_guide(contents, split_of(contents, method)[0], method.supervision, list(found.given))
        guide = None if chosen is None else chosen.names
    sides = sides_of(contents)
    method = choose_what_learns(method, learns, len(learned), sides[0], hardware)
    base = Path(find_recipe(method.recipe)).read_text(encoding="utf-8")
    fitting = "networks/frozen" if method.fits_head else f"hardware/{'cpu_whole' if method.whole else 'cpu'}"
    overlay = Path(find_recipe(fitting)).read_text(encoding="utf-8")
    settings = [*folder_lines(data, contents, sides, method, hardware, encoder_weights, output), *case_lines(cases)]
    settings += [*channel_lines(found, guide), *volume_lines(contents)]
    text = merged(merged(base, overlay), "\n".join(settings))
    if not (contents.root / CLASSES_FILE).exists():  # not over one that could not be read, a problem below
        _write_classes(contents, data)
    _write(output, text)
    counts = [f"{count} with {kind}" for kind, count in counts_of(contents).items() if count]
    print(f"Found {counted(len(contents.images), 'image')}, {', '.join(counts)}")
    what = _WHAT_LEARNS[method.learns]
    print(f"Wrote {output}: {method.why}, method of {method.recipe}, {what}, for {hardware.name}")
    if found is not None:
        print(channels_in_words(found) + guide_in_words(found, guide, chosen))
        contents.problems += other_bands(found, folder)
    if contents.problems:
        print(f"{counted(len(contents.problems), 'problem')} would stop training, as {contents.problems[0]}")
        given = options(cases=cases, channels=channels, slice_axis=slice_axis)
        print(f"See all, then again:\n  weakseg check {quote(str(data))}{given}")
        return 1
    if idle := learned_from_by_none(contents, method):
        print(
            f"{counted(idle, 'image')} with a mask and nothing else: for validation alone. To learn from a mask beside "
            f"other annotations, move it to {ACCEPTED}/"
        )
    if held_out := [contents.cases[name] for name in split_of(contents, method)[1] if name in contents.cases]:
        print(f"Validation scores {cases_in_words(held_out)} in 3-D, too: val_dice_mean, val_hd95_mean")
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
        lines = [*header_lines(data, contents, method, hardware, path), *pair_lines(data, hardware)]
        if kind == "classifier":
            lines += ["model:", "  init_args:", "    network:", "      init_args:"]
            lines += [f"        encoder_weights: {yaml_of(weights)}   # imagenet, a local file, or null"]
        else:
            checkpoint = f"runs/{classifier.stem}/version_0/checkpoints/last.ckpt"
            lines += ["model:", "  init_args:", f"    classifier_checkpoint: {checkpoint}   # of the first such run"]
        _write(path, merged(merged(base, overlay), "\n".join(lines)))
    print(f"Wrote {classifier} and {output}: {method.why}, method of {method.recipe}, for {hardware.name}")
    print("Next, one after the other:")
    print(f"  weakseg fit --config {quote(str(classifier))}\n  weakseg fit --config {quote(str(output))}")
    return 0


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

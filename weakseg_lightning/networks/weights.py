"""Encoder weights from local files, with strict and explained key checks."""

import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from difflib import SequenceMatcher
from pathlib import Path

import torch
from torch import Tensor, nn

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
# first part of the keys of classifiers in torchvision, timm and Cadene's models
_CLASSIFIERS = {"classifier", "fc", "_fc", "head", "head_fc", "last_linear"}
# how the keys of a file begin, and what the names of smp's encoders with such keys begin with
_FAMILIES = {
    "blocks.0.0.": ("timm-",),
    "_blocks.0.": ("efficientnet-",),
    "layer1.0.": ("res", "se", "timm-sk"),
    "features.denseblock1.": ("densenet",),
    "features.0.0.": ("mobilenet_v2",),
    "features.0.": ("vgg",),
    "conv1_1.": ("dpn",),
}
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def is_file_name(weights: str) -> bool:
    """Tell if `weights` is meant as a file and not as the name of published weights."""
    return weights.endswith(SUFFIXES) or "/" in weights or "\\" in weights


def read_state_dict(path: str | Path, argument: str = "encoder_weights") -> dict[str, Tensor]:
    """Read a state dict, without running any code that the file may hold.

    Args:
        path: A `.safetensors` file, or a `.pt`, `.pth` or `.bin` file written by `torch.save`.
        argument: Name of the argument in error messages.

    Returns:
        Tensors by key, on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no state dict.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"`{argument}`: no file {str(path)!r} (looked in {str(path.resolve().parent)!r}); give the path of a state "
            f'dict ({", ".join(SUFFIXES)}), "imagenet" to download, or null for random weights'
        )
    content = _read(path, argument)
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(
            f"`{argument}`: {str(path)!r} holds no state dict (a mapping from names to tensors) but "
            f"{type(content).__name__}; save `encoder.state_dict()` instead"
        )
    return dict(content)


def _read(path: Path, argument: str) -> object:
    """The content of a weights file."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"`{argument}`: {str(path)!r} must end in one of {', '.join(SUFFIXES)}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"`{argument}`: {str(path)!r} cannot be read as weights ({type(error).__name__}); the file is damaged, of "
            f"another format than its name says, or holds more than tensors"
        ) from error
    except Exception as error:  # safetensors has an exception class of its own, made in Rust
        raise ValueError(f"`{argument}`: {str(path)!r} cannot be read as weights ({error})") from error


def load_encoder_weights(
    encoder: nn.Module, state: Mapping[str, Tensor], name: str, path: str | Path, in_channels: int = 3
) -> None:
    """Put a state dict into an encoder, all or nothing.

    A classifier in the file is dropped. Every other key must fit, one to one, with its shape.

    Args:
        encoder: An encoder of segmentation_models_pytorch.
        state: What the file holds, under smp's, timm's or torchvision's names.
        name: The encoder's name.
        path: The file, for messages.
        in_channels: Number of channels of the images. Where it is not 3, weights of red, green and blue are repeated
            in this order and scaled by 3 / `in_channels`, as timm does; a single channel takes their sum.

    Raises:
        ValueError: Keys are missing or left over, or shapes differ.
    """
    own = encoder.state_dict()
    renamed = _rename(state, own)
    if in_channels != 3:
        renamed = {key: _adapted(value, own.get(key), in_channels) for key, value in renamed.items()}
    extra = [key for key in renamed if key not in own and not _is_classifier(key)]
    extra = _not_in_full_model(extra, state, name) if extra else extra
    raise_misfit(own, renamed, extra, state, name, path)
    # smp's encoders override load_state_dict to rename and drop keys, which is done above and checked
    nn.Module.load_state_dict(encoder, {**own, **{key: renamed[key] for key in own if key in renamed}})


def _rename(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the names of the encoder: the naming scheme that meets most of its keys."""
    schemes: tuple[Callable[[str], str], ...] = (
        lambda key: key,
        lambda key: key.removeprefix("encoder."),
        lambda key: _OLD_DENSENET.sub(r"\1\2", key),
        lambda key: f"model.{key}",
        lambda key: f"model.model.{key}",
        lambda key: "model." + re.sub(r"^(\w+)\.(\d+)\.", r"\1_\2.", key),  # timm flattens `stages.0` to `stages_0`
    )
    candidates = [{scheme(key): value for key, value in state.items()} for scheme in schemes]
    return max(candidates, key=lambda candidate: len(candidate.keys() & own.keys()))


def _adapted(value: Tensor, own: Tensor | None, in_channels: int) -> Tensor:
    """Weights of the first layer, made for RGB, for other channels; others as they are."""
    from timm.models import adapt_input_conv

    takes_rgb = value.ndim == 4 and value.shape[1] == 3
    if own is None or not takes_rgb or own.shape != (value.shape[0], in_channels, *value.shape[2:]):
        return value
    adapted: Tensor = adapt_input_conv(in_channels, value)
    return adapted


def _is_classifier(key: str) -> bool:
    return key.removeprefix("model.").removeprefix("model.").split(".")[0] in _CLASSIFIERS


def _not_in_full_model(extra: list[str], state: Mapping[str, Tensor], name: str) -> list[str]:
    """Left-over keys, unless timm's whole model has them: its encoders lack the layers after the last map."""
    if not name.startswith("tu-"):
        return extra
    import timm

    with torch.device("meta"):
        known = timm.create_model(name.removeprefix("tu-")).state_dict().keys()
    return [] if state.keys() <= known else extra


def raise_misfit(
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    extra: list[str],
    state: Mapping[str, Tensor],
    name: str,
    path: str | Path,
) -> None:
    """Raise a ValueError that lists what is wrong with a state dict, if anything is.

    Args:
        own: What the encoder needs.
        given: What the file has, under the encoder's names.
        extra: Keys of the file that have no place.
        state: What the file has, under its own names.
        name: Name of the encoder.
        path: The file, for the message.
    """
    # old files lack the counter of batches, which batch norm does not need
    missing = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
    shapes = [
        f"{key} is {tuple(given[key].shape)} in the file and {tuple(value.shape)} in the encoder"
        for key, value in own.items()
        if key in given and given[key].shape != value.shape
    ]
    faults = {"missing in the file": missing, "not in the encoder": extra, "of another shape": shapes}
    parts = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in faults.items()
        if keys
    ]
    if parts:
        message = f"`encoder_weights`: {str(path)!r} does not fit the encoder `{name}`. Keys: {'; '.join(parts)}"
        few = sum(map(len, faults.values())) <= len(own) // 10  # the right encoder, and something wrong with the file
        raise ValueError(message + ("" if few else suggest_encoder(state, path)))


def suggest_encoder(state: Mapping[str, Tensor], path: str | Path) -> str:
    """Say which encoder a file seems to be for.

    Tries the encoders of the family that the keys tell, those first whose name is closest to the file's.

    Args:
        state: Content of the file.
        path: The file.

    Returns:
        A sentence, or nothing where there is no idea.
    """
    import segmentation_models_pytorch as smp
    import timm

    if any(key.split(".")[0] in {"decoder", "segmentation_head", "net"} for key in state):
        return ". The file seems to hold a whole network: keep the keys of its encoder alone"
    family = next((names for mark, names in _FAMILIES.items() if any(key.startswith(mark) for key in state)), ())
    stem = Path(path).stem
    names = [name for name in smp.encoders.encoders if name.startswith(family)] if family else []
    names.sort(key=lambda name: -SequenceMatcher(None, name, stem).ratio())
    fitting = next((name for name in names if _fits(state, name)), None)
    if fitting is None and timm.is_model(stem.split(".")[0]):
        fitting = f"tu-{stem.split('.')[0]}"
    return f". The file seems to be for `encoder: {fitting}`" if fitting else ""


def _fits(state: Mapping[str, Tensor], name: str) -> bool:
    """Tell if an encoder of smp has the keys and shapes of a file."""
    import segmentation_models_pytorch as smp

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            own = smp.encoders.get_encoder(name, weights=None).state_dict()
        except RuntimeError:  # some encoders compute with their initial values
            return False
    renamed = _rename(state, own)
    return all(
        key.endswith("num_batches_tracked") or (key in renamed and renamed[key].shape == value.shape)
        for key, value in own.items()
    )

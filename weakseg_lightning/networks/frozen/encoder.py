"""Encoders of timm that give maps: by name, with weights, for images of any size."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from weakseg_lightning.errors import did_you_mean
from weakseg_lightning.networks.weights import is_file_name, load_encoder_weights, read_state_dict

_FINEST_STRIDE = 4  # finer maps hold edges and noise, and four times the cells
# How encoders that insist on the image size of their training are told not to, the first that an encoder takes.
_ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


def make_encoder(name: str, weights: str | None, in_channels: int = 3) -> nn.Module:
    """Make an encoder of timm that gives its maps of stride 4 and coarser, or the last of those of one stride.

    Args:
        name: name in timm.
        weights: as in :class:`FrozenFeatures`.
        in_channels: of the images; the weights of the first layer are repeated for other numbers than three.

    Returns:
        The encoder.

    Raises:
        ValueError: if timm has no such encoder, or none that gives maps, or the weights do not fit.
        FileNotFoundError: if the file of the weights is missing.
        ConnectionError: if the weights could not be downloaded.
    """
    import timm

    if not timm.is_model(name.split(".")[0]):
        raise ValueError(f"`encoder` {name!r} is unknown to timm{did_you_mean(name, timm.list_models(), listed=False)}")
    state = read_state_dict(weights) if weights is not None and is_file_name(weights) else None
    if weights not in (None, "imagenet") and state is None:
        raise ValueError(f'`encoder_weights` must be "imagenet", null or the path of a file, got {weights!r}')
    kept = _chosen_maps(_create(name, in_channels).feature_info)
    try:
        encoder = _create(name, in_channels, out_indices=kept, pretrained=weights == "imagenet")
    except Exception as error:  # without weights it could be made: this is the download
        raise ConnectionError(
            f"`encoder_weights`: could not download the weights of {name!r} ({type(error).__name__}); connect to the "
            "network, or set `encoder_weights` to the path of timm's state dict of this encoder (.safetensors, .pt, "
            ".pth)"
        ) from error
    if state is not None and weights is not None:
        load_encoder_weights(encoder, state, f"tu-{name}", weights, in_channels)
    if weights == "imagenet":
        license = getattr(timm.models.get_pretrained_cfg(name), "license", None) or "that its authors state"
        tell(f"Encoder {name}: weights under the license {license}")
    return encoder


def _create(name: str, in_channels: int, **options: Any) -> nn.Module:
    import timm

    given = options if in_channels == 3 else {**options, "in_chans": in_channels}
    for any_size in _ANY_SIZE:
        try:
            encoder: nn.Module = timm.create_model(name, features_only=True, **any_size, **given)
        except TypeError:
            if not any_size:
                raise
        except (RuntimeError, AttributeError, AssertionError) as error:
            if options:
                raise
            raise ValueError(f"`encoder` {name!r} gives no maps ({error}): choose another") from error
        else:
            return encoder
    raise AssertionError("the last way has no options")


def _chosen_maps(info: Any) -> list[int]:
    strides: Sequence[int] = info.reduction()
    places = [i for i, stride in enumerate(strides) if stride >= _FINEST_STRIDE]
    if len(set(strides)) == 1:  # a plain transformer: its last blocks are of one stride
        places = places[-1:]
    indices: Mapping[int, int] | Sequence[int] = info.out_indices
    return [indices[place] for place in places]


def timm_version() -> str:
    """Version of timm, which may compute the maps of an encoder otherwise than another version."""
    import timm

    return str(timm.__version__)


def tell(text: str) -> None:
    """Log a line, once for all ranks."""
    from lightning.pytorch.utilities import rank_zero_info  # takes seconds, and descriptions need none of it

    rank_zero_info(text)

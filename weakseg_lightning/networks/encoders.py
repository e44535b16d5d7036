"""Facts about the encoders of smp and timm: names, published weights, normalization."""

from collections.abc import Sequence

from weakseg_lightning.errors import did_you_mean
from weakseg_lightning.networks.base import IMAGENET_MEAN, IMAGENET_STD

_Channels = tuple[float, float, float]

_HALF: tuple[_Channels, _Channels] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_DPN: tuple[_Channels, _Channels] = ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)
# smp's own encoders that were not trained with ImageNet's mean and deviation; smp has these figures online only
_NORMALIZATION = {"inceptionv4": _HALF, "inceptionresnetv2": _HALF, "xception": _HALF, "dpn": _DPN}


def check_encoder(name: str) -> None:
    """Raise for the name of an encoder that neither smp nor timm knows."""
    import segmentation_models_pytorch as smp
    import timm

    known = [*smp.encoders.encoders, *(f"tu-{model}" for model in timm.list_models())]
    if name in smp.encoders.encoders or smp.encoders.is_equivalent_to_timm_universal(name):
        return
    if name.startswith("tu-") and timm.is_model(name.removeprefix("tu-")):
        return
    hint = f"; did you mean `tu-{name}`?" if timm.is_model(name) else did_you_mean(name, known, listed=False)
    raise ValueError(f"`encoder` {name!r} is unknown{hint} (smp's names, or tu-NAME for timm's NAME)")


def check_weights(name: str, weights: str) -> None:
    """Raise for the name of weights that are not published for an encoder."""
    import segmentation_models_pytorch as smp

    if name in smp.encoders.encoders:
        known = sorted(smp.encoders.encoders[name]["pretrained_settings"])
    else:
        known = ["imagenet"]  # other weights of timm stand in the encoder's name: tu-NAME.TAG
    if weights not in known:
        raise ValueError(
            f"`encoder_weights` {weights!r} is unknown for `{name}`{did_you_mean(weights, known, listed=False)} "
            f"(known: {', '.join(known)}; null; or the path of a .safetensors, .pt or .pth file)"
        )


def encoder_normalization(
    name: str, weights: str | None = None
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation that an encoder was trained with, ImageNet's where unknown.

    Args:
        name: Name of the encoder.
        weights: Name of its weights: those of "advprop" take other inputs.
    """
    if weights == "advprop":
        return _HALF
    for prefix, values in _NORMALIZATION.items():
        if name.startswith(prefix):
            return values
    if not name.startswith(("tu-", "timm-")):
        return IMAGENET_MEAN, IMAGENET_STD
    import timm

    settings = timm.models.get_pretrained_cfg(_timm_name(name), allow_unregistered=True)
    if settings is None:
        return IMAGENET_MEAN, IMAGENET_STD
    return _three(settings.mean), _three(settings.std)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean or standard deviation of the channels as a tuple; one number of gray images stands for all three."""
    red, green, blue = values if len(values) == 3 else (values[0],) * 3
    return red, green, blue


def _timm_name(name: str) -> str:
    """Name in timm of an smp encoder `timm-...` or `tu-...`."""
    short = name.removeprefix("tu-").removeprefix("timm-")
    if name.startswith("timm-") and short.startswith(("efficientnet-", "mobilenetv3")):
        short = "tf_" + short
    return short.replace("efficientnet-", "efficientnet_")

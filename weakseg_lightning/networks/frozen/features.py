"""A light head on the maps of a frozen encoder: good masks in a minute, where images or time are few."""

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from weakseg_lightning.checks import above_and_at_most, at_least, at_least_and_below
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import UserError
from weakseg_lightning.networks.base import Network, SegmentationNet
from weakseg_lightning.networks.encoders import close_names, encoder_normalization
from weakseg_lightning.networks.frozen.cache import FeatureCache, digest_of
from weakseg_lightning.networks.frozen.head import MapHead, join_maps
from weakseg_lightning.networks.weights import is_file_name, load_encoder_weights, read_state_dict

_FINEST_STRIDE = 4  # finer maps hold edges and noise, and four times the cells
_FITTED_PIXELS = 400_000
_PIXELS_PER_IMAGE = 600
# How encoders that insist on the image size of their training are told not to, the first that an encoder takes.
_ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


class FrozenNet(SegmentationNet):
    """An encoder in evaluation mode throughout, which does not learn unless it is told to, and a head on its maps.

    Args:
        encoder: gives maps of images, the finest first; has timm's ``feature_info``.
        settings: the description it is built from.
        num_classes: classes K.
    """

    encoder_digest: Tensor

    def __init__(self, encoder: nn.Module, settings: "FrozenFeatures", num_classes: int) -> None:
        info: Any = encoder.feature_info
        channels, strides = info.channels(), info.reduction()
        mean, std = encoder_normalization(f"tu-{settings.encoder}")
        super().__init__(mean, std, max(strides), map_stride=min(strides), input_scale=settings.input_scale)
        self.encoder = encoder.requires_grad_(not settings.freeze_encoder).eval()
        self.freeze_encoder = settings.freeze_encoder
        self.head = MapHead(channels, num_classes, settings.hidden, settings.dropout)
        self.cache = settings.cache
        self._channels_last = str(getattr(encoder, "output_fmt", "NCHW")).endswith("NHWC")
        self.save_encoder = settings.save_encoder
        self.fits = settings.fit_first
        self.latent_rounds = settings.latent_rounds if settings.fit_first else 0
        self._unfitted: dict[str, Tensor] | None = None
        digest = bytes.fromhex(digest_of(encoder.state_dict()))
        self.register_buffer("encoder_digest", torch.tensor(list(digest), dtype=torch.uint8))
        self.register_load_state_dict_pre_hook(_fill_in_encoder)  # type: ignore[no-untyped-call]

    @override
    def train(self, mode: bool = True) -> Self:
        """Set the mode of the head: the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    @override
    def compute_map(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head([features.to(x.dtype) for features in self.features(x)])
        return logits

    @override
    def compute_logits(self, x: Tensor) -> Tensor:
        return F.interpolate(self.compute_map(x), size=x.shape[-2:], mode="bilinear", align_corners=False)

    @override
    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())

    @override
    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Weights of the head, and those of the encoder where checkpoints are to hold them."""
        state = super().state_dict(*args, **kwargs)
        if not self.save_encoder:
            prefix = f"{kwargs.get('prefix', '')}encoder."
            for key in [key for key in state if key.startswith(prefix)]:
                del state[key]
        return state

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps of normalized, padded images ``(B, 3, H', W')``, the finest first; half precision if frozen."""
        if not self.freeze_encoder:
            return self._layout(self.encoder(x))
        if self.cache is None or _is_recorded():
            return self._encode(x)
        # One image at a time, so that its features do not depend on what else is in the batch.
        found = [self.cache.get(self._key(x[i]), lambda i=i: self._encode(x[i : i + 1])) for i in range(len(x))]  # type: ignore[misc]
        return [torch.cat(maps).to(x.device) for maps in zip(*found, strict=True)]

    @override
    def prepare(self, samples: Iterable[tuple[Tensor, Tensor]], seed: int) -> None:
        start = time.perf_counter()
        joined, labels = [], []
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            for image, annotated in samples:
                features, classes = self._pick(image, annotated)
                joined.append(features.half())
                labels.append(classes)
            if not joined:
                return
            picked, classes = torch.cat(joined), torch.cat(labels)
            kept = torch.randperm(len(classes))[:_FITTED_PIXELS]
            encoded = time.perf_counter()
            # Each fit begins anew: what the last one learned from its own labels would stay.
            self._unfitted = self._unfitted or copy.deepcopy(self.head.state_dict())
            self.head.load_state_dict(self._unfitted)
            self.head.standardize(picked[kept])
            known = kept[classes[kept] != VOID]
            if self.fits and len(known):
                self.head.fit(picked[known], classes[known])
        _tell(
            f"Frozen features for {len(joined)} labelings in {encoded - start:.1f} s, head fitted to "
            f"{len(known) if self.fits else 0} labeled pixels in {time.perf_counter() - encoded:.1f} s"
        )

    @torch.no_grad()
    def _pick(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Joined features and classes of some pixels of an image, labeled ones where there are any."""
        maps, size = self.encode_image(image)
        rows, columns = ((labels != VOID) if (labels != VOID).any() else (labels == VOID)).nonzero(as_tuple=True)
        kept = torch.randperm(len(rows))[:_PIXELS_PER_IMAGE]
        rows, columns = rows[kept], columns[kept]
        features = self.features_at(maps, size, (rows, columns), labels.shape)
        return features, labels[rows, columns].long().to(features.device)

    @torch.no_grad()
    def encode_image(self, image: Tensor) -> tuple[list[Tensor], Sequence[int]]:
        """Maps of one image.

        Args:
            image: RGB, uint8 ``(3, H, W)``.

        Returns:
            The maps of the padded image, ``(1, c, h', w')`` each, the finest first; and height and width of the image
            before it was padded.
        """
        small = self._resize(image[None].to(self.mean.device).float() / 255)
        return self.features(self._pad(small)), small.shape[-2:]

    def features_at(
        self, maps: Sequence[Tensor], size: Sequence[int], pixels: tuple[Tensor, Tensor], whole: Sequence[int]
    ) -> Tensor:
        """Joined features ``(N, C)`` of single pixels of an image.

        Args:
            maps: of the image, as :meth:`encode_image` gives them.
            size: of the image, as :meth:`encode_image` gives it.
            pixels: rows and columns, int64 ``(N,)`` each.
            whole: height and width of the grid that these are of.
        """
        joined = join_maps([features.float() for features in maps])
        places = [
            2 * (place + 0.5) * (length / full) / self.padded_size(length) - 1
            for place, length, full in zip(reversed(pixels), reversed(size), reversed(whole), strict=True)
        ]
        grid = torch.stack(places, -1)[None, None].to(joined.device)
        return F.grid_sample(joined, grid, padding_mode="border", align_corners=False)[0, :, 0].T

    @torch.no_grad()
    def _encode(self, x: Tensor) -> list[Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            maps = self.encoder(x.float())
        return [features.half() for features in self._layout(maps)]

    def _layout(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [features.movedim(-1, 1) if self._channels_last else features for features in maps]

    def _key(self, image: Tensor) -> str:
        return f"{bytes(self.encoder_digest.tolist()).hex()}/{digest_of({'image': image.half()})}"


def _tell(text: str) -> None:
    from lightning.pytorch.utilities import rank_zero_info  # takes seconds, and descriptions need none of it

    rank_zero_info(text)


def _is_recorded() -> bool:
    """True while an exporter or a compiler follows the computation."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def _fill_in_encoder(net: nn.Module, state: dict[str, Any], prefix: str, *args: Any) -> None:
    """Take the encoder's weights from where it was built where a checkpoint holds a reference alone."""
    assert isinstance(net, FrozenNet)
    own = net.encoder.state_dict(prefix=f"{prefix}encoder.")
    if own.keys() & state.keys():
        return
    saved = state.get(f"{prefix}encoder_digest")
    if saved is not None and not torch.equal(saved.cpu(), net.encoder_digest.cpu()):
        raise UserError(
            "the head was trained on other weights of the encoder: give `encoder_weights` the file of that training"
        )
    state.update(own)


@dataclass(frozen=True)
class FrozenFeatures(Network):
    """A light head on the maps of an encoder that does not learn.

    For few images or little time: before training the head is fitted to the labeled pixels, which takes seconds, and
    with a ``cache`` each image passes through the encoder once, so that an epoch costs the head alone. That holds for
    whole images (``scale_range: [1, 1]``, ``crop_size`` no smaller than they are); crops are different images each
    time. Weights come with licences of their own, which the log names: DINOv2's is Apache-2.0, DINOv3's restricts use.

    Args:
        encoder: name of an encoder of timm, with the tag of its weights where it has several: tf_efficientnet_lite0,
            resnet50.a1_in1k, vit_small_patch14_dinov2.lvd142m, vit_small_patch16_dinov3.lvd1689m.
        encoder_weights: "imagenet" to download timm's weights of that name, null for random weights, or the path of a
            state dict of the encoder (.safetensors, .pt, .pth).
        hidden: width of the hidden layer; null for a linear head.
        dropout: probability of dropout after the hidden layer.
        input_scale: factor in (0, 1] by which images are resized before the network; logits are brought back.
        fit_first: fit the head to the labeled pixels of the training images before the first iteration.
        latent_rounds: how often, after that, the method's solver labels all training images and the head is fitted to
            these labels, too; for methods whose solver labels whole images by the scores (ADM, trust region).
        save_encoder: whether checkpoints hold the encoder's weights, too, or refer to ``encoder_weights``.
        freeze_encoder: false lets the encoder learn, too, from where the head was fitted; the statistics of its batch
            norm stay. An iteration then costs what it does with any other network, and no features are kept.
        cache: keeps the features; null = they are computed each time.

    Raises:
        ValueError: if an argument is out of its range.
    """

    encoder: str = "tf_efficientnet_lite0"
    encoder_weights: str | None = "imagenet"
    hidden: int | None = 128
    dropout: float = 0.3
    input_scale: float = 1.0
    fit_first: bool = True
    latent_rounds: int = 0
    save_encoder: bool = True
    freeze_encoder: bool = True
    cache: FeatureCache | None = None

    def __post_init__(self) -> None:
        if self.hidden is not None:
            at_least("hidden", self.hidden, 1)
        at_least_and_below("dropout", self.dropout, 0, 1)
        above_and_at_most("input_scale", self.input_scale, 0, 1)
        at_least("latent_rounds", self.latent_rounds, 0)
        if not (self.freeze_encoder or self.save_encoder):
            raise ValueError("`save_encoder` must be true where the encoder learns (`freeze_encoder: false`)")

    @override
    def build(self, num_classes: int) -> FrozenNet:
        """Make the network, see :meth:`Network.build`.

        Raises:
            ValueError: The encoder is unknown, or the weights do not fit.
            FileNotFoundError: The file of the weights is missing.
            ConnectionError: The weights could not be downloaded.
        """
        at_least("num_classes", num_classes, 1)
        return FrozenNet(make_encoder(self.encoder, self.encoder_weights), self, num_classes)

    @override
    def without_weights(self) -> "FrozenFeatures":
        weights = None if self.save_encoder else self.encoder_weights
        return replace(self, encoder_weights=weights, cache=None)


def make_encoder(name: str, weights: str | None) -> nn.Module:
    """Make an encoder of timm that gives its maps of stride 4 and coarser, or the last of those of one stride.

    Args:
        name: name in timm.
        weights: as in :class:`FrozenFeatures`.

    Returns:
        The encoder.

    Raises:
        ValueError: if timm has no such encoder, or none that gives maps, or the weights do not fit.
        FileNotFoundError: if the file of the weights is missing.
        ConnectionError: if the weights could not be downloaded.
    """
    import timm

    if not timm.is_model(name.split(".")[0]):
        raise ValueError(f"`encoder` {name!r} is unknown to timm{close_names(name, timm.list_models())}")
    state = read_state_dict(weights) if weights is not None and is_file_name(weights) else None
    if weights not in (None, "imagenet") and state is None:
        raise ValueError(f'`encoder_weights` must be "imagenet", null or the path of a file, got {weights!r}')
    kept = _chosen_maps(_create(name).feature_info)
    try:
        encoder = _create(name, out_indices=kept, pretrained=weights == "imagenet")
    except Exception as error:  # without weights it could be made: this is the download
        raise ConnectionError(
            f"`encoder_weights`: could not download the weights of {name!r} ({type(error).__name__}); connect to the "
            "network, or set `encoder_weights` to the path of timm's state dict of this encoder (.safetensors, .pt, "
            ".pth)"
        ) from error
    if state is not None and weights is not None:
        load_encoder_weights(encoder, state, f"tu-{name}", weights)
    if weights == "imagenet":
        licence = getattr(timm.models.get_pretrained_cfg(name), "license", None) or "that its authors state"
        _tell(f"Encoder {name}: weights under the licence {licence}")
    return encoder


def _create(name: str, **options: Any) -> nn.Module:
    import timm

    for any_size in _ANY_SIZE:
        try:
            encoder: nn.Module = timm.create_model(name, features_only=True, **any_size, **options)
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

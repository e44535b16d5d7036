"""A light head on the maps of a frozen encoder: good masks in a minute, where images or time are few."""

import copy
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from weakseg_lightning.checks import at_least, at_least_and_below
from weakseg_lightning.devices import in_unit_range, random_state_kept
from weakseg_lightning.errors import UserError
from weakseg_lightning.networks.base import Network, SegmentationNet, check_input, check_input_scale
from weakseg_lightning.networks.encoders import encoder_normalization
from weakseg_lightning.networks.frozen.cache import FeatureCache, digest_of
from weakseg_lightning.networks.frozen.encoder import make_encoder, tell, timm_version
from weakseg_lightning.networks.frozen.head import MapHead, join_maps
from weakseg_lightning.networks.frozen.known_pixels import FITTED_PIXELS, PIXELS_PER_IMAGE, collect, is_known
from weakseg_lightning.networks.frozen.resizing import enlarge


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
        mean, std = settings.normalization()
        super().__init__(mean, std, max(strides), map_stride=min(strides), input_scale=settings.input_scale)
        self.encoder = encoder.requires_grad_(not settings.freeze_encoder).eval()
        self.freeze_encoder = settings.freeze_encoder
        self.head = MapHead(channels, num_classes, settings.hidden, settings.dropout)
        self.cache = settings.cache
        self.architecture = settings.encoder.partition(".")[0]  # the tag tells weights apart, which are compared anyway
        self._made_by = f"timm {timm_version()}, maps {list(info.out_indices)}, scale {settings.input_scale}"
        self._channels_last = str(getattr(encoder, "output_fmt", "NCHW")).endswith("NHWC")
        self.save_encoder = settings.save_encoder
        self.fits = settings.fit_first
        self.latent_rounds = settings.latent_rounds if settings.fit_first else 0
        self._unfitted: dict[str, Tensor] | None = None
        self.register_buffer("encoder_digest", _digest_of_encoder(encoder.state_dict(), self.architecture))
        self.register_load_state_dict_pre_hook(_fill_in_encoder)  # type: ignore[no-untyped-call]

    @override
    def train(self, mode: bool = True) -> Self:
        """Set the mode of the head: the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Logits of images, see :meth:`SegmentationNet.forward`."""
        logits, cut = self._map(images).float(), self._resized(images)
        with torch.autocast(logits.device.type, enabled=False):
            return enlarge(logits, [self.padded_size(length) for length in cut], cut, images.shape[-2:])

    @override
    def compute_map(self, x: Tensor) -> Tensor:
        return self._score(_channels_second(self._encode(x)) if self.freeze_encoder else self._maps(x))

    @override
    def _map(self, images: Tensor) -> Tensor:
        if self.freeze_encoder or self.preparing:
            return self._run_layers(self._score, self.features(images))
        return super()._map(images)

    def _score(self, maps: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.head([features.to(self.head.bias.dtype) for features in maps])
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
        prefix = f"{kwargs.get('prefix', '')}encoder."
        weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if not self.freeze_encoder:
            # the state holds this very tensor
            self.encoder_digest.copy_(_digest_of_encoder(weights, self.architecture))
        if not self.save_encoder:
            for name in weights:
                del state[prefix + name]
        return state

    @torch.no_grad()
    def features(self, images: Tensor) -> list[Tensor]:
        """Maps of images before the head takes them, from the cache where there is one.

        Args:
            images: in 0..1, or with channels of their own, ``(B, C, H, W)``.

        Returns:
            Maps of the resized, normalized and padded images ``(B, c, h, w)`` in half precision, the finest first, with
            their channels last in memory: the head then takes half the time on a CPU.
        """
        if self.cache is None or _is_recorded() or not (self.freeze_encoder or self.preparing):
            return _channels_second(self._encode_images(images))
        # One image at a time, so that its features do not depend on what else is in the batch.
        found = [
            self.cache.get(self._key(image[0]), partial(self._encode_images, image)) for image in torch.split(images, 1)
        ]
        return _channels_second(torch.cat(maps).to(images.device) for maps in zip(*found, strict=True))

    @property
    @override
    def is_prepared(self) -> bool:
        """True once the features are standardized: a head that was fitted or trained goes on from its weights."""
        return bool((self.head.scale != 1).any())

    @override
    def prepare(self, samples: Iterable[tuple[Tensor, Sequence[Tensor]]], seed: int) -> None:
        start = time.perf_counter()
        device = self.mean.device
        with random_state_kept([device], seed):
            labelings, features, labels = collect(found for sample in samples for found in self._pick(*sample))
            if not labelings:
                return
            encoded = time.perf_counter()
            # Each fit begins with the same weights: what the last one learned from its own labels would stay.
            self._unfitted = self._unfitted or copy.deepcopy(self.head.state_dict())
            self.head.load_state_dict(self._unfitted)
            kept = torch.randperm(len(labels))[:FITTED_PIXELS]
            self.head.standardize(features[kept].to(device))
            known = kept[is_known(labels[kept])]
            if self.fits and len(known):
                self.head.fit(features[known].to(device), labels[known].to(device))
        tell(
            f"Frozen features for {labelings} labelings in {encoded - start:.1f} s, head fitted to "
            f"{len(known) if self.fits else 0} labeled pixels in {time.perf_counter() - encoded:.1f} s"
        )

    @torch.no_grad()
    def _pick(self, image: Tensor, labelings: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Joined features and labels of some pixels of each labeling, labeled ones where there are any."""
        maps, size = self.encode_image(image)
        for labels in labelings:
            known = is_known(labels.movedim(0, -1) if labels.ndim == 3 else labels)
            rows, columns = (known if known.any() else ~known).nonzero(as_tuple=True)
            kept = torch.randperm(len(rows))[:PIXELS_PER_IMAGE]
            rows, columns = rows[kept], columns[kept]
            if labels.shape[-2:] == image.shape[1:]:
                features = self.features_at(maps, size, (rows, columns), image.shape[1:])
            else:  # cells are those of the finest map, the last of which may reach beyond the image
                features = join_maps([each.float() for each in maps])[0][:, rows, columns].T
            picked = labels[..., rows, columns]
            yield features.half().cpu(), picked.T.half() if labels.ndim == 3 else picked.long()

    @torch.no_grad()
    def encode_image(self, image: Tensor) -> tuple[list[Tensor], Sequence[int]]:
        """Maps of one image.

        Args:
            image: RGB, uint8 ``(3, H, W)``; or channels, float32 ``(C, H, W)``.

        Returns:
            The maps of the padded image, ``(1, c, h', w')`` each, the finest first; and height and width of the image
            before it was padded.
        """
        given = in_unit_range(image[None].to(self.mean.device))
        return self.features(given), self._resized(given)

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

    def _encode_images(self, images: Tensor) -> list[Tensor]:
        return self._encode(self._pad(self._resize(images)))

    @torch.no_grad()
    def _encode(self, x: Tensor) -> list[Tensor]:
        """Maps ``(B, h, w, c)`` in half precision of normalized, padded images."""
        with torch.autocast(x.device.type, enabled=False):
            return [maps.movedim(1, -1).half().contiguous() for maps in self._maps(x.float())]

    def _maps(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.encoder(x)
        return _channels_second(maps) if self._channels_last else maps

    def _key(self, image: Tensor) -> str:
        # The shape, too: images of one color have equal bytes whichever way they lie.
        named = {f"image {tuple(image.shape)} {self._made_by}": image.float(), "mean": self.mean, "std": self.std}
        content = digest_of(named, sha256)  # processors have instructions for it
        return f"{bytes(self.encoder_digest.tolist()).hex()}/{content}"


def _channels_second(maps: Iterable[Tensor]) -> list[Tensor]:
    """Maps ``(B, c, h, w)`` of maps ``(B, h, w, c)``, where these lie in memory."""
    return [features.movedim(-1, 1) for features in maps]


def _is_recorded() -> bool:
    """True while an exporter or a compiler follows the computation."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def _digest_of_encoder(weights: Mapping[str, Tensor], architecture: str) -> Tensor:
    """Name for an encoder; without an architecture, which several may share, as earlier versions wrote it."""
    named = {f"{architecture}.{name}" if architecture else name: value for name, value in weights.items()}
    return torch.tensor(list(bytes.fromhex(digest_of(named))), dtype=torch.uint8)


def _fill_in_encoder(net: nn.Module, state: dict[str, Any], prefix: str, *args: Any) -> None:
    """Take the encoder's weights from where it was built where a checkpoint holds a reference alone.

    Where it holds weights their digest is computed: those of an encoder that learned may come with that of the start.
    """
    assert isinstance(net, FrozenNet)
    own = net.encoder.state_dict(prefix=f"{prefix}encoder.")
    digest = f"{prefix}encoder_digest"
    if own.keys() <= state.keys():
        weights = {name.removeprefix(f"{prefix}encoder."): state[name] for name in own}
        state[digest] = _digest_of_encoder(weights, net.architecture)
    if own.keys() & state.keys():
        return
    saved, ours = state.get(digest), net.encoder_digest.cpu()
    known = (ours, _digest_of_encoder(net.encoder.state_dict(), ""))
    if saved is not None and not any(torch.equal(saved.cpu(), each) for each in known):
        raise UserError(
            "the head was trained on another encoder, or on other weights of it: give `encoder` and `encoder_weights` "
            "the name and the file of that training"
        )
    state.update(own, **{digest: ours})


@dataclass(frozen=True)
class FrozenFeatures(Network):
    """A light head on the maps of an encoder that does not learn.

    For few images or little time: before training the head is fitted to the labeled pixels, which takes seconds, and
    with a ``cache`` each image passes through the encoder once, so that an epoch costs the head alone. That holds for
    whole images (``scale_range: [1, 1]``, ``crop_size`` no smaller than they are); crops are different images each
    time. A head that was fitted or trained before goes on from its weights. Weights of encoders come with licenses of
    their own, which the log names: DINOv2's is Apache-2.0, DINOv3's restricts use.

    Args:
        encoder: name of an encoder of timm, with the tag of its weights where it has several: tf_efficientnet_lite0,
            resnet50.a1_in1k, vit_small_patch14_dinov2.lvd142m, vit_small_patch16_dinov3.lvd1689m.
        encoder_weights: "imagenet" to download timm's weights of that name, null for random weights, or the path of a
            state dict of the encoder (.safetensors, .pt, .pth).
        hidden: width of the hidden layer; null for a linear head.
        dropout: probability of dropout after the hidden layer.
        input_scale: factor in (0, 8] by which images are resized before the network; logits are brought back.
        fit_first: fit a new head to the labeled pixels of the training images before the first iteration.
        latent_rounds: how often, after that, the method's solver labels all training images and the head is fitted to
            these labels, too; for methods whose solver labels whole images by the scores (ADM, trust region, soft
            labels: these by the collision cross-entropy, whatever the method's link and weight).
        save_encoder: whether checkpoints hold the encoder's weights, too, or refer to ``encoder_weights``.
        freeze_encoder: false lets the encoder learn, too, from where the head was fitted; the statistics of its batch
            norm stay. An iteration then costs what it does with any other network, and features are kept until then.
        cache: keeps the features; null = they are computed each time.
        mean: mean of the channels; null for what the encoder was trained with.
        std: standard deviation of the channels; null for what the encoder was trained with.
        in_channels: number of channels of the images, taken from the data: weights of the first layer are repeated for
            others than red, green and blue. Other numbers than 3 need ``mean`` and ``std``.

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
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    in_channels: int = 3

    def __post_init__(self) -> None:
        check_input(self.in_channels, self.mean, self.std)
        if self.hidden is not None:
            at_least("hidden", self.hidden, 1)
        at_least_and_below("dropout", self.dropout, 0, 1)
        check_input_scale(self.input_scale)
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
        return FrozenNet(make_encoder(self.encoder, self.encoder_weights, self.in_channels), self, num_classes)

    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the input: the arguments, or what the encoder was trained with."""
        mean, std = encoder_normalization(f"tu-{self.encoder}")
        return self.mean or mean, self.std or std

    @override
    def for_channels(self, mean: Sequence[float], std: Sequence[float]) -> "FrozenFeatures":
        return replace(self, in_channels=len(mean), mean=tuple(mean), std=tuple(std))

    @override
    def without_weights(self) -> "FrozenFeatures":
        weights = None if self.save_encoder else self.encoder_weights
        return replace(self, encoder_weights=weights, cache=None)

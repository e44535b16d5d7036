"""Trained networks as files for other programs: ONNX, and PyTorch's own exported programs."""

import json
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F
from typing_extensions import override

from weakseg_lightning.channels import Channels
from weakseg_lightning.errors import UserError
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.networks import SegmentationNet

Format = Literal["onnx", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}

_LARGEST = 16384
_STEPS = (7, 5)  # height and width of the example, in steps of the network's stride


@dataclass(frozen=True)
class Exported:
    """A network that was exported.

    Attributes:
        program: what runs it.
        size: height and width that it takes; None for every size that :func:`fitting` gives.
        why: what stood against every size, empty where nothing did.
        least: smallest height and width that it takes, where it takes every size.
    """

    program: ExportedProgram
    size: tuple[int, int] | None
    why: str = ""
    least: int = 1


class _Scores(nn.Module):
    """A network for images whose size needs no padding.

    Args:
        net: the network.
    """

    def __init__(self, net: SegmentationNet) -> None:
        super().__init__()
        self.net = deepcopy(net)
        _fix_padding(self.net)

    @override
    def forward(self, image: Tensor) -> Tensor:
        """RGB in 0..1 ``(1, 3, H, W)``, or channels, to logits ``(1, K, H, W)``."""
        return self.net.compute_logits((image - self.net.mean) / self.net.std)


class _FixedPadding(nn.Module):
    """TensorFlow's "same" convolution for sizes that its stride divides: what it pads depends on nothing then.

    With sizes as unknowns, the tracer would carry the general formula through all layers, for many minutes.

    Args:
        conv: the convolution.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        shape = zip(conv.kernel_size, conv.dilation, conv.stride, strict=True)
        height, width = (max(0, (kernel - 1) * dilation + 1 - stride) for kernel, dilation, stride in shape)
        self.padding = (width // 2, width - width // 2, height // 2, height - height // 2)

    @override
    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        return F.conv2d(F.pad(x, self.padding), conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


def _fix_padding(network: nn.Module) -> None:
    """Replace all "same" convolutions of timm."""
    for name, part in network.named_children():
        if isinstance(part, Conv2dSame):
            setattr(network, name, _FixedPadding(part))
        else:
            _fix_padding(part)


def fitting(net: SegmentationNet, length: int) -> int:
    """The next height or width, from ``length`` on, that an exported network of every size takes."""
    return net.padded_size(length)


def export_network(module: WeakSegModule, size: tuple[int, int] | None = None) -> Exported:
    """Trace the network of a module: RGB in 0..1 ``image`` to logits ``(1, K, H, W)``, normalization included.

    Args:
        module: a trained module, on the CPU.
        size: height and width of the images; None for images of every size that needs no padding, as far as the
            network can be traced so, else for one size.

    Raises:
        ValueError: if the network cannot be traced.
    """
    module.eval()
    net = module.net
    if size is not None:
        return Exported(_traced(module, size, None), size)
    height, width = (fitting(net, steps * net.stride + net.min_size) for steps in _STEPS)
    example = (height, width)
    if net.input_scale != 1:
        why = f"the network resizes images by {net.input_scale}"
        return Exported(_traced(module, example, None), example, why)
    try:
        program = _traced(_Scores(net).eval(), example, _every_size(net))
        return Exported(program, None, least=_least(program, net))
    except ValueError as error:
        return Exported(_traced(module, example, None), example, str(error))


def _every_size(net: SegmentationNet) -> dict[int, Any]:
    """Heights and widths ``stride * n + remainder``."""
    dims = {axis: net.stride * Dim(name, min=1, max=_LARGEST // net.stride) for axis, name in ((2, "h"), (3, "w"))}
    return {axis: dim + net.remainder if net.remainder else dim for axis, dim in dims.items()}


def _least(program: ExportedProgram, net: SegmentationNet) -> int:
    """Smallest height and width: tracers take it for granted that a map has more than one cell."""
    run = program.module()
    for steps in range(1, min(_STEPS)):
        least = fitting(net, steps * net.stride)
        try:
            run(torch.zeros(1, net.in_channels, least, least))
        except (AssertionError, RuntimeError):
            continue
        return least
    return fitting(net, min(_STEPS) * net.stride)


def _traced(network: nn.Module, size: Sequence[int], dims: dict[int, Any] | None) -> ExportedProgram:
    channels = (network.net if isinstance(network, WeakSegModule | _Scores) else network).in_channels
    image = torch.rand(1, int(channels), *size, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own tracing
            return torch.export.export(
                _Alone(network), (image,), dynamic_shapes=None if dims is None else {"image": dims}
            )
    except Exception as error:  # torch raises whatever its tracer stumbles over
        raise ValueError(f"torch.export cannot trace it ({' '.join(str(error).split())[:200]})") from error


class _Alone(nn.Module):
    """A network whose argument is called ``image``, without what Lightning has around it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.net if isinstance(network, WeakSegModule) else network

    @override
    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.network(image)
        return scores


# ---- files ----------------------------------------------------------------------------------------------------


def save(
    exported: Exported,
    path: Path,
    form: Format,
    class_names: Sequence[str] | None,
    channels: Channels | None = None,
) -> None:
    """Write an exported network.

    Args:
        exported: what :func:`export_network` returned.
        path: file to write; ONNX has one input, ``image``, and one output, ``scores``.
        form: the format.
        class_names: names of the classes, which the file holds as JSON: ONNX as the property ``class_names`` of its
            metadata, torch.export as the extra file of that name. None where they are not known: the file has none.
        channels: channels of the images, which the file holds in the same way as ``channels``: ``image`` is
            ``(values - low) / (high - low)``. None for RGB.

    Raises:
        ImportError: if the packages for ONNX are not installed.
    """
    named = {} if class_names is None else {"class_names": json.dumps(list(class_names))}
    if channels is not None:
        named["channels"] = json.dumps(channels.plain())
    if form == "torch":
        torch.export.save(exported.program, path, extra_files=named)
        return
    _require_onnx()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            exported.program, (), dynamo=True, input_names=["image"], output_names=["scores"], verbose=False
        )
    assert program is not None
    program.model.metadata_props.update(named)
    program.save(path)


def runner(path: Path, form: Format) -> Callable[[Tensor], Tensor]:
    """Load an exported network as a function from images to scores, as its users would."""
    if form == "torch":
        loaded: Callable[[Tensor], Tensor] = torch.export.load(path).module()
        return loaded
    runtime = _require_onnx()
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


@torch.no_grad()
def largest_difference(
    module: WeakSegModule, run: Callable[[Tensor], Tensor], sizes: Sequence[tuple[int, int]]
) -> float:
    """Compare an exported network with the module.

    Args:
        module: the module, on the CPU.
        run: what :func:`runner` returned.
        sizes: heights and widths of random images.

    Returns:
        The largest difference of two scores, divided by the largest absolute score where that is more than 1.

    Raises:
        UserError: if scores are not finite.
    """
    generator, worst = torch.Generator().manual_seed(1), 0.0
    for size in sizes:
        image = torch.rand(1, module.net.in_channels, *size, generator=generator)
        expected, found = module(image), run(image)
        for scores, whose, remedy in (
            (expected, "network", "use another checkpoint"),
            (found, "exported network", "try the other format"),
        ):
            if not scores.isfinite().all():
                raise UserError(f"the {whose}'s scores are not finite: {remedy}")
        difference = (found - expected).abs().max() / expected.abs().max().clamp_min(1)
        worst = max(worst, float(difference))
    return worst


def _require_onnx() -> Any:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch writes ONNX with it
    except ImportError as error:
        raise ImportError(
            f"ONNX needs the package {error.name}: pip install '.[export]' in the checkout, or take `--format torch`"
        ) from error
    return onnxruntime

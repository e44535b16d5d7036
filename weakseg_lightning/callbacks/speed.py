"""Speed of the network: memory format and compilation."""

from typing import Literal, get_args

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from typing_extensions import override

from weakseg_lightning.checks import one_of
from weakseg_lightning.errors import UserError

CompileMode = Literal["default", "reduce-overhead", "max-autotune"]


class NetworkSpeed(Callback):
    """Trains the same network faster, up to rounding: in channels-last memory format, compiled, or both.

    State dicts keep their names and values: a run can be resumed with other settings, and checkpoints load without this
    callback.

    Args:
        channels_last: keep all weights of convolutions with the channels last in memory. Convolutions then compute in
            that format whatever the images come in; it suits CPUs and tensor cores.
        compile: compile the layers of the module's ``net`` when training starts, in this mode of ``torch.compile``: in
            training mode, whichever output is asked for. Evaluation is not compiled, as each size of whole images would
            be compiled again, nor are copies of the network, as trust region makes them. It takes seconds to minutes,
            and a C++ compiler on a CPU, triton on a GPU. Compiled dropout draws other random numbers.

    Raises:
        ValueError: if there is no such mode; when a run starts, for ``channels_last`` under FSDP.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[NetworkSpeed(channels_last=True)], logger=False, enable_checkpointing=False)
    """

    def __init__(self, channels_last: bool = False, compile: CompileMode | None = None) -> None:
        if compile is not None:
            one_of("compile", compile, get_args(CompileMode), "null compiles nothing")
        self.channels_last = channels_last
        self.compile = compile

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Bring the weights into their format, before the optimizer and the strategy see them.

        Raises:
            ValueError: for ``channels_last`` under FSDP.
        """
        if self.channels_last:
            if isinstance(trainer.strategy, FSDPStrategy):
                raise ValueError(
                    "`channels_last`: when a run is resumed, PyTorch's FSDP puts the optimizer's state of such weights "
                    "back in another order; set it to false, or use `ddp`"
                )
            pl_module.to(memory_format=torch.channels_last)

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compile the network, which is on its device now.

        Raises:
            ValueError: if PyTorch cannot compile on this machine.
            TypeError: if the module has no network as ``net``.
        """
        if self.compile is None:
            return
        net = getattr(pl_module, "net", None)
        if not isinstance(net, nn.Module):
            raise TypeError(f"`compile` needs the network as `net` of the module; {type(pl_module).__name__} has none")
        _require_compiler(pl_module.device)
        net.compile(mode=self.compile)


def _require_compiler(device: torch.device) -> None:
    """Compile a single operation, since a network without a compiler would fail in pages of internal messages."""
    try:
        torch.compile(_next)(torch.ones(16, device=device))
    except Exception as error:
        cause = next(iter(str(error).strip().splitlines()), type(error).__name__)
        needed = "triton and a C compiler" if device.type == "cuda" else "a C++ compiler (Debian: g++)"
        raise UserError(
            f"`compile`: PyTorch cannot compile here ({cause}); install {needed}, or set `compile` to null"
        ) from error


def _next(x: Tensor) -> Tensor:
    return x + 1

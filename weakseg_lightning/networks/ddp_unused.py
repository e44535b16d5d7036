"""Weights that a network carries and does not use, as encoders do that were taken from classifiers."""

from collections.abc import Callable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from weakseg_lightning.networks.evaluation import evaluating

__all__ = ["freeze_unused", "outputs_in_evaluation"]

_PROBE = (64, 64)  # pixels; any number does


def freeze_unused(net: nn.Module, outputs: Sequence[Tensor]) -> list[str]:
    """Tell autograd to leave out the parameters that do not contribute to the outputs.

    They get no gradient in any case; but DistributedDataParallel waits for those of all parameters that require one.

    Args:
        net: the network.
        outputs: what it computed, with gradient, from any input.

    Returns:
        Names of the parameters that no longer require a gradient.

    Example:
        >>> net = nn.ModuleDict({"used": nn.Linear(2, 1), "left": nn.Linear(2, 1, bias=False)})
        >>> freeze_unused(net, [net["used"](torch.zeros(1, 2))])
        ['left.weight']
    """
    used = _parameters_behind(outputs)
    unused = [name for name, parameter in net.named_parameters() if parameter.requires_grad and parameter not in used]
    for name in unused:
        net.get_parameter(name).requires_grad_(False)
    return unused


def outputs_in_evaluation(net: nn.Module, compute: Callable[[Tensor], Sequence[Tensor]]) -> Sequence[Tensor]:
    """Compute a small black image with gradient; neither statistics nor the random state change."""
    device = next(chain(net.parameters(), net.buffers())).device  # before training not yet that of the module
    with evaluating(net), torch.enable_grad():
        return compute(torch.zeros(1, getattr(net, "in_channels", 3), *_PROBE, device=device))


def _parameters_behind(outputs: Sequence[Tensor]) -> set[Tensor]:
    """Walk the graph that a backward pass would; running one would forbid forks of this process to run theirs."""
    pending = [output.grad_fn for output in outputs]
    seen: set[torch.autograd.graph.Node] = set()
    used: set[Tensor] = set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            used.add(leaf)
        pending += [before for before, _ in node.next_functions]
    return used

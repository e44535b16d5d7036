"""A network that is applied and never learns."""

from typing import Generic, Self

from torch import Tensor, nn
from typing_extensions import TypeVar, override

from weakseg_lightning.errors import MissingFileError, UserError
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.modules.core.class_names import names_in
from weakseg_lightning.modules.core.resuming import read_checkpoint
from weakseg_lightning.networks.tags import TagNet, TagNetwork

Classifier = TypeVar("Classifier", bound=TagNet, default=TagNet)

_PREFIX = "net."


class Frozen(nn.Module, Generic[Classifier]):
    """Keeps a classifier in evaluation mode, without gradient for its weights, whatever is done around it.

    ``train()`` of a module reaches all its parts: without this, each epoch would switch the classifier's batch norm
    back to the statistics of the batch, and count the per-class images among those that it keeps.

    Args:
        module: the classifier.
    """

    def __init__(self, module: Classifier) -> None:
        super().__init__()
        self.module = module.requires_grad_(False)
        self.train(False)

    @override
    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    @override
    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Stay without gradient."""
        return super().requires_grad_(False)

    @override
    def forward(self, images: Tensor, valid: Tensor | None = None) -> Tensor:
        """Logits of the tags, ``(B, K - 1)``, with gradient for the images."""
        # Its parts and weights can be reached one by one, past the methods above.
        for part in self.modules():
            part.training = False
        for weight in self.parameters():
            if weight.is_leaf:  # FSDP puts parts of its own in place of the weights
                weight.requires_grad = False
        return self.module.tag_logits(images, valid)


def load_classifier(classifier: TagNet, network: TagNetwork, path: str | None, num_classes: int) -> list[str] | None:
    """Load the weights of a trained classifier.

    Args:
        classifier: the network, built of ``network``.
        network: its description.
        path: checkpoint of a run of ``TagClassifierModule``.
        num_classes: classes K of this run.

    Returns:
        Names of the classes that it was trained on, if the checkpoint says them.

    Raises:
        ValueError: if there is no path, or the checkpoint is of another network.
        FileNotFoundError: if there is no such file.
    """
    train_it = "train it first, as with `weakseg fit --config recipes/decompose/decompose_dog_classifier.yaml`"
    if path is None:
        raise UserError(f"`classifier_checkpoint` must name the checkpoint of a trained classifier: {train_it}")
    try:
        checkpoint = read_checkpoint(path)
    except FileNotFoundError as error:
        raise MissingFileError(f"`classifier_checkpoint`: {error}: {train_it}") from None
    state = checkpoint["state_dict"]
    weights = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    own = classifier.state_dict()
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in weights.items()}:
        saved = checkpoint.get("hyper_parameters", {})
        there = saved.get("network", {}).get("init_args", {}).get("encoder", "another network")
        here = describe(network)["init_args"]["encoder"]
        raise UserError(
            f"`classifier_checkpoint` {path} holds {there} with {saved.get('num_classes', 'unknown')} classes, this "
            f"run builds {here} with {num_classes}: give `classifier` the settings that the checkpoint's run had"
        )
    nn.Module.load_state_dict(classifier, weights)
    return names_in(checkpoint)

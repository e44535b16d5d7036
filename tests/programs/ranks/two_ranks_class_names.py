"""Goes on with a checkpoint on two ranks with classes of other names: ``two_ranks_class_names.py CHECKPOINT``."""

import sys
from collections.abc import Sequence

from small_runs import quiet_trainer

from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.modules import RegularizedLossModule
from weakseg_lightning.networks import SMPNetwork

NAMES = ["background", "cat", "dog", "horse", "cow", "sheep"]
EXCHANGED = ["background", "dog", "cat", "horse", "cow", "sheep"]
NETWORK = SMPNetwork("unet", "timm-mobilenetv3_small_minimal_100", None)


class Named(ScenesDataModule):
    """Scenes of classes with any names."""

    names: Sequence[str] = NAMES

    @property
    def class_names(self) -> list[str]:
        return list(self.names)


def data_of(names: Sequence[str]) -> Named:
    data = Named(num_train=2, num_val=1, size=32, crop_size=32, batch_size=2, num_workers=0)
    data.names = names
    return data


def new() -> RegularizedLossModule:
    return RegularizedLossModule(NETWORK, len(NAMES), pce_fraction=0.0)


if __name__ == "__main__":
    trainer = quiet_trainer(".", strategy="ddp", devices=2, max_epochs=2)
    try:
        trainer.fit(new(), data_of(EXCHANGED), ckpt_path=sys.argv[1], weights_only=True)
    except ValueError as error:
        sys.stdout.write(f"rank {trainer.global_rank} {error}\n")  # at once: both write to one pipe

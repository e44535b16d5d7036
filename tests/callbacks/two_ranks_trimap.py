"""A program of two ranks that scores a test near void and boundaries: ``two_ranks_trimap.py FOLDER``."""

import sys
import warnings
from pathlib import Path

from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from test_trimap import Data, Maps, Reads
from tiny_runs import make_trainer
from torch.utils.data import DataLoader

from weakseg_lightning.callbacks import TrimapCurve

warnings.filterwarnings("ignore")


class Shared(Data):
    """Every image on one rank alone."""

    def test_dataloader(self) -> DataLoader:
        world, rank = self.trainer.world_size, self.trainer.global_rank
        return DataLoader(Maps(), sampler=UnrepeatedDistributedSampler(Maps(), world, rank, shuffle=False))


options = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False}
make_trainer(Path(sys.argv[1]), TrimapCurve(), **options).test(Reads(), Shared())

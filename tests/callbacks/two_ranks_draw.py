"""A program of two ranks that trains with panels, then writes predictions: ``two_ranks_draw.py FOLDER``."""

import sys
import warnings
from pathlib import Path

from tiny_runs import Tiny, TwoClasses, make_trainer

from weakseg_lightning.callbacks import PanelWriter, PredictionWriter

warnings.filterwarnings("ignore")
options = {"strategy": "ddp", "devices": 2, "max_epochs": 2}
make_trainer(Path(sys.argv[1]), PanelWriter(), **options).fit(Tiny(), TwoClasses())
predicting = make_trainer(Path(sys.argv[1]), PredictionWriter(), **options)
predicting.predict(Tiny(), TwoClasses([f"im{i}" for i in range(5)]), return_predictions=False)

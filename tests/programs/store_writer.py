"""Writes one entry of a store of labelings over and over, until it is killed: ``store_writer.py FOLDER``."""

import itertools
import sys

import numpy as np

from weakseg_lightning.modules.core.latent_store import LatentStore

store = LatentStore(sys.argv[1])
store.open({})
store.begin("a")
sys.stdout.write("ready\n")
sys.stdout.flush()
for value in itertools.cycle(range(256)):
    store.put("image", np.full((200, 300), value, dtype=np.uint8))

"""The compiled core (module ``_core``); call it through `weakseg_lightning.solvers`."""

"""A simulated accelerator for tests, and what tests ask of it."""

from simulated.accelerator import SimAccelerator
from simulated.sim import load
from simulated.watching import Counts, counting, run_later

__all__ = ["Counts", "SimAccelerator", "counting", "load", "run_later"]

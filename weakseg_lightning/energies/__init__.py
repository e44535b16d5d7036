"""Energies of labelings: Potts on the pixel grid, and the Gaussian lattice of the dense CRF."""

from weakseg_lightning.energies.grid import Connectivity, Offsets, count_edges, neighbor_offsets
from weakseg_lightning.energies.potts import VOID, Edges, GridPotts, potts_energy, unary_energy, unary_potentials
from weakseg_lightning.energies.volume import VolumePotts

__all__ = [
    "VOID",
    "Connectivity",
    "Edges",
    "GridPotts",
    "Offsets",
    "VolumePotts",
    "count_edges",
    "neighbor_offsets",
    "potts_energy",
    "unary_energy",
    "unary_potentials",
]

"""Latent solvers for Potts energies on the pixel grid: graph cuts, and what they need."""

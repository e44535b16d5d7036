"""Latent solvers for the dense CRF: mean field."""

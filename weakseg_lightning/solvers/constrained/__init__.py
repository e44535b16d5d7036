"""Latent solvers under linear constraints on label distributions (CCNN, EM-Adapt)."""

"""Latent label distributions under linear constraints."""

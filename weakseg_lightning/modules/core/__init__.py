"""What the methods share: training, evaluation, checkpoints, latent solvers in the loop, amortized labelings."""

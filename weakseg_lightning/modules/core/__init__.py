"""The foundations of the methods: training, evaluation, checkpoints, latent solvers, amortized labelings."""

"""Labeling images of any size with a trained network, in memory or from file to file."""

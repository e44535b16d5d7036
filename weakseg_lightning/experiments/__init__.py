"""Experiments of the papers beside segmentation, each a function that runs from the command line."""

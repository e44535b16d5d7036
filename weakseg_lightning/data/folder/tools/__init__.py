"""Readers of annotation tools: LabelMe and its forks, CVAT, Label Studio."""

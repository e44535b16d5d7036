"""Figures: panels of labelings over images, curves of scores near boundaries."""

from weakseg_lightning.visualization.panels import (
    MAPS,
    Colors,
    Labels,
    Palette,
    PanelRow,
    Pixels,
    colorize,
    draw_legend,
    draw_panels,
    overlay,
    save_palette_png,
    voc_palette,
)

__all__ = [
    "MAPS",
    "Colors",
    "Labels",
    "Palette",
    "PanelRow",
    "Pixels",
    "colorize",
    "draw_legend",
    "draw_panels",
    "overlay",
    "save_palette_png",
    "voc_palette",
]

"""The language of linear constraints on label distributions: what people know about their images."""

from weakseg_lightning.constraints.arguments import Classes, Region
from weakseg_lightning.constraints.base import CompiledRule, ConstraintRule, Rows, compile_constraints
from weakseg_lightning.constraints.boxes import BoundingBoxes
from weakseg_lightning.constraints.feasibility import find_contradictions
from weakseg_lightning.constraints.files import AreaTable
from weakseg_lightning.constraints.linear import ImageFacts, LinearConstraints
from weakseg_lightning.constraints.presets import PresetName, preset
from weakseg_lightning.constraints.rules import AreaBounds, AreaRatio, SizeBuckets, Suppression

__all__ = [
    "AreaBounds",
    "AreaRatio",
    "AreaTable",
    "BoundingBoxes",
    "Classes",
    "CompiledRule",
    "ConstraintRule",
    "ImageFacts",
    "LinearConstraints",
    "PresetName",
    "Region",
    "Rows",
    "SizeBuckets",
    "Suppression",
    "compile_constraints",
    "find_contradictions",
    "preset",
]

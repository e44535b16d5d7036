"""The language of linear constraints on label distributions."""

from weakseg_lightning.constraints.linear import Knowledge, LinearConstraints

__all__ = ["Knowledge", "LinearConstraints"]

"""A run as one page of HTML that needs nothing else."""

from weakseg_lightning.reporting.page import Page, Picture, Table

__all__ = ["Page", "Picture", "Table"]

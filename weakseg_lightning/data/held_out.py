"""Folders of which a part may be held out for validation, or nothing."""

from typing import Any, ClassVar

from typing_extensions import override

from weakseg_lightning.data.base import SegmentationDataModule
from weakseg_lightning.data.samples import SampleSource
from weakseg_lightning.errors import UserError

__all__ = ["HeldOutDataModule"]


class HeldOutDataModule(SegmentationDataModule):
    """Evaluates on what is held out; without anything held out, training has no validation and evaluation raises."""

    root: Any
    _held_out_unit: ClassVar[str]  # in words

    @property
    @override
    def has_validation(self) -> bool:
        """True if anything with masks is held out."""
        return len(self._source("val")) > 0

    @override
    def test_source(self) -> SampleSource:
        """Find what is held out.

        Raises:
            ValueError: if there is nothing.
        """
        if not self.has_validation:
            unit = self._held_out_unit
            raise UserError(f"no {unit} of {self.root} with a mask is held out: there is nothing to evaluate on")
        return self._source("val")

    @override
    def setup(self, stage: str) -> None:
        """Find the files of a stage and read them."""
        super().setup(stage)
        if stage == "validate":
            self.test_source()  # raises if there is nothing

    @override
    def val_dataloader(self) -> Any:
        """Load what is held out, one by one; nothing at all if there is none."""
        return super().val_dataloader() if self.has_validation else []

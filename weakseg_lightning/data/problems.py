"""Bad samples of a data set: found before training starts, named, and left out where users say so."""

import warnings

from weakseg_lightning.data.dataset import OnBadSample, SegmentationDataset
from weakseg_lightning.data.samples import BadSampleError, SampleSource, SampleView
from weakseg_lightning.errors import first_of

__all__ = ["checked"]

_NAMED_PROBLEMS = 5


def checked(source: SampleSource, split: str, num_classes: int, on_bad_sample: OnBadSample) -> SampleSource:
    """Look for bad samples without reading those of training in full.

    Args:
        source: the samples.
        split: what they are for: ``train``, ``val``, ``test`` or ``predict``.
        num_classes: classes K, background included.
        on_bad_sample: raise, or warn and go on without them; for evaluation contents are then read, too, so that what
            is evaluated stays fixed.

    Returns:
        The samples without bad ones.

    Raises:
        BadSampleError: names the first of them.
    """
    problems = source.find_problems()
    if on_bad_sample == "skip" and split != "train":
        problems |= _find_unreadable(source, num_classes, problems)
    if not problems:
        return source
    report = _report(problems, source, split)
    if on_bad_sample == "error" or len(problems) == len(source):
        raise BadSampleError(f"{report} (`on_bad_sample: skip` goes on without bad samples)")
    warnings.warn(f"skipping {report}", stacklevel=2)
    return SampleView((source, index) for index in range(len(source)) if index not in problems)


def _find_unreadable(source: SampleSource, num_classes: int, known: dict[int, str]) -> dict[int, str]:
    data = SegmentationDataset(source, num_classes)
    found = {}
    for index in range(len(source)):
        if index not in known:
            try:
                data.read(index)
            except BadSampleError as error:
                found[index] = str(error)
    return found


def _report(problems: dict[int, str], source: SampleSource, split: str) -> str:
    texts = list(dict.fromkeys(problems[index] for index in sorted(problems)))  # slices of a volume share one
    return f"{len(problems)} of {len(source)} {split} samples: {first_of(texts, _NAMED_PROBLEMS)}"

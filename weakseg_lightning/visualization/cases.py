"""Scores of single cases: their file, and box plots of them."""

import csv
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

__all__ = ["cases_figure", "read_cases", "write_cases"]

_TITLES = {"dice": "Dice, %", "hd95": "HD95"}
_FIRST = ["case", "slices"]
MEAN = "mean"


def write_cases(
    path: str | Path, cases: Sequence[tuple[str, int, list[float], list[float]]], names: Sequence[str]
) -> None:
    """Write scores as CSV: ``case,slices``, then ``dice_<class>``, ``dice_mean``, ``hd95_<class>``, ``hd95_mean``.

    Args:
        path: file to write.
        cases: scores of each case, as :meth:`weakseg_lightning.metrics.CaseScores.compute` returns them.
        names: names of the classes, without background.
    """
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*_FIRST, *(f"{score}_{name}" for score in _TITLES for name in (*names, MEAN))])
        for case, slices, *scores in cases:
            values = (value for row in scores for value in (*row, _mean(row)))
            writer.writerow([case, slices, *("" if isnan(value) else f"{value:.6f}" for value in values)])


def read_cases(path: str | Path) -> dict[str, list[float]]:
    """Read the scores of a test.

    Args:
        path: the ``cases.csv`` of a test or a validation.

    Returns:
        ``dice_<class>`` and ``hd95_<class>``, by name, the means over the classes as ``dice_mean`` and ``hd95_mean``:
        an entry per case that has this score.

    Raises:
        ValueError: if it is another kind of file.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        names = list(rows.fieldnames or [])
        if names[:2] != _FIRST or not all(name.startswith(("dice_", "hd95_")) for name in names[2:]):
            raise ValueError(f"{path} must have the columns case, slices, dice_<class> and hd95_<class>, got {names}")
        found = list(rows)
    return {name: [float(row[name]) for row in found if row[name]] for name in names[2:]}


def cases_figure(scores: Mapping[str, Sequence[float]]) -> Figure:
    """Draw a box plot per class of Dice, and of HD95 where it is known: median, quartiles, and whiskers to 1.5 times.

    Args:
        scores: what :func:`read_cases` returned.

    Returns:
        A figure without a window; ``savefig`` writes it.

    Example:
        >>> figure = cases_figure({"dice_cat": [0.5, 0.75], "dice_mean": [0.5, 0.75], "hd95_cat": [], "hd95_mean": []})
        >>> [(axes.get_ylabel(), [text.get_text() for text in axes.get_xticklabels()]) for axes in figure.axes]
        [('Dice, %', ['cat', 'mean'])]
    """
    drawn = [score for score in _TITLES if any(scores[name] for name in scores if name.startswith(f"{score}_"))]
    classes = max(1, sum(name.startswith("dice_") for name in scores))
    figure = Figure(figsize=(2 + 0.5 * classes * len(drawn), 3), layout="constrained")
    for axes, score in zip(figure.subplots(1, max(1, len(drawn)), squeeze=False)[0], drawn, strict=False):
        factor = 100 if score == "dice" else 1
        columns = {name: values for name, values in scores.items() if name.startswith(f"{score}_") and values}
        axes.boxplot([[factor * value for value in values] for values in columns.values()])
        names = [name.removeprefix(f"{score}_") for name in columns]
        axes.set_xticklabels(names, rotation=45, ha="right", parse_math=False)
        axes.set_ylabel(_TITLES[score])
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _mean(row: Sequence[float]) -> float:
    known = [value for value in row if not isnan(value)]
    return fmean(known) if known else float("nan")

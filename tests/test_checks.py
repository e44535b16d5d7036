import math

import pytest

from weakseg_lightning.checks import above, above_and_at_most, at_least, at_least_and_below, between, one_of


@pytest.mark.parametrize(
    ("check", "bounds", "good", "bad", "message"),
    [
        (at_least, (1,), (1, 2.5, math.inf), (0, 0.999, math.nan), "at least 1"),
        (above, (0,), (1e-9, 3), (0, -1, math.nan), "above 0"),
        (between, (0, 1), (0, 0.5, 1), (-1e-9, 1.1, math.nan), "between 0 and 1"),
        (above_and_at_most, (0, 1), (1e-9, 1), (0, 1.1, math.nan), "above 0 and at most 1"),
        (at_least_and_below, (0, 1), (0, 0.999), (1, -1, math.nan), "at least 0 and below 1"),
        (one_of, (("report", "code"),), ("report", "code"), ("paper", None), "one of 'report', 'code'"),
    ],
)
def test_bounds(check, bounds, good, bad, message):
    for value in good:
        check("steps", value, *bounds)
    for value in bad:
        with pytest.raises(ValueError, match=f"^`steps` must be {message}, got {value!r}; leave it out$"):
            check("steps", value, *bounds, hint="leave it out")

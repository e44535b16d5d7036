"""What a training step copies between host and device, and how often it waits, counted on the simulated device."""

import pytest
from counts import FIRST, LAST, count_steps

STEPS = LAST - FIRST
# Copies to the device beside the batch's, to the host, and waits. A step reads its losses, once. ADM's solver reads
# which labels there may be, then their scores with all else, and gives labels back; it waits once more to tell the
# time of the forward pass, or, beside the step, for itself.
KNOWN = {
    "pce": (0, 1, 1),
    "full": (0, 1, 1),
    "grid_gd": (0, 1, 1),
    "gated_crf": (0, 1, 1),
    "adm": (1, 3, 4),
    "adm_lag": (1, 3, 4),
    "dense_adm": (1, 3, 4),
    "dense_gd": (4, 2, 2),  # the lattice is built on the CPU, here without workers that do it ahead
    "mil": (2, 1, 1),
    "classifier": (2, 1, 1),
    "decompose": (2, 2, 2),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_step_copies_and_waits_no_more_than_it_needs(name, device):
    counts = count_steps(name)
    found = tuple(each / STEPS for each in (counts.to_device - counts.of_batch, counts.to_host, counts.waits))
    # A solver beside the step may have begun before the first of them, and end after the last one.
    expected = pytest.approx(KNOWN[name], abs=0.5 if name == "adm_lag" else 0)
    assert found == expected, "\n".join(f"{number} {place}" for place, number in sorted(counts.places.items()))
    assert counts.of_batch == 8 * STEPS


def test_batches_come_from_pinned_memory(device):
    places = count_steps("pce").places
    assert not [place for place in places if "waits" in place and "weakseg_lightning/data" in place]

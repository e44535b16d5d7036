"""What a training step copies between host and device, and how often it waits, counted on the simulated device."""

import pytest
from counts import FIRST, LAST, count_steps

STEPS = LAST - FIRST
# Copies to the device beside the batch's, to the host, and waits. A step reads its losses, once. ADM's solver reads the
# scores of the labels that there may be, with all else, and gives labels back; it waits once more to tell the time of
# the forward pass, or, beside the step, for itself. Trust region does so for each of two images, for which it reads
# which labels there may be, too; their labelings are read together. Soft labels are checked while they descend; the
# dual of a constrained distribution is maximized on the host, which reads its Hessian at each evaluation: here three,
# and the gradient.
KNOWN = {
    "pce": (0, 1, 1),
    "full": (0, 1, 1),
    "grid_gd": (0, 1, 1),
    "gated_crf": (0, 1, 1),
    "adm": (1, 2, 3),
    "adm_map": (5, 2, 3),  # the indices of cells along the axes, once for the solver and once for the loss
    "adm_lag": (1, 2, 3),
    "dense_adm": (1, 2, 3),
    "soft_labels": (1, 4, 5),
    "trust_region": (7, 6, 6),
    "learnt_eps": (4, 6, 6),
    "proposals": (7, 6, 6),
    "ccnn": (15, 10, 11),
    "em_adapt": (2, 6.25, 7.25),
    "dense_gd": (4, 2, 2),  # the lattice is built on the CPU, here without workers that do it ahead
    "mil": (1, 1, 1),
    "classifier": (1, 1, 1),
    "decompose": (1, 2, 2),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_step_copies_and_waits_no_more_than_it_needs(name, device):
    counts = count_steps(name)
    found = tuple(each / STEPS for each in (counts.to_device - counts.of_batch, counts.to_host, counts.waits))
    # A solver beside the step may have begun before the first of them, and end after the last one; others iterate
    # until they are there, which rounding decides.
    rough = name in ("adm_lag", "soft_labels", "ccnn", "em_adapt")
    expected = pytest.approx(KNOWN[name], abs=0.5 if rough else 0)
    assert found == expected, "\n".join(f"{number} {place}" for place, number in sorted(counts.places.items()))
    assert counts.of_batch == (13 if name in ("trust_region", "learnt_eps", "proposals") else 8) * STEPS


def test_batches_come_from_pinned_memory(device):
    places = count_steps("pce").places
    assert not [place for place in places if "waits" in place and "weakseg_lightning/data" in place]

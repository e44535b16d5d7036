"""Random states of the CPU; those of other devices are in tests/devices."""

import torch

from weakseg_lightning.devices import random_state_kept, works_aside


def test_draws_inside_leave_no_trace():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with random_state_kept([torch.device("cpu")]):
        assert torch.equal(torch.rand(3), expected)
    with random_state_kept([torch.device("cpu")], seed=1):
        seeded = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(torch.rand(3, generator=torch.Generator().manual_seed(1)), seeded)


def test_the_cpu_and_what_shares_its_memory_do_not_work_aside():
    assert [works_aside(torch.device(kind)) for kind in ("cpu", "mps", "meta", "cuda", "xpu")] == [
        *(False, False, False),
        *(True, True),
    ]

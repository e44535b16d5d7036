"""The simulated device itself: it computes as the CPU, late, and lets nobody take a short cut."""

import pytest
import torch
from simulated import counting, run_later
from torch import nn
from torch.nn import functional


@pytest.fixture
def values(device):
    if device.type != "sim":
        pytest.skip("of the simulated device")
    return torch.randn(3, 4)


def train(net, images, steps=3):
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = net(images)
        functional.cross_entropy(logits, logits.argmax(1)).backward()
        optimizer.step()
    return net.state_dict()


def make_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 2, 1),
        nn.Upsample(scale_factor=3),
    )


@pytest.mark.parametrize("late", [False, True])
def test_a_network_learns_the_same_weights_bit_for_bit(values, same, late):
    images = torch.rand(2, 3, 16, 16)
    expected = train(make_net(), images)
    torch.ops.sim.run_later(late)
    found = train(make_net().to("sim"), images.to("sim"))
    torch.ops.sim.run_later(False)
    same(expected, found)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layouts_views_and_types_are_those_of_the_cpu(values, layout):
    image = torch.rand(2, 3, 4, 6).to(memory_format=layout)
    moved = image.to("sim")
    for change in (
        lambda x: x[:, 1:, ::2],
        lambda x: x.permute(0, 2, 3, 1) + 1,
        lambda x: x.double().sum((2, 3)),
        lambda x: x.clone().masked_fill_(x > 0.5, 0),
        lambda x: x.flatten(2).topk(2)[1],
        lambda x: (x * 255).byte(),
    ):
        expected, found = change(image), change(moved)
        assert (expected.stride(), expected.dtype, found.device.type) == (found.stride(), found.dtype, "sim")
        assert torch.equal(expected, found.cpu())


def test_writing_to_a_view_writes_to_the_whole(values):
    moved = values.to("sim")
    moved[1].zero_()
    moved.t()[0] = 5
    assert moved.cpu()[:, 0].tolist() == [5, 5, 5]
    assert (moved.cpu()[1, 1:] == 0).all()


# ---- no short cuts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mix",
    [
        lambda moved, here: moved + here,
        lambda moved, here: torch.cat([moved, here]),
        lambda moved, here: moved.add_(here),
        lambda moved, here: here.add_(moved),
        lambda moved, here: torch.where(moved > 0, moved, here),
        lambda moved, here: functional.conv2d(moved[None, None], here[None, None]),
        lambda moved, here: moved.index_select(0, torch.tensor([0])),
        lambda moved, here: functional.cross_entropy(moved, torch.tensor([0, 1, 2])),
        lambda moved, here: torch.rand(2, generator=torch.Generator(), device="sim"),
    ],
)
def test_tensors_of_the_cpu_do_not_mix_with_its_own(values, mix):
    with pytest.raises(RuntimeError, match=r"same device|but found 'cpu'|on device cpu|expected.*sim"):
        mix(values.to("sim"), values)


def test_a_number_on_the_cpu_may_go_along(values):
    assert torch.equal((values.to("sim") * torch.tensor(2.0)).cpu(), values * 2)


def test_numpy_has_no_way_in(values):
    with pytest.raises(TypeError, match="can't convert sim:0 device type tensor to numpy"):
        values.to("sim").numpy()


def test_compiled_code_that_trusts_a_pointer_is_noticed(values):
    moved = values.to("sim")
    torch.ops.sim.touch(moved)
    assert torch.ops.sim.take_touched() == 1
    assert torch.equal(moved.cpu(), values), "what it reads is not what is there"
    torch.ops.sim.touch(moved)
    assert torch.ops.sim.take_touched() == 1, "the next time, too"


# ---- random numbers --------------------------------------------------------------------------------------------


def test_its_random_numbers_have_a_state_of_their_own(values):
    torch.manual_seed(0)
    expected = torch.randn(5)
    torch.manual_seed(0)
    torch.rand(3)
    assert torch.equal(torch.randn(5, device="sim").cpu(), expected), "the seed is everyone's, the draws are not"
    with torch.random.fork_rng([0], device_type="sim"):
        inside = torch.rand(4, device="sim")
    assert torch.equal(torch.rand(4, device="sim"), inside)
    own = torch.Generator("sim").manual_seed(1)
    assert torch.equal(
        torch.rand(4, device="sim", generator=own).cpu(), torch.rand(4, generator=torch.Generator().manual_seed(1))
    )


# ---- late work -------------------------------------------------------------------------------------------------


def test_a_copy_that_nobody_waits_for_has_not_come(values):
    pinned = values.pin_memory()
    assert pinned.is_pinned()
    assert not values.is_pinned()
    with run_later():
        moved = pinned.to("sim", non_blocking=True)
        back = moved.to("cpu", non_blocking=True)
        assert back.isnan().all()
        pinned.zero_()  # too early: the device reads it when it gets there
        torch.accelerator.synchronize()
        assert (back == 0).all()


def test_another_stream_has_to_wait(values):
    moved, aside = values.to("sim"), torch.Stream("sim")
    with run_later():
        for waits in (False, True):
            doubled = moved * 2
            event = torch.accelerator.current_stream().record_event()
            if waits:
                aside.wait_event(event)
            with aside:
                seen = (doubled + 0).cpu()
            assert torch.equal(seen, values * 2) == waits


def test_memory_is_given_away_in_the_order_of_its_stream(values):
    aside = torch.Stream("sim")
    with run_later():
        for told in (False, True):
            moved = values.to("sim")
            aside.wait_stream(torch.accelerator.current_stream())
            with aside:
                seen = moved + 0
            if told:
                moved.record_stream(aside)
            del moved
            overwritten = torch.zeros(3, 4, device="sim").sum().item()
            assert overwritten == 0
            with aside:
                assert torch.equal(seen.cpu(), values) == told


def test_a_failure_is_told_when_somebody_waits(values):
    with run_later():
        values.to("sim").gather(1, torch.full((3, 1), 9, device="sim"))
        with pytest.raises(RuntimeError, match="out of bounds"):
            torch.accelerator.synchronize()


# ---- counting --------------------------------------------------------------------------------------------------


def test_copies_and_waits_are_counted_where_they_are(values):
    pinned = values.pin_memory()
    with counting() as counts:
        moved = pinned.to("sim", non_blocking=True)
        total = moved.sum() + moved.max()
    assert (counts.to_device, counts.to_host, counts.waits) == (1, 0, 0)
    with counting() as counts:
        total.item()
        moved.nonzero()
        values.to("sim")
    assert (counts.to_device, counts.to_host, counts.waits) == (1, 2, 3)
    assert all("test_simulated_device.py" in place for place in counts.places)


def test_mixed_precision_has_the_types_of_gpus(values):
    with torch.autocast("sim", torch.bfloat16):
        product = values.to("sim") @ values.T.to("sim")
        assert (product.dtype, product.exp().dtype) == (torch.bfloat16, torch.float32)

"""PyMIC as an oracle, where it is installed; references that always run are in the tests of each part."""

import pytest
from peers import LOGITS, LOSSES, NETWORKS, compare_losses, compare_networks, main

pymic = pytest.importorskip("pymic.loss", reason="PyMIC is not installed (pip install --no-deps PYMIC)")


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients_are_those_of_pymic(name: str) -> None:
    row = compare_losses(name)
    assert row.theirs > 1e-3
    assert row.difference < 1e-5
    assert row.of_gradients < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_the_layers_of_those_of_pymic(name: str) -> None:
    row = compare_networks(name)
    assert row.theirs == row.ours > 1.8e6
    assert row.difference < 1e-5
    assert row.of_gradients < 1e-5


def test_what_pymic_adds_to_the_definitions_is_what_the_docstrings_say() -> None:
    from pymic.loss.seg.ssl import EntropyLoss, TotalVariationLoss

    exact, contours = (LOSSES[name][1](LOGITS).item() for name in ("entropy", "contours (total variation)"))
    stabilized = EntropyLoss()({"prediction": LOGITS}).item()
    assert 1e-5 < abs(stabilized - exact) < 0.01
    # without an axis of slices the windows reach over the neighboring classes
    over_classes = TotalVariationLoss()({"prediction": LOGITS}).item()
    assert over_classes < 0.9 * contours
    assert TotalVariationLoss()({"prediction": LOGITS[:, :, None]}).item() == pytest.approx(0.999 * contours, abs=1e-6)


def test_the_table_has_a_row_for_each_part(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(LOSSES) + len(NETWORKS)
    assert {line.count("|") for line in lines} == {6}

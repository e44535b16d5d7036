"""The compiled core on bare NumPy arrays; also run, without torch, on each wheel that is built."""

import numpy as np
import pytest

from weakseg_lightning._native import _core


def problem(batch=3, height=2, width=3, planes=4, classes=(1, 4)):
    """Images of two labels named `classes`, whose left pixels cost 1 as the second label, the others 2 as the first."""
    unary = np.zeros((batch, 2, height, width), dtype=np.float32)
    unary[:, 1, :, 0] = 1.0
    unary[:, 0, :, 1:] = 2.0
    plane = (batch, height, width)
    edges = np.zeros((batch, planes, height, width), dtype=np.float32)
    edges[:, 0, :, :-1] = 0.25
    return {
        "scores": -unary.reshape(2 * batch, height, width),
        "zero": np.zeros(plane, dtype=np.float32),
        "slope": -1.0,
        "planes": np.arange(2 * batch, dtype=np.int32),
        "names": np.tile(np.array(classes, dtype=np.uint8), batch),
        "num_labels": np.full(batch, 2, dtype=np.int32),
        "edges": edges,
        "seeds": np.full(plane, 255, dtype=np.uint8),
        "valid": np.ones(plane, dtype=np.uint8),
        "initial": np.full(plane, 255, dtype=np.uint8),
        "labels": np.full(plane, 7, dtype=np.uint8),
        "energies": np.zeros((batch, 3)),
        "status": np.zeros((batch, 3), dtype=np.int32),
        "max_sweeps": 5,
        "from_blocks": False,
        "num_threads": 2,
    }


@pytest.mark.parametrize("planes", [2, 4])
def test_solves_and_names_the_labels(planes):
    p = problem(planes=planes)
    _core.expand(**p)
    assert p["labels"].tolist() == [[[1, 4, 4], [1, 4, 4]]] * 3
    np.testing.assert_allclose(p["energies"], [[0.0, 0.5, 0.5]] * 3, atol=1e-6)
    assert p["status"].tolist() == [[1, 1, 0]] * 3


def test_padding_is_void_and_costs_nothing():
    p = problem()
    p["valid"][:, 1] = 0
    p["scores"][:, 1] = np.nan
    _core.expand(**p)
    assert p["labels"].tolist() == [[[1, 4, 4], [255, 255, 255]]] * 3
    np.testing.assert_allclose(p["energies"][:, 1:], 0.25, atol=1e-6)


def test_images_without_labels_are_left_alone():
    p = problem()
    p["num_labels"][1] = 0
    p["planes"], p["names"] = np.array([0, 1, 4, 5], dtype=np.int32), p["names"][:4]
    _core.expand(**p)
    assert (p["labels"][1] == 7).all()
    assert p["labels"][2].tolist() == p["labels"][0].tolist() == [[1, 4, 4], [1, 4, 4]]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("edges", np.zeros((3, 3, 2, 3), dtype=np.float32), "2 or 4 planes"),
        ("edges", np.zeros((2, 4, 2, 3), dtype=np.float32), "same length"),
        ("scores", np.zeros((6, 3, 2), dtype=np.float32), "same size"),
        ("scores", np.zeros((5, 2, 3), dtype=np.float32), "planes of `scores`"),
        ("zero", np.zeros((3, 3, 2), dtype=np.float32), "size of `edges`"),
        ("planes", np.zeros(5, dtype=np.int32), "all labels of all images"),
        ("planes", np.array([0, 1, 2, -1, 4, 5], dtype=np.int32), "planes of `scores`"),
        ("names", np.zeros(5, dtype=np.uint8), "all labels of all images"),
        ("num_labels", np.array([2, -2, 6], dtype=np.int32), "between 0 and 255"),
        ("seeds", np.zeros((3, 2, 2), dtype=np.uint8), "size of `edges`"),
        ("labels", np.zeros((2, 2, 3), dtype=np.uint8), "size of `edges`"),
        ("energies", np.zeros((3, 2)), "`energies`"),
        ("status", np.zeros((2, 3), dtype=np.int32), "`status`"),
        ("max_sweeps", -1, "`max_sweeps`"),
    ],
)
def test_wrong_sizes_never_reach_memory(name, value, words):
    with pytest.raises(ValueError, match=words):
        _core.expand(**{**problem(), name: value})


@pytest.mark.parametrize(("name", "kind"), [("labels", np.int64), ("energies", np.float32), ("status", np.int64)])
def test_outputs_are_never_copies(name, kind):
    p = problem()
    with pytest.raises(TypeError):
        _core.expand(**{**p, name: p[name].astype(kind)})


@pytest.mark.parametrize(("name", "failure"), [("scores", 1), ("zero", 1), ("edges", 2)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_image_that_is_not_finite_is_left_alone(name, failure, bad):
    p = problem()
    p[name][(2 if name == "scores" else 1, ..., 0, 0)] = bad
    _core.expand(**p)
    assert p["status"][:, 2].tolist() == [0, failure, 0]
    assert (p["labels"][1] == 7).all()
    assert p["labels"][[0, 2]].tolist() == [[[1, 4, 4], [1, 4, 4]]] * 2

"""The compiled core on bare NumPy arrays; also run, without torch, on each wheel that is built."""

import gc

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
    }


def expand(p, max_sweeps=5):
    """Labels, energies and status of a problem."""
    return _core.expand(_core.PottsBatch(**p), max_sweeps=max_sweeps, from_blocks=False, num_threads=2)


@pytest.mark.parametrize("planes", [2, 4])
def test_solves_and_names_the_labels(planes):
    labels, energies, status = expand(problem(planes=planes))
    assert labels.tolist() == [[[1, 4, 4], [1, 4, 4]]] * 3
    np.testing.assert_allclose(energies, [[0.0, 0.5, 0.5]] * 3, atol=1e-6)
    assert status.tolist() == [[1, 1, 0]] * 3
    assert [array.dtype for array in (labels, energies, status)] == [np.uint8, np.float64, np.int32]


def test_padding_is_void_and_costs_nothing():
    p = problem()
    p["valid"][:, 1] = 0
    p["scores"][:, 1] = np.nan
    labels, energies, _ = expand(p)
    assert labels.tolist() == [[[1, 4, 4], [255, 255, 255]]] * 3
    np.testing.assert_allclose(energies[:, 1:], 0.25, atol=1e-6)


def test_images_without_labels_are_void():
    p = problem()
    p["num_labels"][1] = 0
    p["planes"], p["names"] = np.array([0, 1, 4, 5], dtype=np.int32), p["names"][:4]
    labels, energies, status = expand(p)
    assert (labels[1] == 255).all()
    assert np.isnan(energies[1]).all()
    assert status[1].tolist() == [0, 0, 0]
    assert labels[2].tolist() == labels[0].tolist() == [[1, 4, 4], [1, 4, 4]]


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
        ("valid", np.zeros((2, 2, 3), dtype=np.uint8), "size of `edges`"),
        ("initial", np.zeros((3, 1, 3), dtype=np.uint8), "size of `edges`"),
    ],
)
def test_wrong_sizes_never_reach_memory(name, value, words):
    with pytest.raises(ValueError, match=words):
        expand({**problem(), name: value})


def test_a_negative_number_of_sweeps_is_an_error():
    with pytest.raises(ValueError, match="`max_sweeps`"):
        expand(problem(), max_sweeps=-1)


def test_answers_outlive_their_batch():
    answers = [expand(problem()) for _ in range(3)]  # the batches are gone
    gc.collect()
    for labels, energies, _ in answers:
        assert labels.flags.writeable
        assert labels.tolist() == [[[1, 4, 4], [1, 4, 4]]] * 3
        energies += 1  # not shared with the other answers
    np.testing.assert_allclose(answers[0][1], answers[2][1])


@pytest.mark.parametrize(("name", "kind"), [("best", np.float64), ("logarithms", np.float32)])
def test_outputs_are_never_copies(name, kind):
    scores, valid = np.zeros((1, 2, 3, 4), dtype=np.float32), np.ones((1, 3, 4), dtype=np.uint8)
    outputs = {"best": np.zeros((1, 3, 4), dtype=np.float32), "logarithms": np.zeros(1)}
    outputs[name] = outputs[name].astype(kind)
    with pytest.raises(TypeError):
        _core.split_softmax(scores=scores, valid=valid, num_threads=1, **outputs)


@pytest.mark.parametrize(("name", "failure"), [("scores", 1), ("zero", 1), ("edges", 2)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_image_that_is_not_finite_is_void(name, failure, bad):
    p = problem()
    p[name][(2 if name == "scores" else 1, ..., 0, 0)] = bad
    labels, energies, status = expand(p)
    assert status[:, 2].tolist() == [0, failure, 0]
    assert (labels[1] == 255).all()
    assert np.isnan(energies[1]).all()
    assert labels[[0, 2]].tolist() == [[[1, 4, 4], [1, 4, 4]]] * 2


@pytest.mark.parametrize("classes", [1, 2, 21, 255])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (40, 41)])
def test_split_softmax_adds_up_to_the_normalizer(classes, size):
    scores = np.random.default_rng(classes).normal(scale=5.0, size=(2, classes, *size)).astype(np.float32)
    valid = np.random.default_rng(1).random((2, *size)) < 0.8
    scores[np.broadcast_to(~valid[:, None], scores.shape)] = np.nan
    best, logarithms = np.zeros((2, *size), dtype=np.float32), np.zeros(2)
    _core.split_softmax(scores=scores, valid=valid.view(np.uint8), best=best, logarithms=logarithms, num_threads=2)
    np.testing.assert_array_equal(best[valid], scores.max(1)[valid])
    exact = scores.astype(np.float64)
    rest = np.log(np.exp(exact - exact.max(1, keepdims=True)).sum(1))
    np.testing.assert_allclose(logarithms, np.where(valid, rest, 0).sum((1, 2)), rtol=1e-6, atol=1e-7)


def test_split_softmax_keeps_what_is_no_number():
    scores = np.zeros((1, 3, 1, 4), dtype=np.float32)
    scores[0, 0, 0, 0] = scores[0, 2, 0, 1] = np.nan
    scores[0, 1, 0, 2], scores[0, 1, 0, 3] = np.inf, -np.inf
    best, logarithms, valid = np.zeros((1, 1, 4), dtype=np.float32), np.zeros(1), np.ones((1, 1, 4), dtype=np.uint8)
    _core.split_softmax(scores=scores, valid=valid, best=best, logarithms=logarithms, num_threads=1)
    np.testing.assert_array_equal(best, [[[np.nan, np.nan, np.inf, 0.0]]])


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("place", [0, 1023, 1024, 2499])
def test_read_labels_finds_what_is_no_class(kind, place):
    labels = np.random.default_rng(0).choice([0, 1, 2, 3, 255], size=(1, 50, 50)).astype(kind)
    out = np.zeros(labels.shape, dtype=np.uint8)
    assert _core.read_labels(labels=labels, classes=4, bytes=out)
    np.testing.assert_array_equal(out, labels)
    range_ = np.iinfo(kind)
    for wrong in [4, 254, 256, 511, -1, -253, 2**31 - 1, 2**40 + 1]:
        if range_.min <= wrong <= range_.max:
            labels.reshape(-1)[place] = wrong
            assert not _core.read_labels(labels=labels, classes=4, bytes=out)


def test_find_labels_counts_valid_pixels_alone():
    labels = np.full((2, 3, 7), 255, dtype=np.uint8)
    labels[0, 0, 0], labels[0, 2, 6], labels[1, 1, 1], labels[1, 2, 6] = 5, 0, 254, 9
    valid, present = np.ones_like(labels), np.zeros((2, 256), dtype=np.uint8)
    valid[1, 2, 6] = 0
    _core.find_labels(labels=labels, valid=valid, present=present)
    assert [np.flatnonzero(row).tolist() for row in present] == [[0, 5], [254]]


def test_sizes_of_maps_never_reach_memory():
    scores, plane = np.zeros((2, 3, 4, 5), dtype=np.float32), np.ones((2, 4, 5), dtype=np.uint8)
    best, rest = np.zeros((2, 4, 5), dtype=np.float32), np.zeros(2)
    for wrong in (
        {"valid": plane[:1]},
        {"best": best[:, :3].copy()},
        {"logarithms": rest[:1]},
        {"scores": scores[:, :0]},
    ):
        given = {"scores": scores, "valid": plane, "best": best, "logarithms": rest, "num_threads": 1, **wrong}
        with pytest.raises(ValueError, match=r"`scores`"):
            _core.split_softmax(**given)
    with pytest.raises(ValueError, match="same size"):
        _core.read_labels(labels=plane, classes=3, bytes=plane[:1].copy())
    with pytest.raises(ValueError, match="same size"):
        _core.find_labels(labels=plane, valid=plane[:1], present=np.zeros((2, 256), dtype=np.uint8))
    with pytest.raises(ValueError, match="256"):
        _core.find_labels(labels=plane, valid=plane, present=np.zeros((2, 255), dtype=np.uint8))

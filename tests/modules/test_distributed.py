"""Two real processes (gloo on the CPU) against one."""

import json

import pytest


@pytest.fixture(scope="module")
def results(tmp_path_factory, run_program):
    folder = tmp_path_factory.mktemp("ranks")
    found = {}
    for modes, ranks in ((("train", "apart", "two", "ccnn", "dense", "unused", "skip"), 2), (("one",), 0)):
        run_program("ranks/two_ranks.py", folder, *modes, ranks=ranks)
        found |= json.loads((folder / "results.json").read_text())
    return found


def test_hook_trains_on_two_ranks_and_batch_norm_counts_each_step_once(results):
    for mode in ("train", "apart"):  # one forward pass for hook and step, or two
        assert results[mode]["counted"] == 2, "8 images, 2 ranks, batches of 2"
        assert results[mode]["same"]


def test_constrained_cnn_trains_on_two_ranks(results):
    assert results["ccnn"]["same"]
    assert 0 <= results["ccnn"]["loss"] < float("inf")


def test_weights_that_are_not_used_do_not_stop_two_ranks(results):
    assert results["unused"]["same"]


def test_dense_crf_trains_on_two_ranks_with_lattices_from_their_workers(results):
    assert results["dense"]["same"]
    assert results["dense"]["seen"] == 2, "8 images, 2 ranks, batches of 2"


def test_an_image_that_one_rank_cannot_solve_is_skipped(results):
    assert results["skip"]["same"]


def test_an_image_that_one_rank_cannot_solve_ends_all_ranks_with_its_name(tmp_path, run_program):
    ended = run_program("ranks/two_ranks.py", tmp_path, "stop", ranks=2, fails=True, timeout=120)  # no hang
    assert "has no latent labeling: too hard" in ended.stderr


def test_an_image_that_cannot_be_solved_before_training_ends_all_ranks_with_its_name(tmp_path, run_program):
    ended = run_program("ranks/two_ranks.py", tmp_path, "rounds", ranks=2, fails=True, timeout=120)  # no hang
    assert ended.stderr.count("UserError: image 'train_00000' has no latent labeling: too hard") == 2


def test_a_loss_that_is_not_finite_on_one_rank_ends_both_in_the_same_step(tmp_path, run_program):
    ended = run_program("ranks/two_ranks.py", tmp_path, "diverge", ranks=2, fails=True, timeout=120)  # no hang
    assert "not finite at iteration 0 (on another rank)" in ended.stderr
    assert "not finite at iteration 0 (first images: " in ended.stderr


def test_two_ranks_score_as_one_to_the_last_digit(results):
    assert results["one"].keys() == results["two"].keys()
    assert "val_miou" in results["one"]
    # 5 images on 2 ranks: a sampler that repeats images would count one twice
    counts = {name: value for name, value in results["one"].items() if "energy" not in name}
    assert {name: results["two"][name] for name in counts} == counts
    assert results["two"]["val_grid_energy"] == pytest.approx(results["one"]["val_grid_energy"], rel=1e-6)

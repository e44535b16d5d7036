"""Values that only some code behind the parser could refuse."""

from pathlib import Path

import pytest

from weakseg_lightning.cli.errors.settings import explain_setting

PCE = ("fit", "--config", "recipes/baselines/pce.yaml")


@pytest.mark.parametrize("option", ["data.root", "trainer.default_root_dir", "ckpt_path", "checkpoint.dirpath"])
def test_an_empty_text_is_no_path(run, option):
    expected = (2, "", f"weakseg: error: `{option}` must be a path, got ''\n")
    assert run(*PCE, f"--{option}=") == expected
    assert run(*PCE, f"--{option}", "") == expected
    name, last = option.replace("data.", "data.init_args.").rpartition(".")[::2]
    Path("mine.yaml").write_text(f"{name}: {{{last}: ''}}" if name else f"{last}: ''")
    assert run(*PCE, "--config", "mine.yaml") == expected


@pytest.mark.parametrize("words", [("check", ""), ("check", "--data", ""), ("report", ""), ("init", "--data=")])
def test_an_empty_text_is_no_path_of_a_helper(run, words):
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.endswith("must be a path, got ''\n")


@pytest.mark.parametrize("option", ["accumulate_grad_batches", "check_val_every_n_epoch"])
@pytest.mark.parametrize("value", [0, -2])
def test_counts_that_are_divided_by_are_at_least_one(run, option, value):
    told = f"weakseg: error: `trainer.{option}` must be at least 1, got {value}\n"
    assert run(*PCE, f"--trainer.{option}={value}") == (2, "", told)


TRAINER = {
    "accelerator=gpuu": "`trainer.accelerator` 'gpuu' is unknown; did you mean `gpu`? (known: auto, cpu, cuda, gpu, ",
    "strategy=dpp": "`trainer.strategy` 'dpp' is unknown; did you mean `ddp`? (WEAKSEG_TRACEBACK=1",
    "strategy=horovod": "`trainer.strategy` 'horovod' is unknown (known: auto, ddp, ",
    "devices=0": "`trainer.devices` must be a number (1 or more), -1 or auto for all, or, of GPUs, a list of their ",
    "devices=-3": "`trainer.devices` must be a number (1 or more), -1 or auto for all, or, of GPUs, a list of their ",
    "profiler=simpel": "`trainer.profiler` must be one of simple, advanced, pytorch, xla (WEAKSEG_TRACEBACK=1",
}


@pytest.mark.parametrize(("setting", "expected"), TRAINER.items())
def test_what_lightning_refuses_says_what_may_stand_there(refused, tiny, setting, expected):
    assert refused(*PCE, *tiny, f"--trainer.{setting}").startswith(expected)


def test_a_seed_out_of_bounds_is_named(refused):
    assert refused(*PCE, "--seed_everything=-4").startswith(
        "`seed_everything` must be an integer from 0 to 4294967295, got -4"
    )


def test_other_messages_are_left_as_they_are():
    assert explain_setting("`num_nodes` must be a positive integer, but got 0.") is None

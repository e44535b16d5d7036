import csv
import signal
import sys
from pathlib import Path

import pytest
import torch
import yaml

from weakseg_lightning import NetworkSpeed

ADM = ("fit", "--config", "recipes/adm/adm_grid.yaml")


@pytest.fixture(scope="module")
def trained(train, tiny) -> Path:
    """Folder in which two steps of ADM were run (the second with a latent labeling), and what the command printed."""
    return train(*ADM[1:], *tiny)


@pytest.fixture
def version(trained) -> Path:
    return trained / "runs" / "adm_grid-scenes" / "version_0"


@pytest.fixture
def best(version) -> str:
    return str(next(version.glob("checkpoints/epoch=*.ckpt")))


@pytest.fixture
def config(version) -> tuple[str, ...]:
    return ("--config", str(version / "config.yaml"), "--trainer.enable_progress_bar=false")


# ---- fit ----------------------------------------------------------------------------------------------------


def test_fit_fills_the_folder_of_the_run(version):
    assert (version / "checkpoints" / "last.ckpt").is_file()
    assert [path.name for path in version.glob("checkpoints/epoch=000-val_miou=0.*.ckpt")] != []
    assert list(version.glob("panels/*.png"))
    assert list(version.glob("tensorboard/events*"))
    with (version / "metrics.csv").open(encoding="utf-8") as file:
        columns = set(csv.DictReader(file).fieldnames or ())
    assert {"val_miou", "train_loss", "train_pce", "train_latent", "hook_solve_ms"} <= columns


def test_fit_says_how_to_test_the_best_checkpoint(trained, run, monkeypatch):
    monkeypatch.chdir(trained)
    lines = (trained / "printed.txt").read_text(encoding="utf-8").splitlines()
    assert lines[-4].startswith("Finished: val_miou 0.")
    command, predict = lines[-3].split(), lines[-1].split()
    assert command[:2] == ["weakseg", "test"]
    assert predict == ["weakseg", "predict", *command[2:]]
    assert run(*command[1:], "--trainer.enable_progress_bar=false")[0] == 0


def test_the_saved_configuration_is_complete_and_starts_afresh(version):
    saved = yaml.safe_load((version / "config.yaml").read_text(encoding="utf-8"))
    assert saved["model"]["init_args"]["network"]["init_args"]["encoder_weights"] is None
    assert "num_classes" not in saved["model"]["init_args"]
    assert saved["ckpt_path"] is None
    assert saved["name"] == "adm_grid-scenes"


def test_runs_are_numbered_and_named(run, tiny):
    for _ in range(2):
        assert run("fit", "--config", "pce", *tiny, "--name=mine", "--trainer.logger=false")[0] == 0
    assert sorted(path.name for path in Path("runs/mine").iterdir()) == ["version_0", "version_1"]


def test_the_users_own_callbacks_and_logger_replace_the_defaults(run, tiny):
    own = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.dirpath=mine", "--trainer.logger=CSVLogger"]
    status, _, _ = run(*ADM, *tiny, *own, "--trainer.logger.save_dir=logs", "--panels.num_images=1")
    assert status == 0
    assert [path.name for path in Path("mine").iterdir()] == ["epoch=0-step=2.ckpt"]
    assert list(Path("logs").rglob("metrics.csv"))
    assert not list(Path("runs").rglob("*.ckpt"))
    assert not list(Path("runs").rglob("metrics.csv"))
    assert list(Path("runs").rglob("config.yaml"))


def test_without_checkpoints_and_loggers_there_is_still_a_folder(run, tiny):
    status, out, _ = run(*ADM, *tiny, "--trainer.logger=false", "--trainer.enable_checkpointing=false")
    assert status == 0
    assert "weakseg test" not in out
    assert list(Path("runs").rglob("panels/*.png"))


def test_the_progress_bar_counts_the_steps_that_end_the_run(run, tiny):
    status, out, _ = run(*ADM, *tiny, "--trainer.enable_progress_bar=true", "--trainer.logger=false")
    assert status == 0
    assert "Epoch 0 " in out
    assert "2/2" in out
    assert "val_miou" in out
    assert "-2" not in out  # Lightning's name for the last of endless epochs


def test_fast_dev_run_writes_nothing(run, tiny):
    assert run(*ADM, *tiny, "--trainer.fast_dev_run=true")[0] == 0
    assert not Path("runs").exists()


def test_the_command_line_overrides_a_recipe_that_stands_after_it(run, tiny):
    status, _, err = run("fit", "--model.gamma=-1", "--config", "recipes/adm/adm_grid.yaml", *tiny)
    assert (status, err) == (2, "weakseg: error: ADMModule: `gamma` must be finite and at least 0, got -1.0\n")


def test_null_can_be_given_on_the_command_line(run, capsys):
    with pytest.raises(SystemExit):
        run(*ADM, "--model.network.encoder_weights", "null", "--model.solver.num_threads=null", "--print_config")
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["network"]["init_args"]["encoder_weights"] is None
    assert printed["model"]["init_args"]["solver"]["init_args"]["num_threads"] is None


OWN_CLASS = """
from weakseg_lightning import AlphaExpansion, GridPotts

class {name}(AlphaExpansion):
    calls = 0

    def __init__(self, potts: GridPotts = GridPotts(), patience: int = 1) -> None:
        super().__init__(potts)
        self.patience = patience

    def _solve(self, *args):
        type(self).calls += 1
        return super()._solve(*args)
"""


def test_a_users_class_in_the_working_directory_is_found_by_its_import_path(run, tiny):
    Path("my_solvers_1.py").write_text(OWN_CLASS.format(name="MySolver"))
    status, _, err = run(*ADM, *tiny, "--model.solver=my_solvers_1.MySolver", "--model.solver.patience=3")
    assert status == 0, err
    assert sys.modules["my_solvers_1"].MySolver.calls == 1
    status, _, err = run(*ADM, *tiny, "--model.solver=my_solvers_1.MySolver", "--model.solver.patiense=3")
    assert "MySolver: `patiense` is not an option; did you mean `patience`?" in err


INTERRUPTING = """
from lightning.pytorch import Callback

class Interrupting(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt
"""


def test_an_interrupted_run_says_how_to_continue(run, tiny):
    Path("interrupting.py").write_text(INTERRUPTING)
    handler = signal.getsignal(signal.SIGINT)
    try:
        more = ["--trainer.max_steps=8", "--trainer.callbacks+=interrupting.Interrupting"]
        status, _, err = run(*ADM, *tiny, *more)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores further interruptions
    assert status == 130
    assert "weakseg: interrupted" in err
    assert err.splitlines()[-1].split()[:2] == ["weakseg", "fit"]
    assert "--ckpt_path runs/adm_grid-scenes/version_0/checkpoints/last.ckpt" in err


# ---- checkpoints --------------------------------------------------------------------------------------------


def test_a_checkpoint_overrides_nothing(run, config, version):
    last = str(version / "checkpoints" / "last.ckpt")
    changes = ["--model.gamma=3", "--model.solver.max_sweeps=2", "--trainer.max_steps=3", "--data.seed=5"]
    status, _, err = run("fit", *config, *changes, "--ckpt_path", last)
    assert status == 0, err
    folder = Path("runs/adm_grid-scenes/version_0")
    saved = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert saved["model"]["init_args"]["gamma"] == 3
    resumed = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert resumed["hyper_parameters"]["gamma"] == 3
    assert resumed["hyper_parameters"]["solver"]["init_args"]["max_sweeps"] == 2
    assert resumed["global_step"] == 3


def test_a_resumed_run_remembers_the_best_score(run, config, version, best):
    saved = torch.load(version / "checkpoints" / "last.ckpt", weights_only=True)
    states = [state for name, state in saved["callbacks"].items() if name.startswith("BestCheckpoint")]
    assert states[0]["best_k_models"].keys() == {best}
    unbeaten = torch.tensor(2.0)
    states[0].update(best_model_score=unbeaten, kth_value=unbeaten, best_k_models={best: unbeaten})
    torch.save(saved, "resumed.ckpt")
    status, out, err = run("fit", *config, "--trainer.max_steps=3", "--ckpt_path", "resumed.ckpt")
    assert status == 0, err
    assert "Finished: val_miou 2.0000" in out
    assert best in out
    assert Path(best).is_file()


@pytest.mark.parametrize("command", ["test", "predict"])
def test_without_a_checkpoint_nothing_is_tested_or_predicted(run, command, tiny):
    status, _, err = run(command, "--config", "recipes/baselines/pce.yaml", *tiny)
    assert status == 2
    assert err == f"weakseg: error: `weakseg {command}` needs a trained network: add --ckpt_path FILE\n"


def test_the_newest_checkpoint_is_suggested(refused, tiny, trained, monkeypatch):
    monkeypatch.chdir(trained)
    told = refused("test", "--config", "recipes/baselines/pce.yaml", *tiny)
    assert "; the newest of all runs is runs/adm_grid-scenes/version_0/checkpoints/" in told


def test_the_newest_checkpoint_of_the_run_that_is_named_comes_first(refused, version, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = Path("runs/other/version_0/checkpoints/last.ckpt")
    other.parent.mkdir(parents=True)
    other.touch()
    told = f"; the newest of this run is {version / 'checkpoints'}/"
    assert told in refused("test", "--config", str(version / "config.yaml"))
    mistyped = version / "checkpoints" / "lost.ckpt"
    assert told in refused("test", "--config", "recipes/baselines/pce.yaml", "--ckpt_path", str(mistyped))


def test_a_folder_is_no_checkpoint(refused, version):
    assert f"name {version / 'checkpoints' / 'last.ckpt'}" in refused("export", str(version))


def test_a_run_without_steps_left_says_so(run, config, version):
    last = str(version / "checkpoints" / "last.ckpt")
    status, _, err = run("fit", *config, "--ckpt_path", last)
    assert status == 0
    assert "so that no training is left: raise --trainer.max_steps to train longer" in err


def test_validate_without_a_checkpoint_warns(run, config):
    status, _, err = run("validate", *config)
    assert status == 0
    assert "weakseg: warning: no --ckpt_path" in err


@pytest.mark.parametrize("name", ["best", "last"])
def test_names_that_only_a_running_trainer_knows_are_refused(refused, config, name):
    assert f"`--ckpt_path {name}` names no file" in refused("test", *config, "--ckpt_path", name)


def test_a_missing_checkpoint_is_named(refused, config):
    assert refused("test", *config, "--ckpt_path", "nosuch.ckpt").startswith("no checkpoint `nosuch.ckpt` (looked in ")


def test_a_file_that_is_no_checkpoint_is_refused(refused, config):
    Path("text.ckpt").write_text("no checkpoint")
    torch.save({"weight": torch.zeros(1)}, "weights.ckpt")
    torch.save({"pytorch-lightning_version": "2.6", "code": print}, "code.ckpt")
    told = {
        "text": "is no checkpoint, or a damaged one",
        "weights": "is no checkpoint of a whole run",
        "code": "holds code",
    }
    for name, text in told.items():
        assert text in refused("test", *config, "--ckpt_path", f"{name}.ckpt")


def test_a_checkpoint_of_another_network_is_refused_in_words(refused, config, best):
    assert "the checkpoint is of another network" in refused(
        "test", *config, "--ckpt_path", best, "--model.network.decoder_channels=32"
    )


def test_test_writes_into_the_folder_of_its_run(run, config, version, best):
    before = len(list(version.glob("test*")))
    status, out, _ = run("test", *config, "--ckpt_path", best)
    assert status == 0
    assert "test_miou" in out
    assert len(list(version.glob("test*/metrics.csv"))) == before + 1


def test_test_writes_curves_of_the_trimap(run, config, version, best):
    before = set(version.glob("test*"))
    options = ["--trimap.definition=boundary", "--trimap.max_width=7"]
    status, out, _ = run("test", *config, "--ckpt_path", best, *options)
    assert status == 0
    assert "test_trimap_boundary_miou_5" in out
    (folder,) = set(version.glob("test*")) - before
    lines = (folder / "trimap.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [[str(width), "boundary"] for width in range(1, 8)]
    assert (folder / "trimap.png").stat().st_size > 1000


def test_wrong_trimap_width_is_refused_in_words(refused, config, best):
    assert "`max_width` must be between 1 and 254, got 300" in refused(
        "test", *config, "--ckpt_path", best, "--trimap.max_width=300"
    )


def test_predict_writes_pictures(run, config, version, best):
    status, _, err = run("predict", *config, "--ckpt_path", best)
    assert status == 0, err
    assert len(list(version.glob("predict/labels/*.png"))) == 2
    assert len(list(version.glob("predict/overlays/*.jpg"))) == 2


def test_predict_into_a_folder_of_choice(run, config, best):
    options = ["--predictions.output_dir=here", "--predictions.overlays=false"]
    assert run("predict", *config, "--ckpt_path", best, *options)[0] == 0
    assert [path.name for path in Path("here").iterdir()] == ["labels"]


# ---- speed --------------------------------------------------------------------------------------------------


def test_speed_is_an_option_of_every_command(run, tiny):
    seen = []

    class Noted(NetworkSpeed):
        def setup(self, trainer, pl_module, stage):
            super().setup(trainer, pl_module, stage)
            weights = [
                weight for weight in pl_module.parameters() if weight.ndim == 4 and weight[0].numel() > len(weight[0])
            ]
            seen.append(all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("weakseg_lightning.cli.command.NetworkSpeed", Noted)
        assert run(*ADM, *tiny, "--speed.channels_last=true", "--name=fast")[0] == 0
    folder = Path("runs/fast/version_0")
    assert yaml.safe_load((folder / "config.yaml").read_text())["speed"] == {"channels_last": True, "compile": None}
    assert seen == [True]
    config = ("--config", str(folder / "config.yaml"), "--ckpt_path", str(folder / "checkpoints/last.ckpt"))
    for command in ("validate", "test", "predict"):
        assert run(command, *config, "--trainer.enable_progress_bar=false", "--speed.compile=default")[0] == 0


def test_a_missing_compiler_is_an_error_of_one_line(run, tiny, monkeypatch):
    def fail(*given, **options):
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", fail)
    status, _, err = run(*ADM, *tiny, "--speed.compile=default")
    assert status == 2
    assert "weakseg: error: `compile`: PyTorch cannot compile here (No working C++ compiler found); install" in err
    assert not list(Path("runs").rglob("*.ckpt"))

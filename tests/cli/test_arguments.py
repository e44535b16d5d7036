"""What stands wrongly on the command line is told with what may stand there, in one line."""

import pytest

CLASSES = {
    "--model ADMModul": "`model`: `ADMModul` is no WeakSegModule; did you mean `ADMModule`?",
    "--model admmodule": "`model`: `admmodule` is no WeakSegModule; did you mean `ADMModule`?",
    "--model weakseg_lightning.ADMModul": "cannot import `weakseg_lightning.ADMModul`: weakseg_lightning has no "
    "ADMModul; did you mean `ADMModule`?",
    "--model.help ADMModul": "`model`: `ADMModul` is no WeakSegModule; did you mean `ADMModule`?",
    "--model.solver.help AlphaExpantion": "ADMModule: `solver`: `AlphaExpantion` is no Solver; "
    "did you mean `AlphaExpansion`?",
    "--model 5": "`model`: `5` is no WeakSegModule (there are ADMModule, ",
    "--model nosuch.yaml": "`model`: there is no file nosuch.yaml ",
    "--data FolderDataModul": "`data`: `FolderDataModul` is no SegmentationDataModule; "
    "did you mean `FolderDataModule`?",
    "--model.network SMPNet": "ADMModule: `network`: `SMPNet` is no Network; did you mean `SMPNetwork`?",
    "--model.solver AlphaExpantion": "ADMModule: `solver`: `AlphaExpantion` is no Solver; "
    "did you mean `AlphaExpansion`?",
    "--model.regularizer GridPots": "ADMModule: `regularizer` is not an option (there are network, ",
    "--model RegularizedLossModule --model.regularizer GridPots": "RegularizedLossModule: `regularizer`: `GridPots` "
    "is no Regularizer; did you mean `GridPottsLoss`?",
    "--trainer.logger TensorBoard": "`trainer.logger`: `TensorBoard` is no Logger; did you mean `TensorBoardLogger`?",
    "--trainer.logger [CSVLogger,TensorBord]": "`trainer.logger`: `TensorBord` is no Logger; "
    "did you mean `TensorBoardLogger`?",
    "--trainer.callbacks EarlyStop": "`trainer.callbacks`: `EarlyStop` is no Callback; did you mean `EarlyStopping`?",
    "--trainer.callbacks+ EarlyStop": "`trainer.callbacks`: `EarlyStop` is no Callback; did you mean `EarlyStopping`?",
    "--trainer.callbacks [EarlyStop]": "`trainer.callbacks`: `EarlyStop` is no Callback; did you mean `EarlyStopping`?",
    "--trainer.callbacks EarlyStopping": "EarlyStopping: `monitor` must be given",
    "--trainer.callbacks foo.Bar": "cannot import `foo.Bar`: No module named 'foo' ",
    "--refine MeanFeld": "`refine`: `MeanFeld` is no Refinement; did you mean `MeanField`?",
    "--model.optimizer adam": "ADMModule: `optimizer` has options of its own, as `optimizer.algorithm`, ",
    "--trainer fast": "`trainer` has options of its own, as `trainer.accelerator`, ",
}
OPTIONS = {
    "--modle ADMModule": "`--modle` is not an option; did you mean `--model`?",
    "--optimizer Adam": "`--optimizer` is not an option; did you mean `--model.optimizer`?",
    "--lr 0.1": "`--lr` is not an option; did you mean `--model.optimizer.lr`?",
    "--max_steps 7": "`--max_steps` is not an option; did you mean `--trainer.max_steps`?",
    "--batch_size 7": "`--batch_size` is not an option; did you mean `--data.batch_size`?",
    "--epochs 7": "`--epochs` is not an option; did you mean `--trainer.max_epochs`?",
    "--trainer.batch_size 7": "`--trainer.batch_size` is not an option; did you mean `--data.batch_size`?",
    "--data.supervison box": "VOCDataModule: `supervison` is not an option; did you mean `supervision`?",
    "--model.max_steps 7": "ADMModule: `max_steps` is not an option (there are network, ",
    "--name": "`--name` needs a value",
}
VALUES = {
    "--data.supervision scribbles": "VOCDataModule: `supervision` must be full, scribble, point, tags or box, "
    "got 'scribbles'",
    "--trainer.precision 8": "`trainer.precision` must be 64, 32, 16, transformer-engine, transformer-engine-float16, "
    "16-true, 16-mixed, bf16-true, bf16-mixed, 32-true, 64-true, bf16 or null, got '8'",
    "--seed_everything abc": "`seed_everything` must be true, false or an integer, got 'abc'",
    "--trainer.max_steps ten": "`trainer.max_steps` must be an integer, got 'ten'",
    "--trainer.max_epochs 0.5": "`trainer.max_epochs` must be an integer or null, got '0.5'",
    "--trainer.gradient_clip_val a": "`trainer.gradient_clip_val` must be an integer, a number or null, got 'a'",
    "--trainer.deterministic 3": "`trainer.deterministic` must be true, false, warn or null, got '3'",
    "--data.flip maybe": "VOCDataModule: `flip` must be true or false, got 'maybe'",
    "--data.scale_range 2": "VOCDataModule: `scale_range` must be a list of 2 (a number, a number), got '2'",
    "--data.size_thresholds a": "VOCDataModule: `size_thresholds` must be a list (each a number), got 'a'",
    "--speed.compile fast": "`speed.compile` must be default, reduce-overhead, max-autotune or null, got 'fast'",
    "--model.solver.potts {class_path: Foo}": "ADMModule > AlphaExpansion: `class_path: Foo` stands where only "
    "options of GridPotts may: leave it out",
}


@pytest.mark.parametrize(("words", "expected"), (CLASSES | OPTIONS | VALUES).items())
def test_the_command_line_names_what_stands_there_and_what_may(refused, words, expected):
    option, *value = words.split(" ", 1) if "{" in words else words.split(" ")
    told = refused("fit", "--config", "recipes/adm/adm_grid.yaml", option, *value)
    assert told.startswith(expected)
    assert "adm_grid.yaml, line" not in told  # what stands on the command line stands in no recipe


@pytest.mark.parametrize(("words", "expected"), CLASSES.items())
def test_a_misspelt_class_is_told_as_in_a_recipe(refused, words, expected):
    """The same words, `=` in place of a blank."""
    *before, option, value = words.split(" ")
    assert refused("fit", "--config", "recipes/adm/adm_grid.yaml", *before, f"{option}={value}").startswith(expected)

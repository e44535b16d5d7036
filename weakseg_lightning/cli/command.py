"""The command itself: LightningCLI with this package's defaults and manners."""

import logging
import os
import re
import sys
import warnings
from math import isfinite
from pathlib import Path
from shlex import quote
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning_utilities.core.rank_zero import rank_zero_only
from typing_extensions import override

# Importing them makes the classes known by their short names in recipes.
from weakseg_lightning import losses, networks, solvers  # noqa: F401
from weakseg_lightning.callbacks import CaseWriter, NetworkSpeed, PanelWriter, PredictionWriter, TrimapCurve
from weakseg_lightning.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from weakseg_lightning.callbacks.slurm import Requeue, checkpoint_of_job, sign
from weakseg_lightning.channels import Channels
from weakseg_lightning.cli import runs
from weakseg_lightning.cli.checkpoints import find_checkpoint
from weakseg_lightning.cli.commands.predict.command import ImageCommand
from weakseg_lightning.cli.commands.predict.options import ImageOptions
from weakseg_lightning.cli.commands.predict.placed import place_run
from weakseg_lightning.cli.errors.given import Arguments
from weakseg_lightning.cli.errors.settings import check_settings
from weakseg_lightning.cli.recipes import given_configs
from weakseg_lightning.data import (  # noqa: F401 - as above
    FolderDataModule,
    ImageNetDogDataModule,
    MapDataModule,
    ScenesDataModule,
    SegmentationDataModule,
    VOCDataModule,
)
from weakseg_lightning.errors import UserError, raise_as_users
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.modules.core.checkpoint_io import channels_in
from weakseg_lightning.modules.core.class_names import OPTION
from weakseg_lightning.modules.core.resuming import read_checkpoint
from weakseg_lightning.solvers import Refinement

_CHECKPOINT_DEFAULTS = {
    "monitor": "val_miou",
    "mode": "max",
    "filename": "{epoch:03d}-{val_miou:.4f}",
    "auto_insert_metric_name": True,
}
_NOT_THE_USERS_CONCERN = (
    "`isinstance.treespec, LeafSpec.` is deprecated",  # Lightning's own code with a newer torch
    "Be aware that when using `ckpt_path`, callbacks used to create",  # testing needs none of training's
)


class _Parser(LightningArgumentParser):
    """LightningCLI's parser that knows `null` also below a class."""

    @override
    def parse_args(self, args: Any = None, *rest: Any, **options: Any) -> Any:
        # jsonargparse hands the value of `--model.network.dropout null` on to the network's parser as the text `None`.
        words = None if args is None else [re.sub("^(--[^=]+=)None$", r"\1null", word) for word in args]
        return super().parse_args(words, *rest, **options)


class WeakSegCLI(LightningCLI):
    """`weakseg fit | validate | test | predict`.

    Args:
        arguments: what the command was given; what it accepts is added, for error messages.
        started: notes whether the first batch has been reached, for error messages.
    """

    def __init__(self, arguments: Arguments, started: runs.BatchReached) -> None:
        self.arguments = arguments
        self.started = started
        self.folder: Path | None = None
        self.status = 0
        self._channels: Channels | None = None
        # Lightning still calls jsonargparse by names that are about to change: not the user's concern.
        os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
        logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_advertisement)
        super().__init__(
            WeakSegModule,
            SegmentationDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,  # ours, see `instantiate_trainer`, knows the run's folder
            trainer_defaults={"default_root_dir": "runs"},
            seed_everything_default=0,
            parser_class=_Parser,
            parser_kwargs={"prog": "weakseg", "exit_on_error": False, "allow_abbrev": False},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # the modules describe themselves, also when built in Python
            args=arguments.given,
        )

    # ---- parsing --------------------------------------------------------------------------------------------

    @override
    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # a static one
        """The subcommand that was given alone, as the parser of each takes long to build; all if it is unknown."""
        known: dict[str, set[str]] = LightningCLI.subcommands()
        given = self.arguments.given[0]
        return {given: known[given]} if given in known else known

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_instantiator(self._build, object)
        parser.add_argument("--name", type=str | None, default=None, help="Name of the run's folder below runs/.")
        refine = "Refines the labels of every evaluation and prediction, as --refine MeanField."
        parser.add_argument("--refine", type=Refinement | None, default=None, help=refine)
        other = "Use weights that were trained on classes of other names, or in another order, all the same."
        parser.add_argument(f"--{OPTION}", type=bool, default=False, help=other)
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        parser.add_lightning_class_args(PanelWriter, "panels")
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_lightning_class_args(TrimapCurve, "trimap")
        parser.add_lightning_class_args(NetworkSpeed, "speed")
        parser.add_class_arguments(ImageOptions, "images")
        parser.set_defaults({f"checkpoint.{name}": value for name, value in _CHECKPOINT_DEFAULTS.items()})
        parser.link_arguments("data", "model.init_args.num_classes", self._num_classes, apply_on="instantiate")

    @override
    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.set_defaults({"weights_only": True})
        if subcommand == "predict":
            parser.set_defaults({"return_predictions": False})  # they are on disk, no need to keep them in memory
        return parser

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        if command := self._subcommand_parsers.get(self.arguments.given[0]):
            self.arguments.learn(command)
        self.config = parser.parse_args(self.arguments.given)
        check_settings(self._section(self.config).as_dict(), self.arguments.types)

    @override
    def _parse_ckpt_path(self) -> None:
        """Leave the configuration alone: LightningCLI would override it with what the checkpoint was trained with."""

    def _num_classes(self, data: SegmentationDataModule) -> int:
        """The data's number of classes, unless a recipe says another; missing files are found out now."""
        if getattr(rank_zero_only, "rank", 0) == 0:
            # Before weights are downloaded and a network is built for nothing. Lightning repeats both, at no cost.
            with raise_as_users():
                self._set_channels(data)
                data.prepare_data()
                data.setup(self.command)
        self._channels = data.channels
        given = self._section(self.config)["model"]["init_args"].get("num_classes")
        if given not in (None, data.num_classes):
            raise UserError(
                f"`num_classes: {given}` conflicts with the data, which has {data.num_classes} classes; remove it, "
                "the number is taken from the data"
            )
        return data.num_classes

    def _set_channels(self, data: SegmentationDataModule) -> None:
        """Give data of several channels the statistics of the checkpoint, in place of those of their own images."""
        path = self._section(self.config)["ckpt_path"]
        if data.has_channels and path is not None and (saved := channels_in(read_checkpoint(path))) is not None:
            data.channels = saved  # type: ignore[misc]  # where there are channels, they can be set

    def _build(self, cls: type, *args: Any, **kwargs: Any) -> Any:
        """Build an object of the configuration, a network for the channels of the data; an error names its class."""
        with raise_as_users(cls.__name__):
            if self._channels is not None and issubclass(cls, WeakSegModule):
                kwargs["network"] = kwargs["network"].for_channels(*self._channels.normalization)
            return cls(*args, **kwargs)

    # ---- building -------------------------------------------------------------------------------------------

    @override
    def before_instantiate_classes(self) -> None:
        section = self._section(self.config)
        root, path = Path(section["trainer"]["default_root_dir"]), section.get("ckpt_path")
        if self.command == "fit" and path is None and (path := checkpoint_of_job(root / self._name())) is not None:
            _say(f"weakseg: this job was requeued, it goes on from {_shown(path)}")
        section["ckpt_path"] = find_checkpoint(self.command, path, root, [*given_configs(self.arguments.given)])
        if self.command == "fit" and section["ckpt_path"] is not None:
            runs.warn_if_done(section["ckpt_path"], section["trainer"]["max_steps"])
        if not self.arguments.images and any(word.startswith("--images.") for word in self.arguments.given):
            raise UserError("`--images` says how to predict IMAGES, and none are given: name files or folders")
        if self.command == "validate" and path is None:
            _say("weakseg: warning: no --ckpt_path, so that the untrained network is validated")

    @override
    def instantiate_classes(self) -> None:
        if self.arguments.images:
            return  # neither a trainer nor the files of the data set are needed
        super().instantiate_classes()
        self.model.refinement = self._section(self.config_init)["refine"]
        self.model.allow_other_classes = self._section(self.config_init)[OPTION]

    @override
    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        section = self._section(self.config_init)
        config = {**section["trainer"], **kwargs}
        if self.command == "fit" and not self.datamodule.has_validation:
            config["limit_val_batches"] = 0  # Lightning would warn of loaders without batches
        given = config["callbacks"] or []
        given = list(given) if isinstance(given, list) else [given]
        if not (config["fast_dev_run"] or config["barebones"]):
            root = Path(config["default_root_dir"])
            self.started.folder = runs.RunFolder.make(self.command, root, self._name(), section.get("ckpt_path"))
            self.folder = self.started.folder.path
            if config["logger"] in (None, True):
                config["logger"] = runs.default_loggers(self.folder, tensorboard=self.command == "fit")
            config["default_root_dir"] = str(self.folder)  # where callbacks write if there is no logger
        defaults = self._default_callbacks(config, given)
        config["callbacks"] = [self.started, *given, *runs.without_replaced(defaults, given)]
        try:
            return self.trainer_class(**config)
        except TypeError as error:  # of a setting's type, where the parser takes any
            raise MisconfigurationException(str(error)) from error

    def _default_callbacks(self, config: dict[str, Any], given: list[Callback]) -> list[Callback]:
        section = self._section(self.config_init)
        defaults: list[Callback] = [section["speed"]]
        if config["enable_progress_bar"] is not False and not any(isinstance(c, ProgressBar) for c in given):
            defaults.append(runs.ProgressBar())
        if self.command == "predict":
            writer = section["predictions"]
            writer.output_dir = writer.output_dir or (self.folder and str(self.folder))
            defaults.append(writer)
        if self.folder is None:
            return defaults
        defaults.append(runs.ConfigWriter(self.folder, self._saved_config()))
        if self.command == "test":
            defaults.append(section["trimap"])
        if self.command in ("validate", "test"):
            defaults.append(CaseWriter())
        if self.command == "fit":
            defaults += [section["panels"], runs.FinalValidation()]
        if self.command == "fit" and config["enable_checkpointing"] is not False:
            best, last = section["checkpoint"], section["last_checkpoint"]
            best.dirpath = best.dirpath or str((self.folder / "checkpoints").absolute())
            last.dirpath = last.dirpath or best.dirpath
            if not any(isinstance(callback, ModelCheckpoint) for callback in given):
                # Without validation there is no best one.
                defaults += [best, last] if self.datamodule.has_validation else [last]
                defaults.append(Requeue(last))
                sign(self.folder)
        return defaults

    def _name(self) -> str:
        """Name of the run: as given, else made of the recipes' names, as `adm_grid-scenes`."""
        if name := self._section(self.config)["name"]:
            return str(name)
        stems = [path.stem for path in given_configs(self.arguments.given)]
        return "-".join(stems) or self._section(self.config)["model"]["class_path"].rpartition(".")[2]

    def _saved_config(self) -> str:
        """The whole configuration as YAML, fit to repeat the run with."""
        section = self._section(self.config).clone()
        section["name"] = self._name()
        section[OPTION] = False  # it is about the weights of this command, and has to be given again for others
        if self.command == "fit":
            section["ckpt_path"] = None  # a repetition starts afresh, and `test` must ask for its checkpoint
        # `skip_none=False`: an option set to null against its default has to stay null.
        text: str = self._parser(self.command).dump(section, skip_none=False, skip_check=True)  # just parsed
        return text

    # ---- running --------------------------------------------------------------------------------------------

    @property
    def command(self) -> str:
        """The subcommand."""
        return str(self.config["subcommand"])

    def _section(self, config: Any) -> Any:
        return config[self.command]

    @override
    def _run_subcommand(self, subcommand: str) -> None:
        if self.arguments.images:
            command = ImageCommand(self._section(self.config), self.arguments.images, self.arguments.given)
            with raise_as_users():
                self.status = command.run(self._name, self._saved_config)
            return
        try:
            with warnings.catch_warnings():
                for message in _NOT_THE_USERS_CONCERN:
                    warnings.filterwarnings("ignore", message)
                super()._run_subcommand(subcommand)
        except SystemExit:  # Lightning's way to end after Ctrl-C
            if not self.trainer.interrupted:
                raise
            self.status = 130
            self._say_how_to_continue()
            self.started.undo()

    def after_fit(self) -> None:
        """Name the best checkpoint and the command that tests it."""
        best = self.trainer.checkpoint_callback
        path, score = getattr(best, "best_model_path", ""), getattr(best, "best_model_score", None)
        if self.folder is None or not path:
            return
        last = self.folder / "checkpoints" / "last.ckpt"
        without_masks = score is not None and not isfinite(float(score)) and last.is_file()
        path = last if without_masks else path
        arguments = f"--config {_shown(self.folder / 'config.yaml')} --ckpt_path {_shown(path)}"
        if without_masks or not self.datamodule.has_validation:
            told = f"Finished: results in {_shown(self.folder)}, without masks to validate by. To label images:"
            _say(told, sys.stdout)
        else:
            reached = "" if score is None else f"{getattr(best, 'monitor', 'score')} {float(score):.4f}, "
            _say(f"Finished: {reached}results in {_shown(self.folder)}. To test the best checkpoint:", sys.stdout)
            _say(f"  weakseg test {arguments}", sys.stdout)
            _say("To label images:", sys.stdout)
        images = self.datamodule.images_to_predict
        _say(f"  weakseg predict {arguments}{images and ' ' + _shown(Path(images))}", sys.stdout)

    def after_predict(self) -> None:
        """Give labels the places of their images, and name the command that shows the run that they are of."""
        place_run(self.trainer, self.datamodule, self.model.channels)
        run = Path(self._section(self.config)["ckpt_path"]).absolute().parent.parent
        if (run / "metrics.csv").is_file():
            _say("To see the run as a page:", sys.stdout)
            _say(f"  weakseg report {_shown(run)}", sys.stdout)

    def _say_how_to_continue(self) -> None:
        _say("weakseg: interrupted")
        if self.folder is not None and (last := self.folder / "checkpoints" / "last.ckpt").exists():
            config = _shown(self.folder / "config.yaml")
            _say("To continue from the last checkpoint:")
            _say(f"  weakseg fit --config {config} --ckpt_path {_shown(last)}")


def _shown(path: str | Path) -> str:
    """A path as one would type it."""
    absolute = Path(path).absolute()
    return quote(str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute))


@rank_zero_only
def _say(text: str, stream: Any = None) -> None:
    print(text, file=stream or sys.stderr, flush=True)


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "litlogger" not in record.getMessage() and "litmodels" not in record.getMessage()

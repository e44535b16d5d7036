from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from weakseg_lightning import hyperparameters
from weakseg_lightning.hyperparameters import describe, import_path, with_current_names


@dataclass(frozen=True)
class Settings:
    rate: float = 0.5
    shape: tuple[int, int] = (1, 2)


class Inner:
    def __init__(self, size: int = 3) -> None:
        self.size = size


@dataclass(frozen=True)
class Derived(Inner):
    size: int = 4


class Outer:
    def __init__(self, inner: Inner, settings: Settings, folder: Path, names: list[str]) -> None:
        self.inner = inner
        self.settings = settings
        self.folder = folder
        self.names = names


class Wide(Inner):
    def __init__(self, depth: int, **base: Any) -> None:
        super().__init__(**base)
        self.depth = depth


class Fixed(Wide):
    def __init__(self, color: str = "red", **base: Any) -> None:
        super().__init__(size=7, **base)
        self.color = color


class Forgetful:
    def __init__(self, size: int) -> None:
        self.length = size


def test_nested_objects_become_class_paths_and_plain_values() -> None:
    described = describe(Outer(Inner(5), Settings(), Path("a/b"), ["x"]))
    assert described["class_path"] == f"{__name__}.Outer"
    assert described["init_args"] == {
        "inner": {"class_path": f"{__name__}.Inner", "init_args": {"size": 5}},
        "settings": {"rate": 0.5, "shape": [1, 2]},
        "folder": "a/b",
        "names": ["x"],
    }


def test_a_dataclass_that_implements_a_base_class_is_written_with_its_class_path() -> None:
    inner = describe(Outer(Derived(), Settings(), Path(), []))["init_args"]["inner"]
    assert inner == {"class_path": f"{__name__}.Derived", "init_args": {"size": 4}}


def test_arguments_handed_to_a_base_are_its_own_and_those_that_a_subclass_fixes_are_none() -> None:
    assert describe(Wide(2, size=5))["init_args"] == {"depth": 2, "size": 5}
    assert describe(Fixed(depth=2))["init_args"] == {"color": "red", "depth": 2}


def test_argument_that_was_not_kept_is_named() -> None:
    with pytest.raises(AttributeError, match=r"Forgetful does not keep its argument `size`"):
        describe(Forgetful(3))


def test_function_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot be written to a checkpoint"):
        describe(Inner(size=print))  # type: ignore[arg-type]


def test_classes_of_the_package_are_written_by_their_public_names() -> None:
    import weakseg_lightning

    for name in ("ADMModule", "LargeFOV", "AlphaExpansion", "SizeBuckets", "LatentStore", "EqualAreas"):
        assert import_path(getattr(weakseg_lightning, name)) == f"weakseg_lightning.{name}"
    assert import_path(Inner) == f"{__name__}.Inner"


def test_paths_of_files_that_have_moved_become_public_names() -> None:
    old = {
        "_class_path": "weakseg_lightning.modules.adm.ADMModule",
        "solver": {
            "class_path": "weakseg_lightning.solvers.potts.alpha_expansion.AlphaExpansion",
            "init_args": {"x": 1},
        },
        "rules": [{"class_path": "weakseg_lightning.gone.long.ago.SizeBuckets"}],
        "other": {"class_path": "weakseg_lightning.solvers.potts.gco.GCO"},
        "network": {"class_path": "mine.networks.LargeFOV", "init_args": {"name": "weakseg_lightning.x.LargeFOV"}},
    }
    assert with_current_names(old) == {
        "_class_path": "weakseg_lightning.ADMModule",
        "solver": {"class_path": "weakseg_lightning.AlphaExpansion", "init_args": {"x": 1}},
        "rules": [{"class_path": "weakseg_lightning.SizeBuckets"}],
        "other": {"class_path": "weakseg_lightning.solvers.GCO"},
        "network": {"class_path": "mine.networks.LargeFOV", "init_args": {"name": "weakseg_lightning.x.LargeFOV"}},
    }
    assert with_current_names(with_current_names(old)) == with_current_names(old)


def test_a_class_that_is_gone_keeps_its_path_for_the_message() -> None:
    assert with_current_names({"class_path": "weakseg_lightning.gone.since.Gone"}) == {
        "class_path": "weakseg_lightning.gone.since.Gone"
    }


OLD_PATHS = """
constraints.boxes.BoundingBoxes constraints.rules.AreaBounds constraints.rules.SizeBuckets
constraints.rules.Suppression latents.LatentStore losses.area_priors.EqualAreas
losses.dense_crf.DenseCRFLoss losses.gated_crf.GatedCRFLoss losses.potts.GridPottsLoss
modules.adm.ADMModule modules.ccnn.CCNNModule modules.classifier.TagClassifierModule
modules.decompose.DecomposeReconstructModule modules.mil.MILModule modules.proposals.ProposalModule
modules.regularized.RegularizedLossModule modules.trust_region.TrustRegionModule networks.decomposition.SMPDecomposition
networks.large_fov.LargeFOV networks.smp.SMPNetwork networks.tags.TagNetwork
networks.unet.UNet solvers.adaptive_bias.AdaptiveBias solvers.alpha_expansion.AlphaExpansion
solvers.constrained.ConstrainedLatent solvers.grab_cut.GrabCut solvers.mean_field.MeanField
"""
"""Where checkpoints of the recipes, written before the files moved, say that their classes are."""


@pytest.mark.parametrize("path", OLD_PATHS.split())
def test_every_class_of_an_old_checkpoint_is_found(path: str) -> None:
    import weakseg_lightning

    (found,) = with_current_names({"class_path": f"weakseg_lightning.{path}"}).values()
    name = path.rpartition(".")[2]
    assert found == f"weakseg_lightning.{name}"
    assert getattr(weakseg_lightning, name).__name__ == name


def test_a_class_whose_source_changes_during_a_run_is_described_as_it_was(monkeypatch):
    class Deep(Wide):
        def __init__(self, depth: int, **base: Any) -> None:
            super().__init__(depth, **base)

    before = describe(Deep(2, size=5))["init_args"]
    assert before == {"depth": 2, "size": 5}
    monkeypatch.setattr(hyperparameters, "get_signature_parameters", lambda *_, **__: [])
    assert describe(Deep(2, size=5))["init_args"] == before

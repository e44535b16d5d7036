"""Recipes have the numbers of the papers and of the official code, and differ in nothing else."""

import pytest
from building import HERE, RECIPES, here, text_of, without, written

from weakseg_lightning.constraints import preset
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.losses import GatedCRFLoss, GaussianKernel
from weakseg_lightning.solvers import GrabCut


def test_the_decomposition_has_the_numbers_of_the_report(build):
    classifier, cli = (build(name, *here(name)) for name in ("decompose_dog_classifier", "decompose_dog"))
    for each in (classifier, cli):
        data = each.datamodule
        assert (data.num_positive, data.num_negative, data.val_fraction) == (1e4, 1e4, 0.2)
        assert (data.size, data.supervision) == (224, "tags")
        optimizer = each.model.optimizer
        assert (optimizer.algorithm, optimizer.lr, optimizer.momentum) == ("adamw", 1e-4, 0.9)
        assert (optimizer.weight_decay, optimizer.schedule) == (0, "constant"), "Adam"
        assert each.trainer.max_steps * each.datamodule.batch_size == 10 * 16_000
    assert (classifier.datamodule.batch_size, cli.datamodule.batch_size) == (32, 8)
    assert describe(classifier.model.network)["init_args"]["encoder"] == cli.model.classifier.encoder == "resnet18"
    assert type(cli.model.network).__name__ == "UNet"
    assert (cli.model.recon_weight, cli.model.mask_weight, cli.model.cls_weight) == (1, 1e-3, 1e-3)
    assert (cli.model.variant, cli.model.classifier_input, cli.model.asked_classes) == ("report", "imagelets", "all")
    assert cli.model.area_prior is None
    assert cli.model.absence.weight == classifier.model.parts_weight == 0


def test_adm_has_the_numbers_of_the_paper(build):
    cli = build("adm_grid", *HERE)
    model, data = cli.model, cli.datamodule
    assert (model.solver.potts.weight, model.solver.unary_weight, model.solver.max_sweeps) == (80, 1, 5)
    assert (model.gamma, model.labels, model.hard_seeds, model.latent_pixels) == (1.5, "seeds", True, "unlabelled")
    assert (cli.trainer.max_steps, model.pce_fraction) == (18_000, 0.5)
    assert (model.pce_optimizer.lr, model.optimizer.lr) == (1e-3, 1e-4)
    assert {(o.schedule, o.step_every, o.step_factor) for o in (model.pce_optimizer, model.optimizer)} == {
        ("step", 3000, 0.1)
    }
    assert (data.crop_size, data.batch_size, data.supervision, data.train_split) == (321, 20, "scribble", "train_aug")


def test_the_released_layer_differs_in_four_ways(build):
    paper, released = (build(name, *HERE).model for name in ("adm_grid", "adm_grid_released"))
    assert (released.labels, released.hard_seeds, released.latent_pixels) == ("all", False, "all")
    assert (paper.solver.start, released.solver.start) == ("coarse", "zeros")
    assert released.solver.potts == paper.solver.potts


def test_the_baselines_share_network_data_and_schedule_with_adm(build):
    adm, *others = (build(name, *HERE) for name in ("adm_grid", "pce", "grid_gd", "full"))
    for other in others:
        assert other.trainer.max_steps == adm.trainer.max_steps
        assert (other.model.optimizer, other.model.pce_optimizer) == (adm.model.optimizer, adm.model.pce_optimizer)
        assert vars(other.model.network) == vars(adm.model.network)
        assert (other.datamodule.crop_size, other.datamodule.batch_size) == (321, 20)
    pce, grid_gd, full = (other.model for other in others)
    assert pce.regularizer is full.regularizer is None
    # 3.5 times the batch size, less what their mean over the edges loses to padding (tests/losses/test_potts.py)
    assert (grid_gd.regularizer.potts.weight, grid_gd.regularizer.relaxation) == (68.7, "bilinear")
    assert 0.98 < grid_gd.regularizer.potts.weight / (3.5 * others[1].datamodule.batch_size) < 1
    assert (full.supervision, others[2].datamodule.supervision) == ("mask", "full")


def test_dense_adm_differs_from_adm_in_its_solver_alone(build):
    assert without("dense_adm", "solver") == without("adm_grid", "solver")
    assert written("dense_adm")["model"]["init_args"]["solver"]["class_path"] == "MeanField"
    built = build("dense_adm", *HERE).model.solver
    assert (built.bilateral_sigma_xy, built.bilateral_sigma_rgb, built.spatial_weight) == (100, 15, 0)


@pytest.mark.parametrize("name", ["dense_gd", "gated_crf"])
def test_the_other_regularizers_differ_from_grid_gd_in_nothing_else(name):
    assert without(name, "regularizer") == without("grid_gd", "regularizer")


def test_dense_gd_is_as_strong_as_published(build):
    """A weight times the square of the number of cells, beside the mean cross-entropy, both times."""
    cli = build("dense_gd", *HERE)
    loss, crop = cli.model.regularizer, cli.datamodule.crop_size
    assert (loss.sigma_rgb, loss.sigma_xy, loss.scale) == (15, 100, 0.5)
    strength = loss.weight * (crop * loss.scale) ** 4
    assert strength == pytest.approx(1e-8 * 321**4, rel=0.01)
    assert strength == pytest.approx(2e-9 * 12 * (513 / 2) ** 4, rel=0.03)


def test_the_gated_crf_has_the_published_numbers(build):
    loss = build("gated_crf", *HERE).model.regularizer
    assert describe(loss) == describe(GatedCRFLoss(kernels=[GaussianKernel()]))


def test_resnet101_has_the_numbers_of_the_paper(build):
    model = build("adm_grid_resnet101", *HERE).model
    assert (model.network.encoder, model.pce_optimizer.lr, model.optimizer.lr) == ("resnet101", 2.5e-4, 1.5e-4)
    assert {(o.schedule, o.power) for o in (model.pce_optimizer, model.optimizer)} == {("poly", 0.9)}


def test_networks_of_the_paper(build):
    vgg16, msc, grid = (build(f"adm_grid{name}", *HERE) for name in ("_vgg16", "_msc_largefov", ""))
    assert list(vgg16.model.network.dilations) == [6, 12, 18, 24]
    assert (vgg16.model.network.multi_scale, msc.model.network.multi_scale) == (False, True)
    assert list(msc.model.network.dilations) == list(grid.model.network.dilations) == [12]
    assert (vgg16.model.pce_optimizer.lr, vgg16.model.optimizer.lr) == (1e-3, 5e-4)
    assert round(vgg16.trainer.max_steps * vgg16.model.pce_fraction) == 20_000
    for cli in (vgg16, msc):
        assert describe(cli.model.solver) == describe(grid.model.solver)
        assert (cli.model.gamma, cli.datamodule.crop_size) == (1.5, 321)


def test_proposals_share_network_data_and_iterations_with_adm(build):
    adm, proposals = (build(name, *HERE) for name in ("adm_grid", "proposals"))
    assert vars(proposals.model.network) == vars(adm.model.network)
    assert proposals.trainer.max_steps == adm.trainer.max_steps
    assert (proposals.datamodule.batch_size, proposals.datamodule.supervision) == (20, "scribble")
    assert proposals.model.pce_fraction == 0
    assert describe(proposals.model.solver) == describe(GrabCut())


TRUST_REGION = {  # published, by scribble length: the recipe, eps with 21 classes, lambda
    1.0: ("trust_region_grid", 0.944, 0.05),
    0.8: ("trust_region_grid_80", 0.946, 0.075),
    0.5: ("trust_region_grid_50", 0.9514, 0.1),
    0.3: ("trust_region_grid_30", 0.9516, 0.1),
    0.0: ("trust_region_grid_clicks", 0.9522, 0.1),
}


@pytest.mark.parametrize("length", TRUST_REGION)
def test_trust_region_has_the_published_eps_and_lambda_of_each_length(build, length):
    name, eps, weight = TRUST_REGION[length]
    cli = build(name, *HERE)
    assert cli.model.robust_loss.eps == pytest.approx(eps, abs=5e-6)
    assert cli.model.solver.unary_weight == weight
    assert cli.datamodule.scribble_length == length
    changed = ("eps", "solver", "data.scribble_length")
    assert without(name, *changed) == without("trust_region_grid", *changed), "nothing else differs"


def test_trust_region_has_the_numbers_of_the_paper(build):
    cli = build("trust_region_grid", *HERE)
    model, data = cli.model, cli.datamodule
    potts = model.solver.potts
    assert (potts.weight, potts.connectivity, potts.normalize_edges) == (100, 8, True)
    assert (model.solver.max_sweeps, model.solver.start, model.warm_start) == (5, "zeros", True)
    assert (model.epochs_per_cycle, model.labels, model.normalizer) == (5, "seeds", "seeds")
    # the first phase: 7e-3 and 5e-4 on a loss that is divided by 12 once more (tests/modules/test_optimization.py)
    assert (model.optimizer.lr, model.pce_optimizer.lr) == (7e-4, pytest.approx(7e-3 / 12, rel=1e-3))
    assert (model.optimizer.weight_decay, model.pce_optimizer.weight_decay) == (5e-4, pytest.approx(12 * 5e-4))
    assert (model.optimizer.head_lr_factor, model.pce_optimizer.head_lr_factor) == (10, 10)
    assert (model.network.encoder, model.network.output_stride) == ("mobilenet_v2", 16)
    assert (data.crop_size, data.batch_size, data.train_split) == (513, 12, "train_aug")
    assert cli.trainer.max_steps == 120 * (10_582 // 12)


def test_the_network_of_trust_region_is_not_quite_the_authors(build):
    """The recipe says by how much: smp's last block has 1,280 channels and separable convolutions behind it."""
    model = build("trust_region_grid", *HERE).model
    head = {id(parameter) for parameter in model.net.head_parameters()}
    sizes = [(id(parameter) in head, parameter.numel()) for parameter in model.net.parameters()]
    everything, encoder = sum(size for _, size in sizes), sum(size for in_head, size in sizes if not in_head)
    assert (everything, encoder) == (4_383_653, 2_223_872)
    text = text_of("trust_region_grid")
    for number in (everything, encoder, 5_816_053, 1_811_712):
        assert f"{number:,}" in text


PRESETS = {
    "ccnn_tags": "tags",
    "ccnn_tags_size": "tags_size",
    "ccnn_size_released": "tags_size_released",
    "ccnn_boxes": "boxes",
    "ccnn_random_crops": "random_crops",
    "ccnn_semi": "tags_size",
}


@pytest.mark.parametrize("name", PRESETS)
def test_constraints_of_a_recipe_are_those_of_its_preset(build, name):
    model = build(name, *HERE).model
    assert list(map(describe, model.constraints)) == list(map(describe, preset(PRESETS[name])))
    assert model.solver.hardness == (1000 if name == "ccnn_size_released" else 1)


def test_constrained_cnns_have_the_numbers_of_the_paper(build):
    for name in (*PRESETS, "em_adapt", "mil"):
        cli = build(name, *HERE)
        optimizer = cli.model.optimizer
        assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (1e-6, 0.99, 5e-7)
        assert (optimizer.schedule, optimizer.step_every, optimizer.step_factor) == ("step", 20_000, 0.1)
        assert cli.trainer.max_steps == (35_000 if name == "ccnn_size_released" else 60_000)
        assert (cli.model.map_stride, cli.datamodule.batch_size, cli.model.pce_fraction) == (8, 1, 0)
        assert cli.datamodule.supervision == ("box" if name == "ccnn_boxes" else "tags")
        assert cli.datamodule.tags_from == ("crop" if name == "ccnn_random_crops" else "image")
        assert cli.datamodule.full_fraction == (0.1 if name == "ccnn_semi" else 0)


CAFFE = [*(name for name in RECIPES if name.startswith("adm_grid")), "dense_adm", "proposals"]
CAFFE += ["pce", "full", "grid_gd", "dense_gd", "gated_crf"]


@pytest.mark.parametrize("name", RECIPES)
def test_biases_learn_as_in_caffe_where_the_authors_use_it(build, name):
    model = build(name, *here(name)).model
    for settings in filter(None, (model.optimizer, model.pce_optimizer)):
        assert (settings.bias_lr_factor, settings.decay_biases) == ((2, False) if name in CAFFE else (1, True))
        assert name not in CAFFE or settings.head_lr_factor == 10


@pytest.mark.parametrize("overlay", ["data/scenes", "hardware/cpu"])
def test_overlays_with_networks_of_their_own_leave_caffe_behind(build, overlay):
    model = build("adm_grid", overlay, *HERE).model
    for settings in (model.optimizer, model.pce_optimizer):
        assert (settings.bias_lr_factor, settings.decay_biases) == (1, True)

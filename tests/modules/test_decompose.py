from collections import defaultdict

import pytest
import torch
from discs import CLASSES, DiscData, Discs, TinyDecomposition, TinyTags
from lightning.pytorch.callbacks import LambdaCallback
from small_runs import quiet_trainer
from torch import nn
from torch.utils.data import default_collate

from weakseg_lightning import load_module
from weakseg_lightning.losses import EqualAreas, FileAreas, absence_loss, imagelet_loss, mask_loss, reconstruction_loss
from weakseg_lightning.modules import AbsencePenalty, DecomposeReconstructModule, Optimizer, TagClassifierModule
from weakseg_lightning.modules.frozen import load_classifier

FAST = Optimizer("adamw", 1e-2, 0.9, 0.0, 1.0, "constant")
NAMES = ["background", "disc", "square"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A classifier of discs and squares that was trained for a second."""
    torch.manual_seed(0)
    module = TagClassifierModule(TinyTags("tiny", None), CLASSES, parts_weight=0.5, optimizer=FAST)
    path = tmp_path_factory.mktemp("classifier") / "last.ckpt"
    trainer = quiet_trainer(path.parent, max_epochs=12)
    trainer.fit(module, DiscData())
    trainer.save_checkpoint(path)
    return str(path)


def make(checkpoint=None, **arguments):
    arguments = {"optimizer": FAST} | arguments
    return DecomposeReconstructModule(TinyDecomposition(), CLASSES, TinyTags("tiny", None), checkpoint, **arguments)


def some_batch(size=8):
    torch.manual_seed(0)
    return {
        "image": torch.rand(2, 3, size, size),
        "valid": torch.ones(2, size, size, dtype=torch.bool),
        "tags": torch.tensor([[True, True, False], [True, False, True]]),
        "id": ["cat_1", "dog_2"],
    }


def discs(*indices):
    return default_collate([Discs(64)[index] for index in indices])


def terms_of(module, batch):
    return module.loss_terms(module.training_logits(batch), batch)


# ---- the loss ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["report", "released"])
def test_the_loss_is_the_weighted_sum_of_its_terms(variant):
    module, batch = make(variant=variant, recon_weight=2.0, mask_weight=3.0, cls_weight=5.0).eval(), some_batch()
    logits, imagelets = module.net.decompose(batch["image"])
    masks = logits.softmax(1)
    parts = masks[:, :, None] * imagelets
    said = torch.stack([module.g(parts[:, k]) for k in range(CLASSES)], 1)
    found = terms_of(module, batch)
    assert list(found) == ["recon", "mask", "cls"]
    torch.testing.assert_close(
        found["recon"], 2 * reconstruction_loss(masks, imagelets, batch["image"], batch["valid"])
    )
    torch.testing.assert_close(found["mask"], 3 * mask_loss(masks, batch["tags"], batch["valid"], variant))
    torch.testing.assert_close(found["cls"], 5 * imagelet_loss(said, batch["tags"], variant))


def test_g_can_be_asked_about_parts_of_the_image():
    module, batch = make(cls_weight=1.0, classifier_input="input").eval(), some_batch()
    masks = module.net(batch["image"]).softmax(1)
    said = torch.stack([module.g(masks[:, k, None] * batch["image"]) for k in range(CLASSES)], 1)
    torch.testing.assert_close(terms_of(module, batch)["cls"], imagelet_loss(said, batch["tags"]))


def test_painted_imagelets_satisfy_g_with_masks_that_say_nothing_and_parts_of_the_image_do_not(checkpoint):
    """Why `classifier_input: input`: equal masks, each per-class image holds its own object alone, so much brighter."""
    module, batch = make(checkpoint, cls_weight=1.0), discs(3, 7, 11)
    load_classifier(module.g.module, module.classifier, checkpoint, CLASSES)
    even = torch.full((3, CLASSES, 32, 32), 1 / CLASSES)
    gray = batch["image"].mean((1, 2, 3), keepdim=True)
    shown = [torch.where((batch["mask"] == k)[:, None], batch["image"], gray) for k in range(CLASSES)]
    painted = (CLASSES * torch.stack(shown, 1)).clamp(0, 3)
    values = {}
    for shown in ("imagelets", "input"):
        module.classifier_input = shown
        values[shown] = float(module._imagelet_loss(even, painted, batch))
    assert values["imagelets"] < 0.7 * values["input"]


def test_absent_classes_need_not_be_asked_about():
    batch = some_batch()
    whole, part = (make(cls_weight=1.0, asked_classes=asked).eval() for asked in ("all", "present"))
    calls = []
    part.g.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    smaller = terms_of(part, batch)["cls"]
    assert calls == [4], "background and one class of two images"
    assert 0 < smaller < terms_of(whole, batch)["cls"]


def test_padding_counts_nowhere():
    module, batch = make(mask_weight=1.0, cls_weight=1.0, absence=AbsencePenalty(1.0)).eval(), some_batch(8)
    batch["valid"][..., 4:] = False
    first = terms_of(module, batch)
    logits, imagelets = module.net.decompose(batch["image"])
    other = torch.where(batch["valid"][:, None], logits, torch.randn_like(logits))
    module._imagelets = imagelets
    second = module.loss_terms(other, batch)
    for name in ("recon", "mask", "absence"):
        torch.testing.assert_close(first[name], second[name])


# ---- options and what they do -----------------------------------------------------------------------------------


def trained(checkpoint, make_trainer, epochs=12, **arguments):
    defaults = {"classifier_input": "input", "mask_weight": 0.3, "cls_weight": 1.0, "area_prior": EqualAreas(0.75)}
    module, trainer = make(checkpoint, **(defaults | arguments)), make_trainer(max_epochs=epochs)
    trainer.fit(module, DiscData())
    return module, {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_it_finds_several_classes_from_tags_alone(checkpoint, make_trainer):
    _, scores = trained(checkpoint, make_trainer)
    assert scores["val_miou"] > 0.5, "background everywhere has 0.3"
    assert min(scores["val_iou_disc"], scores["val_iou_square"]) > 0.3


def test_a_volumetric_prior_moves_the_areas(checkpoint, make_trainer):
    fractions = []
    for background in (0.9, 0.3):
        module, _ = trained(checkpoint, make_trainer, 6, area_prior=EqualAreas(background), mask_weight=3.0)
        fractions.append(float(module.eval()(discs(1, 2, 3, 5)["image"]).softmax(1)[:, 0].mean().detach()))
    assert fractions[0] > fractions[1] + 0.2


def test_the_penalty_lowers_false_positives(checkpoint, make_trainer):
    areas = []
    for weight in (0.0, 3.0):
        _, scores = trained(checkpoint, make_trainer, 4, absence=AbsencePenalty(weight))
        areas.append(scores["val_false_area_disc"] + scores["val_false_area_square"])
    assert areas[1] < 0.5 * areas[0]


def test_images_that_are_confused_count_more():
    tags = torch.tensor([[True, True, False], [True, False, True], [True, False, False]])
    ids = ["cat_1", "dog_2", "cat_3"]
    by_class = AbsencePenalty(2.0, confusing_classes=["square"], factor=3.0)
    assert by_class.weights(ids, tags, NAMES).tolist() == [2, 6, 2]
    by_index = AbsencePenalty(2.0, confusing_classes=[NAMES.index("square")], factor=3.0)
    assert by_index.weights(ids, tags, NAMES).tolist() == [2, 6, 2]
    by_name = AbsencePenalty(2.0, confusing_images=["cat*"], factor=3.0)
    assert by_name.weights(ids, tags, NAMES).tolist() == [6, 2, 6]
    with pytest.raises(
        ValueError, match="`confusing_classes` must name a class, got 'cow': the classes are background, disc, square"
    ):
        AbsencePenalty(1.0, confusing_classes=["cow"]).weights(ids, tags, NAMES)
    batch, module = some_batch(), make(absence=AbsencePenalty(1.0, confusing_images=["dog*"], factor=4.0)).eval()
    module.class_names = NAMES
    masks = module.net(batch["image"]).softmax(1)
    expected = absence_loss(masks, batch["tags"], batch["valid"], torch.tensor([1.0, 4.0]))
    torch.testing.assert_close(terms_of(module, batch)["absence"], expected)


# ---- g ----------------------------------------------------------------------------------------------------------


HOOKS = [
    f"on_{name}"
    for name in (
        *("fit_start", "train_start", "train_epoch_start", "train_batch_start", "before_zero_grad", "before_backward"),
        *("after_backward", "before_optimizer_step", "train_batch_end", "validation_start", "validation_epoch_start"),
        *("validation_batch_start", "validation_batch_end", "validation_epoch_end", "validation_end"),
        *("train_epoch_end", "train_end", "fit_end", "sanity_check_start", "sanity_check_end"),
    )
]


def test_g_stays_as_it_was_under_every_hook(checkpoint, make_trainer):
    module, seen = make(checkpoint, cls_weight=1.0), defaultdict(set)

    def note(hook):
        return lambda *_: seen[hook].update(part.training for part in module.g.modules())

    watch = LambdaCallback(**{hook: note(hook) for hook in HOOKS})
    make_trainer(max_epochs=2, callbacks=[watch]).fit(module, DiscData())
    assert set(seen) == set(HOOKS)
    assert {name for name, modes in seen.items() if modes != {False}} == set()
    trained_g = {name.removeprefix("g.module."): v for name, v in module.state_dict().items() if name.startswith("g.")}
    state = torch.load(checkpoint)["state_dict"]
    saved = {name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")}
    assert trained_g.keys() == saved.keys()
    assert any("running_mean" in name for name in saved), "or this test says nothing of batch norm"
    assert all(torch.equal(value, saved[name]) for name, value in trained_g.items())
    optimized = {id(p) for group in module.trainer.optimizers[0].param_groups for p in group["params"]}
    assert optimized == {id(parameter) for parameter in module.net.parameters()}


def test_gradients_reach_both_networks_and_not_g():
    module = make(mask_weight=1.0, cls_weight=1.0).train()
    sum(terms_of(module, some_batch()).values()).backward()
    net = module.net
    for part in (net.model.encoder, net.masks, net.painter):
        assert all(parameter.grad.abs().sum() > 0 for parameter in part.parameters() if parameter.ndim > 1)
    assert all(parameter.grad is None for parameter in module.g.parameters())


def test_the_image_loss_alone_reaches_both_networks():
    """What g says of per-class images is a gradient for both; of the parts of the image, for the masks alone."""
    for shown, reached in (("imagelets", True), ("input", False)):
        module = make(recon_weight=0.0, mask_weight=0.0, cls_weight=1.0, classifier_input=shown).train()
        terms_of(module, some_batch())["cls"].backward()
        assert module.net.masks.weight.grad.abs().sum() > 0
        painted = module.net.painter.weight.grad
        assert (painted is not None and bool(painted.abs().sum() > 0)) == reached


def test_training_needs_a_trained_classifier(make_trainer):
    with pytest.raises(ValueError, match="`classifier_checkpoint` must name the checkpoint of a trained classifier"):
        make_trainer(max_steps=1).fit(make(), DiscData())


def test_it_can_begin_with_the_encoder_of_g(checkpoint, make_trainer):
    module = make(checkpoint, encoder_from_classifier=True, optimizer=Optimizer("adamw", 1e-9))
    make_trainer(max_steps=1, limit_val_batches=0).fit(module, DiscData())
    for ours, theirs in zip(module.net.model.encoder.parameters(), module.g.module.encoder.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    other = make(checkpoint, encoder_from_classifier=True)
    other.net.model.encoder = nn.Conv2d(3, 16, 1)
    with pytest.raises(ValueError, match="`encoder_from_classifier`: network and classifier have different encoders"):
        make_trainer(max_steps=1).fit(other, DiscData())


# ---- checkpoints ------------------------------------------------------------------------------------------------


def test_a_checkpoint_needs_no_classifier_beside_it(checkpoint, make_trainer, tmp_path):
    module = make(checkpoint, area_prior=EqualAreas(0.6), absence=AbsencePenalty(0.5, ["disc"], ["a*"], 2.0))
    trainer = make_trainer(max_steps=1, limit_val_batches=0)
    trainer.fit(module, DiscData())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = load_module(tmp_path / "last.ckpt")
    assert loaded.classifier_checkpoint is None
    assert (loaded.area_prior.background, loaded.absence) == (0.6, module.absence)
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(loaded(image), module.eval()(image))
    assert torch.equal(loaded.g(image), module.g(image))


def test_nonsense_raises():
    for value in (-1, float("inf")):
        for name in ("recon_weight", "mask_weight", "cls_weight"):
            with pytest.raises(ValueError, match=f"`{name}` must be finite and at least 0, got {value}"):
                make(**{name: value})
        for name in ("weight", "factor"):
            with pytest.raises(ValueError, match=f"`{name}` must be finite and at least 0, got {value}"):
                AbsencePenalty(**{name: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"absence": AbsencePenalty(1.0, ["cow"])}, "`confusing_classes` must name a class, got 'cow'"),
        ({"area_prior": FileAreas("missing.csv")}, "missing.csv cannot be read as a CSV file of areas"),
    ],
)
def test_what_does_not_fit_the_data_raises_before_training(checkpoint, make_trainer, arguments, message):
    module = make(checkpoint, **arguments)
    started = []
    trainer = make_trainer(max_steps=1, callbacks=[LambdaCallback(on_fit_start=lambda *_: started.append(True))])
    with pytest.raises(ValueError, match=message):
        trainer.fit(module, DiscData())
    assert not started

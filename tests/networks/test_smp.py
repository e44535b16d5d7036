import subprocess
import sys

import pytest
import torch
from small_nets import LITE0, smp_net
from torch import Tensor, nn

from weakseg_lightning.networks import FCN32s, LargeFOV, Network, SegmentationNet, SMPNetwork
from weakseg_lightning.networks.encoders import encoder_normalization

# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [
        ("deeplabv3plus", "resnet18"),
        ("deeplabv3plus", "mobilenet_v2"),
        ("deeplabv3", "mobilenet_v2"),
        ("unet", "resnet18"),
        ("unetplusplus", "resnet18"),
        ("manet", "resnet18"),
        ("linknet", "resnet18"),
        ("fpn", "mobilenet_v2"),
        ("pspnet", "mobilenet_v2"),
        ("pan", "resnet18"),
        ("upernet", "tu-convnext_atto"),
        ("upernet", "tu-swin_tiny_patch4_window7_224"),
        ("segformer", "mit_b0"),
        ("dpt", "tu-vit_tiny_patch16_224"),
    ],
)
def test_logits_have_the_size_of_the_images(architecture: str, encoder: str) -> None:
    net = smp_net(architecture, encoder).eval()
    with torch.no_grad():
        for size in ((1, 1), (33, 65), (64, 47)):
            logits = net(torch.rand(1, 3, *size))
            assert logits.shape == (1, 4, *size)
            assert logits.isfinite().all()


def test_sizes_that_need_no_padding_give_what_smp_gives() -> None:
    net = smp_net().eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = net.model((images - net.mean) / net.std)
        torch.testing.assert_close(net(images), expected, rtol=0, atol=0)


def test_padding_is_right_and_bottom_and_of_the_mean_color() -> None:
    net = smp_net(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)).eval()
    images = torch.rand(1, 3, 50, 39)
    by_hand = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1).repeat(1, 1, 64, 48)
    by_hand[..., :50, :39] = images
    with torch.no_grad():
        torch.testing.assert_close(net(images), net(by_hand)[..., :50, :39])


def test_logits_are_float32_under_autocast() -> None:
    net = smp_net("unet", "mobilenet_v2").eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(torch.rand(1, 3, 32, 32)).dtype == torch.float32


@pytest.mark.parametrize("compute", ["forward", "coarse_logits"])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(3, 32, 32), r"`images` must have the shape \(B, 3, H, W\)"),
        (torch.rand(1, 1, 32, 32), r"`images` must have the shape \(B, 3, H, W\)"),
        (
            torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
            "`images` must be float, RGB in 0..1, got torch.uint8: divide bytes by 255",
        ),
        (torch.rand(1, 3, 64, 64), "batches of 2 or more"),
    ],
)
def test_wrong_images_are_explained(compute: str, images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(smp_net(), compute)(images)


def test_compiles_without_graph_breaks() -> None:
    net = smp_net(encoder="mobilenet_v2", dropout=0.0).train()
    images = torch.rand(2, 3, 40, 33)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), net(images))


def test_same_seed_same_network() -> None:
    first, second = smp_net().state_dict(), smp_net().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


# ---------------------------------------------------------------- arguments


def test_a_description_keeps_its_arguments_and_makes_nothing() -> None:
    mean, std = (0.1, 0.2, 0.3), (1.0, 1.0, 1.0)
    network = SMPNetwork("unet", "no_such_encoder", "no/such/file.pt", 8, 0.1, 64, mean, std, 0.5)
    assert vars(network) == {
        "architecture": "unet",
        "encoder": "no_such_encoder",
        "encoder_weights": "no/such/file.pt",
        "output_stride": 8,
        "dropout": 0.1,
        "decoder_channels": 64,
        "mean": (0.1, 0.2, 0.3),
        "std": (1.0, 1.0, 1.0),
        "input_scale": 0.5,
        "in_channels": 3,
    }


def test_importing_the_networks_leaves_the_slow_libraries_alone() -> None:
    code = (
        "import sys, weakseg_lightning.networks as n; n.SMPNetwork(); n.LargeFOV();"
        "print([m for m in ('segmentation_models_pytorch', 'timm', 'torchvision') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "deeplabv3+"}, r"`architecture` 'deeplabv3\+' is unknown; did you mean `deeplabv3`"),
        ({"encoder": "resnet5"}, "`encoder` 'resnet5' is unknown; did you mean `resnet50`"),
        ({"encoder": "convnext_tiny"}, "did you mean `tu-convnext_tiny`"),
        ({"encoder_weights": "imagnet"}, "`encoder_weights` 'imagnet' is unknown for `resnet50`; did you mean `imagen"),
        ({"encoder": "tu-resnet18", "encoder_weights": "a1"}, "`encoder_weights` 'a1' is unknown for `tu-resnet18`"),
        ({"architecture": "unet", "output_stride": 8}, "`output_stride` cannot be chosen for `unet`"),
        ({"architecture": "pan", "output_stride": 8}, "PAN support output stride 16 or 32"),
        ({"architecture": "unet", "decoder_channels": 64}, "`decoder_channels` cannot be one number for `unet`"),
        ({"encoder": "vgg16", "encoder_weights": None}, "do not support dilated mode"),
        ({"encoder": "mit_b0", "encoder_weights": None}, "`encoder` 'mit_b0' cannot be dilated"),
        (
            {"architecture": "dpt", "encoder": "tu-vit_small_patch14_dinov2", "encoder_weights": None},
            "do not work together on images of any size",
        ),
        ({"output_stride": 4}, "`output_stride` must be one of 8, 16, got 4"),
        ({"dropout": 1.0}, "`dropout` must be at least 0 and below 1, got 1.0"),
        ({"decoder_channels": 0}, "`decoder_channels` must be at least 1, got 0"),
        ({"mean": (0.5, 0.5)}, r"`mean` must be three numbers for red, green, blue in 0..1, got \(0.5, 0.5\)"),
        ({"std": (0.5, 0.5, 0.0)}, "`std` must be three positive numbers"),
    ],
)
def test_wrong_arguments_are_explained(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SMPNetwork(**arguments).build(3)


@pytest.mark.parametrize("kind", [SMPNetwork, LargeFOV, FCN32s])
def test_a_network_needs_a_class(kind: type[Network]) -> None:
    with pytest.raises(ValueError, match="`num_classes` must be at least 1, got 0"):
        kind(encoder_weights=None).build(0)


def last_map(net: SegmentationNet, size: int = 64) -> torch.Size:
    with torch.no_grad():
        return net.model.encoder(torch.zeros(1, 3, size, size))[-1].shape[-2:]


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", LITE0, "tu-resnet18"])
@pytest.mark.parametrize("stride", [8, 16])
def test_output_stride_is_the_stride_of_the_encoder(encoder: str, stride: int) -> None:
    net = smp_net(encoder=encoder, output_stride=stride).eval()
    assert last_map(net) == (64 // stride, 64 // stride)
    assert net.stride == stride


@pytest.mark.parametrize(("architecture", "stride"), [("deeplabv3", 8), ("deeplabv3plus", 16)])
def test_output_stride_defaults_to_the_architecture(architecture: str, stride: int) -> None:
    assert last_map(smp_net(architecture).eval()) == (64 // stride, 64 // stride)


@pytest.mark.parametrize("architecture", ["deeplabv3plus", "deeplabv3", "fpn", "pspnet", "unet", "pan", "upernet"])
def test_dropout_acts_in_training_alone(architecture: str) -> None:
    net = smp_net(architecture, dropout=0.37)
    drops = [m for m in net.modules() if isinstance(m, nn.Dropout | nn.Dropout2d) and m.p == 0.37]
    assert len(drops) == 1
    # batch norm without statistics of the batch: what differs between two passes is dropout
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(net(images), net(images))
        net.eval()
        assert torch.equal(net(images), net(images))


def test_dropout_leaves_the_keys_of_checkpoints_alone() -> None:
    assert smp_net("unet").state_dict().keys() == smp_net("unet", dropout=0.5).state_dict().keys()


def test_decoder_channels() -> None:
    for architecture in ("deeplabv3plus", "pan", "upernet", "segformer"):
        assert smp_net(architecture, "mobilenet_v2", decoder_channels=48).model.segmentation_head[0].in_channels == 48
    assert smp_net("pspnet", "mobilenet_v2", decoder_channels=48).model.decoder.conv[0].out_channels == 48


@pytest.mark.parametrize("architecture", ["deeplabv3plus", "unet", "upernet", "segformer"])
def test_head_and_encoder_share_the_parameters_out(architecture: str) -> None:
    net = smp_net(architecture)
    head = {id(p) for p in net.head_parameters()}
    encoder = {id(p) for p in net.model.encoder.parameters()}
    assert len(head) == len(net.head_parameters())
    assert not head & encoder
    assert head | encoder == {id(p) for p in net.parameters()}
    assert id(net.model.segmentation_head[0].weight) in head


# ---------------------------------------------------------------- normalization


@pytest.mark.parametrize(
    ("encoder", "weights", "mean", "std"),
    [
        ("resnet50", "imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        (LITE0, None, (0.5,) * 3, (0.5,) * 3),
        ("tu-tf_efficientnet_lite0.in1k", None, (0.5,) * 3, (0.5,) * 3),
        ("timm-efficientnet-b0", "imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("timm-efficientnet-b0", "advprop", (0.5,) * 3, (0.5,) * 3),
        ("timm-mobilenetv3_large_100", None, (0.5,) * 3, (0.5,) * 3),
        ("tu-convnext_tiny", None, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("xception", "imagenet", (0.5,) * 3, (0.5,) * 3),
    ],
)
def test_normalization_is_the_encoders(encoder: str, weights: str | None, mean: tuple, std: tuple) -> None:
    assert encoder_normalization(encoder, weights) == (pytest.approx(mean), pytest.approx(std))


def test_normalization_reaches_the_network_and_can_be_set() -> None:
    assert smp_net("unet", LITE0).mean.flatten().tolist() == [0.5, 0.5, 0.5]
    net = smp_net("unet", LITE0, mean=(0.1, 0.2, 0.3))
    assert net.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert net.std.flatten().tolist() == [0.5, 0.5, 0.5]
    assert not {"mean", "std"} & net.state_dict().keys()


def test_without_weights_keeps_all_but_the_weights() -> None:
    network = SMPNetwork("deeplabv3", "timm-efficientnet-b0", "advprop", 8, 0.3, 64, input_scale=0.5)
    bare = network.without_weights()
    assert bare.encoder_weights is None
    assert bare.normalization() == network.normalization()
    changed = {"encoder_weights", "mean", "std"}
    assert {k: v for k, v in vars(bare).items() if k not in changed} == {
        k: v for k, v in vars(network).items() if k not in changed
    }

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from weakseg_lightning.networks import LargeFOV, SegmentationNet, SMPNetwork
from weakseg_lightning.networks.encoders import encoder_normalization

LITE0 = "timm-tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def lite0(shared: Path) -> Path:
    path = shared / "weights" / "tf_efficientnet_lite0.in1k.safetensors"
    if not path.is_file():
        pytest.skip(f"weights not found: {path}")
    return path


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict under torchvision's names, with its classifier."""
    from torchvision.models import resnet18

    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.manual_seed(5)
    torch.save(resnet18().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def large_fov() -> SegmentationNet:
    torch.manual_seed(0)
    return LargeFOV(encoder_weights=None).build(21).eval()


def smp_net(architecture: str = "deeplabv3plus", encoder: str = "resnet18", **arguments: object) -> SegmentationNet:
    torch.manual_seed(0)
    return SMPNetwork(architecture, encoder, encoder_weights=None, **arguments).build(4)


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


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32)])
def test_images_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`images` must have the shape \(B, 3, H, W\)"):
        smp_net()(torch.rand(*shape))


def test_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`images` must be float, RGB in 0..1, got torch.uint8: divide bytes by 255"):
        smp_net()(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_a_training_batch_of_one_is_explained() -> None:
    with pytest.raises(ValueError, match="batches of 2 or more"):
        smp_net().train()(torch.rand(1, 3, 64, 64))


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
    }
    assert vars(LargeFOV("vgg.pth", 0.2)) == {
        "encoder_weights": "vgg.pth",
        "dropout": 0.2,
        "input_scale": 1.0,
        "dilations": (12,),
        "multi_scale": False,
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


@pytest.mark.parametrize("network", [SMPNetwork(encoder_weights=None), LargeFOV(encoder_weights=None)])
def test_a_network_needs_a_class(network: SMPNetwork | LargeFOV) -> None:
    with pytest.raises(ValueError, match="`num_classes` must be at least 1, got 0"):
        network.build(0)


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
    vgg = LargeFOV("gone.pth", 0.2, 0.5, dilations=(6, 12), multi_scale=True)
    assert vars(vgg.without_weights()) == vars(vgg) | {"encoder_weights": None}


# ---------------------------------------------------------------- weights from files


@pytest.mark.parametrize(("architecture", "encoder"), [("deeplabv3plus", LITE0), ("pspnet", LITE0)])
def test_real_weights_arrive_unchanged(lite0: Path, architecture: str, encoder: str) -> None:
    net = SMPNetwork(architecture, encoder, encoder_weights=str(lite0)).build(5)
    expected = {k: v for k, v in load_file(lite0).items() if k not in {"classifier.weight", "classifier.bias"}}
    loaded = net.model.encoder.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


def test_real_weights_load_into_timms_own_encoder(lite0: Path) -> None:
    import timm

    whole = timm.create_model("tf_efficientnet_lite0").eval()
    whole.load_state_dict(load_file(lite0))
    net = SMPNetwork("unet", "tu-tf_efficientnet_lite0", str(lite0)).build(2).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = whole.blocks(whole.bn1(whole.conv_stem(images)))
        torch.testing.assert_close(net.model.encoder(images)[-1], expected)


def image_tensor(path: Path) -> Tensor:
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.resize((224, 224), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def test_real_weights_recognize_dogs(lite0: Path, shared: Path) -> None:
    files = sorted((shared / "data" / "imagenet").glob("n02[01][89012]*/*.JPEG"))
    dogs = [f for f in files if "n02085620" <= f.parent.name <= "n02113978"][::6]
    net = SMPNetwork("unet", LITE0, str(lite0)).build(2).eval()
    encoder, state = net.model.encoder, load_file(lite0)
    with torch.no_grad():
        x = (torch.stack([image_tensor(f) for f in dogs]) - net.mean) / net.std
        pooled = encoder.bn2(encoder.conv_head(encoder(x)[-1])).mean((2, 3))
        classes = (pooled @ state["classifier.weight"].T + state["classifier.bias"]).argmax(1)
    # the 118 dog breeds are ImageNet's classes 151 to 268
    assert len(dogs) >= 15
    assert ((classes >= 151) & (classes <= 268)).float().mean() >= 0.9


@pytest.mark.parametrize("wrap", [None, "state_dict", "model"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_files_of_every_kind(tmp_path: Path, resnet18_file: Path, suffix: str, wrap: str | None) -> None:
    state = torch.load(resnet18_file, weights_only=True)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state if wrap is None else {wrap: state, "epoch": 3}, path)
    loaded = SMPNetwork("unet", "resnet18", str(path)).build(2).model.encoder.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())
    assert state.keys() - loaded.keys() == {"fc.weight", "fc.bias"}


def test_the_counter_of_batch_norm_may_be_missing(tmp_path: Path, resnet18_file: Path) -> None:
    state = torch.load(resnet18_file, weights_only=True)
    torch.save({k: v for k, v in state.items() if "num_batches" not in k}, tmp_path / "old.pth")
    net = SMPNetwork("unet", "resnet18", str(tmp_path / "old.pth")).build(2)
    assert torch.equal(net.model.encoder.conv1.weight, state["conv1.weight"])


@pytest.mark.parametrize("name", ["convnext_atto", "resnet18", "mobilenetv3_small_050"])
def test_files_in_timms_names(tmp_path: Path, name: str) -> None:
    import timm

    model = timm.create_model(name)
    save_file(model.state_dict(), tmp_path / f"{name}.safetensors")
    net = SMPNetwork("unet", f"tu-{name}", str(tmp_path / f"{name}.safetensors")).build(2)
    stem = next(value for value in model.state_dict().values() if value.ndim == 4)
    assert torch.equal(next(iter(net.model.encoder.parameters())), stem)
    deepest = [value for key, value in model.state_dict().items() if re.match(r"(stages|layer4|blocks)\.", key)][-1]
    assert torch.equal(list(net.model.encoder.state_dict().values())[-1], deepest)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`encoder_weights`: no file .*gone\.pth.*looked in .* null"):
        SMPNetwork("unet", "resnet18", str(tmp_path / "gone.pth")).build(2)
    with pytest.raises(FileNotFoundError, match="`encoder_weights`: no file"):
        LargeFOV(str(tmp_path / "gone.pth")).build(2)


def test_a_file_of_another_encoder_is_explained(lite0: Path) -> None:
    message = (
        r"does not fit the encoder `resnet18`\. Keys: \d+ missing in the file \(conv1\.weight, .*\); \d+ not in the "
        r"encoder .*; 4 of another shape \(bn1\.weight is \(32,\) in the file and \(64,\) in the encoder.* "
        r"seems to be for `encoder: timm-tf_efficientnet_lite0`"
    )
    with pytest.raises(ValueError, match=message):
        SMPNetwork("unet", "resnet18", str(lite0)).build(2)


def test_a_relative_with_the_same_keys_is_told_by_shapes_alone(tmp_path: Path) -> None:
    encoder = smp_net("unet", "timm-skresnet18").model.encoder
    wide = {k: v.repeat(2, *[1] * (v.ndim - 1)) if k == "conv1.weight" else v for k, v in encoder.state_dict().items()}
    torch.save(wide, tmp_path / "sk.pt")
    with pytest.raises(ValueError, match=r"Keys: 1 of another shape \(conv1\.weight is \(128, 3, 7, 7\) in the file"):
        SMPNetwork("unet", "timm-skresnet18", str(tmp_path / "sk.pt")).build(2)


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_one_wrong_key_is_an_error_and_changes_nothing(tmp_path: Path, resnet18_file: Path, change: str) -> None:
    from weakseg_lightning.networks.weights import load_encoder_weights

    encoder = smp_net("unet").model.encoder
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    state = torch.load(resnet18_file, weights_only=True)
    if change == "missing":
        del state["layer4.1.bn2.bias"]
        message = r"1 missing in the file \(layer4\.1\.bn2\.bias\)"
    else:
        state["layer5.weight"] = torch.zeros(1)
        message = r"1 not in the encoder \(layer5\.weight\)"
    with pytest.raises(ValueError, match=message):
        load_encoder_weights(encoder, state, "resnet18", tmp_path / "x.pt")
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())


def test_a_whole_network_is_no_encoder(tmp_path: Path) -> None:
    torch.save(smp_net("unet").model.state_dict(), tmp_path / "whole.pt")
    with pytest.raises(ValueError, match="hold a whole network: keep the keys of its encoder alone"):
        SMPNetwork("unet", "resnet18", str(tmp_path / "whole.pt")).build(2)


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("a weights file ran code",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.pt", [torch.zeros(1)], "holds no state dict .* but list"),
        ("numbers.pt", {"epoch": 3}, "holds no state dict"),
        ("code.pt", {"x": Payload()}, "cannot be read as weights"),
        ("damaged.pt", None, "cannot be read as weights"),
        ("damaged.safetensors", None, "cannot be read as weights"),
        ("weights/file.zip", None, "must end in one of .safetensors"),
    ],
)
def test_files_that_are_no_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: object, message: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"not weights at all") if content is None else torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        SMPNetwork("unet", "resnet18", str(path)).build(2)
    assert "ran code" not in capsys.readouterr().out


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch, encoder: str) -> None:
    import segmentation_models_pytorch as smp

    create = smp.create_model

    def offline(*arguments: object, encoder_weights: object, **options: object) -> nn.Module:
        if encoder_weights is not None:
            assert encoder_weights == (True if encoder.startswith("tu-") else "imagenet")
            raise OSError("no route to host")
        return create(*arguments, encoder_weights=None, **options)

    monkeypatch.setattr(smp, "create_model", offline)
    with pytest.raises(ConnectionError, match=r"could not download the weights of .* or set `encoder_weights` to"):
        SMPNetwork("unet", encoder).build(2)


# ---------------------------------------------------------------- DeepLab-LargeFOV


def test_large_fov_has_the_published_number_of_parameters(large_fov: SegmentationNet) -> None:
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    vgg = sum(9 * i * o + o for i, o in pairwise(widths))
    by_hand = vgg + (9 * 512 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 21 + 21)
    assert by_hand == 20_505_429
    assert sum(p.numel() for p in large_fov.parameters()) == by_hand


@pytest.mark.parametrize("size", [(1, 1), (33, 50), (41, 41)])
def test_large_fov_keeps_the_size(large_fov: SegmentationNet, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert large_fov(torch.rand(1, 3, *size)).shape == (1, 21, *size)


def test_large_fov_has_stride_8_with_aligned_cells(large_fov: SegmentationNet) -> None:
    # crop 321, as published, gives 41 cells and is not padded
    assert large_fov.padded_size(321) == 321
    with torch.no_grad():
        assert large_fov.features(torch.zeros(1, 3, 65, 41)).shape == (1, 512, 9, 6)
    strides = [m.stride for m in large_fov.features if isinstance(m, nn.MaxPool2d)]
    assert strides == [2, 2, 2, 1, 1]
    # cell 8 of pool4 answers to the pixels around 64, as far to the one side as to the other
    images = torch.rand(1, 3, 129, 129, requires_grad=True)
    large_fov.features[:24](images)[0, :, 8, 8].sum().backward()
    rows = images.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows.min() > 0
    assert rows.min() + rows.max() == 2 * 64


def test_large_fov_sees_far(large_fov: SegmentationNet) -> None:
    dilated = [m.dilation[0] for m in large_fov.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1]
    assert dilated == [2, 2, 2, 12]
    drops = [m for m in large_fov.modules() if isinstance(m, nn.Dropout)]
    assert [m.p for m in drops] == [0.5]
    assert large_fov.classifiers[0].fc8.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert large_fov.classifiers[0].fc8.bias.abs().max() == 0


def test_large_fov_drops_in_training_alone() -> None:
    torch.manual_seed(0)
    net = LargeFOV(None, dropout=0.5).build(3)
    images = torch.rand(1, 3, 33, 33)
    with torch.no_grad():
        assert not torch.equal(net(images), net(images))
        net.eval()
        assert torch.equal(net(images), net(images))


def test_large_fov_head_is_the_last_layer(large_fov: SegmentationNet) -> None:
    assert [p.shape for p in large_fov.head_parameters()] == [(21, 1024, 1, 1), (21,)]


@pytest.fixture(scope="module")
def vgg16_state() -> dict[str, Tensor]:
    from torchvision.models import vgg16

    torch.manual_seed(3)
    return vgg16(init_weights=False).state_dict()


def test_large_fov_takes_torchvisions_weights(vgg16_state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(vgg16_state, tmp_path / "vgg16.safetensors")
    net = LargeFOV(str(tmp_path / "vgg16.safetensors")).build(4)
    loaded = net.features.state_dict()
    assert len(loaded) == 26
    assert all(torch.equal(value, vgg16_state[f"features.{key}"]) for key, value in loaded.items())
    # output 5 of fc6, input 7, window position (1, 2) is unit 20 at (3, 6) of the 7 x 7 window
    assert net.classifiers[0].fc6.weight[5, 7, 1, 2] == vgg16_state["classifier.0.weight"][20, 7 * 49 + 3 * 7 + 6]
    assert net.classifiers[0].fc6.bias[5] == vgg16_state["classifier.0.bias"][20]
    assert net.classifiers[0].fc7.weight[5, 9, 0, 0] == vgg16_state["classifier.3.weight"][20, 36]
    assert net.classifiers[0].fc7.bias[5] == vgg16_state["classifier.3.bias"][20]


def test_large_fov_convolves_as_vgg16_before_the_strides_part(vgg16_state: dict[str, Tensor], tmp_path: Path) -> None:
    features = {key: value for key, value in vgg16_state.items() if key.startswith("features.")}
    torch.save(features, tmp_path / "features.pth")
    net = LargeFOV(str(tmp_path / "features.pth")).build(2)
    from torchvision.models.vgg import cfgs, make_layers

    reference = make_layers(cfgs["D"])
    reference.load_state_dict({key.removeprefix("features."): value for key, value in features.items()})
    images = torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(net.features[:4](images), reference[:4](images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.0.weight": None}, r"1 missing in the file \(features\.0\.weight\)"),
        ({"features.31.weight": torch.zeros(2)}, r"1 not in the encoder \(features\.31\.weight\)"),
        ({"features.2.weight": torch.zeros(64, 3, 3, 3)}, r"1 of another shape \(features\.2\.weight is \(64, 3"),
        ({"classifier.3.bias": None}, r"1 missing in the file \(classifier\.3\.bias\)"),
    ],
)
def test_large_fov_refuses_other_weights(
    vgg16_state: dict[str, Tensor], change: dict[str, Tensor | None], message: str
) -> None:
    state = {key: value for key, value in {**vgg16_state, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        LargeFOV(None).build(2).load_vgg16(state, "x.pth")


def test_large_fov_refuses_unknown_names() -> None:
    with pytest.raises(ValueError, match='`encoder_weights` must be "imagenet", null, or the path'):
        LargeFOV("imagnet")


def test_large_fov_download_failure_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(ConnectionError, match=r"could not download https://.*vgg16.* or null for random weights"):
        LargeFOV().build(2)


# ---------------------------------------------------------------- its relatives in the ADM paper


@pytest.fixture(scope="module")
def multi_scale() -> SegmentationNet:
    torch.manual_seed(0)
    return LargeFOV(None, multi_scale=True).build(21).eval()


@pytest.fixture(scope="module")
def four_classifiers() -> SegmentationNet:
    torch.manual_seed(0)
    return LargeFOV(None, dilations=[6, 12, 18, 24]).build(21).eval()


def test_multi_scale_adds_what_the_published_branches_hold(multi_scale: SegmentationNet) -> None:
    hidden = [(9 * channels * 128 + 128) + (128 * 128 + 128) for channels in (3, 64, 128, 256, 512)]
    last = [128 * 21 + 21] * 5  # 640 channels more for the last layer; one bias would do for all five
    assert sum(p.numel() for p in multi_scale.parameters()) == 20_505_429 + sum(hidden) + sum(last)


def test_multi_scale_is_a_linear_layer_on_concatenated_maps(multi_scale: SegmentationNet) -> None:
    images = torch.rand(1, 3, 57, 41)
    with torch.no_grad():
        x = (images - multi_scale.mean) / multi_scale.std
        maps, taps = [], [x]
        for layer in multi_scale.features:
            x = layer(x)
            taps += [x] * isinstance(layer, nn.MaxPool2d)
        classifier = multi_scale.classifiers[0]
        maps.append(torch.relu(classifier.fc7(torch.relu(classifier.fc6(x)))))
        maps += [branch[:-1](tap) for branch, tap in zip(multi_scale.branches, taps[:5], strict=True)]
        layers = [classifier.fc8, *(branch[-1] for branch in multi_scale.branches)]
        concatenated, weight = torch.cat(maps, 1), torch.cat([layer.weight for layer in layers], 1)
        expected = nn.functional.conv2d(concatenated, weight, sum(layer.bias for layer in layers))
        assert concatenated.shape == (1, 1024 + 640, 8, 6)
        torch.testing.assert_close(multi_scale.coarse_logits(images), expected, rtol=1e-4, atol=1e-5)


def test_branches_are_aligned_with_the_map(multi_scale: SegmentationNet) -> None:
    # cell 8 answers to pixels around 64, as far to the one side as to the other
    for number, branch in enumerate(multi_scale.branches):
        images = torch.rand(1, 3, 129, 129, requires_grad=True)
        pools = [index for index, layer in enumerate(multi_scale.features) if isinstance(layer, nn.MaxPool2d)]
        seen = multi_scale.features[: pools[number - 1] + 1](images) if number else images
        branch(seen)[0, :, 8, 8].sum().backward()
        rows = images.grad.abs().sum((0, 1, 3)).nonzero().flatten()
        assert rows.min() + rows.max() == 2 * 64
        assert (rows.max() - rows.min() + 1 == 3) == (number == 0)


def test_branches_are_part_of_the_head_and_drop_in_training(multi_scale: SegmentationNet) -> None:
    head = {id(parameter) for parameter in multi_scale.head_parameters()}
    assert {id(p) for p in multi_scale.branches.parameters()} < head
    assert len(head) == len(multi_scale.head_parameters()) == 2 + 5 * 6
    assert sum(isinstance(layer, nn.Dropout) for layer in multi_scale.branches.modules()) == 2 * 5
    stds = [branch[-1].weight.std().item() for branch in multi_scale.branches]
    assert stds == pytest.approx([0.01] * 5, rel=0.1)


def test_four_classifiers_add_their_logits(four_classifiers: SegmentationNet) -> None:
    each = (9 * 512 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 21 + 21)
    assert sum(p.numel() for p in four_classifiers.parameters()) == 20_505_429 + 3 * each
    dilated = [m.dilation[0] for m in four_classifiers.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1]
    assert dilated == [2, 2, 2, 6, 12, 18, 24]
    assert not any(isinstance(layer, nn.AvgPool2d) for layer in four_classifiers.features)
    assert len(four_classifiers.head_parameters()) == 2 * 4
    images = torch.rand(1, 3, 33, 41)
    with torch.no_grad():
        features = four_classifiers.features((images - four_classifiers.mean) / four_classifiers.std)
        expected = sum(classifier(features) for classifier in four_classifiers.classifiers)
        torch.testing.assert_close(four_classifiers.coarse_logits(images), expected)


def test_every_classifier_takes_torchvisions_weights(vgg16_state: dict[str, Tensor]) -> None:
    net = LargeFOV(None, dilations=(6, 24), multi_scale=True).build(4)
    net.load_vgg16(vgg16_state, "vgg16.pth")
    for classifier in net.classifiers:
        assert torch.equal(classifier.fc7.bias, vgg16_state["classifier.3.bias"][::4])


@pytest.mark.parametrize("dilations", [[], [6, 0]])
def test_dilations_are_checked(dilations: list[int]) -> None:
    with pytest.raises(ValueError, match=r"`dilations` must be one number or several, 1 or more each, got \["):
        LargeFOV(None, dilations=dilations)


def test_relatives_are_described_in_full() -> None:
    network = LargeFOV("imagenet", 0.1, 0.5, [6, 12], True)
    assert vars(network.without_weights()) == {**vars(network), "encoder_weights": None}

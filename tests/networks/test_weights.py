import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from small_nets import LITE0, smp_net
from torch import Tensor, nn

from weakseg_lightning.networks import SMPNetwork


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

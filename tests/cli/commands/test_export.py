"""Exported networks compute what the module computes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from weakseg_lightning import load_module


@pytest.fixture(scope="module")
def checkpoint(train, tiny) -> Path:
    """A checkpoint of a network with few layers, which is exported sooner."""
    encoder = "--model.network.encoder=tu-test_efficientnet"
    folder = train("--config", "recipes/baselines/pce.yaml", *tiny, encoder, "--name", "tiny")
    return folder / "runs/tiny/version_0/checkpoints/last.ckpt"


def test_both_files_compute_the_scores_of_the_checkpoint(run, checkpoint):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    status, out, _ = run("export", str(checkpoint))
    assert status == 0, out
    lines = out.splitlines()
    assert lines[0] == "Images of every height and width 16 n, 32 or more"
    assert [line.split(":")[0] for line in lines[1:]] == [
        f"Wrote {checkpoint.with_suffix(s)}" for s in (".onnx", ".pt2")
    ]
    image = torch.rand(1, 3, 64, 160)
    with torch.no_grad():
        expected = load_module(checkpoint)(image).numpy()
    session = runtime.InferenceSession(checkpoint.with_suffix(".onnx"), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"image": image.numpy()})
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    program = torch.export.load(checkpoint.with_suffix(".pt2")).module()
    np.testing.assert_allclose(program(image).detach().numpy(), expected, atol=1e-4)


def test_one_size_may_be_any(run, checkpoint):
    status, out, _ = run("export", str(checkpoint), "--format", "torch", "--size", "50", "71", "--output", "out/net")
    assert status == 0
    assert "Images of 50 x 71 pixels (height x width)" in out
    image = torch.rand(1, 3, 50, 71)
    program = torch.export.load("out/net.pt2").module()
    with torch.no_grad():
        torch.testing.assert_close(program(image), load_module(checkpoint)(image), rtol=0, atol=1e-5)
    status, out, _ = run("export", str(checkpoint), "--format=torch", "--size", "50", "71", "--tolerance", "-1")
    assert status == 1, "whatever differs more than is fine is told"
    assert "more than -1: do not use it" in out


def test_no_file_is_left_of_a_network_whose_scores_are_no_numbers(run, checkpoint):
    saved = torch.load(checkpoint, weights_only=True)
    for name in [name for name in saved["state_dict"] if name.endswith("segmentation_head.0.bias")]:
        saved["state_dict"][name].fill_(float("nan"))
    Path("out").mkdir()
    torch.save(saved, "nan.ckpt")
    status, _, err = run("export", "nan.ckpt", "--format", "torch", "--size", "32", "32", "--output", "out/net")
    assert status != 0
    assert "the network's scores are not finite: use another checkpoint" in err
    assert "Traceback" not in err
    assert not list(Path("out").iterdir())


def test_mistakes_are_told_in_one_line(run, refused):
    assert "`size` must be a height and a width" in run("export", "a.ckpt", "--size", "5")[2]
    assert "nothing.ckpt" in refused("export", "nothing.ckpt")

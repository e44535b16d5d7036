"""Pixels without data are in no loss and no energy, as padding is."""

from dataclasses import replace

import torch
from torchvision import tv_tensors

from weakseg_lightning.data import SegmentationDataset
from weakseg_lightning.data.transforms import training_transform
from weakseg_lightning.modules.core.latent_store import LatentStore
from weakseg_lightning.modules.core.preparing import whole_batch


def test_what_is_invalid_moves_with_the_image(squares):
    source = squares(1)
    sample = source[0]
    valid = torch.ones_like(sample.seeds, dtype=torch.bool)
    valid[5:20, 30:] = False
    source.broken[0] = replace(sample, valid=valid)
    assert torch.equal(SegmentationDataset(source, 3)[0]["valid"], valid)
    item = SegmentationDataset(source, 3, transform=training_transform(32, (0.7, 1.5), rotation=20))[5, 0]
    assert 0 < (~item["valid"]).sum() < 32 * 32
    assert isinstance(item["valid"], torch.Tensor)
    assert not isinstance(item["valid"], tv_tensors.TVTensor)


def test_a_solver_of_whole_images_knows_what_is_invalid(squares):
    source = squares(1)
    valid = torch.zeros(40, 48, dtype=torch.bool)
    valid[3:9] = True
    source.broken[0] = replace(source[0], valid=valid)
    data = SegmentationDataset(source, 3, transform=training_transform(32))
    loaded = data[0, 0, None]["loaded"]
    batch = {"seeds": loaded.seeds[None, :32, :32], "id": ["a"]}
    item = LatentStore().attach(batch, [loaded])["whole"][0]
    facts = {name: torch.ones(3, dtype=torch.bool) for name in ("tags", "seed_labels")}
    assert torch.equal(whole_batch({**item, **facts, "id": "a"})["valid"], valid[None])
    assert whole_batch({**data[0], "image": loaded.image, "seeds": loaded.seeds})["valid"].ndim == 3

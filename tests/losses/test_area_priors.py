from pathlib import Path

import pytest
import torch

from weakseg_lightning.losses import ActivationAreas, EqualAreas, FileAreas

NAMES = ["background", "cat", "dog"]
BOTH, DOG, NONE = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 0, 0]]).bool().split(1)
FLAT = torch.zeros(1, 2, 2, 2)


def test_equal_areas() -> None:
    prior = EqualAreas(0.6)
    found = [prior.areas(["a"], NAMES, tags, FLAT)[0].tolist() for tags in (BOTH, DOG, NONE)]
    assert found == [pytest.approx(expected) for expected in ([0.6, 0.2, 0.2], [0.6, 0, 0.4], [1, 0, 0])]
    with pytest.raises(ValueError, match="`background` must be between 0 and 1, got 2"):
        EqualAreas(2)


def test_areas_of_activation_maps() -> None:
    maps = torch.zeros(1, 2, 4, 5)
    maps[0, 0, 0, :4] = torch.tensor([1.0, 0.5, 0.39, 0.5])  # three cells above the threshold
    maps[0, 1, 0, 3:] = torch.tensor([0.9, 1.0])  # one of them is more of a dog
    prior = ActivationAreas(0.4, least=0.02)
    assert prior.areas(["a"], NAMES, BOTH, maps)[0].tolist() == pytest.approx([0.8, 0.1, 0.1])
    assert prior.areas(["a"], NAMES, DOG, maps)[0].tolist() == pytest.approx([0.9, 0, 0.1]), "no cat: no area"
    assert prior.areas(["a"], NAMES, BOTH, 0 * maps)[0].tolist() == pytest.approx([0.96, 0.02, 0.02])
    for name in ("threshold", "least"):
        with pytest.raises(ValueError, match=f"`{name}` must be between 0 and 1"):
            ActivationAreas(**{name: -0.1})


def test_areas_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "areas.csv"
    path.write_text("image,class,area\na,dog,0.3\nb,cat,0\nb,dog,0.2\nc,background,0.5\n", encoding="utf-8")
    prior = FileAreas(path)
    tags = torch.cat([BOTH, BOTH, BOTH, BOTH])
    found = prior.areas(["a", "b", "c", "other"], NAMES, tags, FLAT)
    expected = [[0.35, 0.35, 0.3], [0.8, 0, 0.2], [0.5, 0.25, 0.25], [1 / 3] * 3]
    torch.testing.assert_close(found, torch.tensor(expected))
    prior.check(NAMES)
    EqualAreas(0.6).check(NAMES)
    path.write_text("image,class,area\na,horse,0.3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"areas\.csv, line 2: `class` must name a class, got 'horse'"):
        FileAreas(path).check(NAMES)
    with pytest.raises(ValueError, match="horse"):
        FileAreas(path).areas(["a"], NAMES, BOTH, FLAT)


def test_a_file_of_areas_is_no_file_of_bounds_and_absent_classes_take_nothing(tmp_path: Path) -> None:
    (tmp_path / "bounds.csv").write_text("image,class,lower,upper\na,cat,0.2,0.3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"bounds\.csv needs rows with the columns image,class,area"):
        FileAreas(tmp_path / "bounds.csv").check(NAMES)
    (tmp_path / "areas.csv").write_text("image,class,area\na,dog,0.3\na,cat,0.9\n", encoding="utf-8")
    prior = FileAreas(tmp_path / "areas.csv")
    prior.check(NAMES)
    assert prior.areas(["a"], NAMES, DOG, FLAT)[0].tolist() == pytest.approx([0.7, 0, 0.3]), "no cat: no area"
    assert prior.areas(["a"], NAMES, BOTH, FLAT)[0].tolist() == pytest.approx([0, 0.75, 0.25], abs=1e-6)

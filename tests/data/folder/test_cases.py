"""Cases: which images are slices of one volume, by their names or by cases.csv; validation takes them as wholes."""

import re

import pytest
import torch
from slices import CASES, PATTERN, mask_of, write_slices

from weakseg_lightning.data import CaseSlice, FolderDataModule, collate
from weakseg_lightning.data.folder.contents import read_folder
from weakseg_lightning.data.folder.tables.cases import CaseRule
from weakseg_lightning.hyperparameters import describe


@pytest.fixture
def root(tmp_path):
    return write_slices(tmp_path / "heart")


def data_of(root, **options):
    return FolderDataModule(root, crop_size=16, batch_size=2, num_workers=0, **options)


def table(root, text, rule=CaseRule()):  # noqa: B008
    (root / "cases.csv").write_text(text, "utf-8")
    return read_folder(root, rule=rule)


# ---- by names ---------------------------------------------------------------------------------------------------


def test_names_tell_cases_and_the_order_of_slices(root):
    cases = read_folder(root, rule=CaseRule(PATTERN, (8.0, 1.5, 1.25))).cases
    assert len(cases) == sum(CASES.values())
    assert cases["p1_ed_slice_10"] == CaseSlice("p1_ed", 10, (8.0, 1.5, 1.25))
    assert cases["p1_ed_slice_2"].place == 2
    assert cases["p2_ed_slice_0"] == ("p2_ed", 0, (8.0, 1.5, 1.25))
    assert read_folder(root, rule=CaseRule("(p1.*)?.*")).cases.keys() == {name for name in cases if name[:2] == "p1"}
    of_patients = read_folder(root, rule=CaseRule("(p[0-9])_.*")).cases
    assert [of_patients[f"p1_e{kind}"].place for kind in ("d_slice_10", "s_slice_0")] == [10, 11]


def test_without_a_rule_there_are_no_cases(root):
    contents = read_folder(root)
    assert (contents.cases, contents.problems) == ({}, [])
    batch = collate([data_of(root).whole_images("val")[0]])
    assert "case" not in batch


def test_names_that_do_not_match_have_one_error(root):
    (root / "images/p2_ed_slice_0.png").rename(root / "images/other.png")
    (root / "masks/p2_ed_slice_0.png").rename(root / "masks/other.png")
    (root / "scribbles/p2_ed_slice_0.png").unlink()
    with pytest.raises(ValueError, match=re.escape(repr(PATTERN))) as raised:
        data_of(root, cases=PATTERN).setup("fit")
    assert "1 of 18 images with masks, as 'other'" in str(raised.value)
    (root / "masks/other.png").unlink()  # no image that is evaluated
    assert "other" not in read_folder(root, rule=CaseRule(PATTERN)).cases
    data_of(root, cases=PATTERN).setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cases": "(.+"}, r"`cases` must be a regular expression, got '\(\.\+' \(missing \)"),
        ({"cases": ".+_slice"}, r"`cases` must have the case in parentheses, as '.+', got '\.\+_slice'$"),
        ({"spacing": (1.0, 0.0, 1.0)}, r"`spacing` must be three lengths above 0 .*, got \(1.0, 0.0, 1.0\)$"),
        ({"spacing": (1.0, 1.0)}, r"`spacing` must be three lengths above 0"),
    ],
)
def test_rules_that_make_no_sense(root, options, message):
    with pytest.raises(ValueError, match=message):
        data_of(root, **options)


# ---- by a table -------------------------------------------------------------------------------------------------


def test_a_table_names_cases_spacings_and_the_order(root):
    names = [
        (f"{case}_slice_{n}.png", case.removesuffix("_ed"), -n) for case, count in CASES.items() for n in range(count)
    ]
    rows = [f"{name};{case};{number};8,5;1;1,5" for name, case, number in names]
    text = "\n".join(["image;case;slice;spacing_z;spacing_y;spacing_x", *rows])
    contents = table(root, text)
    assert contents.problems == []
    assert contents.cases["p2_ed_slice_3"] == CaseSlice("p2", 0, (8.5, 1.0, 1.5))
    assert contents.cases["p2_ed_slice_0"].place == 3
    assert contents.notes == []


def test_a_table_without_spacing_takes_that_of_the_option_and_a_pattern_comes_first(root):
    rows = [f"{name},heart" for name in read_folder(root).images]
    text = "\n".join(["image,case", *rows])
    assert table(root, text, CaseRule(spacing=(9.0, 1.0, 1.0))).cases["p2_ed_slice_3"] == ("heart", 17, (9.0, 1.0, 1.0))
    assert table(root, text, CaseRule(PATTERN)).cases["p2_ed_slice_3"] == ("p2_ed", 3, (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("header", "row", "text"),
    [
        ("image,case", "nobody,p", "line 2 is about the image 'nobody', which is not there; rename or remove it"),
        ("image,case", "p2_ed_slice_0,", "line 2 names no case: write its name in the column `case`"),
        ("image,patient", "p2_ed_slice_0,p", "has no column `case` in its first line, expected a first line"),
        ("image,case", "p2_ed_slice_0,p\np2_ed_slice_0.png,q", "names the image 'p2_ed_slice_0' twice: remove a row"),
        ("image,case", "p2_ed_slice_0,p", "has no row for 17 of 18 images with masks, as 'p1_ed_slice_0': add them"),
        ("image,case,slice", "p2_ed_slice_0,p,x", "has 'x' in the column `slice`, expected a number: correct"),
        ("image,case,spacing_z", "p2_ed_slice_0,p,3", "line 2 has a spacing in some directions alone: give spacing_z"),
        ("image,case,spacing_z", "p2_ed_slice_0,p,0", "has '0' in the column `spacing_z`, expected a length above 0"),
        (
            "image,case,spacing_z,spacing_y,spacing_x",
            "p2_ed_slice_0,p,3,1,1\np2_ed_slice_1,p,2,1,1",
            "gives the slices of the case 'p' several spacings: correct it",
        ),
        (
            "image,case,slice",
            "p2_ed_slice_0,p,3\np2_ed_slice_1,p,3.0",
            "gives several slices of the case 'p' the number 3 in the column `slice`: correct it",
        ),
    ],
)
def test_faults_of_the_table(root, header, row, text):
    problems = table(root, f"{header}\n{row}\n").problems
    assert [problem.file for problem in problems if text in problem.text] == ["cases.csv"]
    with pytest.raises(ValueError, match=r"cases\.csv: "):
        data_of(root).setup("fit")


# ---- data module ------------------------------------------------------------------------------------------------


def test_batches_name_the_case_of_each_image(root):
    data = data_of(root, cases=PATTERN, val_fraction=0.3, spacing=(8.0, 1.0, 1.0))
    data.setup("validate")
    for batch in data.val_dataloader():
        ((case, place, spacing),) = batch["case"]
        assert batch["id"] == [f"{case}_slice_{place}"]
        assert spacing == (8.0, 1.0, 1.0)
        assert torch.equal(batch["mask"][0], torch.from_numpy(mask_of(place)))
    assert describe(data)["init_args"]["cases"] == PATTERN


@pytest.mark.parametrize("seed", range(4))
def test_cases_are_held_out_as_wholes(root, seed):
    data = data_of(root, cases=PATTERN, val_fraction=0.34, split_seed=seed)
    held_out, trained = ({name.rpartition("_slice")[0] for name in ids} for ids in splits(data))
    assert len(held_out) == 1
    assert held_out | trained == set(CASES)
    assert not held_out & trained
    assert len(splits(data)[0]) == CASES[held_out.pop()]


def test_a_case_in_both_lists_is_named(root, tmp_path):
    lists = {}
    for split, number in (("train", 0), ("val", 1)):
        lists[f"{split}_list"] = tmp_path / f"{split}.txt"
        lists[f"{split}_list"].write_text(f"p2_ed_slice_{number}\n")
    assert splits(data_of(root, **lists)) == [["p2_ed_slice_1"], ["p2_ed_slice_0"]]
    with pytest.raises(ValueError, match="`train_list` and `val_list` both name 'p2_ed': leave it in one of them"):
        data_of(root, cases=PATTERN, **lists).setup("fit")
    alone = data_of(root, cases=PATTERN, val_list=lists["val_list"])
    assert not [name for name in splits(alone)[1] if name.startswith("p2_ed")]


def splits(data):
    return [list(source.ids) for source in (data.val_source(), data.train_source())]

"""Where VOC and SBD are found, what train_aug is, and how the archives are fetched."""

import hashlib
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from torchvision.datasets import SBDataset, voc

from weakseg_lightning.data import BadSampleError, VOCDataModule
from weakseg_lightning.data.voc.files import VOCFiles, download_voc, read_list, read_mask


def write_sbd(folder: Path, train: list[str], val: list[str], size: tuple[int, int] = (40, 48)) -> np.ndarray:
    """Write the masks of SBD in their own format; returns the mask that all images share."""
    labels = np.zeros(size, dtype=np.uint8)
    labels[5:20, 10:30] = 8
    for part in ("cls", "img", "inst"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name in train + val:
        nested = {"Boundaries": np.zeros((2, 2)), "Segmentation": labels, "CategoriesPresent": np.array([8])}
        savemat(folder / "cls" / f"{name}.mat", {"GTcls": nested}, do_compression=True)
    for part, names in (("train", train), ("val", val)):
        (folder / f"{part}.txt").write_text("\n".join(names) + "\n")
    return labels


@pytest.mark.parametrize("step", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_folder_is_found_from_above(make_voc, step):
    root = make_voc()
    assert VOCFiles(root / step).folder == root / "VOCdevkit" / "VOC2012"


def test_train_aug_is_train_and_sbd_without_val(make_voc):
    root = make_voc(train=["a_1", "a_2"], val=["v_1", "v_2"])
    write_sbd(root / "benchmark_RELEASE" / "dataset", train=["a_2", "s_1", "v_1"], val=["s_2", "v_2", "a_1"])
    assert VOCFiles(root).names("train_aug") == ["a_1", "a_2", "s_1", "s_2"]


def test_train_aug_without_lists_takes_the_masks_that_are_there(make_voc):
    root = make_voc(train=["a_1"], val=["v_1"])
    write_sbd(root / "SBD", ["s_1", "v_1"], ["s_2"])
    for split in ("train", "val"):
        (root / "SBD" / f"{split}.txt").unlink()
    assert VOCFiles(root).names("train_aug") == ["a_1", "s_1", "s_2"]


def test_train_aug_has_the_official_size(make_voc):
    """The sizes of the real lists: VOC 1464 and 1449; SBD 8498 and 2857, 1103 + 345 of them in VOC val."""
    train = [f"t_{index}" for index in range(1464)]
    val = [f"v_{index}" for index in range(1449)]
    root = make_voc(["t_0"], ["v_0"])
    lists = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("\n".join(train))
    (lists / "val.txt").write_text("\n".join(val))
    # SBD has 11,355 images, all but one of VOC train and val among them as far as they were there in 2011.
    others = [f"s_{index}" for index in range(9118)]
    known = train[:789] + val[:1448]
    sbd = root / "SBD"
    (sbd / "cls").mkdir(parents=True)
    everything = [*others, *known]
    assert len(everything) == 11355
    (sbd / "train.txt").write_text("\n".join(everything[::2]))
    (sbd / "val.txt").write_text("\n".join(everything[1::2]))
    names = VOCFiles(root).names("train_aug")
    assert len(names) == len(set(names)) == 10582
    assert not set(names) & set(val)


def test_train_aug_from_a_folder_of_pngs(make_voc):
    root = make_voc(train=["a_1"], val=["v_1"])
    folder = root / "VOCdevkit" / "VOC2012" / "SegmentationClassAug"
    folder.mkdir()
    for name in ("a_1", "s_1", "v_1"):
        (folder / f"{name}.png").touch()
    assert VOCFiles(root).names("train_aug") == ["a_1", "s_1"]


def test_ready_list_of_train_aug_wins(make_voc):
    root = make_voc()
    path = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "SegmentationAug" / "train.txt"
    path.parent.mkdir()
    path.write_text("/JPEGImages/a_2.jpg /SegmentationClassAug/a_2.png\na_1\n\n")
    assert VOCFiles(root).names("train_aug") == ["a_2", "a_1"]
    assert VOCFiles(root).missing("train_aug") == []


def test_masks_of_voc_come_before_those_of_sbd(make_voc):
    root = make_voc(train=["a_1", "a_2"])
    labels = write_sbd(root / "SBD", ["a_1", "a_2", "s_1"], [])
    files = VOCFiles(root)
    assert files.mask("a_1").parent.name == "SegmentationClass"
    assert files.mask("s_1") == root / "SBD" / "cls" / "s_1.mat"
    assert read_mask(files.mask("s_1")).tolist() == labels.tolist()
    assert files.mask("nowhere").parent.name == "SegmentationClass"


@pytest.mark.parametrize("content", [b"", b"no matlab", None])
def test_broken_mat_is_named(tmp_path, content):
    write_sbd(tmp_path, ["s_1"], [])
    path = tmp_path / "cls" / "s_1.mat"
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    with pytest.raises(BadSampleError, match=r"s_1\.mat is not a mask of SBD that can be read"):
        read_mask(path)


def test_lists_may_hold_paths(tmp_path):
    (tmp_path / "list.txt").write_text("2007_000032\n\n JPEGImages/b.jpg masks/b.png \n")
    assert read_list(tmp_path / "list.txt") == ["2007_000032", "b"]


def test_interrupted_download_is_noticed(make_voc):
    root = make_voc()
    assert not VOCFiles(root).lacks_voc()
    (root / "VOCdevkit" / "VOC2012" / "JPEGImages" / "v_2.jpg").unlink()
    assert VOCFiles(root).lacks_voc()
    assert VOCFiles(root / "elsewhere").lacks_voc()


# ---- download ---------------------------------------------------------------------------------------------------


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which its files are served."""
    folder = tmp_path / "server"
    folder.mkdir()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder))
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def pack(archive: Path, folder: Path) -> str:
    """Pack the content of a folder; returns the MD5 sum."""
    with tarfile.open(archive, "w:gz" if archive.suffix == ".tgz" else "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    return hashlib.md5(archive.read_bytes()).hexdigest()


@pytest.fixture
def archives(server, make_voc, tmp_path, monkeypatch) -> Path:
    """Small VOC and SBD archives on a local server, where torchvision looks for the real ones; the server's folder."""
    folder, address = server
    make_voc(["a_1", "a_2"], ["v_1"], root=tmp_path / "packed_voc")
    sum_voc = pack(folder / "VOCtrainval_11-May-2012.tar", tmp_path / "packed_voc")
    entry = {**voc.DATASET_YEAR_DICT["2012"], "url": f"{address}/VOCtrainval_11-May-2012.tar", "md5": sum_voc}
    monkeypatch.setitem(voc.DATASET_YEAR_DICT, "2012", entry)
    write_sbd(tmp_path / "packed_sbd" / "benchmark_RELEASE" / "dataset", ["a_2", "v_1"], ["a_1"])
    monkeypatch.setattr(SBDataset, "md5", pack(folder / "benchmark.tgz", tmp_path / "packed_sbd"))
    monkeypatch.setattr(SBDataset, "url", f"{address}/benchmark.tgz")
    return folder


@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")
def test_download_fetches_what_is_missing_once(archives, tmp_path):
    data = VOCDataModule(tmp_path / "new", supervision="full", download=True, num_workers=0, batch_size=2)
    data.prepare_data()
    data.setup("fit")
    assert sorted(data.train_source().ids) == ["a_1", "a_2"]
    assert next(iter(data.train_dataloader()))["mask"].shape == (2, 321, 321)
    assert (tmp_path / "new" / "SBD" / "cls" / "a_2.mat").is_file()
    for path in archives.iterdir():  # a second run needs no server
        path.unlink()
    data.prepare_data()


@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")
def test_sbd_is_fetched_for_train_aug_alone(archives, tmp_path):
    VOCDataModule(tmp_path / "new", train_split="train", download=True).prepare_data()
    assert not (tmp_path / "new" / "SBD").exists()


def test_nothing_is_fetched_unasked(archives, tmp_path):
    VOCDataModule(tmp_path / "new").prepare_data()
    assert not (tmp_path / "new").exists()


@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")
def test_failed_download_says_what_to_do(archives, tmp_path):
    (archives / "VOCtrainval_11-May-2012.tar").unlink()
    with pytest.raises(RuntimeError, match=r"download of VOCtrainval_11-May-2012\.tar failed.*put it into .*new"):
        download_voc(tmp_path / "new")

"""WebDataset shards: ours and other people's, against the webdataset package, tarfile and PIL; damage is named."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from fake_cifar10 import assert_same, fake_dataset, shrink
from PIL import Image

from fastcifar.dataset import export
from fastcifar.dataset.cifar10 import CLASSES
from fastcifar.dataset.export import export_dataset, export_webdataset, png_bytes
from fastcifar.dataset.folder import read_class_folders
from fastcifar.dataset.image_set import Dataset
from fastcifar.dataset.webdataset import find_shards, read_webdataset
from fastcifar.errors import DataError

webdataset = pytest.importorskip("webdataset")

PNG = png_bytes(np.zeros((32, 32, 3), np.uint8))
Members = list[tuple[str, bytes]]


def jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG")
    return buffer.getvalue()


def write_foreign(folder: Path, train: str, test: str, dataset: Dataset, per_shard: int = 35) -> Path:
    """JPEG shards as the webdataset package writes them; `train` and `test` are names with a place for a number."""
    folder.mkdir()
    for pattern, images in ((train, dataset.train), (test, dataset.test)):
        for start in range(0, len(images), per_shard):
            with webdataset.TarWriter(str(folder / pattern.format(start // per_shard))) as writer:
                for index in range(start, min(start + per_shard, len(images))):
                    label = int(images.labels[index])
                    key = f"v1.0/sample_{index:04d}"
                    writer.write({"__key__": key, "jpg": jpeg(images.images[index]), "cls": label, "json": {"a": 1}})
    return folder


def write_tar(path: Path, members: Members) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_pair(folder: Path, train: Members) -> Path:
    """Two classes: a good test shard, and a training shard of `train`."""
    folder.mkdir(exist_ok=True)
    write_tar(folder / "test-0.tar", good_members())
    write_tar(folder / "train-0.tar", train)
    return folder


def good_members() -> Members:
    return [("0.png", PNG), ("0.cls", b"0"), ("1.png", PNG), ("1.cls", b"1")]


@pytest.mark.parametrize("limit", [None, 30])
def test_our_shards_come_back_to_the_bit(tmp_path, monkeypatch, limit):
    shrink(monkeypatch)
    monkeypatch.setattr(export, "IMAGES_PER_SHARD", 40)
    dataset = fake_dataset()
    export_webdataset(dataset, tmp_path / "out", limit)
    read = read_webdataset(tmp_path / "out")
    assert read.classes == CLASSES
    if limit is None:
        assert_same(read, dataset)
        assert read.name == "cifar10"
    else:
        assert read.train.class_counts(10) == [3] * 10
        assert read.name == "out"


def test_folders_and_shards_turn_into_each_other(tmp_path, monkeypatch):
    shrink(monkeypatch)
    export_dataset(fake_dataset(), tmp_path / "folders", "folders")
    first = read_class_folders(tmp_path / "folders")
    export_dataset(first, tmp_path / "shards", "webdataset")
    second = read_webdataset(tmp_path / "shards")
    assert_same(second, first)
    export_dataset(second, tmp_path / "folders again", "folders")
    assert_same(read_class_folders(tmp_path / "folders again"), first)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-{:06d}.tar", "test-{:06d}.tar"),
        ("cifar10-train-{:06d}.tar", "cifar10-test-{:06d}.tar"),
        ("cifar10-train-{}-of-3.tar", "cifar10-val-{}-of-1.tar"),
        ("my_train_{}.tar", "my_validation_{}.tar"),
    ],
)
def test_other_peoples_shards_are_read_as_webdataset_reads_them(tmp_path, train, test):
    folder = write_foreign(tmp_path / "mine", train, test, fake_dataset())
    read = read_webdataset(folder)
    for images, pattern, shards in ((read.train, train, 3), (read.test, test, 1)):
        urls = [str(folder / pattern.format(number)) for number in range(shards)]
        samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8").to_tuple("jpg", "cls"))
        np.testing.assert_array_equal(images.images, np.stack([image for image, _ in samples]))
        assert images.labels.tolist() == [label for _, label in samples]
    assert read.classes == tuple("0123456789"), "a part of CIFAR-10, or other data, is not called by its names"
    assert read.name == "mine"
    assert read.source.endswith("val as test set") == ("-val-" in test)


def test_all_of_cifar10_is_recognised_by_its_labels(tmp_path, monkeypatch):
    shrink(monkeypatch)
    read = read_webdataset(write_foreign(tmp_path / "mine", "train-{}.tar", "test-{}.tar", fake_dataset()))
    assert (read.name, read.classes) == ("cifar10", CLASSES)


def test_test_shards_win_over_validation_shards(tmp_path):
    write_pair(tmp_path, good_members())
    write_tar(tmp_path / "val-0.tar", [*good_members(), ("2.png", PNG), ("2.cls", b"0")])
    assert len(read_webdataset(tmp_path).test) == 2


def test_what_a_sample_may_look_like(tmp_path):
    """Any case, folders with dots, further members, notes beside, line ends, shared names in several shards."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    grey = io.BytesIO()
    Image.fromarray(pictures[1, :, :, 0]).save(grey, format="PNG")
    members = [
        ("__meta__", b"?"),
        ("./a.b/0.PNG", png_bytes(pictures[0])),
        ("./a.b/0.Cls", b"1\r\n"),
        ("./a.b/0.json", b"{}"),
        ("./a.b/._0.png", b"written by a Mac"),
        ("0.cls", b"0"),
        ("0.seg.png", b"no picture"),
        ("0.png", grey.getvalue()),
        ("readme", b""),
        ("2.JPEG", jpeg(pictures[2])),
        ("2.cls", b" 1"),
    ]
    read = read_webdataset(write_pair(tmp_path, members)).train
    assert read.labels.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(read.images[0], pictures[0])
    np.testing.assert_array_equal(read.images[1], np.repeat(pictures[1, :, :, :1], 3, axis=2))
    np.testing.assert_array_equal(read.images[2], np.asarray(Image.open(io.BytesIO(jpeg(pictures[2])))))


def test_long_names(tmp_path):
    """GNU and pax tar put them into blocks of their own before the member."""
    for split, form in (("train", tarfile.GNU_FORMAT), ("test", tarfile.PAX_FORMAT)):
        with tarfile.open(tmp_path / f"{split}-0.tar", "w", format=form) as tar:
            for name, content in good_members():
                member = tarfile.TarInfo("ü" * 200 + name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    read = read_webdataset(tmp_path)
    assert len(read.train) == len(read.test) == 2


def replaced(name: str, content: bytes | None) -> Members:
    """Good members, one of them with another content, or gone."""
    return [(n, content if n == name else c) for n, c in good_members() if n != name or content is not None]  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        (replaced("1.cls", None), r"train-0\.tar/1: sample without label \(put 1\.cls "),
        (replaced("0.png", None), r"train-0\.tar/0: sample without image \(put 0\.png or \.jpg"),
        (replaced("1.cls", b"cat"), r"train-0\.tar/1\.cls: holds no label in decimal digits"),
        (replaced("1.cls", b"-1"), r"train-0\.tar/1\.cls: holds no label"),
        (replaced("1.cls", b"1.0"), r"train-0\.tar/1\.cls: holds no label"),
        (replaced("1.cls", b""), r"train-0\.tar/1\.cls: holds no label"),
        (replaced("1.cls", b"1" * 5000), r"train-0\.tar/1\.cls: holds no label"),
        (replaced("1.cls", b"1" + b" " * 30 + b"0"), r"train-0\.tar/1\.cls: holds no label"),
        (replaced("1.cls", b"2"), r"train-0\.tar/1\.cls: label 2 is outside 0 to 1"),
        (replaced("1.cls", b"0"), r"no train sample has label 1"),
        (replaced("1.png", png_bytes(np.zeros((28, 32, 3), np.uint8))), r"train-0\.tar/1\.png: is 32x28 pixels"),
        (replaced("1.png", png_bytes(np.zeros((32, 32, 4), np.uint8))), r"train-0\.tar/1\.png: .* mode RGBA"),
        (replaced("1.png", PNG[:-30]), r"train-0\.tar/1\.png: damaged"),
        (replaced("1.png", b""), r"train-0\.tar/1\.png: damaged"),
        (good_members() + good_members()[2:], r"train-0\.tar/1\.png: is there twice"),
        ([*good_members()[::2], *good_members()[1::2]], r"train-0\.tar/0: sample without label \(.* right beside"),
        ([], r"no train sample has label 0"),
    ],
)
def test_a_bad_sample_is_named_in_one_line(tmp_path, members, problem):
    (tmp_path / "classes.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match=problem) as failure:
        read_webdataset(write_pair(tmp_path, members))
    assert "\n" not in str(failure.value)


def test_a_stray_label_is_no_reason_to_count_to_it(tmp_path):
    with pytest.raises(DataError, match="no train sample has label 1 "):
        read_webdataset(write_pair(tmp_path, replaced("1.cls", b"999999999")))


def test_labels_from_one_on_are_refused(tmp_path):
    one_based = [("0.png", PNG), ("0.cls", b"1"), ("1.png", PNG), ("1.cls", b"2")]
    with pytest.raises(DataError, match=r"no train sample has label 0 .* counted from 0"):
        read_webdataset(write_pair(tmp_path, one_based))


def test_wherever_a_shard_breaks_off_it_is_noticed(tmp_path):
    """tarfile alone is content with a shard that ends at, or within, a header."""
    write_pair(tmp_path, good_members())
    shard = tmp_path / "train-0.tar"
    whole = shard.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    assert whole[end : end + 512] == bytes(512)
    silent = 0
    for cut in [*range(0, end + 512, 256), end + 511]:
        shard.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"train-0\.tar: (cut off or damaged from [01]\.|no uncompressed)"):
            read_webdataset(tmp_path)
        try:
            with tarfile.open(shard) as tar:
                silent += len(tar.getmembers()) < 4
        except tarfile.TarError:
            pass
    assert silent > 0
    shard.write_bytes(whole[: end + 512])
    assert len(read_webdataset(tmp_path).train) == 2


def test_a_damaged_header_is_noticed(tmp_path):
    write_pair(tmp_path, good_members())
    shard = tmp_path / "train-0.tar"
    with tarfile.open(shard) as tar:
        at = tar.getmembers()[2].offset
    content = bytearray(shard.read_bytes())
    content[at] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"train-0\.tar: cut off or damaged from 0\.cls on"):
        read_webdataset(tmp_path)


def test_a_compressed_shard_is_refused(tmp_path):
    write_pair(tmp_path, good_members())
    with tarfile.open(tmp_path / "train-0.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("0.cls"))
    with pytest.raises(DataError, match=r"train-0\.tar: no uncompressed tar file"):
        read_webdataset(tmp_path)


@pytest.mark.parametrize("text", ["a\na\n", "a\n\nb\n", "a\n", "", "a\n\xff".encode("latin1")])
def test_bad_class_names(tmp_path, text):
    write_pair(tmp_path, good_members())
    (tmp_path / "classes.txt").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(DataError, match=r"classes\.txt: .* \(one class name a line is expected\)"):
        read_webdataset(tmp_path)


def test_both_splits_of_one_set_are_needed(tmp_path):
    write_tar(tmp_path / "x-train-0.tar", good_members())
    with pytest.raises(DataError, match=r"holds no x-test-\*\.tar"):
        read_webdataset(tmp_path)
    write_tar(tmp_path / "y-test-0.tar", good_members())
    with pytest.raises(DataError, match=r"holds shards of several sets, x-\* and y-\*"):
        read_webdataset(tmp_path)
    (tmp_path / "x-train-0.tar").unlink()
    with pytest.raises(DataError, match=r"holds no y-train-\*\.tar"):
        read_webdataset(tmp_path)


def test_other_tar_files_are_no_shards(tmp_path):
    for name in ("constrain-0.tar", "train.tar", "train-0.tar.gz", "._train-0.tar", ".train-0.tar", "trainer-0.tar"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "train-0.tar").mkdir()
    assert find_shards(tmp_path) == {}
    assert find_shards(tmp_path / "nowhere") == {}

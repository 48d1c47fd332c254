"""Exports, read back by others: our own folder reader, tarfile, webdataset."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
from fake_cifar10 import fake_dataset, shrink
from PIL import Image

from fastcifar.dataset import export
from fastcifar.dataset.export import export_dataset, export_folders, export_webdataset
from fastcifar.dataset.folder import read_class_folders
from fastcifar.dataset.grid import sample_mosaic, write_sample_grid
from fastcifar.errors import UsageError


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    shrink(monkeypatch)


def test_folders_are_read_back(tmp_path):
    dataset = fake_dataset()
    assert export_folders(dataset, tmp_path / "out") == 120
    read = read_class_folders(tmp_path / "out")
    order = np.argsort(dataset.train.labels, kind="stable")
    np.testing.assert_array_equal(read.train.images, dataset.train.images[order])
    np.testing.assert_array_equal(read.train.labels, dataset.train.labels[order])
    assert read.name == "cifar10"


def test_file_number_is_the_place_in_the_split(tmp_path):
    dataset = fake_dataset()
    export_folders(dataset, tmp_path / "out")
    name = dataset.classes[dataset.test.labels[13]]
    picture = np.asarray(Image.open(tmp_path / "out" / "test" / name / "00013.png"))
    np.testing.assert_array_equal(picture, dataset.test.images[13])


def test_limit_is_spread_over_the_classes(tmp_path):
    assert export_folders(fake_dataset(), tmp_path / "out", limit=30) == 50
    read = read_class_folders(tmp_path / "out")
    assert read.train.class_counts(10) == [3] * 10
    assert read.test.class_counts(10) == [2] * 10
    with pytest.raises(UsageError, match="--limit 9"):
        export_folders(fake_dataset(), tmp_path / "less", limit=9)


def test_shards_hold_every_image_once(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "IMAGES_PER_SHARD", 40)
    dataset = fake_dataset()
    assert export_webdataset(dataset, tmp_path / "out") == 120
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["classes.txt", "test-000000.tar", *(f"train-{number:06d}.tar" for number in range(3))]
    images, labels = [], []
    for number in range(3):
        with tarfile.open(tmp_path / "out" / f"train-{number:06d}.tar") as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # pyright: ignore[reportOptionalMemberAccess]
            assert {member.mtime for member in tar} == {0}
        for name, content in members.items():
            if name.endswith(".png"):
                images.append(np.asarray(Image.open(io.BytesIO(content))))
                labels.append(int(members[name.replace(".png", ".cls")]))
    np.testing.assert_array_equal(np.stack(images), dataset.train.images)
    np.testing.assert_array_equal(labels, dataset.train.labels)


def test_webdataset_reads_the_shards(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    dataset = fake_dataset()
    export_webdataset(dataset, tmp_path / "out")
    shard = str(tmp_path / "out" / "test-000000.tar")
    samples = list(webdataset.WebDataset(shard, shardshuffle=False).decode("rgb8").to_tuple("png", "cls"))
    np.testing.assert_array_equal(np.stack([image for image, _ in samples]), dataset.test.images)
    assert [label for _, label in samples] == dataset.test.labels.tolist()


def test_same_data_same_shards(tmp_path):
    digests = set()
    for name in ("one", "two"):
        export_webdataset(fake_dataset(), tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name / "train-000000.tar").read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize("file_format", ["folders", "webdataset"])
def test_a_target_in_use_is_left_alone(tmp_path, file_format):
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine").write_text("keep")
    with pytest.raises(UsageError, match="out: is there already"):
        export_dataset(fake_dataset(), target, file_format)
    assert [path.name for path in target.iterdir()] == ["mine"]


@pytest.mark.parametrize("file_format", ["folders", "webdataset"])
def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch, file_format):
    calls = iter(range(50))

    def fail_at_the_fiftieth(image):
        next(calls)
        return b"png"

    monkeypatch.setattr(export, "png_bytes", fail_at_the_fiftieth)
    with pytest.raises(StopIteration):
        export_dataset(fake_dataset(), tmp_path / "out", file_format)
    assert list(tmp_path.iterdir()) == []


def test_unknown_format(tmp_path):
    with pytest.raises(UsageError, match="--format tfrecord: no such format"):
        export_dataset(fake_dataset(), tmp_path / "out", "tfrecord")


def test_mosaic_has_a_row_a_class():
    dataset = fake_dataset()
    mosaic = sample_mosaic(dataset, columns=4)
    assert mosaic.shape == (10 * 35 - 3, 4 * 35 - 3, 3)
    of_class_2 = dataset.train.images[dataset.train.labels == 2]
    np.testing.assert_array_equal(mosaic[70:102, 105:137], of_class_2[3])
    assert (mosaic[32:35] == 255).all()


def test_grid_is_large_enough_to_see_pixels(tmp_path):
    write_sample_grid(fake_dataset(), tmp_path / "grid.png")
    picture = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"))
    assert picture.shape[0] > 10 * 35 * 4
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]

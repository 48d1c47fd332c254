"""Where compressed images lie: paths as C reads them, members as tarfile reads them, and no copies."""

import ctypes
import io
import mmap
import multiprocessing
import os
import pickle
import tarfile

import numpy as np
import pytest
from fake_cifar10 import fake_dataset
from PIL import Image

from fastcifar.dataset.encoded import ImageFiles, ShardMembers
from fastcifar.dataset.export import export_dataset
from fastcifar.dataset.folder import read_class_folders
from fastcifar.dataset.image_set import ImageSet, split_holdout
from fastcifar.dataset.webdataset import read_webdataset


def as_c_strings(files: ImageFiles) -> list[bytes]:
    return [ctypes.string_at(row.ctypes.data) for row in files.paths]


@pytest.fixture
def shards(tmp_path) -> tuple[ShardMembers, list[bytes]]:
    """Three tar files of random bytes, written by tarfile, and the content of their members."""
    random = np.random.default_rng(0)
    paths, places, contents = [], [], []
    for number in range(3):
        paths.append(tmp_path / f"{number}.tar")
        with tarfile.open(paths[-1], "w") as tar:
            for size in random.integers(1, 2000, 7).tolist():
                member = tarfile.TarInfo(f"{size}.png")
                member.size = size
                contents.append(random.bytes(size))
                tar.addfile(member, io.BytesIO(contents[-1]))
        with tarfile.open(paths[-1]) as tar:
            places += [(number, member.offset_data, member.size) for member in tar]
    shard, offset, size = np.array(places).T
    return ShardMembers(tuple(paths), shard.astype(np.int32), offset, size), contents


def same(views: list[np.ndarray], contents: list[bytes]) -> bool:
    return [view.tobytes() for view in views] == contents


def test_paths_are_absolute_and_end_in_a_zero_byte(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["a", "some/longer name.png", tmp_path / "ü" / "猫.png", os.fsdecode(b"not utf-8: \xff.jpg"), "up/../x"]
    files = ImageFiles.of(names)
    expected = [os.fsencode(tmp_path / name) for name in names]
    assert as_c_strings(files) == expected
    assert files.paths.dtype == np.uint8
    assert files.paths.shape == (5, 1 + max(map(len, expected)))
    assert len(ImageFiles.of([])) == 0


def test_files_are_taken_in_order(tmp_path):
    files = ImageFiles.of([tmp_path / str(number) for number in range(20)])
    indices = np.array([19, 3, 3, 0])
    assert as_c_strings(files.take(indices)) == [os.fsencode(tmp_path / str(index)) for index in indices]
    assert len(files.take(indices)) == 4


def test_members_are_what_was_written(shards):
    members, contents = shards
    indices = np.random.default_rng(1).integers(0, len(members), 50)
    assert same(members.read(indices), [contents[index] for index in indices])
    taken = members.take(indices)
    assert len(taken) == 50
    assert same(taken.read(np.array([7, 0])), [contents[indices[7]], contents[indices[0]]])


def test_members_are_views_of_a_map(shards):
    members, _ = shards
    for view in members.read(np.arange(len(members))):
        assert view.dtype == np.uint8
        assert not view.flags.writeable
        root = view
        while isinstance(root, np.ndarray):
            root = root.base
        assert isinstance(root, mmap.mmap)


def test_a_shard_is_mapped_once_and_only_when_needed(shards, monkeypatch):
    members, _ = shards
    opened = []
    memmap = np.memmap
    monkeypatch.setattr(np, "memmap", lambda path, mode: (opened.append((path, mode)), memmap(path, mode=mode))[1])
    for indices in ([0, 20], [1, 19, 0], [2]):
        members.read(np.array(indices))
        members.take(np.array([0, 20])).read(np.array([0, 1]))
    assert opened == [(members.shards[0], "r"), (members.shards[2], "r")]


def test_forked_processes_read_at_the_same_time(shards):
    members, contents = shards
    members.read(np.array([0]))  # one shard is mapped before the fork, the others after it
    everything = np.arange(len(members))

    def check(_: int) -> None:
        assert all(same(members.read(everything), contents) for _ in range(20))

    workers = [multiprocessing.get_context("fork").Process(target=check, args=(n,)) for n in range(2)]
    for worker in workers:
        worker.start()
    check(0)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_a_pickle_holds_no_shard(shards):
    members, contents = shards
    members.read(np.arange(len(members)))
    content = pickle.dumps(members)
    assert len(content) < 3000 < sum(map(len, contents))
    assert same(pickle.loads(content).read(np.arange(len(members))), contents)


def test_image_set_refuses_another_number_of_files():
    images = fake_dataset().test
    with pytest.raises(ValueError, match="19 compressed images do not match 20"):
        ImageSet(images.images, images.labels, ImageFiles.of(["a"] * 19))


def decoded(images: ImageSet) -> np.ndarray:
    if isinstance(images.encoded, ImageFiles):
        pictures = [Image.open(os.fsdecode(path)) for path in as_c_strings(images.encoded)]
    else:
        assert isinstance(images.encoded, ShardMembers)
        pictures = [Image.open(io.BytesIO(view.tobytes())) for view in images.encoded.read(np.arange(len(images)))]
    return np.stack([np.asarray(picture) for picture in pictures])


@pytest.mark.parametrize(("form", "reader"), [("folders", read_class_folders), ("webdataset", read_webdataset)])
def test_compressed_images_stay_with_their_pixels(tmp_path, monkeypatch, form, reader):
    """Through reading, hold-out and any choice, relative paths and a change of the working folder."""
    monkeypatch.chdir(tmp_path)
    export_dataset(fake_dataset(), tmp_path / "out", form)
    dataset = reader((tmp_path / "out").relative_to(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    held = split_holdout(dataset, 30, seed=3)
    shuffled = pickle.loads(pickle.dumps(dataset.train)).take(np.random.default_rng(0).permutation(100))
    for images in (dataset.train, dataset.test, held.train, held.test, shuffled):
        np.testing.assert_array_equal(decoded(images), images.images)


def test_arrays_have_no_files():
    dataset = fake_dataset()
    assert dataset.train.encoded is None
    assert split_holdout(dataset, 30).test.encoded is None

"""DaliLoader beyond the contract that test_loader.py checks: pixels, sources, its own draws, memory, failures."""

import io
import itertools
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastcifar.augment import requirements
from fastcifar.augment.policy import AugmentPolicy
from fastcifar.config import LoaderConfig
from fastcifar.dataset.encoded import ImageFiles
from fastcifar.dataset.folder import read_class_folders
from fastcifar.dataset.image_set import Dataset, ImageSet
from fastcifar.errors import DataError, DeviceError
from fastcifar.loader.choose import check_loader, choose_loader
from fastcifar.loader.resident import ResidentLoader

pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed: pip install '.[dali-cuda130]'")

from fastcifar.loader.dali import DaliLoader

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
COUNT = 101
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(COUNT, dtype=np.int64)
"""An image's label is its index."""
POLICY = AugmentPolicy(affine=0.8, rotate_degrees=45.0, gray=0.0)
LEVEL = 1 / (255 * min(STD))
"""One grey level, normalised."""


def loader(kind: type = DaliLoader, batch_size: int = 12, images: np.ndarray = IMAGES, **changes: Any):
    settings = {"policy": POLICY, "mean": MEAN, "std": STD, "seed": 3, "device": "cpu", "dtype": torch.float32}
    settings |= {"shuffle": True, "drop_last": False}
    return kind(images, LABELS[: len(images)], batch_size, **(settings | changes))


@pytest.mark.parametrize("size", [8, 16, 24, 32, 48])
def test_batches_are_the_resident_loaders_rounded_to_grey_levels(size):
    for found, expected in zip(at(loader(), 4, size), at(loader(ResidentLoader), 4, size), strict=True):
        assert torch.equal(found[1], expected[1])
        assert found[0].shape == expected[0].shape
        assert found[0].stride() == expected[0].stride()
        assert (found[0] - expected[0]).abs().max() <= 0.51 * LEVEL


def at(batches: Any, epoch: int, size: int = 32) -> list:
    batches.set_epoch(epoch, size)
    return list(batches)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders that somebody else made: JPEG of several qualities, odd names, a grey picture."""
    root = tmp_path_factory.mktemp("folders")
    for split, name in itertools.product(("train", "test"), ("cat", "dog", "frog")):
        (root / split / name).mkdir(parents=True)
    for index, image in enumerate(IMAGES):
        smooth = Image.fromarray(image).resize((8, 8)).resize((32, 32))
        folder = root / ("test" if index % 5 == 0 else "train") / ("cat", "dog", "frog")[index % 3]
        if index % 7 == 0:
            smooth.convert("L").save(folder / f"img {index}.JPEG", format="JPEG")
        else:
            smooth.save(folder / f"{index}.jpg", quality=60 + index % 40)
    return root


def test_jpeg_class_folders_train_as_they_are(folders):
    train = read_class_folders(folders).train
    assert isinstance(train.encoded, ImageFiles)
    still = AugmentPolicy(flip=0.0, affine=0.0, dropout=0.0, gray=0.0)
    settings: dict[str, Any] = {"mean": MEAN, "std": STD, "policy": still, "dtype": torch.float32, "device": "cpu"}
    batches = DaliLoader(
        np.zeros_like(train.images), train.labels, 10, **settings, seed=0, shuffle=False, drop_last=False,
        encoded=train.encoded,
    )  # fmt: skip
    expected = (train.images / 255 - MEAN) / STD
    found = torch.cat([images for images, _ in batches]).permute(0, 2, 3, 1)
    assert torch.equal(torch.cat([labels for _, labels in batches]), torch.tensor(train.labels))
    # Pillow and DALI may bring builds of libjpeg-turbo that round differently.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.01 * LEVEL)


def test_files_and_shards_give_the_batches_of_the_arrays(tmp_path):
    files, shards = tmp_path / "files", tmp_path / "shards"
    files.mkdir()
    shards.mkdir()
    for number in range(2):
        with tarfile.open(shards / f"train-{number}.tar", "w") as shard:
            for index in range(number, COUNT, 2):
                content = io.BytesIO()
                Image.fromarray(IMAGES[index]).save(content, format="PNG")
                (files / f"{index}.png").write_bytes(content.getvalue())
                member = tarfile.TarInfo(f"{index:03d}.png")
                member.size = len(content.getvalue())
                shard.addfile(member, io.BytesIO(content.getvalue()))
    encoded = ImageFiles.of([files / f"{index}.png" for index in range(COUNT)])
    expected = at(loader(), 1)
    for source in (encoded, members_of(sorted(shards.iterdir()))):
        blank = np.zeros_like(IMAGES)  # so that the pixels can only come from the files
        for (images, labels), (expected_images, expected_labels) in zip(
            at(loader(images=blank, encoded=source), 1), expected, strict=True
        ):
            assert torch.equal(images, expected_images)
            assert torch.equal(labels, expected_labels)


def members_of(shards: list[Path]):
    from fastcifar.dataset.encoded import ShardMembers

    places = {}
    for number, shard in enumerate(shards):
        with tarfile.open(shard) as tar:
            places |= {int(member.name[:3]): (number, member.offset_data, member.size) for member in tar}
    shard, offset, size = np.array([places[index] for index in range(COUNT)]).T
    return ShardMembers(tuple(shards), shard.astype(np.int32), offset, size)


def test_a_file_that_goes_missing_is_one_line(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(COUNT)]
    for path, image in zip(paths, IMAGES, strict=True):
        Image.fromarray(image).save(path)
    batches = loader(encoded=ImageFiles.of(paths))
    assert len(list(batches)) == 9
    paths[50].unlink()
    with pytest.raises(DataError) as failure:
        list(batches)
    assert "50.png" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_dalis_own_draws_repeat_with_the_seed_and_change_with_the_epoch():
    batches = loader(own_draws=True, batch_size=20)
    first = at(batches, 2)
    assert sorted(torch.cat([labels for _, labels in first]).tolist()) == list(range(COUNT))
    for other in (at(batches, 2), at(loader(own_draws=True, batch_size=20, threads=2), 2)):
        assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, other, strict=True))
    by_index = [
        {int(label): image for images, labels in epoch for image, label in zip(images, labels, strict=True)}
        for epoch in (first, at(batches, 3), at(loader(own_draws=True, batch_size=20, seed=4), 2))
    ]
    for other in by_index[1:]:
        same = [torch.equal(by_index[0][index], other[index]) for index in range(COUNT)]
        assert sum(same) < COUNT / 4  # where no coin fell in either


@pytest.mark.parametrize("done", [0, 1, 4, 6])
def test_dalis_own_draws_go_on_where_they_were(done):
    whole = at(loader(own_draws=True, batch_size=20), 5, 16)
    resumed = loader(own_draws=True, batch_size=20)
    resumed.load_state_dict({"epoch": 5, "batch": done, "image_size": 16})
    rest = list(resumed)
    assert len(rest) == len(whole) - done
    assert all(torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in zip(rest, whole[done:], strict=True))


def test_a_batch_is_dalis_memory_and_stays_as_it_is(monkeypatch):
    handed_over = []
    original = torch.from_dlpack
    monkeypatch.setattr(torch, "from_dlpack", lambda given: handed_over.append(original(given)) or handed_over[-1])
    kept, copies = [], []
    for images, _ in loader(batch_size=5):
        kept.append(images)
        copies.append(images.clone())
    assert [images.data_ptr() for images in kept] == [tensor.data_ptr() for tensor in handed_over]
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))


def test_an_epoch_left_in_the_middle_leaves_nothing_behind():
    batches = loader()
    for taken in (1, 3, 8):
        batches.set_epoch(taken)
        for _ in itertools.islice(batches, taken):
            pass
        for found, expected in zip(at(batches, 9), at(loader(), 9), strict=True):
            assert torch.equal(found[0], expected[0])
            assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_other_dtypes_are_float32_rounded(dtype):
    for (found, _), (expected, _) in zip(at(loader(dtype=dtype), 1), at(loader(), 1), strict=True):
        assert found.dtype == dtype
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, expected.to(dtype), rtol=0, atol=0)


def test_the_choice_says_what_dali_will_do(folders):
    arrays = ImageSet(IMAGES, LABELS)
    decoded = read_class_folders(folders).train
    cpu = torch.device("cpu")
    for images, words in ((arrays, "reads the arrays"), (decoded, "decodes image files")):
        dataset = Dataset("some", images, images, ("a",) * COUNT, "here")
        choice = choose_loader(LoaderConfig(kind="dali"), dataset, cpu)
        assert choice.kind == "dali"
        assert words in choice.reason
        assert "on the CPU" in choice.reason
        assert choose_loader(LoaderConfig(), dataset, cpu).kind == "resident"


def test_without_dali_the_loader_is_refused_before_any_data_are_read(monkeypatch):
    monkeypatch.setattr(requirements, "installed_version", lambda name: None)
    check_loader(LoaderConfig())
    with pytest.raises(DeviceError, match="DALI is not installed"):
        check_loader(LoaderConfig(kind="dali"))


def test_an_epoch_may_be_shorter_than_the_look_ahead():
    """DALI's own queue would have to be filled before the first batch; ours need not be."""
    for batch_size, batches in ((COUNT, 1), (COUNT // 2 + 1, 2)):
        labels = [labels for _, labels in loader(batch_size=batch_size)]
        assert len(labels) == batches
        assert sorted(torch.cat(labels).tolist()) == list(range(COUNT))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("own_draws", [False, True])
def test_on_a_gpu_batches_are_those_of_the_cpu(own_draws, folders):
    train = read_class_folders(folders).train
    for encoded in (None, train.encoded):
        settings: dict[str, Any] = {"images": train.images, "encoded": encoded, "own_draws": own_draws}
        found = at(loader(device="cuda", **settings), 1)
        for (images, labels), (expected, expected_labels) in zip(found, at(loader(**settings), 1), strict=True):
            assert images.device.type == "cuda"
            assert images.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(labels.cpu(), expected_labels)
            if not own_draws:
                assert (images.cpu() - expected).abs().mean() < 0.1 * LEVEL

"""Every loader: every image once, shares, epochs, resume, errors; resident and workers: the same batches to the bit."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from fastcifar.augment.draws import sample_draws
from fastcifar.augment.policy import AugmentPolicy
from fastcifar.augment.reference import apply_draws
from fastcifar.errors import UsageError
from fastcifar.loader.contract import Batch, Loader
from fastcifar.loader.order import epoch_order
from fastcifar.loader.resident import ResidentLoader
from fastcifar.loader.workers import WorkersLoader

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
COUNT = 23
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(COUNT, dtype=np.int64)
"""An image's label is its index, so a batch tells which images it holds."""
POLICY = AugmentPolicy(gray=0.3)
CPU = torch.device("cpu")


def dali_loader(*arguments: Any, **settings: Any) -> Loader:
    pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed: pip install '.[dali-cuda130]'")
    from fastcifar.loader.dali import DaliLoader

    return DaliLoader(*arguments, **settings)


every = pytest.mark.parametrize("kind", [ResidentLoader, WorkersLoader, dali_loader])


def training(kind: Callable = ResidentLoader, batch_size: int = 5, **changes: Any) -> Loader:
    settings = {"policy": POLICY, "mean": MEAN, "std": STD, "seed": 3, "device": "cpu", "dtype": torch.float32}
    settings |= {"shuffle": True, "drop_last": True}
    return kind(IMAGES, LABELS, batch_size, **(settings | changes))


def evaluation(kind: Callable = ResidentLoader, batch_size: int = 5, **changes: Any) -> Loader:
    return training(kind, batch_size, **({"policy": None, "shuffle": False, "drop_last": False} | changes))


def indices(batches: Loader | list[Batch] | Iterator[Batch]) -> list[list[int]]:
    return [labels.tolist() for _, labels in batches]


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for (images, labels), (expected_images, expected_labels) in zip(found, expected, strict=True):
        assert torch.equal(images, expected_images)
        assert torch.equal(labels, expected_labels)


@every
@pytest.mark.parametrize("batch_size", [1, 5, 23, 50])
@pytest.mark.parametrize("world_size", [1, 3])
def test_evaluation_covers_every_image_once_and_untouched(kind, batch_size, world_size):
    shares = []
    for rank in range(world_size):
        loader = evaluation(kind, batch_size, rank=rank, world_size=world_size)
        batches = list(loader)
        assert len(batches) == len(loader)
        assert all(len(labels) == batch_size for _, labels in batches[:-1])
        shares += itertools.chain.from_iterable(indices(batches))
        for images, labels in batches:
            expected = (torch.from_numpy(IMAGES)[labels] / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
            torch.testing.assert_close(images.permute(0, 2, 3, 1), expected, rtol=0, atol=2e-6)
            assert images.is_contiguous(memory_format=torch.channels_last)
            assert labels.dtype == torch.int64
    assert sorted(shares) == list(range(COUNT))
    if world_size == 1:
        assert shares == list(range(COUNT))


@every
def test_an_evaluation_loader_can_be_walked_again(kind):
    loader = evaluation(kind)
    assert_same(list(loader), list(loader))


@pytest.mark.parametrize(("world_size", "batch_size", "batches"), [(1, 5, 4), (3, 5, 1), (3, 2, 3), (4, 5, 1)])
def test_training_ranks_take_equally_many_whole_batches_of_one_order(world_size, batch_size, batches):
    order = epoch_order(COUNT, 3, 6, CPU).tolist()
    for rank in range(world_size):
        loader = training(batch_size=batch_size, rank=rank, world_size=world_size)
        loader.set_epoch(6)
        assert len(loader) == batches
        mine = order[rank::world_size][: batches * batch_size]
        assert list(itertools.chain.from_iterable(indices(loader))) == mine


def test_a_ragged_shuffled_epoch_covers_every_image_once():
    batches = indices(training(drop_last=False))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    assert sorted(itertools.chain.from_iterable(batches)) == list(range(COUNT))


def test_orders_are_permutations_that_seed_and_epoch_alone_decide():
    orders = [epoch_order(1000, seed, epoch, CPU) for seed in (0, 1, 2**40) for epoch in (0, 1, 7)]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(1000))
    related = np.corrcoef(np.stack([order.argsort().numpy() for order in orders]))
    np.fill_diagonal(related, 0)
    assert np.abs(related).max() < 4 / np.sqrt(1000)
    assert torch.equal(epoch_order(1000, 1, 7, CPU), orders[5])


def test_the_order_tells_nothing_about_the_draws():
    order = epoch_order(10_000, 3, 2, CPU)
    draws = sample_draws(AugmentPolicy(affine=1.0), 3, 2, order)  # in the order in which they are trained on
    for values in (draws.flip, draws.dropout, draws.gray, draws.angle_degrees, draws.scale_x, draws.hole_x):
        assert abs(np.corrcoef(np.arange(10_000), values.float())[0, 1]) < 4 / np.sqrt(10_000)


def test_all_orders_are_equally_likely():
    seen = [tuple(epoch_order(4, 11, epoch, CPU).tolist()) for epoch in range(1200)]
    counts = np.array([seen.count(order) for order in itertools.permutations(range(4))])
    assert counts.sum() == 1200
    assert ((counts - 50) ** 2 / 50).sum() < 49.7  # chi-square, 23 degrees of freedom, alpha 0.001


def test_an_image_is_augmented_by_seed_epoch_and_index_alone():
    def by_index(loader: Loader) -> dict[int, torch.Tensor]:
        loader.set_epoch(2, 24)
        return {int(i): image for images, labels in loader for image, i in zip(images, labels, strict=True)}

    whole = by_index(training(batch_size=23))
    for other in (training(batch_size=1), training(batch_size=4, rank=1, world_size=2), training(shuffle=False)):
        for index, image in by_index(other).items():
            torch.testing.assert_close(image, whole[index], rtol=0, atol=1e-5)
    draws = sample_draws(POLICY, 3, 2, torch.tensor([7]))
    expected = apply_draws(torch.from_numpy(IMAGES[7:8]), draws, POLICY, MEAN, STD, 24)[0]
    torch.testing.assert_close(whole[7], expected, rtol=0, atol=1e-5)
    assert not torch.allclose(by_index(training(batch_size=23, seed=4))[7], expected, atol=1e-2)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_make_the_resident_batches_to_the_bit(workers):
    resident, loader = training(), training(WorkersLoader, workers=workers)
    for epoch, size in ((0, 16), (1, 16), (2, 32)):  # the workers stay, the epoch and size change
        for each in (resident, loader):
            each.set_epoch(epoch, size)
        assert_same(list(loader), list(resident))
    loader.set_epoch(3)
    assert indices(itertools.islice(loader, 2)) == indices(itertools.islice(resident_at(3), 2))
    loader.set_epoch(4)  # after an epoch that was left in the middle
    assert_same(list(loader), list(resident_at(4)))
    loader.load_state_dict({"epoch": 3, "batch": 2, "image_size": 32})
    assert_same(list(loader), list(resident_at(3))[2:])


def resident_at(epoch: int) -> Loader:
    loader = training()
    loader.set_epoch(epoch)
    return loader


@every
@pytest.mark.parametrize("done", [0, 1, 3, 4])
def test_resume_yields_exactly_the_batches_that_remain(kind, done):
    interrupted = training(kind)
    interrupted.set_epoch(5, 16)
    whole = list(interrupted)
    interrupted.set_epoch(5, 16)
    for _ in itertools.islice(interrupted, done):
        pass
    state = interrupted.state_dict()
    assert state == {"epoch": 5, "batch": done, "image_size": 16}

    resumed = training(kind)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert_same(list(resumed), whole[done:])
    assert resumed.state_dict()["batch"] == 4
    assert_same(list(resumed), whole)


@every
def test_set_epoch_keeps_the_place_in_the_resumed_epoch_only(kind):
    loader = training(kind)
    loader.load_state_dict({"epoch": 5, "batch": 3, "image_size": 32})
    loader.set_epoch(5, 32)
    assert len(list(loader)) == 1
    loader.set_epoch(5, 32)
    assert len(list(loader)) == 4
    loader.load_state_dict({"epoch": 5, "batch": 3, "image_size": 32})
    loader.set_epoch(6)
    assert loader.state_dict() == {"epoch": 6, "batch": 0, "image_size": 32}
    assert len(list(loader)) == 4


@every
def test_what_cannot_be_loaded_is_refused(kind):
    with pytest.raises(UsageError, match=r"training\.batch_size = 24 .* 23 images"):
        training(kind, batch_size=24)
    with pytest.raises(UsageError, match=r"training\.batch_size = 8 .* 7 images"):
        training(kind, batch_size=8, world_size=3)
    with pytest.raises(UsageError, match=r"training\.batch_size = 0"):
        evaluation(kind, batch_size=0)
    loader = training(kind)
    for size in (7, 65):
        with pytest.raises(UsageError, match="8 to 64"):
            loader.set_epoch(0, size)
    with pytest.raises(UsageError, match="batch 5 of an epoch of 4"):
        loader.load_state_dict({"epoch": 0, "batch": 5, "image_size": 32})


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (IMAGES.astype(np.float32), LABELS),
        (IMAGES.transpose(0, 3, 1, 2), LABELS),
        (IMAGES, LABELS[:-1]),
        (IMAGES, LABELS.astype(np.int32)),
    ],
)
@every
def test_other_arrays_are_refused(kind, images, labels):
    with pytest.raises(ValueError, match="not"):
        kind(
            images, labels, 4, policy=None, mean=MEAN, std=STD, seed=0, device=CPU, dtype=torch.float32, shuffle=False,
            drop_last=False,
        )  # fmt: skip


@every
def test_global_randomness_and_the_arrays_stay_untouched(kind):
    frozen = IMAGES.copy()
    frozen.flags.writeable = False
    before = torch.get_rng_state()
    loader = kind(
        frozen, LABELS, 5, policy=POLICY, mean=MEAN, std=STD, seed=3, device="cpu", dtype=torch.bfloat16, shuffle=True,
        drop_last=True,
    )  # fmt: skip
    batches = list(loader)
    assert batches[0][0].dtype == torch.bfloat16
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(frozen, IMAGES)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_nothing_waits_and_the_batches_are_those_of_the_cpu():
    expected = list(training())
    loader = training(device="cuda")
    list(loader)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = list(loader)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert indices(found) == indices(expected)
    for (images, _), (expected_images, _) in zip(found, expected, strict=True):
        torch.testing.assert_close(images.cpu(), expected_images, rtol=0, atol=4e-5)

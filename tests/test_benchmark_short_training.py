"""The short training that memory and first steps are measured by."""

import pytest
import torch
from short_training import BATCH, batches
from short_trainings import KINDS, short_training

from fastcifar.augment.requirements import require_dali
from fastcifar.errors import DeviceError


@pytest.mark.parametrize("kind", [*KINDS.values(), "workers", "dali"])
def test_every_kind_of_loader_gives_whole_batches(kind: str) -> None:
    if kind == "dali":
        try:
            require_dali()
        except DeviceError as error:
            pytest.skip(str(error))
    images, labels = next(iter(batches(kind, 2 * BATCH)))
    assert (images.shape, images.dtype) == ((BATCH, 3, 32, 32), torch.float32)
    assert (labels.shape, labels.dtype) == ((BATCH,), torch.int64)
    assert images.isfinite().all()
    assert len(images.unique()) > 200  # of 256 grey levels, where a loader rounds to them


@pytest.mark.slow
def test_the_memory_told_is_the_trainings_own() -> None:
    """Twice: the second time the starting process has had far more resident than the training ever needs."""
    before = short_training("resident", 2 * BATCH)
    held = torch.ones(1 << 29)  # 2 GiB
    after = short_training("resident", 2 * BATCH)
    assert held[-1] == 1
    assert 0 < before["seconds"] < 600
    assert after["bytes"] < 1.2 * before["bytes"] < 1.2 * held.nbytes

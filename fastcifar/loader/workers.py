"""WorkersLoader: a plain torch DataLoader whose workers make the batches that ResidentLoader would make."""

import signal
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import DataLoader

from fastcifar.augment.policy import IDENTITY, AugmentPolicy
from fastcifar.loader.contract import Batch
from fastcifar.loader.order import BatchRequest, EpochLoader
from fastcifar.loader.resident import AugmentedArrays, as_tensor


class WorkersLoader(EpochLoader):
    """A `Loader` that augments on the CPU, in `workers` processes of one thread each (0: in this process).

    The batches equal those of a ResidentLoader on the CPU to the bit, whatever the number of workers. The
    workers stay from epoch to epoch; each request tells them its epoch, since all else they know is as old
    as they are.

    Args: those of `ResidentLoader`, and the number of `workers`.
    """

    def __init__(
        self,
        images: np.ndarray | torch.Tensor,
        labels: np.ndarray | torch.Tensor,
        batch_size: int,
        *,
        policy: AugmentPolicy | None,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        seed: int,
        device: torch.device | str,
        dtype: torch.dtype,
        shuffle: bool,
        drop_last: bool,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
    ) -> None:
        super().__init__(
            len(images),
            batch_size,
            seed=seed,
            shuffle=shuffle,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )
        self._device = torch.device(device)
        self._todo: list[BatchRequest] = []  # refilled for each epoch
        self._batches = DataLoader(
            AugmentedArrays(as_tensor(images), as_tensor(labels), policy or IDENTITY, mean, std, seed, dtype),
            batch_size=None,  # an item is a batch already
            sampler=self._todo,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_leave_interrupts_to_the_trainer,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),  # else each epoch would take a number from the global generator
        )

    def __iter__(self) -> Iterator[Batch]:
        """See `Loader`."""
        requests = self._requests(torch.device("cpu"))
        # As numpy arrays, because a tensor would reach a worker by way of shared memory and a socket.
        self._todo[:] = [replace(request, indices=np.asarray(request.indices)) for request in requests]
        for images, labels in self._batches:
            self._batch += 1
            yield images.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)


def _leave_interrupts_to_the_trainer(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; a worker that dies of it would take the checkpoint with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

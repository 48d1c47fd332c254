"""DaliLoader: NVIDIA DALI decodes and augments, on the GPU where the batches go there, else on the CPU.

Importing this file raises DeviceError where DALI is not installed.
"""

# DALI makes its operators and types when it is imported, so a type checker does not know them.
# pyright: reportAttributeAccessIssue=false

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch

from fastcifar.augment.dali_backend import augment, fed_motion, motion_feeds, normalise, random_motion
from fastcifar.augment.draws import sample_draws
from fastcifar.augment.philox import DALI_STREAM, key_from_seed, philox4x32
from fastcifar.augment.policy import IDENTITY, AugmentPolicy, dropout_fill
from fastcifar.augment.requirements import require_dali
from fastcifar.dataset.encoded import EncodedImages
from fastcifar.errors import DataError
from fastcifar.loader.contract import Batch
from fastcifar.loader.dali_sources import FEED, Source, make_source
from fastcifar.loader.order import BatchRequest, EpochLoader
from fastcifar.loader.resident import as_tensor, check_arrays

require_dali()

from nvidia.dali import pipeline_def  # noqa: E402
from nvidia.dali.pipeline import Pipeline  # noqa: E402

PREFETCH = 2
"""Batches that DALI works on while the training step has the one before them."""


class DaliLoader(EpochLoader):
    """A `Loader` whose images go through DALI's operators as uint8, rounded after each, as albumentations' do.

    Order and draws are those of the other loaders, so the batches differ from theirs by that rounding alone; unless
    `own_draws` has DALI's random operators draw under the same laws, from (seed, epoch, place in the epoch). Batches
    are DALI's own memory, handed over without a copy (bfloat16, which DALI lacks, is converted).

    Args:
        images, labels: uint8 [N, 32, 32, 3], int64 [N].
        encoded: the same images as files or shards to decode from; None: from the arrays.
        threads: of DALI on the CPU.
        own_draws: let DALI draw. A resumed epoch then makes the batches that it skips once more, since DALI's
            generators advance by batches.
        the others: as for `ResidentLoader`.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
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
        encoded: EncodedImages | None = None,
        threads: int = 1,
        own_draws: bool = False,
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
        self._device, self._dtype, self._policy = torch.device(device), dtype, policy or IDENTITY
        self._labels = as_tensor(labels)
        check_arrays(as_tensor(images), self._labels)
        self._source = make_source(images, encoded, self._device)
        self._mean, self._std, self._threads, self._own_draws = mean, std, threads, own_draws
        self._pipelines: dict[int, Pipeline] = {}  # by image size

    def __iter__(self) -> Iterator[Batch]:
        """See `Loader`."""
        if self._own_draws:
            self._pipelines = {self._image_size: self._build(_epoch_seed(self._seed, self._epoch))}
            self._skip(self._resume_at)
        elif self._image_size not in self._pipelines:
            self._pipelines[self._image_size] = self._build(seed=0)
        requests, under_way = self._requests(torch.device("cpu")), deque[torch.Tensor]()
        try:
            for request in requests:
                self._schedule(request)
                under_way.append(torch.as_tensor(request.indices))
                if len(under_way) > PREFETCH:
                    yield self._next(under_way)
            while under_way:
                yield self._next(under_way)
        except DataError:
            under_way.clear()  # they went down with the pipeline
            raise
        finally:  # an epoch may be left in the middle
            while under_way:
                self._outputs()
                under_way.popleft()

    def _next(self, under_way: deque[torch.Tensor]) -> Batch:
        images = self._outputs()
        labels = self._labels.index_select(0, under_way.popleft()).to(self._device, non_blocking=True)
        self._batch += 1
        return images.to(self._dtype), labels

    def _outputs(self) -> torch.Tensor:
        stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
        try:
            (images,) = self._pipelines[self._image_size].outputs(cuda_stream=stream)
        except RuntimeError as error:
            del self._pipelines[self._image_size]  # it cannot be used again
            raise DataError(f"DALI: {_cause(error)}", "were images changed or removed during the run?") from None
        return torch.from_dlpack(images.as_tensor()).permute(0, 3, 1, 2)

    def _schedule(self, request: BatchRequest) -> None:
        indices, pipeline = torch.as_tensor(request.indices), self._pipelines[request.image_size]
        pipeline.feed_input(FEED, self._source.batch(indices.numpy()))
        if not self._own_draws:
            draws = sample_draws(self._policy, self._seed, request.epoch, indices)
            for name, values in motion_feeds(draws, self._policy, request.image_size).items():
                pipeline.feed_input(name, values)
        pipeline.schedule_run()

    def _skip(self, batches: int) -> None:
        for _ in range(batches):
            self._schedule(BatchRequest(self._epoch, self._image_size, np.zeros(self.batch_size, dtype=np.int64)))
            self._outputs()

    def _build(self, seed: int) -> Pipeline:
        gpu = self._device.type == "cuda"
        pipeline = _graph(
            self._source,
            self._policy,
            self._mean,
            self._std,
            self._dtype,
            gpu,
            self._own_draws,
            self._image_size,
            batch_size=self.batch_size,
            num_threads=self._threads,
            device_id=(self._device.index or 0) if gpu else None,
            seed=seed,
            prefetch_queue_depth=1,  # we look ahead ourselves: DALI's own queue must be full before the first run
        )
        pipeline.build()
        return pipeline


@pipeline_def(enable_conditionals=True)
def _graph(
    source: Source,
    policy: AugmentPolicy,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    dtype: torch.dtype,
    gpu: bool,
    own_draws: bool,
    size: int,
):
    motion = random_motion(policy, size)[0] if own_draws else fed_motion()
    return normalise(augment(source.node(), motion, policy, dropout_fill(mean), gpu, size), mean, std, dtype)


def _epoch_seed(seed: int, epoch: int) -> int:
    """A seed for DALI, 0 .. 2**62 - 1, of its own in each epoch."""
    high, low, _, _ = philox4x32((0, epoch, 0, DALI_STREAM), key_from_seed(seed))
    return (int(high) << 32 | int(low)) >> 2


def _cause(error: RuntimeError) -> str:
    """The one line of DALI's long message that says what happened."""
    _, _, after = str(error).partition("encountered:")
    return (after or str(error)).strip().splitlines()[0]

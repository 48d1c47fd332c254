"""DALI as its manual shows it: its own file reader, shuffle, random operators and iterator.

The operators between decoding and normalising are those of `fastcifar.augment.dali_backend`, so that the figures differ
by what surrounds them. DALI reads on between epochs: an epoch begins with two batches made.
"""

# DALI makes its operators and types when it is imported, so a type checker does not know them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator
from pathlib import Path

import torch

from fastcifar.augment.dali_backend import augment, random_motion
from fastcifar.augment.normalisation import Colour
from fastcifar.augment.policy import AugmentPolicy, dropout_fill
from fastcifar.augment.requirements import require_dali
from fastcifar.loader.contract import Batch

require_dali()

from nvidia.dali import fn, pipeline_def, types  # noqa: E402
from nvidia.dali.plugin.base_iterator import LastBatchPolicy  # noqa: E402
from nvidia.dali.plugin.pytorch import DALIGenericIterator  # noqa: E402


class DaliReaders:
    """Shuffled whole batches: float32 [B, 3, 32, 32], int64 [B]; each iteration is an epoch.

    Args:
        folder: holds a folder of PNG or JPEG files of 32 x 32 pixels for each class.
        threads: of DALI on the CPU.
    """

    def __init__(
        self, folder: Path, batch_size: int, *, policy: AugmentPolicy, mean: Colour, std: Colour, threads: int
    ) -> None:
        pipeline = _graph(
            str(folder), policy, mean, std, batch_size=batch_size, num_threads=threads, device_id=None, seed=0
        )
        self._batches = DALIGenericIterator(
            [pipeline],
            ["images", "labels"],
            reader_name="files",
            last_batch_policy=LastBatchPolicy.DROP,
            auto_reset=True,
        )

    def __iter__(self) -> Iterator[Batch]:
        for (batch,) in self._batches:
            yield batch["images"], batch["labels"].squeeze(1).to(torch.int64)


@pipeline_def(enable_conditionals=True)
def _graph(folder: str, policy: AugmentPolicy, mean: Colour, std: Colour):
    # pad_last_batch: without it later epochs would miss some files and see others twice.
    encoded, labels = fn.readers.file(
        name="files", file_root=folder, shuffle_after_epoch=True, shuffle_after_epoch_seed=0, pad_last_batch=True
    )
    images = fn.decoders.image(encoded, device="cpu", output_type=types.RGB)
    motion, _ = random_motion(policy)
    levels = augment(images, motion, policy, dropout_fill(mean), gpu=False)
    normalised = fn.crop_mirror_normalize(
        levels,
        dtype=types.FLOAT,
        output_layout="CHW",
        mean=[255 * channel for channel in mean],
        std=[255 * channel for channel in std],
    )
    return normalised, labels

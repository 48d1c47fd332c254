"""A trained network as one file for other programs, and the proof that it computes the same."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fastcifar import __version__
from fastcifar.atomic import written_whole
from fastcifar.dataset.shapes10 import make_images
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.export_formats import FORMATS
from fastcifar.model.fold import fold_batch_norm
from fastcifar.training.trained import TrainedWeights, read_trained

TOLERANCE = 1e-4
"""Largest difference of a logit."""
SIDE = 32


def export(
    run: Path, format: str | None = None, output: Path | None = None, fold: bool = False, best: bool = False
) -> dict[str, Any]:
    """Write a run's last (or best) network in the form of ONNX or torch.export, read it back and compare its logits.

    Args:
        run: a run folder or a weights file.
        format: "onnx" or "pt2"; None: what `output` ends in.
        output: the file to write; None: beside the weights, called like them.
        fold: take batch-norm into the convolutions before it. For ONNX that is done in any case, as torch's own
            optimiser of ONNX graphs would do it.

    Returns:
        "file", "format", "bytes", "images" compared, "largest_difference" of a logit, and the file's "metadata".

    Raises:
        DataError, UsageError: the run or the file cannot be used.
        DeviceError: a package for ONNX is missing.
        FastcifarError: the written file computes something else; it has been removed.
    """
    name = format or (output.suffix[1:] if output else "")
    if name not in FORMATS:
        what = f"--format {name}: no such format" if name else "no format was given"
        raise UsageError(what, f"use --format {' or --format '.join(FORMATS)}")
    chosen = FORMATS[name]
    chosen.check_packages()
    trained = read_trained(run, best)
    model = trained.network()
    program, batch_norm = _as_program(model, fold or name == "onnx")
    metadata = describe(trained) | {"batch_norm": batch_norm}
    target = output or trained.file.with_suffix(f".{name}")
    images = check_images(trained)
    with written_whole(target) as partial:
        partial.write_bytes(chosen.encode(program, metadata))
        difference = compare(model, chosen.load(partial.read_bytes()), images)
        if not difference <= TOLERANCE:
            raise FastcifarError(
                f"{target}: its logits differ from the network's by {difference:.1e}, more than {TOLERANCE:g}",
                "it was not kept; try the other format, or another version of torch",
            )
        size = partial.stat().st_size
    return {
        "file": str(target),
        "format": name,
        "bytes": size,
        "images": len(images),
        "largest_difference": difference,
        "metadata": metadata,
    }


def describe(trained: TrainedWeights) -> dict[str, Any]:
    """What a user of the file must know: what to put in, what comes out, where it is from."""
    return {
        "input": f"float32 [batch, 3, {SIDE}, {SIDE}], planes red, green, blue, each (pixel / 255 - mean) / std",
        "mean": list(trained.statistics.mean),
        "std": list(trained.statistics.std),
        "output": f"float32 [batch, {len(trained.classes)}], softmax makes them confidences",
        "classes": list(trained.classes),
        "model": trained.model,
        "dataset": trained.dataset,
        "weights": trained.file.name,
        "fastcifar": __version__,
    }


def check_images(trained: TrainedWeights) -> Tensor:
    """20 normalised pictures of shapes and as many of noise alone, float32 [40, 3, 32, 32]."""
    pictures = torch.from_numpy(make_images(20, seed=0).images).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(colour)[:, None, None] for colour in (trained.statistics.mean, trained.statistics.std))
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    return torch.cat([(pictures - mean) / std, noise]).contiguous()


@torch.inference_mode()
def compare(model: nn.Module, exported: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """Largest difference between the logits of two networks; NaN where either gives one.

    The images go through `exported` one, then two, then all others at once: the size of its batch is free.
    """
    expected = model(images)
    found = torch.cat([exported(batch) for batch in images.split([1, 2, len(images) - 3])])
    return (found - expected).abs().max().item()


def _as_program(model: nn.Module, fold: bool) -> tuple[ExportedProgram, str]:
    """The network as a graph of torch's operators, and what became of its batch-norm."""
    program = _exported(model)
    if not fold:
        return program, "kept"
    graph: Any = program.module(check_guards=False)
    folded, found = fold_batch_norm(graph)
    return _exported(graph), f"{folded} of {found} folded into the convolutions before them"


def _exported(model: nn.Module) -> ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Two images, since torch takes a batch of one for a constant.
        program = torch.export.export(model, (torch.zeros(2, 3, SIDE, SIDE),), dynamic_shapes=({0: Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # the paths of this machine, which would stand in the file
    return program

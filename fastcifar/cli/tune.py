"""`fastcifar tune`."""

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fastcifar.tuning import Timing

ROW = "{:<42} {:>9} {:>9} {:>6}  {}"


def tune(
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="Where the following come from unless given; default speed.")
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", help="Name of a network, or all; repeatable.", show_default=False)
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images a step.")] = None,
    image_sizes: Annotated[
        list[int] | None,
        typer.Option("--image-size", help="Pixels a side; repeatable.", show_default=False, min=8, max=64),
    ] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="bf16 or fp16.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cuda or cuda:N.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """For GPU owners: time fused and plain separable layers here, once, for every later run to choose by."""
    from fastcifar.settings import DEFAULT_RECIPE, resolve

    flags = {
        "training.batch_size": ("--batch-size", batch_size),
        "runtime.amp": ("--precision", True),
        "runtime.amp_dtype": ("--precision", precision),
        "runtime.device": ("--device", device),
    }
    config = resolve(recipe or DEFAULT_RECIPE, flags).config

    import torch

    from fastcifar.environment import describe_environment
    from fastcifar.gpu_timing import gpu_seconds
    from fastcifar.model.registry import MODELS
    from fastcifar.model.separable_shapes import separable_shapes
    from fastcifar.plans import plans_file
    from fastcifar.runtime import choose_runtime, prepare
    from fastcifar.tuning import tunable
    from fastcifar.tuning import tune as measured

    runtime = choose_runtime(config.runtime)
    dtype = runtime.autocast_dtype or torch.float32
    names = models or [config.model.name]
    sizes = image_sizes or [size for _, size in config.schedule.image_sizes]
    met = [
        separable_shapes(name, config.training.batch_size, size)
        for name in (MODELS if "all" in names else names)
        for size in sizes
    ]
    shapes = tunable({shape: residual for found in met for shape, residual in found.items()}, dtype, runtime.device)
    prepare(runtime, deterministic=False)
    gpu = torch.cuda.get_device_name(runtime.device)
    timings = []
    if not as_json:
        typer.echo(f"{gpu}, {str(dtype).removeprefix('torch.')}; forward and backward, in microseconds\n")
        typer.echo(ROW.format("shape", "fused", "plain", "ratio", "chosen"))
    for timing in measured(shapes, dtype, runtime.device, gpu, gpu_seconds):
        timings.append(timing)
        if not as_json:
            typer.echo(_row(timing))
    file = plans_file(gpu)
    record = {
        "gpu": gpu,
        "precision": runtime.choices["amp"].used,
        "file": str(file),
        "plans": [_as_dict(timing) for timing in timings],
        "environment": describe_environment(runtime.device),
    }
    typer.echo(json.dumps(record, indent=2) if as_json else f"\nkept in {file}")


def _row(timing: "Timing") -> str:
    runs = math.isfinite(timing.fused_us)
    fused = f"{timing.fused_us:.1f}" if runs else "-"
    ratio = f"{timing.plain_us / timing.fused_us:.2f}" if runs else "-"
    return ROW.format(timing.shape.key, fused, f"{timing.plain_us:.1f}", ratio, timing.chosen)


def _as_dict(timing: "Timing") -> dict[str, Any]:
    from fastcifar_kernels.depthwise_pointwise import plan

    line = plan.entry(timing.tiling, timing.fused_us, timing.plain_us)
    return {"shape": timing.shape.key, "chosen": timing.chosen, **line}

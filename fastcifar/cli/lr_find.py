"""`fastcifar lr-find`."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import fastcifar.cli.run_options as shared
from fastcifar.cli.run_options import DATA, LENGTH, OUTPUT, as_flags, option
from fastcifar.errors import UsageError

if TYPE_CHECKING:
    from fastcifar.training.material import Material
    from fastcifar.training.range_curve import Curve, Reading

TEST = "Range test"
OnStep = Callable[[int, float, float], None]


def lr_find(
    recipe: shared.Recipe = None,
    settings: shared.Settings = None,
    first: Annotated[
        float, typer.Option("--from", metavar="RATE", help="Learning rate of the first step.", rich_help_panel=TEST)
    ] = 1e-4,
    last: Annotated[
        float, typer.Option("--to", metavar="RATE", help="Learning rate of the last step.", rich_help_panel=TEST)
    ] = 10.0,
    steps: Annotated[
        int,
        typer.Option("--steps", help="Steps; beyond an epoch's they go on into the next.", rich_help_panel=TEST),
    ] = 200,
    dataset: shared.Dataset = None,
    data_dir: shared.DataDir = None,
    offline: shared.Offline = None,
    holdout: Annotated[
        int | None, option("--holdout", "Leave out the N training images that train would set aside.", DATA)
    ] = None,
    loader: shared.Loader = None,
    model: shared.Model = None,
    batch_size: shared.BatchSize = None,
    seed: Annotated[int | None, option("--seed", "Of the weights, the order and the augmentation.", LENGTH)] = None,
    device: shared.Device = None,
    amp: shared.Amp = None,
    optimizer: shared.Optimizer = None,
    threads: shared.Threads = None,
    deterministic: shared.Deterministic = None,
    strict: shared.Strict = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", metavar="FILE.png", help="Plot to write; an older one is replaced.", rich_help_panel=OUTPUT
        ),
    ] = Path("lr-find.png"),
    as_json: shared.AsJson = False,
    quiet: shared.Quiet = False,
) -> None:
    """Suggest a peak learning rate from a few training steps, each at a higher rate than the last.

    A range test (Smith, arXiv 1506.01186) of the recipe as it stands: its
    network, augmentation, batches, momentum and weight decay, at the image size
    of its first epoch throughout. Rates are as SGD applies them to the weights;
    biases and batch-norm get them times optimizer.bias_lr_scale, and Muon's
    follow in proportion where optimizer.muon_lr is set. The test ends
    where the smoothed loss is four times its minimum. The useful range is where
    the smoothed loss keeps at least half of its fall, and the suggestion is half
    of that range's upper end.

    It is a starting point, not a tuned value: what is best over a whole run also
    depends on its length. Test images are not used, and nothing but the plot is
    written. Where the curve gives no answer, a line says so and the exit code is
    0. The network is neither compiled nor captured in a CUDA graph: that would
    take longer than the test.
    """
    flags = as_flags(
        dataset=dataset,
        data_dir=data_dir,
        offline=offline,
        holdout=holdout,
        loader=loader,
        model=model,
        batch_size=batch_size,
        seed=seed,
        device=device,
        amp=amp,
        compile=False,
        graph=False,
        optimizer=optimizer,
        threads=threads,
        deterministic=deterministic,
        strict=strict,
    )
    from fastcifar.atomic import check_place
    from fastcifar.cli.prepare import prepare_material
    from fastcifar.settings import DEFAULT_RECIPE, resolve

    resolved = resolve(recipe or DEFAULT_RECIPE, flags, settings or ())
    if output.suffix.lower() != ".png" or output.is_dir():
        raise UsageError(f"--output {output} is no name for a picture", "name a file that ends in .png")
    check_place(output.parent, "a plot")

    from fastcifar.training.range_curve import growing_rates, read_curve

    rates = growing_rates(first, last, steps)
    material, _ = prepare_material(resolved, quiet, as_json)

    from fastcifar.training.range_plot import write_range_plot
    from fastcifar.training.range_test import range_test

    with _progress(steps, quiet, as_json) as on_step:
        curve = range_test(material, rates, on_step)
    reading = read_curve(curve)
    config = material.config
    title = f"Learning-rate range test: {config.model.name} on {material.dataset.title}, seed {config.training.seed}"
    write_range_plot(curve, reading, title, config.optimizer.learning_rate, output)
    record = _record(material, curve, reading, steps, output)
    typer.echo(json.dumps(record, indent=2) if as_json else "\n".join(_lines(record)))


@contextmanager
def _progress(steps: int, quiet: bool, as_json: bool) -> Iterator[OnStep]:
    """A bar on a terminal, a line a tenth of the test elsewhere; on stderr."""
    if quiet:
        yield lambda *_: None
    elif sys.stderr.isatty() and not as_json:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}")
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=steps)
            yield lambda done, rate, loss: bar.update(
                task, completed=done, description=f"learning rate {rate:.2g}, smoothed loss {loss:.3f}"
            )
    else:

        def line(done: int, rate: float, loss: float) -> None:
            if done % (steps // 10) == 0:
                print(
                    f"step {done:>4}: learning rate {rate:<8.2g} smoothed loss {loss:.3f}", file=sys.stderr, flush=True
                )

        yield line


def _record(material: "Material", curve: "Curve", reading: "Reading", steps: int, plot: Path) -> dict[str, Any]:
    config = material.config
    return {
        "suggestion": reading.suggestion,
        "verdict": reading.verdict or "half of the upper end of the useful range",
        "useful_range": [reading.lower, reading.upper],
        "lowest_smoothed_loss": reading.lowest_loss,
        "lowest_at": reading.lowest_at,
        "recipe_learning_rate": config.optimizer.learning_rate,
        "ended": curve.ended,
        "steps": len(curve.losses),
        "steps_planned": steps,
        "recipe": material.resolved.recipe,
        "model": config.model.name,
        "dataset": material.dataset.title,
        "seed": config.training.seed,
        "batch_size": config.training.batch_size,
        "image_size": config.schedule.image_size(0),
        "momentum": config.optimizer.momentum,
        "weight_decay": config.optimizer.weight_decay,
        "bias_lr_scale": config.optimizer.bias_lr_scale,
        "used": material.runtime.used() | {"loader": material.loader_choice.kind},
        "plot": str(plot),
        "curve": {
            "learning_rates": curve.rates,
            "losses": curve.losses,
            "smoothed_learning_rates": curve.smoothed_rates,
            "smoothed_losses": curve.smoothed,
        },
    }


def _lines(record: dict[str, Any]) -> list[str]:
    why_ended = {
        "complete": "",
        "diverged": ", ended as the smoothed loss was four times its minimum",
        "not finite": ", ended as the next loss was not finite",
    }
    lower, upper = record["useful_range"]
    if record["suggestion"]:
        rows = {
            "suggested peak": f"{record['suggestion']:.2g} ({record['verdict']})",
            "useful range": f"{lower:.2g} to {upper:.2g}, where the smoothed loss keeps at least half of its fall",
        }
    else:
        rows = {"no suggestion": record["verdict"]}
        if lower:
            rows["useful range"] = f"from {lower:.2g} on"
    rows |= {
        "lowest loss": f"{record['lowest_smoothed_loss']:.3f} smoothed, at {record['lowest_at']:.2g}",
        "recipe's rate": f"{record['recipe_learning_rate']:g}",
        "plot": record["plot"],
    }
    return [
        f"{record['model']} on {record['dataset']}, seed {record['seed']}, batches of {record['batch_size']} "
        f"at {record['image_size']} pixels",
        f"{record['steps']} of {record['steps_planned']} steps{why_ended[record['ended']]}",
        "",
        *(f"{name:<15} {text}" for name, text in rows.items()),
        "",
        "A starting point, not a tuned value: try it beside its neighbours with train --holdout 5000.",
    ]

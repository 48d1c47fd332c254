"""The report of one run: everything that is known of it, on one page."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcifar.dataset.summary import dataset_summary
from fastcifar.evaluation.metrics import class_figures, classification_summary, reliability
from fastcifar.model.constraints import Finding, check_constraints
from fastcifar.model.layer_table import HEADINGS, cells_of, markdown_lines, totals_of
from fastcifar.model.layers import Stem
from fastcifar.model.registry import build_model
from fastcifar.model.summary import Summary, summarise
from fastcifar.reevaluate import Reevaluation, evaluate_again
from fastcifar.report.augmentation import augmentation_figure
from fastcifar.report.classes import confusion_figure, per_class_figure, reliability_figure
from fastcifar.report.clock import clock_figure
from fastcifar.report.curves import accuracy_curve, learning_rate_curve, loss_curve
from fastcifar.report.mistakes import mistakes_figure, surest_mistakes
from fastcifar.report.pages import Page
from fastcifar.report.record import RunRecord, read_record

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SingleReport:
    """What the page of one run is made of.

    Attributes:
        found: its weights on the evaluated images, run again for the report.
        figures: those of `classification_summary` on them.
        summary: of the network.
        rules: the assignment's, checked on the network.
    """

    record: RunRecord
    found: Reevaluation
    figures: dict[str, Any]
    summary: Summary
    rules: list[Finding]

    @property
    def examples_an_epoch(self) -> int:
        """Training images of an epoch: whole batches."""
        batch_size = self.record.resolved.config.training.batch_size
        return len(self.found.data.train) // batch_size * batch_size


def single_report(folder: Path, data_dir: str | None = None, device: str = "auto") -> SingleReport:
    """Read a run and evaluate its last weights once more.

    Raises:
        DataError: no run, a damaged one, or its data cannot be found.
    """
    record = read_record(folder)
    found = evaluate_again(folder, data_dir=data_dir, device=device)
    model = build_model(found.trained.model, len(found.data.classes))
    stem = getattr(model, "stem", None)
    if record.resolved.config.model.whiten_stem and isinstance(stem, Stem):
        stem.freeze()
    return SingleReport(
        record,
        found,
        classification_summary(found.logits, found.labels, found.data.classes),
        summarise(model),
        check_constraints(model),
    )


def draw(report: SingleReport) -> dict[str, "Figure"]:
    """All figures, by the name of their file without its ending."""
    record, found, figures = report.record, report.found, report.figures
    data, statistics, config = found.data, found.trained.statistics, record.resolved.config
    drawn = {
        "accuracy": accuracy_curve(record, found.evaluated_on),
        "loss": loss_curve(record, found.evaluated_on),
        "learning-rate": learning_rate_curve(config, report.examples_an_epoch),
        "classes": per_class_figure(figures["per_class_accuracy"], figures["accuracy"]),
        "confusion": confusion_figure(figures["confusion_matrix"], data.classes),
        "calibration": reliability_figure(reliability(found.logits, found.labels), figures["calibration_error"]),
        "augmentation": augmentation_figure(data, config.augment, statistics, config.training.seed),
        "time": clock_figure(record, report.examples_an_epoch),
    }
    if mistakes := surest_mistakes(found.logits, found.labels):
        drawn["mistakes"] = mistakes_figure(mistakes, data, found.trained.network(), statistics)
    return drawn


def page(report: SingleReport) -> Page:
    """The page, its pictures and the README section."""
    record, found, figures = report.record, report.found, report.figures
    config = record.resolved.config
    metrics = record.metrics
    content = {
        "title": f"{config.model.name} on {found.data.title}",
        "record": record,
        "config": config,
        "metrics": metrics,
        "environment": record.environments[-1] if record.environments else {},
        "accuracy": figures["accuracy"],
        "wrong": figures["images"] - sum(row[c] for c, row in enumerate(figures["confusion_matrix"])),
        "figures": figures,
        "evaluated": "held-out" if found.evaluated_on == "holdout" else "test",
        "recorded": metrics["val_acc"] if metrics else None,
        "device": str(found.runtime.device),
        "classes": dict(zip(found.data.classes, class_figures(figures["confusion_matrix"]), strict=True)),
        "data": dataset_summary(found.data),
        "headings": HEADINGS,
        "layers": [cells_of(row) for row in report.summary.layers],
        "layers_markdown": "\n".join(markdown_lines(report.summary)),
        "totals": totals_of(report.summary),
        "summary": report.summary,
        "rules": report.rules,
        "settings": [
            (f"{section}.{key}", value, record.resolved.sources[f"{section}.{key}"])
            for section, values in config.to_dict().items()
            for key, value in values.items()
        ],
    }
    return Page("single.html.j2", "single.md.j2", content, draw(report))

"""Predictions over a split, and figures against hand counts."""

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from fastcifar.config import RuntimeConfig
from fastcifar.evaluation.evaluate import predict_logits
from fastcifar.evaluation.metrics import (
    accuracy,
    calibration_error,
    class_figures,
    classification_summary,
    reliability,
)
from fastcifar.loader.resident import ResidentLoader
from fastcifar.runtime import choose_runtime


def test_summary_equals_hand_counts() -> None:
    generator = np.random.default_rng(3)
    logits = generator.normal(0, 2, (501, 4)).astype(np.float32)
    labels = generator.integers(0, 3, 501)  # class 3 never occurs
    predicted = logits.argmax(1)
    result = classification_summary(torch.from_numpy(logits), torch.from_numpy(labels), ["a", "b", "c", "d"])
    assert result["images"] == 501
    assert result["accuracy"] == pytest.approx(100 * np.mean(predicted == labels))
    counts = np.zeros((4, 4), int)
    np.add.at(counts, (labels, predicted), 1)
    assert result["confusion_matrix"] == counts.tolist()
    for c, name in enumerate("abc"):
        assert result["per_class_accuracy"][name] == pytest.approx(100 * counts[c, c] / counts[c].sum())
    assert result["per_class_accuracy"]["d"] is None
    torch.testing.assert_close(
        multiclass_confusion_matrix(torch.from_numpy(logits), torch.from_numpy(labels), num_classes=4),
        torch.tensor(result["confusion_matrix"]),
    )
    exponentials = np.exp(logits.astype(np.float64))
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    assert result["loss"] == pytest.approx(-np.log(probabilities[np.arange(501), labels]).mean(), rel=1e-5)
    reference = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=4, n_bins=15
    )
    assert result["calibration_error"] == pytest.approx(100 * reference.item(), rel=1e-4)


def test_calibration_error_of_confidences_on_the_edges_of_bins() -> None:
    sure_and_wrong = torch.tensor([[100.0, 0.0], [0.0, 100.0]])
    assert calibration_error(sure_and_wrong, torch.tensor([1, 0])) == pytest.approx(100.0)
    assert calibration_error(sure_and_wrong, torch.tensor([0, 1])) == pytest.approx(0.0)
    undecided = torch.zeros(10, 2)
    assert calibration_error(undecided, torch.arange(10) % 2) == pytest.approx(0.0)


@pytest.mark.parametrize("seed", range(3))
def test_precision_recall_and_f1_equal_torchmetrics(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(307, 5, generator=generator)
    logits[:, 4] -= 20  # never predicted
    labels = torch.randint(0, 4, (307,), generator=generator)
    labels[:3] = 4
    labels[labels == seed] = 3  # never true, but predicted
    found = class_figures(classification_summary(logits, labels, list("abcde"))["confusion_matrix"])
    for name, metric in (
        ("precision", multiclass_precision),
        ("recall", multiclass_recall),
        ("f1", multiclass_f1_score),
    ):
        expected = 100 * metric(logits, labels, num_classes=5, average="none", zero_division=0)
        torch.testing.assert_close(torch.tensor([getattr(one, name) for one in found]), expected)
    assert [one.images for one in found] == torch.bincount(labels, minlength=5).tolist()


def test_reliability_by_hand() -> None:
    half = torch.zeros(4, 2)  # confidence 1/2 lies in the bin ]4/9, 5/9] of 9
    sure = torch.tensor([[0.0, 50.0]] * 3)
    bins = reliability(torch.cat([half, sure]), torch.tensor([0, 0, 0, 1, 1, 1, 0]), bins=9)
    assert [one.images for one in bins] == [0, 0, 0, 0, 4, 0, 0, 0, 3]
    assert (bins[4].accuracy, bins[4].confidence) == (75.0, 50.0)
    assert (bins[8].accuracy, bins[8].confidence) == (pytest.approx(200 / 3), pytest.approx(100.0))


def test_accuracy_of_a_perfect_and_a_wrong_classifier() -> None:
    labels = torch.arange(10)
    assert accuracy(torch.eye(10), labels) == 100.0
    assert accuracy(torch.eye(10), (labels + 1) % 10) == 0.0


class Brightness(nn.Module):
    """Logits that show which pixels were seen: left half, right half, and whether it was training."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x[..., :16].mean((1, 2, 3)), x[..., 16:].mean((1, 2, 3))
        return self.scale * torch.stack([left, right, torch.full_like(left, float(self.training))], dim=1)


def make_loader(images: np.ndarray, batch_size: int) -> ResidentLoader:
    labels = np.arange(len(images), dtype=np.int64)
    return ResidentLoader(
        images,
        labels,
        batch_size,
        policy=None,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        seed=0,
        device=torch.device("cpu"),
        dtype=torch.float32,
        shuffle=False,
        drop_last=False,
    )


@pytest.mark.parametrize(("count", "batch_size"), [(7, 3), (8, 4), (5, 5), (1, 1)])
def test_every_image_once_in_order_in_evaluation_mode(count: int, batch_size: int) -> None:
    runtime = choose_runtime(RuntimeConfig(device="cpu", amp=False))
    model = Brightness().train()
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    loader = make_loader(pixels, batch_size)
    logits, labels = predict_logits(model, loader, runtime)
    assert labels.tolist() == list(range(count))
    images = (torch.from_numpy(pixels).double() / 255 - 0.5) / 0.25
    torch.testing.assert_close(logits[:, 0].double(), images[:, :, :16].mean((1, 2, 3)), rtol=1e-4, atol=1e-5)
    assert logits[:, 2].eq(0).all()
    assert model.training
    assert not logits.requires_grad
    mirrored, _ = predict_logits(model, loader, runtime, tta=True)
    torch.testing.assert_close(mirrored[:, 0], logits[:, :2].mean(1))
    torch.testing.assert_close(mirrored[:, 0], mirrored[:, 1])

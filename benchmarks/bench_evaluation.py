"""Logits of 1,500 images on a CPU: batch-norm folded into the convolutions, as fastcifar evaluates, beside plain."""

import pytest
import torch
from measure import Measure, agree
from training_step import evaluation_work, pair

from fastcifar.config import RuntimeConfig
from fastcifar.dataset.shapes10 import make_shapes10
from fastcifar.evaluation.evaluate import predict_logits
from fastcifar.loader.resident import ResidentLoader
from fastcifar.model.registry import build_model
from fastcifar.runtime import choose_runtime

BATCH = 500
WARM_UP_BATCHES = 3


@pytest.mark.parametrize("model_name", ["c1c2c3c40-speed", "c1c2c3c40-accuracy"])
def bench_evaluation(measure: Measure, model_name: str, short: bool) -> None:
    images = make_shapes10(1_000 if short else 1_500, 10).train
    loader = ResidentLoader(
        images.images,
        images.labels,
        BATCH,
        policy=None,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        seed=0,
        device="cpu",
        dtype=torch.float32,
        shuffle=False,
        drop_last=False,
    )
    torch.manual_seed(0)
    model = build_model(model_name).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    with torch.no_grad():
        for _, (batch, _) in zip(range(WARM_UP_BATCHES), loader, strict=False):
            model(batch)  # so that batch-norm's statistics are those of maps, as after a training
    model.eval()
    runtime = choose_runtime(RuntimeConfig(device="cpu"))

    @torch.inference_mode()
    def plain() -> torch.Tensor:
        return torch.cat([model(batch) for batch, _ in loader])

    def folded() -> torch.Tensor:
        return predict_logits(model, loader, runtime)[0]

    subjects = {"plain": plain, "folded": folded}
    measure(
        f"evaluation: cpu, {model_name}, 32 pixels, batch {BATCH}",
        subjects,
        baseline="plain",
        check=agree(subjects, "plain", 1e-4),
        work=evaluation_work(pair(model_name), 32, len(images)),
    )

"""Logits over a split."""

import torch
from torch import Tensor, nn

from fastcifar.evaluation.folded import folded
from fastcifar.loader.contract import Loader
from fastcifar.runtime import Runtime


def predict_logits(model: nn.Module, loader: Loader, runtime: Runtime, tta: bool = False) -> tuple[Tensor, Tensor]:
    """Logits and labels of every image of an evaluation loader, in its order.

    Args:
        model: is put into evaluation mode for the pass and left as it was found; on a CPU a folded copy is evaluated.
        tta: average the logits of each image and its mirror image (off in every reported figure unless named).

    Returns:
        logits [N, classes] float32 and labels [N] int64, on the CPU.
    """
    logits, labels = logits_on_device(model, loader, runtime, tta)
    return logits.cpu(), labels.cpu()


@torch.inference_mode()
def logits_on_device(model: nn.Module, loader: Loader, runtime: Runtime, tta: bool = False) -> tuple[Tensor, Tensor]:
    """As `predict_logits`, without a word to the host: both stay on the loader's device."""
    was_training = model.training
    evaluated = folded(model) if runtime.device.type == "cpu" else model.eval()
    logits, labels = [], []
    for images, batch_labels in loader:
        with runtime.autocast():
            outputs = evaluated(images)
            if tta:
                outputs = (outputs + evaluated(images.flip(3))) / 2
        logits.append(outputs.float())
        labels.append(batch_labels)
    model.train(was_training)
    return torch.cat(logits), torch.cat(labels)

"""An exponential moving average of the weights, evaluated in their place."""

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """Moving average of a model's parameters and batch-norm statistics.

    After t updates the decay is min(decay, (1 + t) / (10 + t)), so that the random start is soon forgotten.

    Attributes:
        module: a copy of the model that holds the averages, in evaluation mode and without gradients.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self._averages, self._counters = _floating_and_other(self.module)
        self._weights, self._model_counters = _floating_and_other(model)

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Each parameter and buffer of the model with its average, for an optimizer that moves them itself."""
        return list(zip([*self._weights, *self._model_counters], [*self._averages, *self._counters], strict=True))

    def next_share(self) -> float:
        """Count an update, and say the share of the present weights in it: 1 - decay."""
        self.updates += 1
        return self.share_of(self.updates)

    def share_of(self, update: int) -> float:
        """The share of the present weights in an update, counted from 1."""
        return 1 - min(self.decay, (1 + update) / (10 + update))

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the model's present weights; one fused launch a dtype."""
        torch._foreach_lerp_(self._averages, self._weights, self.next_share())
        if self._counters:  # batch-norm's; a model without has none, and torch refuses empty lists
            torch._foreach_copy_(self._counters, self._model_counters)


def _floating_and_other(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    state = list(module.state_dict(keep_vars=True).values())  # the parameters themselves, as an optimizer knows them
    return [t for t in state if t.is_floating_point()], [t for t in state if not t.is_floating_point()]

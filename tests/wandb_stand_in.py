"""A module in the place of wandb that remembers what it was told and fails where a test wants it to."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest


class ToldRun:
    """What `wandb.init` returns, as far as a writer may use it."""

    def __init__(self, module: "StandIn", init: dict[str, Any]) -> None:
        self.module, self.init = module, init
        self.starting_step = module.starting_step
        self.dir = str(init["dir"] / "wandb" / "run-1" / "files")
        self.offline, self.url = False, "https://wandb.example/run"
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.summary: dict[str, Any] = {}
        self.exit_codes: list[int] = []

    def log(self, values: dict[str, float], step: int) -> None:
        self.module.called("log")
        self.logged.append((step, values))

    def finish(self, exit_code: int) -> None:
        self.exit_codes.append(exit_code)
        self.module.called("finish")


class StandIn(SimpleNamespace):
    """The module.

    Attributes:
        runs: every run that was started.
        starting_step: of the next one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[ToldRun] = []
        self.starting_step = 0
        self.calls: dict[str, int] = {}
        self.failures: dict[str, int] = {}

    def fail(self, what: str, at_call: int = 1) -> None:
        """Let "init", "log" or "finish" fail at its n-th call."""
        self.failures[what] = at_call

    def called(self, what: str) -> None:
        self.calls[what] = self.calls.get(what, 0) + 1
        if self.failures.get(what) == self.calls[what]:
            raise ConnectionError(f"no network for {what}\nand a second line")

    def init(self, **arguments: Any) -> ToldRun:
        self.called("init")
        self.runs.append(ToldRun(self, arguments))
        return self.runs[-1]

    def Settings(self, **arguments: Any) -> dict[str, Any]:
        return arguments


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    module = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", module)  # pyright: ignore[reportArgumentType]
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return module

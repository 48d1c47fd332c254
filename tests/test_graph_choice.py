"""Who gets CUDA graphs, what is said where they cannot be had, and that `--strict` refuses then."""

import dataclasses

import pytest
import torch
from test_cli import QUICK, Cli, cli  # noqa: F401 (a fixture)

from fastcifar.config import RuntimeConfig
from fastcifar.errors import DeviceError
from fastcifar.runtime import Choice, Runtime, choose_runtime, disappointments
from fastcifar.settings import resolve
from fastcifar.training.graph_choice import choose_graph, with_graph

GPU = Runtime(torch.device("cuda", 0), torch.bfloat16, False, 1, {"optimizer": Choice("auto", "fused", "")})


def test_a_gpu_with_the_fused_optimizer_and_a_resident_set_captures() -> None:
    runtime = with_graph(GPU, True, "resident")
    assert runtime.graph
    assert (runtime.choices["graph"].used, runtime.choices["graph"].disappoints) == ("on", False)
    assert runtime.choices["optimizer"] == GPU.choices["optimizer"]
    declined = with_graph(GPU, False, "resident")
    assert not declined.graph
    assert declined.choices["graph"] == Choice("off", "off", "not asked for")


@pytest.mark.parametrize(
    ("change", "loader", "reason"),
    [
        ({"device": torch.device("cpu")}, "resident", "only a GPU"),
        ({}, "dali", "dali loader"),
        ({}, "workers", "workers loader"),
        ({"autocast_dtype": torch.float16}, "resident", "gradient scaler"),
        ({"choices": {"optimizer": Choice("torch", "torch", "asked for")}}, "resident", "torch optimizer"),
        ({"choices": {"optimizer": Choice("apex", "apex", "asked for")}}, "resident", "apex optimizer"),
    ],
)
def test_what_is_against_it_is_named(change: dict, loader: str, reason: str) -> None:
    choice = choose_graph(True, dataclasses.replace(GPU, **change), loader)
    assert (choice.used, choice.disappoints) == ("off", True)
    assert reason in choice.reason


def test_only_who_asked_by_name_is_warned_and_strict_refuses() -> None:
    runtime = with_graph(dataclasses.replace(GPU, device=torch.device("cpu")), True, "resident")
    assert disappointments(runtime, resolve("demo", environment={})) == []
    (line,) = disappointments(runtime, resolve("demo", {"runtime.graph": ("--graph", True)}, environment={}))
    assert line.startswith("graph on was asked for, off is used")
    strict = {"runtime.graph": ("--graph", True), "runtime.strict": ("--strict", True)}
    with pytest.raises(DeviceError, match="drop --strict"):
        disappointments(runtime, resolve("demo", strict, environment={}))


def test_captured_unless_told_otherwise() -> None:
    assert resolve("demo", environment={}).config.runtime.graph
    assert RuntimeConfig().graph
    assert not choose_runtime(RuntimeConfig(device="cpu")).graph  # until the loader is known


def test_the_command_warns_once_and_strict_exits_with_4(cli: Cli) -> None:  # noqa: F811
    code, _, err = cli("train", "--recipe", "demo", *QUICK, "--graph", "--strict", "--set", "runtime.amp=false")
    assert code == 4
    assert "graph on was asked for, off is used: only a GPU" in err
    code, out, err = cli("train", "--recipe", "demo", *QUICK, "--graph", "--json")
    assert code == 0
    assert err.count("graph on was asked for") == 1
    assert '"graph": "off"' in out

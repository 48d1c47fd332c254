"""`fastcifar summary` and `fastcifar check` as a user types them."""

import json
from pathlib import Path

import pytest
from test_cli import Cli, cli  # noqa: F401 - the fixture

from fastcifar.model.constraints import RULES

MINE = """
import torch.nn as nn
import torch.nn.functional as F
from blocks import first
print("imported")

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = first(), nn.Linear(8, 10)

    def forward(self, x):
        print("ran")
        return self.head(F.max_pool2d(self.conv(x), 2).mean((2, 3)))

class Wide(Net):
    def __init__(self, width):
        super().__init__()

def build():
    from blocks import first
    return nn.Sequential(first(), nn.AdaptiveAvgPool2d(1))

ready, grey, text = Net(), nn.Conv2d(1, 4, 3), "a network"

def breaks():
    raise ValueError("one" + chr(10) + "two")
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    (folder / "net.py").write_text(MINE)
    (folder / "blocks.py").write_text("import torch.nn as nn\ndef first():\n    return nn.Conv2d(3, 8, 3)\n")
    (folder / "wrong.py").write_text("x = 1\nclass Net(:\n")
    (folder / "needs.py").write_text("x = 1\nimport a_module_that_is_not_there\n")
    (folder / "ends.py").write_text("raise SystemExit(0)\n")
    (folder / "json.py").write_text("import torch.nn as nn\nNet = nn.Identity\n")
    (tmp_path / "here_networks.py").write_text("from torch.nn import Conv2d\nnet = Conv2d(3, 4, 3)\n")


def test_summary_of_ours(cli: Cli) -> None:  # noqa: F811
    code, out, err = cli("summary", "c1c2c3c40-speed", "--json")
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert record.keys() >= {"network", "parameters", "receptive_field", "macs", "layers"}
    assert (record["parameters"], record["receptive_field"]) == (126_346, 61)
    code, out, _ = cli("summary", "c1c2c3c40-speed")
    assert code == 0
    assert "61 pixels, proven by the support of the input gradient" in out
    code, out, _ = cli("summary", "c1c2c3c40-speed", "--markdown")
    assert out.startswith("| Layer (type) | Output Shape | Param # |")


def test_image_size_and_classes(cli: Cli) -> None:  # noqa: F811
    record = json.loads(cli("summary", "c1c2c3c40-speed", "--image-size", "64", "--classes", "100", "--json")[1])
    assert record["layers"][0]["output_shape"] == [1, 24, 64, 64]
    assert record["layers"][-1]["output_shape"] == [1, 100]
    assert (record["parameters"], record["receptive_field"]) == (126_346 + 90 * 97, 61)


@pytest.mark.parametrize("name", ["mine/net.py:Net", "mine/net.py:ready"])
def test_a_file_of_the_users(cli: Cli, name: str) -> None:  # noqa: F811
    code, out, err = cli("summary", name, "--json")
    assert code == 0, err
    record = json.loads(out)
    assert record["parameters"] == 3 * 8 * 9 + 8 + 90
    assert record["receptive_field"] == 4
    assert "imported" in err
    assert "ran" in err


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("mine/net.py:build", 224), ("here_networks:net", 112), ("torchvision.models:squeezenet1_1", 1_235_496)],
)
def test_a_function_and_a_module_on_the_path(cli: Cli, name: str, parameters: int) -> None:  # noqa: F811
    code, out, err = cli("summary", name, "--json")
    assert code == 0, err
    assert json.loads(out)["parameters"] == parameters


def test_a_file_with_the_name_of_a_module_does_not_take_its_place(cli: Cli) -> None:  # noqa: F811
    assert cli("summary", "mine/json.py:Net")[0] == 0
    assert json.loads(cli("summary", "mine/json.py:Net", "--json")[1])["parameters"] == 0


def test_check(cli: Cli) -> None:  # noqa: F811
    code, out, err = cli("check", "c1c2c3c40-accuracy", "--json")
    record = json.loads(out)
    assert (code, err, record["holds"]) == (0, "", True)
    assert [rule["rule"] for rule in record["rules"]] == list(RULES)
    code, out, _ = cli("check", "c1c2c3c40-accuracy")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    code, out, err = cli("check", "c1c2c3c40-accuracy", "--max-parameters", "160170", "--markdown")
    assert code == 6
    assert "| parameters < 160,170 | **no** | 160,170 |" in out
    assert err.count("\n") == 1
    assert "1 of 7 rules: parameters" in err
    assert cli("check", "c1c2c3c40-accuracy", "--min-receptive-field", "117")[0] == 6
    assert cli("check", "c1c2c3c40-accuracy", "--min-receptive-field", "117", "--leave-out", "receptive-field")[0] == 0


def test_check_of_a_file_names_the_function_that_breaks_a_rule(cli: Cli) -> None:  # noqa: F811
    code, out, err = cli("check", "mine/net.py:Net", "--json")
    found = {rule["rule"]: rule for rule in json.loads(out)["rules"]}
    assert code == 6
    assert not found["no-max-pool"]["holds"]
    assert "max_pool2d" in found["no-max-pool"]["evidence"]
    assert found["global-pooling"]["holds"]
    assert "no-max-pool" in err.splitlines()[-1]


@pytest.mark.parametrize("command", ["summary", "check"])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["c1c2c3c40-sped"], "did you mean c1c2c3c40-speed"),
        (["resnet18"], "package.module:Class"),
        (["no_such_package.net:Net"], "no_such_package"),
        (["torchvision.models:resnet19"], "has no resnet19"),
        (["mine/nowhere.py:Net"], "mine/nowhere.py: no such file"),
        (["mine/net.py"], "mine/net.py:Class"),
        (["mine/net.py:"], "missing"),
        (["mine/net.py:Nets"], "networks in it: Net, Wide"),
        (["mine/net.py:Wide"], "'width'"),
        (["mine/net.py:text"], "no network"),
        (["mine/net.py:breaks"], "ValueError: one"),
        (["mine/net.py:F.relu"], "needs arguments"),
        (["mine/net.py:grey"], "3x32x32"),
        (["mine/wrong.py:Net"], "line 2"),
        (["mine/needs.py:Net"], "(line 2) - ModuleNotFoundError"),
        (["mine/ends.py:Net"], "SystemExit"),
        (["mine/net.py:Net", "--classes", "3"], "--classes"),
        (["c1c2c3c40-speed", "--image-size", "0"], "--image-size"),
    ],
)
def test_what_cannot_be_used_is_one_line(cli: Cli, command: str, arguments: list[str], named: str) -> None:  # noqa: F811
    code, out, err = cli(command, *arguments)
    assert (code, out) == (2, ""), err
    last = err.splitlines()[-1] if "--image-size" not in arguments else err
    assert named in last, err
    assert "Traceback" not in err
    if "--image-size" not in arguments:
        assert last.startswith("fastcifar: ")
        assert set(err.splitlines()[:-1]) <= {"imported", "ran"}


def test_a_rule_that_does_not_exist(cli: Cli) -> None:  # noqa: F811
    code, out, err = cli("check", "c1c2c3c40-speed", "--leave-out", "gap")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "global-pooling" in err

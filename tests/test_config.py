"""Recipes, overrides, precedence and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcifar.config import KEY_TYPES, Config, ScheduleConfig
from fastcifar.errors import UsageError
from fastcifar.settings import apply_overrides, config_from_dict, recipe_names, resolve


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nbatch_size = 11\nseed = 11\nruns = 11\nlog_every = 11\n")
    return str(path)


def test_precedence_is_flag_set_environment_recipe_default(recipe: str) -> None:
    resolved = resolve(
        recipe,
        flags={"training.batch_size": ("--batch-size", 44), "training.target": ("--target", None)},
        settings=["training.batch_size=33", "training.seed=33"],
        environment={
            "FASTCIFAR_TRAINING_BATCH_SIZE": "22",
            "FASTCIFAR_TRAINING_SEED": "22",
            "FASTCIFAR_TRAINING_RUNS": "22",
        },
    )
    training = resolved.config.training
    assert (training.batch_size, training.seed, training.runs, training.log_every) == (44, 33, 22, 11)
    assert training.target == 0.0
    expected = {
        "batch_size": "flag --batch-size",
        "seed": "--set",
        "runs": "environment FASTCIFAR_TRAINING_RUNS",
        "log_every": f"recipe {recipe}",
        "target": "default",
    }
    assert {key: resolved.sources[f"training.{key}"] for key in expected} == expected
    assert [resolved.asked_by_name(f"training.{key}") for key in expected] == [True, True, True, False, False]


def test_every_key_has_a_source() -> None:
    assert resolve("demo", environment={}).sources.keys() == KEY_TYPES.keys()


@pytest.mark.parametrize("name", recipe_names())
def test_packaged_recipes_resolve_and_explain_themselves(name: str) -> None:
    resolve(name, environment={})
    text = (Path(__file__).parents[1] / "fastcifar" / "recipes" / f"{name}.toml").read_text()
    assert text.startswith("# "), "the first line says what the recipe is for"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["training.batchsize=1"], "training.batch_size"),
        (["batch_size=1"], "training.batch_size"),
        (["training.batch_size"], "section.key=value"),
        (["training.batch_size=many"], "int"),
        (["training.batch_size=1.5"], "int"),
        (["training.batch_size=0"], "1 or more"),
        (["runtime.amp=1"], "bool"),
        (["training.target=101"], "0 to 100"),
        (["optimizer.learning_rate=nan"], "above 0"),
        (["schedule.image_sizes=[[0.5, 16]]"], "start at 0"),
        (["schedule.image_sizes=[[0, 16], [1.0, 32]]"], "below 1"),
        (["schedule.image_sizes=[[0, 4]]"], "8 to 64"),
        (["schedule.image_sizes=16"], "[[0.0, 16]"),
        (["schedule.image_sizes=[[0.0, inf]]"], "[[0.0, 16]"),
        (["schedule.image_sizes=[[0.0, 16.7]]"], "[[0.0, 16]"),
        (["optimizer.learning_rate=inf"], "above 0"),
        (["optimizer.weight_decay=inf"], "0 or more"),
        (["schedule.kind=cosine"], "one-cycle, step"),
        (["schedule.step_size=0"], "1 or more epochs"),
        (["schedule.gamma=0"], "above 0 to 1"),
        (["schedule.gamma=1.5"], "above 0 to 1"),
        (["data.dataset=cifar100"], "cifar10, shapes10"),
        (["augment.flip=2"], "augment.flip"),
        (["augment.border=wrap"], "reflect-101"),
    ],
)
def test_bad_settings_are_refused_and_the_way_out_named(settings: list[str], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve("demo", settings=settings, environment={})
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_recipes_name_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean speed"):
        resolve("sped", environment={})
    with pytest.raises(UsageError, match="demo"):
        resolve(str(tmp_path / "missing.toml"), environment={})
    broken = tmp_path / "broken.toml"
    broken.write_text("[training\n")
    with pytest.raises(UsageError, match="not valid TOML"):
        resolve(str(broken), environment={})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not valid TOML"):
        resolve(str(binary), environment={})
    flat = tmp_path / "flat.toml"
    flat.write_text("epochs = 3\n")
    with pytest.raises(UsageError, match="outside a section"):
        resolve(str(flat), environment={})


def test_a_misspelt_environment_variable_is_not_ignored() -> None:
    with pytest.raises(UsageError, match="FASTCIFAR_SCHEDULE_EPOCH"):
        resolve("demo", environment={"FASTCIFAR_SCHEDULE_EPOCH": "3"})
    with pytest.raises(UsageError, match=r"training\.seed"):
        resolve("demo", environment={"FASTCIFAR_TRANING_SEED": "3"})
    resolve("demo", environment={"FASTCIFAR_CACHE_DIR": "/tmp", "OTHER": "x"})


def test_values_that_look_like_numbers_stay_strings_where_strings_are_wanted() -> None:
    resolved = resolve("demo", settings=["data.dir=2024", 'runtime.device="cpu"'], environment={})
    assert (resolved.config.data.dir, resolved.config.runtime.device) == ("2024", "cpu")


@given(
    epochs=st.integers(1, 300),
    smoothing=st.floats(0, 0.99),
    compile=st.booleans(),
    directory=st.text(st.characters(blacklist_categories=["Cs"]), max_size=20),
)
def test_json_round_trip(epochs: int, smoothing: float, compile: bool, directory: str) -> None:
    config = Config(
        schedule=ScheduleConfig(epochs=epochs, image_sizes=((0.0, 16), (0.25, 32))),
        training=dataclasses.replace(Config().training, label_smoothing=smoothing),
        runtime=dataclasses.replace(Config().runtime, compile=compile),
        data=dataclasses.replace(Config().data, dir=directory),
    )
    assert config_from_dict(json.loads(json.dumps(config.to_dict())), "test") == config


def test_overrides_on_a_resolved_configuration_keep_the_other_sources() -> None:
    base = resolve("demo", settings=["training.seed=5"], environment={})
    changed = apply_overrides(base, {"data.dir": ("--data-dir", "/x")}, ())
    assert changed.config == dataclasses.replace(base.config, data=dataclasses.replace(base.config.data, dir="/x"))
    assert changed.sources == base.sources | {"data.dir": "flag --data-dir"}


def test_image_sizes_change_at_their_share_of_the_epochs() -> None:
    schedule = ScheduleConfig(epochs=10, image_sizes=((0.0, 16), (0.3, 24), (0.8, 32)))
    assert [schedule.image_size(epoch) for epoch in range(10)] == [16] * 3 + [24] * 5 + [32] * 2

"""The command line itself: speed of help, streams, exit codes, recipes, lists."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from calling import secateur

import secateur as sc
from secateur.cli.app import VERBS
from secateur.cli.outcome import as_json
from secateur.models import build_model, example_inputs

HELP_SECONDS = 0.5
SOURCES = str(Path(sc.__file__).parents[1])


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=60, check=False
    )


@pytest.mark.parametrize("arguments", [["--help"], ["prune", "--help"], ["--version"]], ids=" ".join)
def test_help_answers_in_under_half_a_second(arguments: list[str]) -> None:
    def cpu_seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        before = used.ru_utime + used.ru_stime
        assert python("-m", "secateur", *arguments).returncode == 0
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime - before

    assert min(cpu_seconds() for _ in range(3)) < HELP_SECONDS


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("secateur", "torch"), ("secateur.spec", "torch"), ("secateur.cli", "torch"), ("secateur.cli", "pydantic")],
)
def test_light_modules_load_nothing_heavy(module: str, heavy: str) -> None:
    found = python("-c", f"import {module}, sys; sys.stdout.write(str({heavy!r} in sys.modules))")
    assert found.stdout == "False", found.stderr


def test_a_reader_that_leaves_early_is_no_failure() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "secateur", "list", "data"]
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    try:
        found = subprocess.run(
            command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment, timeout=60, check=False
        )
    finally:
        os.close(writing)
    assert (found.returncode, found.stderr) == (0, "")


def test_the_public_names_are_frozen() -> None:
    assert len(sc.__all__) <= 25
    assert all(getattr(sc, name) is not None for name in sc.__all__)
    assert set(sc.__all__) == {
        "CRITERIA",
        "Budget",
        "CostModel",
        "Plan",
        "PruneConfig",
        "PruneResult",
        "Scores",
        "SecateurError",
        "Structure",
        "Verification",
        "allocate",
        "base_schema",
        "load",
        "make_prunable",
        "masked",
        "measure_latency",
        "prune",
        "score",
        "shrink",
        "shrink_",
        "trace",
        "verify",
    }


def test_every_verb_has_help_and_honest_options() -> None:
    shown = secateur("--help").out
    for name, verb in VERBS.items():
        assert f"\n  {name} " in shown
        page = secateur(name, "--help")
        assert page.code == 0
        for field in fields(verb.Options):
            assert f"--{field.name.replace('_', '-')}" in page.out or field.name.upper() in page.out, field.name


def test_no_arguments_show_the_help() -> None:
    assert secateur().out == secateur("--help").out
    assert secateur("--version").out == f"secateur {sc.__version__}\n"


@pytest.mark.parametrize(
    "what", ["criteria", "allocators", "methods", "models", "data", "budgets", "exporters", "engines"]
)
def test_lists_have_one_line_each(what: str) -> None:
    text, record = secateur("list", what), secateur("list", what, "--json").record
    assert text.code == 0
    assert text.err == ""
    assert [line.split()[0] for line in text.out.splitlines()] == list(record)
    assert all(record.values())


def test_numbers_that_json_cannot_say_become_null() -> None:
    assert as_json({"a": [float("inf"), 1.5], "b": float("nan")}) == '{"a": [null, 1.5], "b": null}'


def test_a_bug_is_one_short_message_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.pipeline.channels.shrink", lambda *_: 1 / 0)
    found = secateur("prune", "lenet5", "--budget", "macs=0.5", "--json")
    assert found.code == 1
    assert "ZeroDivisionError" in found.record["error"]
    assert "Traceback" not in found.err
    monkeypatch.setenv("SECATEUR_DEBUG", "1")
    assert "Traceback" in secateur("prune", "lenet5", "--budget", "macs=0.5").err


def test_a_verification_that_does_not_hold_is_exit_code_3_and_still_saved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = sc.Verification(1.0, 0.5, False)
    monkeypatch.setattr("secateur.pipeline.channels.verify_traced", lambda *_, **__: wrong)
    found = secateur("prune", "lenet5", "--budget", "macs=0.5", "--out", tmp_path / "small", "--json")
    assert found.code == 3
    assert found.record["verification"]["ok"] is False
    assert "NOT verified" in (tmp_path / "small" / "README.md").read_text()
    assert '"ok": false' in (tmp_path / "small" / "run.json").read_text()


def test_ctrl_c_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("secateur.pipeline.channels.shrink", interrupt)
    found = secateur("prune", "lenet5", "--budget", "macs=0.5")
    assert (found.code, found.out) == (130, "")
    assert found.err.endswith("secateur: interrupted\n")


def test_what_user_code_prints_stays_off_stdout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "loud_models.py").write_text(
        "from torch import nn\nprint('hello')\ndef net():\n    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    found = secateur("inspect", "loud_models:net", "--input-shape", "1,1,4", "--json")
    assert found.code == 0, found.err
    assert found.record["param_count"] == 58
    assert "hello" in found.err


def plan_of(folder: Path) -> sc.Plan:
    from secateur.store import history_of

    (plan,) = history_of(sc.load(folder))
    return plan


def test_python_options_and_recipe_make_the_same_plan(tmp_path: Path) -> None:
    options = ["--budget", "macs=0.6", "--criterion", "random", "--allocator", "global", "--round-to", 2, "--seed", 3]
    options += ["--ignore", "conv1", "--max-remove-ratio", 0.8, "--no-verify"]
    assert secateur("prune", "lenet5", *options, "--out", tmp_path / "a").code == 0
    written = tmp_path / "a" / "recipe.yaml"
    assert secateur("prune", "--recipe", written, "--out", tmp_path / "b").code == 0
    made = sc.prune(
        build_model("lenet5", seed=3),
        example_inputs("lenet5"),
        budget={"macs": 0.6},
        criterion="random",
        allocator="global",
        round_to=2,
        seed=3,
        ignore=["conv1"],
        max_remove_ratio=0.8,
    )
    assert plan_of(tmp_path / "a") == plan_of(tmp_path / "b") == made.plan


def test_options_win_over_the_recipe_and_the_recipe_over_defaults(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("model: lenet300\nbudget: params=0.5\nround_to: 4\nmin-keep: 3\nverify: false\n")
    assert secateur("prune", "--recipe", recipe, "--round-to", 8, "--out", tmp_path / "small").code == 0
    resolved = yaml.safe_load((tmp_path / "small" / "recipe.yaml").read_text())
    assert resolved["round-to"] == "8"
    assert resolved["min-keep"] == 3
    assert resolved["budget"] == ["params=0.5"]
    assert resolved["verify"] is False
    assert resolved["criterion"] == "auto"
    assert "recipe" not in resolved
    assert "json" not in resolved


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("critterion: l1\n", "no option 'critterion'; did you mean: criterion"),
        ("min-keep: many\n", "min-keep: Input should be a valid integer"),
        ("- l1\n", "maps option names to values"),
        ("a: [\n", "cannot read the recipe"),
        ("json: true\n", "no option 'json'"),
    ],
)
def test_bad_recipes_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text(text)
    found = secateur("prune", "lenet5", "--recipe", recipe, "--json")
    assert found.code == 2
    assert expected in found.record["error"]
    assert found.err.count("secateur: ") == 1


def test_every_field_of_the_prune_config_is_an_option() -> None:
    options = {field.name for field in fields(VERBS["prune"].Options)} | {"shares"}
    assert {field.name for field in fields(sc.PruneConfig)} <= options


def test_what_the_system_refuses_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("secateur.store.layouts.save_file", full)
    found = secateur("prune", "lenet5", "--budget", "macs=0.5", "--out", tmp_path / "small")
    assert found.code == 1
    assert found.err.endswith("secateur: the system refused: No space left on device\n")
    assert list(tmp_path.iterdir()) == []

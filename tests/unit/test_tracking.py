"""What a run tells while it goes on: progress, a log, curves."""

from __future__ import annotations

import io
import json
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest
from calling import secateur
from torch import nn

from secateur.data import open_data
from secateur.spec import MissingExtraError
from secateur.train import JsonLines, TensorBoard, TrainConfig, fit, telling

CONFIG = TrainConfig(epochs=3, batch_size=64)


def train(**options: Any) -> list[dict[str, Any]]:
    images = open_data("digits", "train").subset(256)
    return fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), images, config=CONFIG, **options)


def test_the_log_has_a_line_per_epoch_whatever_happened(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "log.jsonl"
    log = JsonLines(file)

    def interrupted(record: dict[str, Any]) -> None:
        log(record)
        if record["epoch"] == 2:  # told, but not kept yet: the next run tells of it again
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(on_epoch=interrupted, checkpoint_dir=tmp_path)
    file.write_text(file.read_text() + '{"epoch": 3, "lo')  # a kill in the middle of a line
    history = train(on_epoch=JsonLines(file), checkpoint_dir=tmp_path)
    assert [json.loads(line) for line in file.read_text().splitlines()] == history


class Writer:
    """Stands for TensorBoard's, which is not installed here."""

    made: ClassVar[list[Writer]] = []

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.points: list[tuple[str, float, int]] = []
        self.flushed = 0
        self.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.points.append((name, value, step))

    def flush(self) -> None:
        self.flushed = len(self.points)


def test_curves_go_to_tensorboard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    told: list[int] = []
    history = train(on_epoch=telling([TensorBoard(tmp_path), lambda record: told.append(record["epoch"])]))
    (writer,) = Writer.made
    assert (writer.folder, writer.purge_step) == (str(tmp_path), 1)
    accuracies = [(value, step) for name, value, step in writer.points if name == "accuracy"]
    assert accuracies == [(record["accuracy"], record["epoch"]) for record in history]
    assert writer.flushed == len(writer.points)
    assert told == [1, 2, 3]


def test_without_tensorboard_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'secateur\[track\]'"):
        TensorBoard(tmp_path)


def test_the_command_line_writes_the_log(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    options = ["--data", "digits", "--limit", 128, "--epochs", 2, "--early-stopping", 1, "--log", file]
    assert secateur("train", "lenet300", *options, "--out", tmp_path / "out").code == 0
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    assert {"loss", "accuracy", "validation_accuracy", "learning_rate", "seconds"} <= set(records[0])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_bar_with_accuracy_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    train(validation=open_data("digits", "test"))
    shown = terminal.getvalue()
    assert "accuracy 0." in shown
    assert "validation 0." in shown
    assert "0:00:0" in shown  # time left


def test_elsewhere_lines_say_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    train()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    assert all(line.endswith(" s left") for line in lines)

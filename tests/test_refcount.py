"""PySide6 6.12 on Python before 3.12 loses references to None and True until Python aborts.

The requirements keep that pair apart, the command refuses it, and what is installed here is sound.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mirrorgui.__main__ import qt_unfit
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

CALLS = 1000
# Other threads and caches take and drop a few; the fault takes one a call.
TOLERATED = 50

# In a process of its own: where the fault is present, it does not end well.
PROBE = f"""
import sys
from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtWidgets import QApplication, QLabel, QWidget

class Sender(QObject):
    sent = Signal(int)

app = QApplication([])
label, widget, timer, sender = QLabel(), QWidget(), QTimer(), Sender()
sender.sent.connect(lambda number: None)

def lost(singleton, call):
    before = sys.getrefcount(singleton)
    for number in range({CALLS}):
        call(number)
    return before - sys.getrefcount(singleton)

# True would be freed after some hundred lost references: borrow enough beforehand.
kept = [True] * 100_000 + [None] * 100_000
print(
    lost(None, lambda number: label.setText(str(number))),
    lost(None, lambda number: widget.update()),
    lost(None, lambda number: (timer.start(10_000), timer.stop())),
    lost(True, lambda number: sender.sent.emit(number)),
)
"""


def test_calls_into_qt_keep_the_reference_counts_of_none_and_true() -> None:
    probe = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=60, check=False
    )
    assert probe.returncode == 0, probe.stderr
    lost = [int(number) for number in probe.stdout.split()]
    assert len(lost) == 4
    assert max(map(abs, lost)) < TOLERATED, f"references lost in {CALLS} calls each: {lost}"


def _pyside_requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [Requirement(line) for line in project["optional-dependencies"]["gui"]]
    return [line for line in lines if line.name == "PySide6-Essentials"]


def _allowed(python: str, qt: str) -> bool:
    meant = [
        line
        for line in _pyside_requirements()
        if line.marker is not None and line.marker.evaluate({"python_version": python})
    ]
    assert len(meant) == 1, f"one requirement must speak of Python {python}"
    return qt in meant[0].specifier


@pytest.mark.parametrize(
    ("python", "qt", "allowed"),
    [
        ("3.11", "6.11.3", True),
        ("3.11", "6.12.0", False),
        ("3.12", "6.12.0", True),
        ("3.13", "6.12.1", True),
        ("3.14", "6.13.0", False),
    ],
)
def test_the_requirements_keep_the_faulty_pair_apart(python: str, qt: str, allowed: bool) -> None:
    assert _allowed(python, qt) is allowed


@pytest.mark.parametrize(
    ("qt", "python"),
    [("6.11.3", (3, 11)), ("6.8.0", (3, 11)), ("6.12.0", (3, 12)), ("6.13.0", (3, 14))],
)
def test_a_sound_pair_is_accepted(qt: str, python: tuple[int, int]) -> None:
    assert qt_unfit(qt, python) is None


@pytest.mark.parametrize("qt", ["6.12.0", "6.12.0a1", "6.13.1", "7.0.0"])
def test_the_faulty_pair_is_refused_in_a_sentence(qt: str) -> None:
    reason = qt_unfit(qt, (3, 11))
    assert reason is not None
    assert qt in reason
    assert "3.12" in reason


def test_an_unknown_version_of_qt_is_not_refused() -> None:
    assert qt_unfit(None, (3, 11)) is None

"""Runs of pytest side by side: what is printed of them, how they end, and that nothing stays."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT

PATIENCE_S = 30

SCRIPT = """
set -uo pipefail
cd "$1" || exit
scratch=$1
source "$2/packaging/setup.sh"
source "$2/packaging/runs.sh"
trap stop_runs EXIT
trap 'exit 130' INT TERM
options=(${3:-})
start_pytest engine engine-environment tests
start_pytest window window-environment tests/ui
finish_pytest engine
finish_pytest window
conclude
"""


def _environment(folder: Path, name: str, program: str) -> None:
    """Make what stands in for an environment: its Python does what the program says."""
    python = folder / f"{name}-environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/bash\n{program}\n", encoding="utf-8")
    python.chmod(0o755)


def _command(folder: Path, options: str = "") -> list[str]:
    return ["bash", "-c", SCRIPT, "test", str(folder), str(ROOT), options]


def _ended(folder: Path, options: str = "") -> tuple[int, list[str]]:
    ended = subprocess.run(
        _command(folder, options),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return ended.returncode, ended.stdout.splitlines()


def _closing(text: str) -> str:
    return f"echo '===== {text} in 1.25s ====='"


def test_both_run_at_once_and_are_printed_one_after_the_other(tmp_path: Path) -> None:
    # Each waits for the other, so one after the other they would never end.
    meet = "touch {0}; until [ -e {1} ]; do sleep 0.05; done; sleep {2}; echo {0} met; "
    _environment(tmp_path, "engine", meet.format("a", "b", 1) + _closing("7 passed, 2 skipped"))
    _environment(tmp_path, "window", meet.format("b", "a", 0) + _closing("5 passed"))
    status, lines = _ended(tmp_path)
    assert status == 0, lines
    assert lines == [
        "test: pytest, engine",
        "a met",
        "===== 7 passed, 2 skipped in 1.25s =====",
        "test: pytest, window",
        "b met",
        "===== 5 passed in 1.25s =====",
        "",
        "ok      pytest, engine:  7 passed, 2 skipped in 1.25s ",
        "ok      pytest, window:  5 passed in 1.25s ",
        "12 passed, 0 failed, 2 skipped",
    ]


@pytest.mark.parametrize("failing", ["engine", "window"])
def test_one_that_fails_makes_the_whole_fail(failing: str, tmp_path: Path) -> None:
    for name in ("engine", "window"):
        end = f"{_closing('1 failed, 3 passed, 2 errors')}; exit 1" if name == failing else ""
        _environment(tmp_path, name, end or _closing("4 passed"))
    status, lines = _ended(tmp_path)
    assert status == 1
    assert f"FAILED  pytest, {failing}:  1 failed, 3 passed, 2 errors in 1.25s " in lines
    assert lines[-1] == "7 passed, 3 failed, 0 skipped"


def test_one_that_dies_without_a_closing_line_makes_the_whole_fail(tmp_path: Path) -> None:
    _environment(tmp_path, "engine", _closing("4 passed"))
    _environment(tmp_path, "window", "echo so far; kill -SEGV $$")
    status, lines = _ended(tmp_path)
    assert status == 1
    assert "FAILED  pytest, window: " in lines
    assert lines[-1] == "4 passed, 0 failed, 0 skipped"


@pytest.mark.parametrize(("other", "outcome"), [("exit 5", 1), (_closing("1 passed"), 0)])
def test_options_may_select_nothing_of_one_but_not_of_both(
    other: str, outcome: int, tmp_path: Path
) -> None:
    _environment(tmp_path, "engine", f"{_closing('9 deselected')}; exit 5")
    _environment(tmp_path, "window", other)
    status, lines = _ended(tmp_path, "-k nothing")
    assert status == outcome
    assert "-       pytest, engine: nothing selected" in lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_both_with_all_that_they_have_started(
    number: signal.Signals, tmp_path: Path
) -> None:
    # One cleans up when it is told to; the other does not even hear it, nor does what it started.
    _environment(
        tmp_path,
        "engine",
        "trap 'touch told; exit 2' INT; sleep 300 & echo $! >child-1; touch ready-1; wait",
    )
    _environment(
        tmp_path,
        "window",
        "trap '' INT; sleep 300 & echo $! >child-2; touch ready-2; wait; wait; sleep 300",
    )
    script = SCRIPT.replace("trap stop_runs", "grace_s=1; trap stop_runs")
    program = subprocess.Popen(
        ["bash", "-c", script, "test", str(tmp_path), str(ROOT)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Started by a program that ignores it, a shell could not hear SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        _wait_for(tmp_path / "ready-1", tmp_path / "ready-2")
        program.send_signal(number)
        assert program.wait(PATIENCE_S) == 130
    finally:
        program.kill()
    assert (tmp_path / "told").exists()
    for child in ("child-1", "child-2"):
        _is_gone(int((tmp_path / child).read_text()))


def _wait_for(*paths: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not all(path.exists() for path in paths):
        assert time.monotonic() < end
        time.sleep(0.02)


def _is_gone(process: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError(f"{process} still runs")

"""The command from outside: what it prints, where, and with which status it ends."""

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import mirrorgui
from mirrorgui import logs
from mirrorgui.__main__ import has_screen
from mirrorgui.errors import InvalidInput

ROOT = Path(__file__).parents[1]


def _environment(home: Path, **changes: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM", "MIRRORGUI_LOG")
    }
    return kept | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(home)} | changes


def _python(home: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=_environment(home, **changes),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _mirrorgui(home: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return _python(home, "-m", "mirrorgui", *arguments, **changes)


def test_version_is_the_packages(tmp_path: Path) -> None:
    outcome = _mirrorgui(tmp_path, "--version")
    assert outcome.returncode == 0
    assert outcome.stdout == f"mirrorgui {mirrorgui.__version__}\n"


def test_help_names_every_command(tmp_path: Path) -> None:
    outcome = _mirrorgui(tmp_path, "--help")
    assert outcome.returncode == 0
    for command in ("run SOURCE TARGET", "info", "compare", "--demo"):
        assert command in outcome.stdout


@pytest.mark.parametrize(
    "arguments",
    [["a", "b", "c"], ["--no-such-option"], ["--demo", "a.img"], ["--demo-picture"], ["--dem"]],
)
def test_wrong_usage_ends_with_2_and_the_usage(tmp_path: Path, arguments: list[str]) -> None:
    outcome = _mirrorgui(tmp_path, *arguments)
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("usage: mirrorgui")
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("arguments", [[], ["a.img"], ["a.img", "b.img"], ["--demo"]])
def test_without_a_screen_the_window_ends_with_2_and_a_sentence(
    tmp_path: Path, arguments: list[str]
) -> None:
    outcome = _mirrorgui(tmp_path, *arguments)
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("mirrorgui: No graphical session found")
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("environment", "there"),
    [
        ({}, False),
        ({"DISPLAY": ""}, False),
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
        ({"QT_QPA_PLATFORM": "offscreen"}, True),
        ({"QT_QPA_PLATFORM": "vnc:size=800x600"}, True),
        ({"QT_QPA_PLATFORM": "xcb"}, False),
        ({"QT_QPA_PLATFORM": "wayland;xcb"}, False),
        ({"QT_QPA_PLATFORM": "wayland;xcb", "DISPLAY": ":0"}, True),
    ],
)
def test_a_screen_is_a_display_or_a_platform_that_needs_none(
    environment: dict[str, str], there: bool
) -> None:
    assert has_screen(environment, "linux") is there


def test_other_systems_always_have_a_screen() -> None:
    assert has_screen({}, "darwin")
    assert has_screen({}, "win32")


def test_an_unknown_log_level_is_refused_by_name(tmp_path: Path) -> None:
    outcome = _mirrorgui(tmp_path, "--version", MIRRORGUI_LOG="loud")
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("mirrorgui: MIRRORGUI_LOG: 'loud': choose one of DEBUG,")


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("", logging.WARNING),
        ("debug", logging.DEBUG),
        ("INFO", logging.INFO),
        ("CRITICAL", logging.CRITICAL),
    ],
)
def test_the_log_level_is_named_in_the_environment(text: str, level: int) -> None:
    assert logs.level_from({"MIRRORGUI_LOG": text}) == level


def test_a_number_is_no_log_level() -> None:
    with pytest.raises(InvalidInput):
        logs.level_from({"MIRRORGUI_LOG": "10"})


def test_errors_are_kept_in_the_state_folder_of_the_user() -> None:
    assert logs.error_file({"XDG_STATE_HOME": "/var/state"}) == Path(
        "/var/state/mirrorgui/errors.log"
    )
    home = Path.home() / ".local/state/mirrorgui/errors.log"
    assert logs.error_file({}) == home
    assert logs.error_file({"XDG_STATE_HOME": "relative/is/invalid"}) == home


# The command with its headless half replaced by one that fails as told.
BROKEN = """
import sys, types
import mirrorgui
cli = types.ModuleType("mirrorgui.cli")
def main(argv):
    {body}
cli.main = main
sys.modules["mirrorgui.cli"] = mirrorgui.cli = cli
from mirrorgui.__main__ import main as command
sys.exit(command(["info", "x"]))
"""


def _broken(home: Path, body: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return _python(home, "-c", BROKEN.format(body=body), **changes)


def test_an_unexpected_error_is_one_sentence_and_its_traceback_is_kept(tmp_path: Path) -> None:
    outcome = _broken(tmp_path, "raise ZeroDivisionError('by\\n nothing')")
    kept = tmp_path / "mirrorgui" / "errors.log"
    assert outcome.returncode == 1
    assert outcome.stderr.count("\n") == 1
    assert "internal error (ZeroDivisionError: by  nothing)" in outcome.stderr
    assert str(kept) in outcome.stderr
    assert "Traceback" in kept.read_text()
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


def test_an_unexpected_error_shows_its_traceback_to_who_asked_for_it(tmp_path: Path) -> None:
    outcome = _broken(tmp_path, "raise ZeroDivisionError", MIRRORGUI_LOG="DEBUG")
    assert outcome.returncode == 1
    assert "Traceback" in outcome.stderr


def test_an_error_in_a_thread_is_kept_too(tmp_path: Path) -> None:
    body = (
        "import threading; t = threading.Thread(target=[].pop, name='copy-1'); t.start(); t.join();"
        " return 0"
    )
    outcome = _broken(tmp_path, body)
    assert outcome.returncode == 0
    assert "The thread copy-1 stopped on an internal error (IndexError" in outcome.stderr
    assert "Traceback" in (tmp_path / "mirrorgui" / "errors.log").read_text()


def test_a_state_folder_that_cannot_be_written_is_no_second_error(tmp_path: Path) -> None:
    (tmp_path / "mirrorgui").write_text("in the way")
    outcome = _broken(tmp_path, "raise ZeroDivisionError")
    assert outcome.returncode == 1
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("body", "status", "stderr"),
    [
        (
            "from mirrorgui import errors; raise errors.InvalidInput('speed', -1, 'negative')",
            2,
            "mirrorgui: speed: '-1': negative\n",
        ),
        (
            "from mirrorgui import errors; raise errors.JobFailed('no target')",
            1,
            "mirrorgui: no target\n",
        ),
        ("raise KeyboardInterrupt", 130, ""),
        ("raise BrokenPipeError", 1, ""),
        ("return 3", 3, ""),
    ],
)
def test_errors_raised_on_purpose_are_sentences_with_a_status(
    tmp_path: Path, body: str, status: int, stderr: str
) -> None:
    outcome = _broken(tmp_path, body)
    assert (outcome.returncode, outcome.stderr) == (status, stderr)
    assert not (tmp_path / "mirrorgui").exists()

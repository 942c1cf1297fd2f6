"""The manual page as ``man`` reads it, and the completions as the shells do."""

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mirrorgui
from mirrorgui import cli
from mirrorgui.__main__ import window_parser
from tests.packaging.conftest import ROOT, run


def _options() -> set[str]:
    parsers = [window_parser(), *_commands().values()]
    return {
        flag
        for parser in parsers
        for action in parser._actions
        for flag in action.option_strings
        if flag.startswith("--")
    }


def _commands() -> dict[str, object]:
    for action in cli._parser()._actions:
        if isinstance(action.choices, dict):
            return dict(action.choices)
    raise AssertionError("no commands")


# --- man ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(share: Path) -> Path:
    return share / "man" / "man1" / "mirrorgui.1.gz"


def _formatted(page: Path) -> str:
    told = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MAN_KEEP_FORMATTING": ""}
    ended = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", page],
        env=told,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stderr == ""
    return ended.stdout


def test_man_formats_the_page_without_a_warning(page: Path) -> None:
    text = _formatted(page)
    assert f"mirrorgui {mirrorgui.__version__}" in text
    assert "EXIT STATUS" in text


def test_whatis_finds_the_page(page: Path) -> None:
    assert '"mirrorgui - mirror a disk image' in run("lexgrog", page)


def test_the_page_explains_every_command_and_option(page: Path) -> None:
    text = _formatted(page)
    assert {flag for flag in _options() if flag not in text} == set()
    assert {name for name in _commands() if f"mirrorgui {name}" not in text} == set()


def test_the_page_says_of_every_option_what_it_does(page: Path) -> None:
    lines = gzip.decompress(page.read_bytes()).decode().splitlines()
    flags = re.compile(r"\\fB\\-")
    explained = [lines[turn + 1] for turn, line in enumerate(lines) if flags.match(line)]
    assert len(explained) > 20
    assert [text for text in explained if not re.fullmatch(r"\w.*\.", text)] == []
    assert any(text.endswith("preallocation, ...") for text in explained)


def test_the_page_names_the_file_that_the_window_writes(page: Path, tmp_path: Path) -> None:
    ask = (
        "from PySide6.QtCore import QSettings; from mirrorgui.ui import app;"
        "made = app.make_application(); print(QSettings().fileName())"
    )
    told = {**os.environ, "HOME": str(tmp_path), "QT_QPA_PLATFORM": "offscreen"}
    told.pop("XDG_CONFIG_HOME", None)
    written = run(sys.executable, "-c", ask, cwd=ROOT, env=told).split()[-1]
    assert written.replace(str(tmp_path), "~") in _formatted(page)


def test_the_page_has_no_place_left_to_fill(page: Path) -> None:
    assert "@" not in gzip.decompress(page.read_bytes()).decode()


# --- The shells -----------------------------------------------------------------------------------

ASK_BASH = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_mirrorgui
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _bash(share: Path, *words: str, cwd: Path | None = None) -> set[str]:
    script = share / "bash-completion" / "completions" / "mirrorgui"
    said = run("bash", "--norc", "-c", ASK_BASH, "bash", script, "mirrorgui", *words, cwd=cwd)
    return set(said.split())


def _fish(share: Path, line: str, cwd: Path) -> set[str]:
    script = share / "fish" / "vendor_completions.d" / "mirrorgui.fish"
    told = {**os.environ, "HOME": str(cwd), "XDG_CONFIG_HOME": str(cwd), "XDG_DATA_HOME": str(cwd)}
    said = run("fish", "-N", "-c", f"source '{script}'; complete -C '{line}'", env=told, cwd=cwd)
    return {line.split("\t")[0] for line in said.splitlines()}


def test_bash_completes_commands_options_and_values(share: Path, tmp_path: Path) -> None:
    assert _bash(share, "", cwd=tmp_path) >= set(_commands())
    assert _bash(share, "run", "--sync", "") == {"full", "top", "none"}
    assert _bash(share, "run", "--sy") == {"--sync"}
    assert _bash(share, "run", "--speed", "") == set()


@pytest.mark.parametrize("name", ["", *_commands()])
def test_bash_knows_every_option(name: str, share: Path) -> None:
    parser = _commands()[name] if name else window_parser()
    wanted = {flag for action in parser._actions for flag in action.option_strings}
    found = _bash(share, *([name] if name else []), "--") | _bash(
        share, *([name] if name else []), "-"
    )
    assert found == wanted


def test_bash_completes_files(share: Path, tmp_path: Path) -> None:
    (tmp_path / "disk.img").touch()
    assert _bash(share, "run", "di", cwd=tmp_path) == {"disk.img"}
    assert _bash(share, "info", "di", cwd=tmp_path) == {"disk.img"}
    assert _bash(share, "di", cwd=tmp_path) == {"disk.img"}


def test_fish_completes_commands_options_and_values(share: Path, tmp_path: Path) -> None:
    assert _fish(share, "mirrorgui ", tmp_path) >= set(_commands())
    assert _fish(share, "mirrorgui run --sync ", tmp_path) == {"full", "top", "none"}
    assert _fish(share, "mirrorgui run --sy", tmp_path) == {"--sync"}


def test_zsh_takes_the_completion_for_the_command(share: Path, tmp_path: Path) -> None:
    load = (
        f"fpath=('{share}/zsh/vendor-completions' $fpath); autoload -Uz compinit;"
        f"compinit -u -d '{tmp_path}/dump'; print $_comps[mirrorgui]; autoload +X _mirrorgui"
    )
    assert run("zsh", "-f", "-c", load).strip() == "_mirrorgui"
    run("zsh", "-n", share / "zsh" / "vendor-completions" / "_mirrorgui")

"""Who may know whom: the contracts of pyproject.toml, and the engine without Qt."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mirrorgui

ROOT = Path(__file__).parents[1]

# Imports every module it is given while everything that is or brings Qt cannot be found.
WITHOUT_QT = """
import importlib
import importlib.abc
import sys

BARRED = ("PySide6", "shiboken6", "pyqtgraph", "qasync", "jeepney")

class Bar(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BARRED:
            raise ModuleNotFoundError(f"{name} is barred here", name=name)
        return None

sys.meta_path.insert(0, Bar())
for name in sys.argv[1:]:
    importlib.import_module(name)
assert not [name for name in sys.modules if name.partition(".")[0] in BARRED]
"""


def _engine_modules() -> list[str]:
    found = pkgutil.walk_packages(mirrorgui.__path__, "mirrorgui.", onerror=lambda name: None)
    return [module.name for module in found if not module.name.startswith("mirrorgui.ui.")]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


def test_rooms_know_only_the_rooms_they_may() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    outcome = _run(str(linter), "--no-cache")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_every_module_of_the_engine_is_imported_without_qt() -> None:
    modules = _engine_modules()
    assert "mirrorgui.__main__" in modules
    assert "mirrorgui.mirror.options" in modules
    outcome = _run(sys.executable, "-c", WITHOUT_QT, *modules)
    assert outcome.returncode == 0, outcome.stderr


def test_the_bar_that_proves_it_does_bar() -> None:
    outcome = _run(sys.executable, "-c", WITHOUT_QT, "mirrorgui.ui.theme")
    assert outcome.returncode != 0
    assert "PySide6 is barred here" in outcome.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["info", "--help"]])
def test_commands_without_a_window_load_no_qt(arguments: list[str]) -> None:
    outcome = _run(sys.executable, "-X", "importtime", "-m", "mirrorgui", *arguments)
    assert outcome.returncode == 0, outcome.stderr
    loaded = [line.rpartition("|")[2].strip() for line in outcome.stderr.splitlines()]
    assert "mirrorgui" in loaded
    barred = ("PySide6", "shiboken6", "pyqtgraph", "qasync", "jeepney")
    assert not [name for name in loaded if name.startswith(barred)]

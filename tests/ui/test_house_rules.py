"""Rules of the window that no reader should have to check by eye."""

import ast
import re
from pathlib import Path

import pytest

import mirrorgui.ui

UI = Path(mirrorgui.ui.__file__).parent
MODULES = sorted(UI.rglob("*.py"))

FORBIDDEN = {
    r"\.exec\(|\.exec_\(": "a nested loop stops asyncio's tasks",
    r"QMessageBox\.(question|warning|information|critical|about)\b": "runs a nested loop",
    r"QFileDialog\.get": "runs a nested loop",
    r"QInputDialog\.get|QColorDialog\.get|QFontDialog\.get": "runs a nested loop",
    r"processEvents": "re-enters whatever is running",
    r"asyncClose": "spins the event loop",
    r"\btime\.sleep\(": "stops the window",
}

ENGINE = ("mirrorgui.session", "mirrorgui.mirror.job", "mirrorgui.block.open")
MAY_CALL_THE_ENGINE = {"backend.py"}

QT_FREE = {
    "wording.py",
    "availability.py",
    "notices.py",
    "questions.py",
    "names.py",
    "quantities.py",
    "form.py",
    "form_texts.py",
    "export_form.py",
    "export_texts.py",
    "exported.py",
    "node_exports.py",
    "frame.py",
    "i18n.py",
    "options.py",
    "device_texts.py",
    "backend.py",
    "news.py",
    "desktop/awake.py",
    "desktop/bus.py",
    "desktop/notifications.py",
    "models/error_groups.py",
}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(UI)))
def test_no_module_runs_a_loop_of_its_own(module):
    text = module.read_text()
    for pattern, why in FORBIDDEN.items():
        found = re.search(pattern, text)
        assert found is None, f"{module.name}: {found.group()}: {why}"


def imports_of(module):
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(UI)))
def test_only_the_backend_knows_the_engines_classes(module):
    if module.name in MAY_CALL_THE_ENGINE:
        return
    classes = ("MirrorSession", "check_request", "MirrorJob", "open_image", "list_devices")
    used = [name for name in imports_of(module) if name.rpartition(".")[2] in classes]
    assert not used


@pytest.mark.parametrize("name", sorted(QT_FREE))
def test_what_needs_no_qt_imports_none(name):
    forbidden = ("PySide6", "shiboken6", "pyqtgraph", "qasync")
    assert not [each for each in imports_of(UI / name) if each.startswith(forbidden)]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(UI)))
def test_modules_stay_small(module):
    assert len(module.read_text().splitlines()) <= 500

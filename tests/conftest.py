"""What holds for every test: no unexpected log line, no thread left, the same examples in CI.

These tests run in two environments: one with Qt, and one without it that proves that the engine
needs none. Without Qt the window's tests are not collected (``packaging/test`` runs them in the
other one, and fails if Qt cannot be loaded there).
"""

import importlib.util
import logging
import os
import threading
from collections.abc import Iterator

import hypothesis
import pytest

HAS_QT = importlib.util.find_spec("PySide6") is not None

# Only what needs Qt or the build tools; packaging/test has the same list.
collect_ignore = (
    [] if HAS_QT else ["ui", "packaging", "test_refcount.py", "test_packaging.py", "test_layers.py"]
)

if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

hypothesis.settings.register_profile("dev", max_examples=50, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")

# How long a thread that was told to end may take to be gone.
THREAD_GRACE_S = 5.0


def pytest_addoption(parser: pytest.Parser) -> None:
    if importlib.util.find_spec("pytestqt") is None:
        # pyproject.toml sets them, and --strict-config refuses what no plugin has declared.
        for name in ("qt_api", "qt_log_level_fail"):
            parser.addini(name, "of pytest-qt, which is not installed here")
        parser.addini("qt_log_ignore", "of pytest-qt, not installed here", type="linelist")


def pytest_report_header() -> str:
    profile = hypothesis.settings.get_current_profile_name()
    qt = "with Qt" if HAS_QT else "no Qt: the window's tests are not collected"
    return f"mirrorgui: {qt}; hypothesis profile {profile}"


class _Collector(logging.Handler):
    """Keeps what an operator should have looked at."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(autouse=True)
def nothing_unexpected_is_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that logs WARNING or above, unless it asked for ``caplog`` to look at it."""
    if "caplog" in request.fixturenames:
        yield
        return
    collector = _Collector()
    root = logging.getLogger()
    root.addHandler(collector)
    try:
        yield
    finally:
        root.removeHandler(collector)
    if collector.records:
        lines = "\n".join(
            f"  {record.levelname} {record.name}: {record.getMessage()}"
            for record in collector.records
        )
        pytest.fail(f"logged (ask for caplog if it is expected):\n{lines}", pytrace=False)


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """Fail a test after which a thread that would keep the program alive still runs."""
    before = set(threading.enumerate())
    yield
    left = [
        thread
        for thread in threading.enumerate()
        if thread not in before and not thread.daemon and thread is not threading.main_thread()
    ]
    for thread in left:
        thread.join(THREAD_GRACE_S)
    alive = sorted(thread.name for thread in left if thread.is_alive())
    if alive:
        pytest.fail(f"threads left running: {', '.join(alive)}", pytrace=False)

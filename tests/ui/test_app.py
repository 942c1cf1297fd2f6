"""The application: signals, errors that nobody expected, an orderly end."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mirrorgui.ui.app import ErrorGuard, Signals
from mirrorgui.ui.tasks import TaskSet

ROOT = Path(__file__).parents[2]


@pytest.fixture
def guard(loop):
    shown = []
    guard = ErrorGuard(shown.append)
    guard.shown = shown
    before = sys.excepthook, threading.excepthook
    guard.install(loop)
    yield guard
    guard.restore(loop)
    assert (sys.excepthook, threading.excepthook) == before


def run_until(loop, reached):
    async def wait():
        async with asyncio.timeout(5):
            while not reached():
                await asyncio.sleep(0.005)

    loop.run_until_complete(wait())


def test_an_error_of_a_slot_is_shown(guard, loop, caplog):
    sys.excepthook(ValueError, ValueError("odd"), None)
    run_until(loop, lambda: guard.shown)
    assert guard.shown[0].title == "Internal error: ValueError."
    assert "ValueError: odd" in guard.shown[0].details
    assert "odd" in caplog.text


def test_an_error_of_a_thread_is_shown_on_this_one(guard, loop, caplog):
    seen = []
    guard._show = lambda notice: seen.append((notice, threading.current_thread()))

    def fail():
        raise KeyError("lost")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    run_until(loop, lambda: seen)
    assert seen[0][0].title == "Internal error: KeyError."
    assert seen[0][1] is threading.main_thread()


def test_an_error_of_a_task_is_shown(guard, loop, caplog):
    async def fail():
        raise IndexError("beyond")

    async def begin():
        TaskSet(loop).spawn(fail())
        await asyncio.sleep(0.01)

    loop.run_until_complete(begin())
    run_until(loop, lambda: guard.shown)
    assert guard.shown[0].title == "Internal error: IndexError."


def test_a_keyboard_interrupt_is_no_internal_error(guard, loop):
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert not guard.shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_arrive_while_qt_sleeps(loop, number):
    before = signal.getsignal(signal.SIGINT)  # a shell's background jobs ignore it
    signals = Signals()
    arrived = []
    signals.arrived.connect(lambda: arrived.append(number))
    try:
        os.kill(os.getpid(), number)
        run_until(loop, lambda: arrived)
    finally:
        signals.restore()
    assert arrived == [number]
    assert signal.getsignal(signal.SIGINT) is before


def start(tmp_path, *arguments):
    environment = dict(
        os.environ,
        QT_QPA_PLATFORM="offscreen",
        XDG_CONFIG_HOME=str(tmp_path),
        XDG_STATE_HOME=str(tmp_path),
        TMPDIR=str(tmp_path),
        MIRRORGUI_LOG="INFO",
    )
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-m", "mirrorgui", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_signal_ends_the_application_and_leaves_nothing(tmp_path):
    process = start(tmp_path, "--demo")
    for line in process.stderr:
        if "mirror started" in line:
            break
    process.send_signal(signal.SIGTERM)
    _out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("mirrorgui-demo-*"))

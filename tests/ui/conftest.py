"""Fixtures of the window's tests: a Qt loop for asyncio, and nothing left behind."""

import asyncio
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

os.environ.setdefault("QT_API", "pyside6")
os.environ.setdefault("PYQTGRAPH_QT_LIB", "PySide6")

import pytest
import pytestqt.plugin
import qasync
from PySide6.QtCore import QEvent, QSettings, QStandardPaths, QTimer
from PySide6.QtWidgets import QApplication

from mirrorgui.qmp.address import Address
from mirrorgui.ui import i18n, style
from mirrorgui.ui.app import follow, make_window, monitor
from mirrorgui.ui.backend import Engine
from mirrorgui.ui.models.log import LogQueue
from mirrorgui.ui.options import WindowOptions
from mirrorgui.ui.settings import Settings
from mirrorgui.ui.theme import ThemeChoice, theme_of
from tests.ui.driving import Driver
from tests.ui.fakes import FakeBackend
from tests.ui.qmp_client import Client

# pytest-qt processes Qt's events before and after each test. Asyncio's tasks hang on Qt's timers
# and would run then, without a running loop.
pytestqt.plugin._process_events = lambda: None


@pytest.fixture(scope="session")
def qapp_args():
    return ["mirrorgui"]


@pytest.fixture(scope="session", autouse=True)
def own_places(qapp):
    """Settings and caches of the tests are not the person's; the look is the application's."""
    QStandardPaths.setTestModeEnabled(True)
    qapp.setQuitOnLastWindowClosed(False)
    qapp.setDesktopFileName("io.github.mirrorgui.mirrorgui")
    theme_of(qapp).choose(ThemeChoice.LIGHT)
    style.apply(qapp)
    yield
    i18n.install(None)


@pytest.fixture
def store(tmp_path):
    return QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)


@pytest.fixture
def settings(store):
    return Settings(store)


class Loop(qasync.QEventLoop):
    """Runs nothing while it is not running.

    qasync processes Qt's events once more behind the loop's end; a task that is due then would find
    no running loop.
    """

    def run_until_complete(self, future):
        future = asyncio.ensure_future(future, loop=self)

        def stop(_future):
            self.stop()

        future.add_done_callback(stop)
        try:
            self.run_forever()
        finally:
            future.remove_done_callback(stop)
        return future.result()


@pytest.fixture
def loop(qapp):
    """A loop for asyncio on Qt's; every task and timer is gone afterwards."""
    loop = Loop(qapp)
    asyncio.set_event_loop(loop)
    # As in the application: the loop's own one starts ten threads.
    executor = ThreadPoolExecutor(2)
    loop.set_default_executor(executor)
    yield loop
    executor.shutdown()
    tasks = [task for task in asyncio.all_tasks(loop) if not task.done()]
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    asyncio.set_event_loop(None)
    assert not tasks, f"tasks left running: {tasks}"


@pytest.fixture(autouse=True)
def nothing_is_left(qapp):
    """Every window is deleted after a test, and no timer outlives it.

    Garbage is collected here and not in whichever thread happens to allocate, as in the
    application: Qt's objects must go on their own thread.
    """
    gc.disable()
    yield
    windows = qapp.topLevelWidgets()
    for widget in windows:
        widget.close()
        widget.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    qapp.processEvents()
    if windows:
        gc.collect()
        # The next pass need not go through what has survived this one.
        gc.freeze()
    gc.enable()
    running = [
        timer
        for timer in qapp.findChildren(QTimer)
        if timer.isActive() and not timer.isSingleShot()
    ]
    assert not running, f"timers left running: {running}"


@pytest.fixture
def backend():
    return FakeBackend()


@pytest.fixture
def driver(qapp, loop, backend, settings):
    """A window over the fake engine, with helpers to drive it; closed in order afterwards."""
    log = LogQueue()
    made = None

    def quit_now():
        made.quit_asked += 1

    async def make():
        return make_window(qapp, backend, settings, log, quit_now)

    window = loop.run_until_complete(make())
    made = Driver(window, backend, loop, log)
    window.show()
    qapp.processEvents()
    yield made
    loop.run_until_complete(window.shutdown())
    window.close()
    window.deleteLater()


@pytest.fixture
def qmp_path(tmp_path):
    return tmp_path / "qmp.sock"


@pytest.fixture
def qmp_driver(qapp, loop, settings, qmp_path):
    """A window over the real engine, with a monitor for QMP clients."""
    log = LogQueue()
    made = None
    stack = AsyncExitStack()

    def quit_now():
        made.quit_asked += 1

    async def make():
        engine = Engine()
        options = WindowOptions(qmp=Address(path=str(qmp_path)))
        await stack.enter_async_context(monitor(engine, options, quit_now))
        window = make_window(qapp, engine, settings, log, quit_now)
        follow(engine.house, window.controller)
        return window

    window = loop.run_until_complete(make())
    made = Driver(window, None, loop, log)
    window.show()
    yield made
    loop.run_until_complete(window.shutdown())
    loop.run_until_complete(stack.aclose())
    window.close()
    window.deleteLater()


@pytest.fixture
def qmp_client(qmp_driver, qmp_path):
    """A client of that monitor, on the same loop."""
    client = qmp_driver.run(Client.connect(qmp_path))
    yield client
    qmp_driver.run(client.close())

"""The application: Qt and asyncio in one loop, the window, and an orderly end."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

# Both libraries look at these when they are imported, and would otherwise take any binding.
os.environ.setdefault("QT_API", "pyside6")
os.environ.setdefault("PYQTGRAPH_QT_LIB", "PySide6")

import qasync
from PySide6.QtCore import QCoreApplication, QObject, QSettings, QSocketNotifier, Signal
from PySide6.QtWidgets import QApplication

import mirrorgui
from mirrorgui.instance import Claim, Wish
from mirrorgui.logs import log_unexpected
from mirrorgui.ui import i18n, style
from mirrorgui.ui.assets import APPLICATION_ID, application_icon
from mirrorgui.ui.backend import Backend, Engine
from mirrorgui.ui.collector import Collector
from mirrorgui.ui.controller import Controller
from mirrorgui.ui.desktop.awake import WakeLock
from mirrorgui.ui.desktop.notifications import Notifications
from mirrorgui.ui.keeper import Keeper
from mirrorgui.ui.main_window import MainWindow
from mirrorgui.ui.models.log import LogQueue
from mirrorgui.ui.notices import Notice, internal_error
from mirrorgui.ui.notifier import Notifier
from mirrorgui.ui.options import WindowOptions
from mirrorgui.ui.settings import Settings
from mirrorgui.ui.tasks import TaskSet
from mirrorgui.ui.theme import theme_of

if TYPE_CHECKING:
    from mirrorgui.house import House

logger = logging.getLogger(__name__)

LOOKERS = 4
"""Threads that look at images for the dialog; one may hang on a dead network disk."""


def main(options: WindowOptions, claimed: Claim | None = None) -> int:
    """Open the window and return the exit status when it has been closed.

    Args:
        options: what the command line asks.
        claimed: being the window that later starts hand over to.
    """
    app = make_application()
    run: Callable[[Coroutine[Any, Any, int]], int] = qasync.run
    return run(_main(app, options, claimed))


def make_application() -> QApplication:
    """Make the one QApplication, named and styled."""
    found = QApplication.instance()
    # Both names become the class of the windows, by which a desktop on X11 finds the desktop file.
    app = found if isinstance(found, QApplication) else QApplication([APPLICATION_ID])
    app.setApplicationName(APPLICATION_ID)
    app.setApplicationDisplayName("MirrorGUI")
    app.setApplicationVersion(mirrorgui.__version__)
    app.setOrganizationName("mirrorgui")
    app.setDesktopFileName(APPLICATION_ID)
    app.setWindowIcon(application_icon())
    # The last window's end must not end the loop: what it began has to be ended in order.
    app.setQuitOnLastWindowClosed(False)
    i18n.install(lambda text: QCoreApplication.translate("", text))
    return app


async def _main(app: QApplication, options: WindowOptions, claimed: Claim | None) -> int:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[int] = loop.create_future()
    executor = ThreadPoolExecutor(LOOKERS, thread_name_prefix="look")
    loop.set_default_executor(executor)
    engine = Engine()

    def quit_now(status: int = 0) -> None:
        if not done.done():
            done.set_result(status)

    try:
        async with monitor(engine, options, quit_now):
            return await _show_window(app, engine, options, done, quit_now, claimed)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


@asynccontextmanager
async def monitor(
    engine: Engine, options: WindowOptions, request_quit: Callable[[], None]
) -> AsyncIterator[None]:
    """Let QMP clients work with the window's mirrors, if that is asked for."""
    if options.qmp is None:
        yield
        return
    from mirrorgui.qmp.monitor import monitored

    async with monitored(engine.house, options.qmp, request_quit) as server:
        logger.info("QMP on %s", server.address)
        yield


async def _show_window(
    app: QApplication,
    engine: Engine,
    options: WindowOptions,
    done: "asyncio.Future[int]",
    quit_now: Callable[[], None],
    claimed: Claim | None,
) -> int:
    loop = asyncio.get_running_loop()
    queue = LogQueue()
    log = logging.getLogger("mirrorgui")
    log.addHandler(queue)
    log.setLevel(min(logging.INFO, log.getEffectiveLevel()))
    # Nobody watches a run for pictures: it neither uses nor changes what a person has set.
    own = QSettings() if options.demo_picture is None else QSettings("", QSettings.Format.IniFormat)
    window = make_window(app, engine, Settings(own), queue, quit_now)
    if options.qmp is not None:
        # Nothing has been awaited since the monitor listens: no command has run without this.
        follow(engine.house, window.controller)
    guard = ErrorGuard(window.show_notice, window)
    guard.install(loop)
    collector = Collector(window)
    collector.start()
    signals = Signals(window)
    signals.arrived.connect(window.close)
    company = Company(window) if options.demo_picture is None else None
    window.show()
    try:
        if claimed is not None:
            await _be_the_first(claimed, window)
        return await _work(window, options, done)
    finally:
        if claimed is not None:
            await claimed.close()
        await window.shutdown()
        if company is not None:
            await company.shutdown()
        signals.restore()
        collector.stop()
        guard.restore(loop)
        window.close()
        window.deleteLater()
        log.removeHandler(queue)
        await asyncio.sleep(0)


async def _work(window: MainWindow, options: WindowOptions, done: "asyncio.Future[int]") -> int:
    """Do what the command line asks, then wait until the window is closed."""
    if options.demo_picture is not None:
        from mirrorgui.ui.demonstrating import run_unwatched

        return await run_unwatched(window, Path(options.demo_picture))
    grant(window, Wish(options.sources, options.demo))
    return await done


def grant(window: MainWindow, wish: Wish) -> None:
    """Do with a window what a start was asked for; starts no mirror of anybody's data."""
    if wish.demo:
        window.flows.demonstrate()
    elif wish.sources:
        window.flows.new_mirror(*wish.sources[:2])


async def _be_the_first(claimed: Claim, window: MainWindow) -> None:
    def asked(wish: Wish) -> None:
        window.come_forward()
        grant(window, wish)

    try:
        await claimed.serve(asked)
    except OSError as error:
        logger.warning("later starts open windows of their own: %s", error)


def make_window(
    app: QApplication,
    backend: Backend,
    settings: Settings,
    queue: LogQueue,
    request_quit: Callable[[], None],
) -> MainWindow:
    """Make the window with its controller, in the chosen theme."""
    theme_of(app).choose(settings.theme)
    style.apply(app)
    controller = Controller(backend, queue)
    window = MainWindow(controller, settings, queue, request_quit)
    controller.setParent(window)
    return window


class Company:
    """What the desktop does for the window's mirrors: it tells of them and stays awake for them."""

    def __init__(self, window: MainWindow) -> None:
        controller = window.controller
        desktop = Notifications(window.show_mirror, "MirrorGUI", APPLICATION_ID)
        self._notifier = Notifier(desktop, TaskSet(controller.loop), window)
        self._keeper = Keeper(WakeLock(), TaskSet(controller.loop), window)
        self._keeper.awake.connect(window.status.show_awake)
        controller.exports.changed.connect(self._keeper.look_at_exports)
        for each in (self._notifier, self._keeper):
            controller.frame_ready.connect(each.look)
            controller.removed.connect(each.forget)

    async def shutdown(self) -> None:
        """Leave the desktop; the mirrors must have ended."""
        await self._notifier.shutdown()
        await self._keeper.shutdown()


def follow(house: "House", controller: Controller) -> None:
    """Have the window show what QMP clients begin in a house."""
    from mirrorgui.ui.node_exports import HouseExports

    house.listen(controller.adopt)
    controller.exports.begin(HouseExports(house))


class ErrorGuard(QObject):
    """Shows errors that no code expected, wherever they were raised; the program goes on.

    Errors of other threads arrive by a queued signal.
    """

    _raised = Signal(object)

    def __init__(self, show: Callable[[Notice], None], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._show = show
        self._before: tuple[Any, Any] | None = None
        self._raised.connect(self._tell)

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Catch errors from now on."""
        self._before = sys.excepthook, threading.excepthook
        sys.excepthook = self._in_main
        threading.excepthook = self._in_thread
        loop.set_exception_handler(self._in_loop)

    def restore(self, loop: asyncio.AbstractEventLoop) -> None:
        """Put back what was there before."""
        if self._before is not None:
            sys.excepthook, threading.excepthook = self._before
            self._before = None
        loop.set_exception_handler(None)

    def _in_main(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        log_unexpected(kind, error, trace, "The window")
        self._raised.emit(internal_error(kind.__name__, _details(error)))

    def _in_thread(self, arguments: threading.ExceptHookArgs) -> None:
        error = arguments.exc_value
        if error is None or isinstance(error, SystemExit):
            return
        name = arguments.thread.name if arguments.thread else "unknown"
        log_unexpected(arguments.exc_type, error, arguments.exc_traceback, f"The thread {name}")
        self._raised.emit(internal_error(arguments.exc_type.__name__, _details(error)))

    def _in_loop(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None:
            logger.error("event loop: %s", context.get("message"))
            return
        log_unexpected(type(error), error, error.__traceback__, "A task")
        self._raised.emit(internal_error(type(error).__name__, _details(error)))

    def _tell(self, notice: Notice) -> None:
        self._show(notice)


def _details(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


class Signals(QObject):
    """Hears SIGINT and SIGTERM although Qt's loop sleeps outside of Python.

    Signals:
        arrived: one of them has come.
    """

    arrived = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._old_fd = signal.set_wakeup_fd(self._writer.fileno())
        self._old = {
            number: signal.signal(number, self._ignore)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        self._notifier = QSocketNotifier(self._reader.fileno(), QSocketNotifier.Type.Read, self)
        self._notifier.activated.connect(self._read)

    @staticmethod
    def _ignore(_number: int, _frame: object) -> None:
        """Keep Python from raising; the byte in the socket is what counts."""

    def _read(self) -> None:
        try:
            numbers = self._reader.recv(4096)
        except BlockingIOError:
            return
        if any(number in (signal.SIGINT, signal.SIGTERM) for number in numbers):
            self.arrived.emit()

    def restore(self) -> None:
        """Put back what was there before."""
        self._notifier.setEnabled(False)
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()

"""The window, assembled: every part is made elsewhere and connected here."""

from collections.abc import Callable

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import (
    QCloseEvent,
    QDragEnterEvent,
    QDropEvent,
    QHideEvent,
    QResizeEvent,
    QShowEvent,
)
from PySide6.QtWidgets import QMainWindow, QSplitter, QStackedWidget, QVBoxLayout, QWidget

from mirrorgui.ui.actions import Actions
from mirrorgui.ui.assets import application_icon
from mirrorgui.ui.availability import Act
from mirrorgui.ui.controller import Controller
from mirrorgui.ui.dialogs.about import AboutDialog, KeysDialog
from mirrorgui.ui.dialogs.files import save_picture
from mirrorgui.ui.empty_state import EmptyState, dropped_path
from mirrorgui.ui.exports_list import ExportsList
from mirrorgui.ui.flows import Flows
from mirrorgui.ui.frame import Frame
from mirrorgui.ui.heatmap.colors import Scheme
from mirrorgui.ui.job_list import JobList
from mirrorgui.ui.menus import Menus
from mirrorgui.ui.message_bar import MessageBar
from mirrorgui.ui.mirror_view import MirrorView
from mirrorgui.ui.models.log import LogQueue
from mirrorgui.ui.notices import Notice, NoticeAction
from mirrorgui.ui.panels.log import LogFeed
from mirrorgui.ui.settings import Settings
from mirrorgui.ui.status import StatusLine
from mirrorgui.ui.system import copy_text
from mirrorgui.ui.theme import ThemeChoice, theme_of
from mirrorgui.ui.toolbar import ToolBar
from mirrorgui.ui.wording import APPLICATION, window_title

MINIMUM = (760, 520)
DEFAULT = (1180, 760)
LIST_WIDTH = 250
NARROW = 900
"""Below this width the list of mirrors gives its place to the map."""


class MainWindow(QMainWindow):
    """The application's window. Closing it asks first; ``request_quit`` is called when it may."""

    def __init__(
        self,
        controller: Controller,
        settings: Settings,
        log: LogQueue,
        request_quit: Callable[[], None],
    ) -> None:
        super().__init__()
        self.setObjectName("main")
        self.setWindowTitle(APPLICATION)
        self.setWindowIcon(application_icon())
        self.setMinimumSize(*MINIMUM)
        self.setAcceptDrops(True)
        self.controller = controller
        self.settings = settings
        self._request_quit = request_quit
        self._closing = False
        self.act = Actions(self)
        self.flows = Flows(self, controller, settings)
        self.log_feed = LogFeed(log, self)
        self.toolbar = ToolBar(self.act, self)
        self.jobs = JobList(self)
        self.message = MessageBar(self)
        self.empty = EmptyState(self)
        self.views: dict[int, MirrorView] = {}
        self.stack = QStackedWidget(self)
        self.splitter = QSplitter(Qt.Orientation.Horizontal, self)
        self.exports = ExportsList(self)
        self.status = StatusLine(self)
        self._assemble()
        self.menus = Menus(self, self.act, self.toolbar.speed_menu)
        self._connect_actions()
        self._connect_parts()
        self._restore()
        self._show_selected(None)

    def _assemble(self) -> None:
        self.stack.addWidget(self.empty)
        self.splitter.setObjectName("jobs")
        self.splitter.addWidget(self.jobs)
        self.splitter.addWidget(self.stack)
        self.splitter.setCollapsible(1, False)
        self.splitter.setStretchFactor(1, 1)
        self.splitter.setSizes([LIST_WIDTH, DEFAULT[0] - LIST_WIDTH])
        middle = QWidget(self)
        column = QVBoxLayout(middle)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.toolbar)
        bars = QVBoxLayout()
        bars.setContentsMargins(12, 8, 12, 0)
        bars.addWidget(self.message)
        column.addLayout(bars)
        column.addWidget(self.splitter, 1)
        column.addWidget(self.exports)
        self.setCentralWidget(middle)
        self.setStatusBar(self.status)

    def _connect_actions(self) -> None:
        act, flows = self.act, self.flows
        for action, slot in (
            (act.new, self._new),
            (act.open, flows.open_source),
            (act.demonstrate, flows.demonstrate),
            (act.clear_recent, self._forget_recent),
            (act.close, self.close),
            (act.quit, self.close),
            (act.about, self._about),
            (act.keys, self._keys),
            (act.find, self._find),
            (act.picture, self._save_picture),
            (act.next_pane, self._next_pane),
            (act.previous_pane, self._previous_pane),
        ):
            action.triggered.connect(slot)
        act.full_screen.toggled.connect(self._full_screen)
        for act_, slot_ in (
            (Act.PAUSE, self.controller.pause),
            (Act.RESUME, self.controller.resume),
            (Act.SPEED, flows.speed),
            (Act.COMPLETE, flows.complete),
            (Act.FINISH, flows.finish),
            (Act.CANCEL, flows.cancel),
            (Act.WRITE_BLOCKING, self.controller.use_write_blocking),
            (Act.POLICY, flows.policy),
            (Act.REMOVE, flows.remove),
            (Act.RETRY, flows.retry),
        ):
            act.connect_act(act_, slot_)
        self._connect_views()

    def _connect_views(self) -> None:
        for action, panel in (
            (self.act.map, "map"),
            (self.act.charts, "charts"),
            (self.act.errors, "errors"),
            (self.act.clients, "clients"),
            (self.act.log, "log"),
        ):
            action.triggered.connect(lambda _checked=False, name=panel: self._show_panel(name))
        for action, step in (
            (self.act.zoom_in, "zoom_in"),
            (self.act.zoom_out, "zoom_out"),
            (self.act.fit, "fit"),
        ):
            action.triggered.connect(lambda _checked=False, name=step: self._zoom(name))

    def _connect_parts(self) -> None:
        controller, flows = self.controller, self.flows
        controller.added.connect(self._added)
        controller.removed.connect(self._removed)
        controller.selected_changed.connect(self._show_selected)
        controller.frame_ready.connect(self._show_frame)
        controller.notice.connect(self.message.show_notice)
        controller.exports.changed.connect(self.exports.show_exports)
        flows.new_closed.connect(self._show_recent)
        self.exports.stop_requested.connect(flows.stop_export)
        self.message.triggered.connect(self._general_notice)
        self.jobs.chosen.connect(controller.select)
        self.jobs.pause_toggled.connect(flows.toggle_pause)
        self.toolbar.speed_menu.chosen.connect(controller.set_speed)
        self.toolbar.speed_menu.custom_requested.connect(flows.speed)
        self.empty.choose_requested.connect(flows.open_source)
        self.empty.demonstration_requested.connect(flows.demonstrate)
        self.empty.source_given.connect(flows.new_mirror)
        theme_of().changed.connect(self._theme_changed)
        for choice, action in self.menus.themes.items():
            action.setChecked(choice is self.settings.theme)
            action.triggered.connect(lambda _checked=False, each=choice: self._choose_theme(each))
        for scheme, action in self.menus.schemes.items():
            action.setChecked(scheme is self.settings.scheme)
            action.triggered.connect(lambda _checked=False, each=scheme: self._choose_scheme(each))

    def _restore(self) -> None:
        if not self.settings.restore_layout(self, (self.splitter,)):
            self.resize(*DEFAULT)
        self._show_recent()

    # What the controller says.

    @property
    def view(self) -> MirrorView | None:
        """The view of the selected mirror."""
        key = self.controller.selected
        return self.views.get(key) if key is not None else None

    def _added(self, frame: Frame) -> None:
        view = MirrorView(frame, self.log_feed.model, self.stack)
        view.map.set_scheme(self.settings.scheme)
        view.notice_triggered.connect(self._notice)
        view.resume_requested.connect(self.controller.resume)
        view.end_requested.connect(self.flows.end_demonstration)
        self.views[frame.key] = view
        self.stack.addWidget(view)
        self.jobs.add(frame, self.settings.scheme)
        self._fit_list()

    def _removed(self, key: int) -> None:
        view = self.views.pop(key, None)
        if view is not None:
            self.stack.removeWidget(view)
            view.hide()
            view.deleteLater()
        self.jobs.remove(key)
        self._fit_list()

    def _show_selected(self, key: int | None) -> None:
        view = self.views.get(key) if key is not None else None
        begun = view is not None and self.stack.currentWidget() is self.empty
        self.stack.setCurrentWidget(view if view is not None else self.empty)
        self.jobs.select(key)
        self._fit_list()
        if begun and view is not None:
            # The button that had the keyboard is gone; Space pauses from here.
            here = self.jobs.list if self.jobs.isVisible() else view.tabs.tabBar()
            here.setFocus(Qt.FocusReason.OtherFocusReason)
        frame = self.controller.frame()
        if frame is None:
            self.act.update(None)
            self.toolbar.update_job(None)
            self.status.update_job(None)
            self.setWindowTitle(APPLICATION)
        else:
            self._show_frame(frame)

    def _show_frame(self, frame: Frame) -> None:
        self.jobs.update_frame(frame)
        view = self.views.get(frame.key)
        if view is not None:
            view.update_frame(frame)
        if frame.key != self.controller.selected:
            return
        self.act.update(frame.snapshot, free_space=frame.free_space)
        self.toolbar.update_job(frame.snapshot)
        self.status.update_job(frame.snapshot)
        title = window_title(frame.snapshot, frame.names, frame.shown, minimised=self.isMinimized())
        if title != self.windowTitle():
            self.setWindowTitle(title)

    def _notice(self, action: NoticeAction) -> None:
        if action is NoticeAction.SHOW_ERRORS:
            self._show_panel("errors")
        else:
            self.flows.notice_triggered(action)

    def _general_notice(self, action: NoticeAction) -> None:
        if action is NoticeAction.COPY_DETAILS and self.message.notice is not None:
            copy_text(self.message.notice.details)

    def show_notice(self, notice: Notice) -> None:
        """Show a notice that belongs to no mirror."""
        self.message.show_notice(notice)

    def come_forward(self) -> None:
        """Be where a person can see it."""
        self.setWindowState(self.windowState() & ~Qt.WindowState.WindowMinimized)
        self.show()
        self.raise_()
        self.activateWindow()

    def show_mirror(self, key: int) -> None:
        """Come forward with a mirror."""
        self.controller.select(key)
        self.come_forward()

    # What a person does.

    def _new(self) -> None:
        self.flows.new_mirror()

    def _show_panel(self, name: str) -> None:
        if self.view is not None:
            self.view.show_view(getattr(self.view, name))

    def _zoom(self, step: str) -> None:
        if self.view is not None:
            getattr(self.view.map, step)()

    def _find(self) -> None:
        if self.view is not None:
            self.view.start_search()

    def _save_picture(self) -> None:
        if self.view is not None:
            frame = self.controller.frame()
            name = f"{frame.names.source}.png" if frame is not None else "mirror.png"
            save_picture(self, self.view.map.picture(), name)

    def _about(self) -> None:
        AboutDialog(self).open()

    def _keys(self) -> None:
        KeysDialog(self).open()

    def _full_screen(self, wanted: bool) -> None:
        if wanted:
            self.showFullScreen()
        else:
            self.showNormal()

    def _choose_theme(self, choice: ThemeChoice) -> None:
        self.settings.theme = choice
        theme_of().choose(choice)

    def _choose_scheme(self, scheme: Scheme) -> None:
        self.settings.scheme = scheme
        self.jobs.set_scheme(scheme)
        for view in self.views.values():
            view.map.set_scheme(scheme)

    def _theme_changed(self) -> None:
        frame = self.controller.frame()
        if frame is not None:
            self._show_frame(frame)

    def _show_recent(self) -> None:
        recent = self.settings.recent
        self.empty.set_recent(recent)
        self.menus.set_recent(recent, self.flows.new_mirror)

    def _forget_recent(self) -> None:
        self.settings.clear_recent()
        self._show_recent()

    # Panes.

    def panes(self) -> list[QWidget]:
        """Return the parts of the window that F6 walks through."""
        view = self.view
        last: list[QWidget] = [self.exports] if self.exports.isVisible() else []
        if view is None:
            return [self.empty.choose, *last]
        found: list[QWidget] = [self.toolbar.new]
        if self.jobs.isVisible():
            found.append(self.jobs.list)
        return [*found, view.header.state, view.tabs.tabBar(), view.tabs.currentWidget(), *last]

    def _next_pane(self) -> None:
        self._go_pane(1)

    def _previous_pane(self) -> None:
        self._go_pane(-1)

    def _go_pane(self, step: int) -> None:
        panes = self.panes()
        focused = self.focusWidget()
        here = -1 if step > 0 else 0
        for number, pane in enumerate(panes):
            if focused is not None and (focused is pane or pane.isAncestorOf(focused)):
                here = number
        reason = Qt.FocusReason.TabFocusReason
        wanted = panes[(here + step) % len(panes)]
        if wanted.focusPolicy() is Qt.FocusPolicy.NoFocus and wanted.focusProxy() is None:
            first = next(
                (
                    each
                    for each in wanted.findChildren(QWidget)
                    if each.focusPolicy() & Qt.FocusPolicy.TabFocus and each.isVisible()
                ),
                wanted,
            )
            first.setFocus(reason)
        else:
            wanted.setFocus(reason)

    def _fit_list(self) -> None:
        several = len(self.views) > 1
        self.jobs.setVisible(bool(self.views) and (several or self.width() >= NARROW))

    # Dropped on: anywhere but in a field that takes images itself.

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if dropped_path(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        path = dropped_path(event)
        if path is not None:
            event.acceptProposedAction()
            self.flows.new_mirror(path)

    # Being seen, and going.

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_list()
        self.exports.fit()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.controller.set_watched(not self.isMinimized())

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self.controller.set_watched(False)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.WindowStateChange:
            self.controller.set_watched(self.isVisible() and not self.isMinimized())
            self.controller.look_now()

    def closeEvent(self, event: QCloseEvent) -> None:
        if self._closing:
            event.accept()
            return
        event.ignore()
        self.flows.close(self._request_quit)

    async def shutdown(self) -> None:
        """Remember the layout, end flows and mirrors; the window may be closed afterwards."""
        self._closing = True
        self.settings.save_layout(self, (self.splitter,))
        self.settings.sync()
        await self.flows.shutdown()
        await self.controller.shutdown()
        self.log_feed.stop()

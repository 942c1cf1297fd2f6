"""New mirror: one page, checked while it is filled in; the reason why not stands beside Start.

Nothing here touches an image but to read it. The engine checks everything again on the open files
just before the first write.
"""

import asyncio
import logging
import os
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import (
    QBoxLayout,
    QDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.errors import InvalidInput, MirrorGUIError
from mirrorgui.session import MirrorRequest
from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.controller import Controller
from mirrorgui.ui.creation_form import DEFAULT_CLUSTER_SIZE, new_format
from mirrorgui.ui.device_texts import gone_text, same_device
from mirrorgui.ui.dialogs.device_picker import DevicePicker
from mirrorgui.ui.dialogs.erase import EraseDialog
from mirrorgui.ui.dialogs.files import choose_file
from mirrorgui.ui.dialogs.image_part import PartColumn, SourcePart
from mirrorgui.ui.dialogs.options_part import OptionParts
from mirrorgui.ui.dialogs.questions import ask
from mirrorgui.ui.dialogs.remarks import RemarkList
from mirrorgui.ui.dialogs.target_part import TargetPart
from mirrorgui.ui.form import (
    FormValues,
    Look,
    TargetKind,
    Verdict,
    build_request,
    judge,
    values_of,
)
from mirrorgui.ui.form_texts import summary
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.probing import look_at
from mirrorgui.ui.settings import Settings
from mirrorgui.ui.style import set_look
from mirrorgui.ui.tasks import TaskSet

logger = logging.getLogger(__name__)

DEBOUNCE_MS = 250
"""A path is looked at when typing pauses, not at every letter."""


class NewMirrorDialog(QDialog):
    """Fills a request in and starts it through the controller."""

    def __init__(
        self,
        controller: Controller,
        settings: Settings,
        tasks: TaskSet,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(tr("New mirror"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._controller = controller
        self._settings = settings
        self.tasks = tasks
        self.look = Look()
        self.verdict = Verdict(can_start=False)
        self._looks = 0
        self._up_to_date = False
        self._starting = False
        self._extra = ""
        self.source = SourcePart(self)
        self.target = TargetPart(self)
        self.options = OptionParts(self)
        self.remarks = RemarkList(self)
        self.summary = QLabel(self)
        self.reason = QLabel(self)
        self._reason_icon = QLabel(self)
        self.cancel = QPushButton(tr("Cancel"), self)
        self.start = QPushButton(self)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DEBOUNCE_MS)
        # Layouts know what they need only after the event in which something was shown.
        self._growing = QTimer(self)
        self._growing.setSingleShot(True)
        self._growing.timeout.connect(self._grow)
        self._lay_out()
        self.options.export.fill(settings.export)
        self._connect()
        self._judge()

    def _lay_out(self) -> None:
        page = self._page = QWidget(self)
        columns = QHBoxLayout(page)
        self._columns = columns
        columns.setContentsMargins(16, 14, 16, 6)
        columns.setSpacing(14)
        options = self.options
        left = PartColumn((self.source, self.target, options.export), page)
        right = PartColumn((options.sync, options.pace, options.policy), page)
        columns.addWidget(left, 5)
        columns.addWidget(right, 4)
        scroll = self._scroll = QScrollArea(self)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setWidget(page)
        for label, look in ((self.summary, "section"), (self.reason, "problem")):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
            set_look(label, look)
        self.cancel.setAutoDefault(False)
        row = QHBoxLayout()
        row.setSpacing(10)
        row.addWidget(self._reason_icon)
        row.addWidget(self.reason, 1)
        row.addWidget(self.cancel)
        row.addWidget(self.start)
        bottom = QVBoxLayout()
        bottom.setContentsMargins(16, 8, 16, 14)
        bottom.setSpacing(10)
        bottom.addWidget(self.remarks)
        bottom.addWidget(self.summary)
        bottom.addLayout(row)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(scroll, 1)
        column.addLayout(bottom)
        self._fit_screen(page)

    def _fit_screen(self, page: QWidget) -> None:
        """Be as large as the page needs, and no larger than the screen."""
        room = self.screen().availableSize()
        wanted = page.sizeHint()
        width = max(wanted.width() + 24, self.fontMetrics().averageCharWidth() * 172)
        height = wanted.height() + self.fontMetrics().height() * 11
        self.resize(min(width, room.width() - 40), min(height, room.height() - 60))

    def _connect(self) -> None:
        self.source.edited.connect(self._images_edited)
        self.target.edited.connect(self._images_edited)
        self.target.agreed.connect(self._judge)
        self.options.sync.edited.connect(self._images_edited)
        for part in (self.options.pace, self.options.policy):
            part.edited.connect(self._judge)
        self.options.export.edited.connect(self._images_edited)
        self.options.export.agreed.connect(self._judge)
        self.source.browse_requested.connect(self._browse_source)
        self.source.devices_requested.connect(self._pick_source_device)
        self.target.browse_requested.connect(self._browse_target)
        self.target.refresh_requested.connect(self.refresh_devices)
        self._timer.timeout.connect(self._look)
        self.cancel.clicked.connect(self.reject)
        self.start.clicked.connect(self._start_pressed)
        refresh = QShortcut(QKeySequence(QKeySequence.StandardKey.Refresh), self)
        refresh.activated.connect(self.refresh)

    # Filling in.

    def set_source(self, specification: str) -> None:
        """Fill the source in; the target is kept."""
        self.source.path.setText(specification)

    def set_target(self, specification: str) -> None:
        """Fill the target in: a device, an image, or a new file, as it is found."""
        path = Path(specification)
        try:
            device, exists = path.is_block_device(), path.exists()
        except (OSError, ValueError):
            device = exists = False
        if device:
            self.target.set_kind(TargetKind.DEVICE)
            self.tasks.spawn(self._list_devices(choose=specification))
            return
        self.target.set_kind(TargetKind.EXISTING if exists else TargetKind.NEW)
        self.target.path.setText(specification)

    def fill(self, request: MirrorRequest) -> None:
        """Show what was asked for before; the target is left empty on purpose."""
        values = values_of(request)
        self.options.fill(values)
        self.target.creation.fill(values.creation)
        self.target.format.set_image_format(values.target_format)
        self.source.format.set_image_format(values.source_format)
        self.source.path.setText(values.source)
        self.target.path.clear()
        self.target.path.setFocus()

    def values(self) -> FormValues:
        """Return what is filled in."""
        values = FormValues(
            source=self.source.path.text().strip(),
            source_format=self.source.format.image_format(),
            target_kind=self.target.kind(),
            target=self.target.target(),
            target_format=self.target.format.image_format(),
            creation=self.target.creation.values(),
            overwrite=self.target.overwrite.is_checked() and not self.target.overwrite.isHidden(),
        )
        return self.options.read(values)

    # Looking.

    @property
    def is_up_to_date(self) -> bool:
        """Whether the verdict is about what is filled in now."""
        return self._up_to_date

    def refresh(self) -> None:
        """Look at the images and devices again."""
        if self.target.kind() is TargetKind.DEVICE:
            self.refresh_devices()
        self._look()

    def _images_edited(self) -> None:
        self._extra = ""
        self._up_to_date = False
        self._timer.start()
        self._judge()

    def _look(self) -> None:
        self._timer.stop()
        self._looks += 1
        self._up_to_date = False
        self._judge()
        self.tasks.spawn(self._look_now(self._looks, self.values()))

    async def _look_now(self, number: int, values: FormValues) -> None:
        loop = asyncio.get_running_loop()
        look = await loop.run_in_executor(None, look_at, self._controller.backend, values)
        if number != self._looks or self._timer.isActive():
            return  # something was typed meanwhile; a newer look is on its way
        self.look = look
        self._up_to_date = True
        self._show_source()
        self._judge()

    def _show_source(self) -> None:
        info = self.look.source
        self.source.show_look(info)

    def _show_sync(self) -> None:
        """Say what each way to copy means for these images, and the chunks it has."""
        values, info = self.values(), self.look.source
        new = values.target_kind is TargetKind.NEW
        image_format = new_format(values.target_format, info) if new else ""
        self.options.sync.show_source(info, stands_on_source=image_format == "qcow2")
        target = self.look.target
        cluster_size = target.cluster_size if target is not None and not new else None
        if image_format == "qcow2":
            cluster_size = values.creation.cluster_size or DEFAULT_CLUSTER_SIZE
        self.options.pace.show_size(info, cluster_size or 0)

    def _judge(self) -> None:
        self._show_sync()
        values = self.values()
        self.verdict = verdict = judge(values, self.look)
        self.target.show_look(self.look, values, verdict)
        self.options.export.show_look(values.source, verdict.export_tick)
        self.summary.setText(summary(values, self.look))
        reason = self._extra or verdict.reason
        # The first reason stands beside Start, with more weight than in a list.
        self.remarks.show_remarks([each for each in verdict.remarks if each.text != reason])
        if not reason and not self._up_to_date:
            reason = tr("Looking at the images...")
        if self._starting:
            reason = tr("Opening both images...")
        self.reason.setText(reason)
        waiting = self._starting or (not self._extra and not verdict.reason)
        inviting = not waiting and not self._extra and verdict.inviting
        set_look(self.reason, "muted" if waiting or inviting else "problem")
        self._reason_icon.setVisible(bool(reason))
        name, color = ("error", "danger")
        if waiting or inviting:
            name, color = ("wait" if waiting else "info"), "muted"
        icons_of().give(self._reason_icon, name, color, 18)
        self._show_start(verdict, reason)
        self._growing.start()

    def _grow(self) -> None:
        """Make room for what there is to say, as far as the screen has it; never shrink."""
        here = self._scroll.viewport()
        wanted = max(self._page.sizeHint().height(), self._page.heightForWidth(here.width()))
        missing = wanted - here.height()
        room = self.screen().availableSize().height() - 60 - self.height()
        if self.isVisible() and missing > 0 and room > 0:
            self.resize(self.width(), self.height() + min(missing, room))

    def _show_start(self, verdict: Verdict, reason: str) -> None:
        text = tr("Erase and &start") if verdict.destructive else tr("&Start mirroring")
        if self.start.text() != text:
            self.start.setText(text)
        set_look(self.start, "danger" if verdict.destructive else "primary")
        # Enter must never erase anything.
        self.start.setDefault(not verdict.destructive)
        self.start.setAutoDefault(not verdict.destructive)
        can_start = verdict.can_start and self._up_to_date and not self._starting
        self.start.setEnabled(can_start)
        self.cancel.setEnabled(not self._starting)
        self.start.setToolTip("" if can_start else reason)
        self.start.setAccessibleDescription("" if can_start else reason)

    # Choosing.

    def _browse_source(self) -> None:
        choose_file(self, tr("Choose a source"), self._source_chosen, folder=self._settings.folder)

    def _source_chosen(self, path: str) -> None:
        self._settings.folder = str(Path(path).parent)
        self.source.path.setText(path)

    def _browse_target(self) -> None:
        new = self.target.kind() is TargetKind.NEW
        title = tr("New target file") if new else tr("Choose a target")
        choose_file(self, title, self._target_chosen, folder=self._settings.folder, new=new)

    def _target_chosen(self, path: str) -> None:
        self._settings.folder = str(Path(path).parent)
        self.target.path.setText(path)

    def refresh_devices(self) -> None:
        """Look for devices again."""
        self.tasks.spawn(self._list_devices())

    async def _list_devices(self, choose: str = "") -> None:
        loop = asyncio.get_running_loop()
        devices = await loop.run_in_executor(None, self._controller.backend.devices)
        self.target.set_devices(devices)
        if choose:
            real = await loop.run_in_executor(None, os.path.realpath, choose)
            found = self.target.device.findData(real)
            self.target.device.setCurrentIndex(max(found, 0))

    def _pick_source_device(self) -> None:
        self.tasks.spawn(self._pick_device())

    async def _pick_device(self) -> None:
        loop = asyncio.get_running_loop()
        devices = await loop.run_in_executor(None, self._controller.backend.devices)
        picker = DevicePicker(devices, self)
        picker.chosen.connect(self.source.path.setText)
        picker.open()

    # Starting.

    def _start_pressed(self) -> None:
        if not self._starting and self.verdict.can_start and self._up_to_date:
            self._starting = True
            self.tasks.spawn(self._start())

    async def _start(self) -> None:
        values = self.values()
        try:
            if self.verdict.typed and not await self._confirm_device():
                return
            if self.verdict.typed:
                values = replace(values, overwrite=True)
            self._judge()
            job_id = self._controller.free_job_id()
            request = build_request(values, job_id, self.look.source)
            await self._controller.start(request)
        except InvalidInput as error:
            self._refused(error.reason)
        except MirrorGUIError as error:
            self._refused(str(error))
        else:
            self._settings.add_recent(values.source)
            self._settings.export = values.export
            self._settings.folder = str(Path(values.source).parent)
            self.accept()
        finally:
            self._starting = False
            self._judge()

    def _refused(self, reason: str) -> None:
        logger.warning("mirror refused: %s", reason)
        self._extra = reason

    async def _confirm_device(self) -> bool:
        """Ask for the device's name to be typed; False when refused or when it is gone."""
        chosen = self.target.chosen_device()
        if chosen is None:
            return False
        dialog = EraseDialog(chosen, self)
        if await ask(dialog) != QDialog.DialogCode.Accepted:
            return False
        loop = asyncio.get_running_loop()
        devices = await loop.run_in_executor(None, self._controller.backend.devices)
        now = next((each for each in devices if each.path == chosen.path), None)
        if same_device(chosen, now):
            return True
        self.target.set_devices(devices)
        self.target.clear_device()
        self._extra = gone_text()
        return False

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        # Both columns beside each other need room; below that one long column scrolls better
        # than a wide one.
        narrow = self.width() < self.fontMetrics().averageCharWidth() * 110
        direction = QBoxLayout.Direction.TopToBottom if narrow else QBoxLayout.Direction.LeftToRight
        self._columns.setDirection(direction)

    def reject(self) -> None:
        # What is being opened is opened in a moment, and then there is a mirror to cancel.
        if not self._starting:
            super().reject()

    def done(self, result: int) -> None:
        self._timer.stop()
        self._looks += 1
        super().done(result)

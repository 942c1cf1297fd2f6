"""The parts of the New mirror form that say how to copy."""

from dataclasses import replace

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFormLayout,
    QGroupBox,
    QLabel,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.block.info import ImageInfo
from mirrorgui.mirror.options import (
    DEFAULT_BUF_SIZE,
    MAX_GRANULARITY,
    MIN_GRANULARITY,
    CopyMode,
    SyncMode,
    effective_granularity,
)
from mirrorgui.session import WhenReady
from mirrorgui.ui.dialogs.export_part import ExportPart
from mirrorgui.ui.fields import PolicyField, SizeField, SpeedField
from mirrorgui.ui.form import FormValues
from mirrorgui.ui.form_texts import buffer_text, chunks_text, top_reason
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.names import short_name
from mirrorgui.ui.quantities import SOURCE_POLICIES, TARGET_POLICIES
from mirrorgui.ui.style import set_look
from mirrorgui.ui.wrapping import Explained
from mirrorgui.units import MiB

GRANULARITIES = tuple(
    1 << bits for bits in range(MIN_GRANULARITY.bit_length() - 1, MAX_GRANULARITY.bit_length())
)
BUFFERS = (4 * MiB, 16 * MiB, 64 * MiB, 256 * MiB)


def _caption(parent: QWidget, text: str = "") -> QLabel:
    label = QLabel(text, parent)
    label.setWordWrap(True)
    set_look(label, "caption")
    return label


class SyncPart(QGroupBox):
    """Chooses what to copy.

    Signals:
        edited: another mode was chosen.
    """

    edited = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(tr("What to copy"), parent)
        self.buttons = {
            SyncMode.FULL: QRadioButton(tr("F&ull"), self),
            SyncMode.TOP: QRadioButton(tr("To&p"), self),
            SyncMode.NONE: QRadioButton(tr("N&one"), self),
        }
        self._texts = {
            SyncMode.FULL: _caption(
                self, tr("everything the guest can see, one stand-alone image")
            ),
            SyncMode.TOP: _caption(self),
            SyncMode.NONE: _caption(self),
        }
        self._group = QButtonGroup(self)
        column = QVBoxLayout(self)
        column.setContentsMargins(14, 8, 14, 12)
        column.setSpacing(2)
        for mode, button in self.buttons.items():
            self._group.addButton(button)
            column.addWidget(button)
            self._texts[mode].setIndent(24)
            column.addWidget(self._texts[mode])
        self.buttons[SyncMode.FULL].setChecked(True)
        self._group.buttonToggled.connect(self._toggled)
        self.show_source(None)

    def _toggled(self, _button: QRadioButton, checked: bool) -> None:
        if checked:
            self.edited.emit()

    def sync(self) -> SyncMode:
        """Return the mode that is chosen."""
        return next(mode for mode, button in self.buttons.items() if button.isChecked())

    def set_sync(self, sync: SyncMode) -> None:
        """Choose a mode."""
        self.buttons[sync].setChecked(True)

    def show_source(self, info: ImageInfo | None, *, stands_on_source: bool = False) -> None:
        """Offer Top only where it is something else than Full.

        Args:
            info: the source.
            stands_on_source: a target of only the new writes gets the source below it.
        """
        reason = top_reason(info)
        top = self.buttons[SyncMode.TOP]
        if reason and top.isChecked():
            self.set_sync(SyncMode.FULL)
        top.setEnabled(not reason)
        top.setToolTip(reason)
        base = short_name(info.backing_filename) if info is not None else ""
        text = tr("only the top layer; target keeps the backing file {base}", base=base).strip()
        self._texts[SyncMode.TOP].setText(reason or text)
        self._texts[SyncMode.TOP].setEnabled(not reason)
        text = tr("only what is written from now on; target needs the same content already")
        if stands_on_source:
            text = tr("only what is written from now on; the new file keeps the source below it")
        self._texts[SyncMode.NONE].setText(text)
        for mode, button in self.buttons.items():
            button.setAccessibleDescription(self._texts[mode].text())


class PacePart(QGroupBox):
    """Chooses speed, copy mode, chunk size and buffer.

    Signals:
        edited: something was changed.
    """

    edited = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(tr("How to copy"), parent)
        self.speed = SpeedField(self)
        self.copy_mode = QComboBox(self)
        self.copy_mode.setAccessibleName(tr("Copy mode"))
        self.copy_mode.addItem(tr("Background"), CopyMode.BACKGROUND)
        self.copy_mode.addItem(tr("Write-blocking"), CopyMode.WRITE_BLOCKING)
        self.copy_mode_row = Explained(self.copy_mode, self)
        self.granularity = SizeField(GRANULARITIES, typed=False, parent=self)
        self.granularity.setAccessibleName(tr("Granularity"))
        self.granularity.set_automatic(effective_granularity(0, 0))
        self.granularity_row = Explained(self.granularity, self)
        self.buf_size = SizeField(BUFFERS, typed=True, parent=self)
        self.buf_size.setAccessibleName(tr("Buffer"))
        self.buf_size.set_automatic(DEFAULT_BUF_SIZE)
        self.buf_size_row = Explained(self.buf_size, self)
        self._lay_out()
        for signal in (
            self.speed.speed_edited,
            self.granularity.size_edited,
            self.buf_size.size_edited,
            self.copy_mode.currentIndexChanged,
        ):
            signal.connect(self._changed)
        self._explain()

    def _lay_out(self) -> None:
        form = QFormLayout(self)
        form.setContentsMargins(14, 8, 14, 12)
        form.setVerticalSpacing(9)
        form.addRow(tr("Speed &limit"), self.speed)
        form.addRow(tr("&Copy mode"), self.copy_mode_row)
        form.addRow(tr("&Granularity"), self.granularity_row)
        form.addRow(tr("Buff&er"), self.buf_size_row)

    def _changed(self) -> None:
        self._explain()
        self.edited.emit()

    def _explain(self) -> None:
        blocking = self.copy_mode.currentData() is CopyMode.WRITE_BLOCKING
        text = (
            tr("Guaranteed to converge; clients become as slow as the target.")
            if blocking
            else tr("Clients do not wait; what they write is copied afterwards.")
        )
        self.copy_mode_row.explain(text)
        try:
            rounded = buffer_text(self.buf_size.size_bytes(), self.granularity.size_bytes())
        except ValueError:
            rounded = ""
        self.buf_size_row.explain(rounded)

    def show_size(self, info: ImageInfo | None, cluster_size: int) -> None:
        """Say how many chunks the granularity makes of the source."""
        self.granularity.set_automatic(effective_granularity(0, cluster_size))
        size = info.virtual_size if info is not None else None
        text = chunks_text(size, self.granularity.size_bytes(), cluster_size)
        self.granularity_row.explain(text)

    def mistakes(self) -> tuple[tuple[str, str], ...]:
        """Return the fields that cannot be read, each with the reason."""
        found = []
        for name, read in (("speed", self.speed.speed), ("buf-size", self.buf_size.size_bytes)):
            try:
                read()
            except ValueError as error:
                found.append((name, f"{error}."))
        return tuple(found)


class PolicyPart(QGroupBox):
    """Chooses what happens on errors, and once in sync.

    Signals:
        edited: something was changed.
    """

    edited = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(tr("What happens when"), parent)
        self.reading = PolicyField(tr("If reading fails"), SOURCE_POLICIES, self)
        self.writing = PolicyField(tr("If writing fails"), TARGET_POLICIES, self)
        self.when_ready = QComboBox(self)
        self.when_ready.setAccessibleName(tr("When in sync"))
        for choice, label in (
            (WhenReady.WAIT, tr("Wait for me")),
            (WhenReady.COMPLETE, tr("Switch to the target")),
            (WhenReady.CANCEL, tr("Finish without switching")),
        ):
            self.when_ready.addItem(label, choice)
        self.when_ready_row = Explained(self.when_ready, self)
        form = QFormLayout(self)
        form.setContentsMargins(14, 8, 14, 12)
        form.setVerticalSpacing(9)
        form.addRow(tr("If re&ading fails"), self.reading)
        form.addRow(tr("If writing &fails"), self.writing)
        form.addRow(tr("When in s&ync"), self.when_ready_row)
        self.reading.policy_edited.connect(self.edited)
        self.writing.policy_edited.connect(self.edited)
        self.when_ready.currentIndexChanged.connect(self._changed)
        self._explain()

    def _changed(self) -> None:
        self._explain()
        self.edited.emit()

    def _explain(self) -> None:
        text = {
            WhenReady.WAIT: tr("Both images are kept equal until you decide."),
            WhenReady.COMPLETE: tr("Clients move to the target without a break."),
            WhenReady.CANCEL: tr("The target is a copy of that moment; clients stay."),
        }[self.choice()]
        self.when_ready_row.explain(text)

    def choice(self) -> WhenReady:
        """Return what to do once in sync."""
        chosen = self.when_ready.currentData()
        assert isinstance(chosen, WhenReady)
        return chosen


class OptionParts:
    """All parts that are no images, read and filled together."""

    def __init__(self, parent: QWidget) -> None:
        self.sync = SyncPart(parent)
        self.pace = PacePart(parent)
        self.policy = PolicyPart(parent)
        self.export = ExportPart(parent)

    def read(self, into: FormValues) -> FormValues:
        """Return ``into`` with the options that are filled in; unreadable ones keep theirs."""
        mistakes = self.pace.mistakes()
        wrong = {name for name, _text in mistakes}
        copy_mode = self.pace.copy_mode.currentData()
        return replace(
            into,
            sync=self.sync.sync(),
            granularity=self.pace.granularity.size_bytes(),
            buf_size=0 if "buf-size" in wrong else self.pace.buf_size.size_bytes(),
            copy_mode=copy_mode,
            speed=0 if "speed" in wrong else self.pace.speed.speed(),
            on_source_error=self.policy.reading.policy(),
            on_target_error=self.policy.writing.policy(),
            when_ready=self.policy.choice(),
            export=self.export.values(),
            mistakes=mistakes + self.export.mistakes(),
        )

    def fill(self, values: FormValues) -> None:
        """Show options."""
        self.sync.set_sync(values.sync)
        self.pace.granularity.set_size_bytes(values.granularity)
        self.pace.buf_size.set_size_bytes(values.buf_size)
        self.pace.copy_mode.setCurrentIndex(self.pace.copy_mode.findData(values.copy_mode))
        self.pace.speed.set_speed(values.speed)
        self.policy.reading.set_policy(values.on_source_error)
        self.policy.writing.set_policy(values.on_target_error)
        index = self.policy.when_ready.findData(values.when_ready)
        self.policy.when_ready.setCurrentIndex(index)
        self.export.fill(values.export)

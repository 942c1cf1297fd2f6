"""The list of mirrors at the left: name, state in a word, and the map in one row."""

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.elide import ElidedLabel
from mirrorgui.ui.frame import Frame
from mirrorgui.ui.header import TONE_COLOR
from mirrorgui.ui.heatmap.colors import Scheme
from mirrorgui.ui.heatmap.strip import JobStrip
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.style import set_look
from mirrorgui.ui.wording import list_text

_KEY = Qt.ItemDataRole.UserRole


class _Card(QWidget):
    """One mirror in the list."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._icon = QLabel(self)
        self._name = ElidedLabel(self)
        set_look(self._name, "section")
        self._target = ElidedLabel(self)
        set_look(self._target, "caption")
        self._state = QLabel(self)
        set_look(self._state, "caption")
        self.strip = JobStrip(self)
        top = QHBoxLayout()
        top.setSpacing(6)
        top.addWidget(self._icon)
        top.addWidget(self._name, 1)
        top.addWidget(self._state)
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 8, 10, 8)
        column.setSpacing(4)
        column.addLayout(top)
        column.addWidget(self._target)
        column.addWidget(self.strip)

    def show_frame(self, frame: Frame) -> str:
        """Show a frame; return what the card says, for people who cannot see it."""
        shown = frame.shown
        state = list_text(frame.snapshot, shown)
        icons_of().give(self._icon, shown.icon, TONE_COLOR[shown.tone], 16)
        self._name.set_full_text(frame.names.source, tip=frame.names.source_full)
        self._target.set_full_text(f"→ {frame.names.target}", tip=frame.names.target_full)
        self._state.setText(state)
        self.strip.set_name(frame.names.source)
        self.strip.update_frame(frame.snapshot, frame.words)
        return tr(
            "{source} to {target}: {state}",
            source=frame.names.source,
            target=frame.names.target,
            state=state,
        )


class JobList(QWidget):
    """All mirrors of this run.

    Signals:
        chosen: the key of the mirror that was selected.
        pause_toggled: pause or resume the selected mirror (Space).
    """

    chosen = Signal(int)
    pause_toggled = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.list = _List(self)
        self.list.setAccessibleName(tr("Mirrors"))
        set_look(self.list, "side")
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.currentItemChanged.connect(self._selected)
        self.list.space_pressed.connect(self.pause_toggled)
        caption = QLabel(tr("Mirrors"), self)
        set_look(caption, "caption")
        caption.setContentsMargins(12, 10, 12, 4)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(caption)
        column.addWidget(self.list, 1)

    def add(self, frame: Frame, scheme: Scheme = Scheme.THEME) -> None:
        """Append a mirror, with its map in the colours of a scheme."""
        item = QListWidgetItem()
        item.setData(_KEY, frame.key)
        card = _Card()
        card.strip.set_scheme(scheme)
        item.setSizeHint(QSize(0, card.sizeHint().height()))
        self.list.addItem(item)
        self.list.setItemWidget(item, card)
        self.update_frame(frame)

    def set_scheme(self, scheme: Scheme) -> None:
        """Draw all maps in the colours of a scheme."""
        for row in range(self.list.count()):
            card = self.list.itemWidget(self.list.item(row))
            assert isinstance(card, _Card)
            card.strip.set_scheme(scheme)

    def remove(self, key: int) -> None:
        """Take a mirror away."""
        item = self._item(key)
        if item is not None:
            self.list.takeItem(self.list.row(item))

    def select(self, key: int | None) -> None:
        """Mark the mirror that is shown."""
        item = self._item(key) if key is not None else None
        if item is not None:
            self.list.setCurrentItem(item)

    def update_frame(self, frame: Frame) -> None:
        """Show a frame in its row."""
        item = self._item(frame.key)
        if item is None:
            return
        card = self.list.itemWidget(item)
        assert isinstance(card, _Card)
        words = card.show_frame(frame)
        if item.data(Qt.ItemDataRole.AccessibleTextRole) != words:
            item.setData(Qt.ItemDataRole.AccessibleTextRole, words)

    def texts(self) -> list[str]:
        """Return what the rows say, from the top."""
        rows = range(self.list.count())
        return [str(self.list.item(row).data(Qt.ItemDataRole.AccessibleTextRole)) for row in rows]

    def _item(self, key: int) -> QListWidgetItem | None:
        for row in range(self.list.count()):
            if self.list.item(row).data(_KEY) == key:
                return self.list.item(row)
        return None

    def _selected(self, item: QListWidgetItem | None) -> None:
        if item is not None:
            self.chosen.emit(int(item.data(_KEY)))


class _List(QListWidget):
    space_pressed = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Space:
            self.space_pressed.emit()
            return
        super().keyPressEvent(event)

"""What the window shows while there is no mirror: where to begin."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.names import short_name
from mirrorgui.ui.style import set_look

MAX_RECENT_SHOWN = 5


class EmptyState(QWidget):
    """A drop target with the ways to begin.

    Signals:
        choose_requested: choose a source.
        demonstration_requested: try the demonstration.
        source_given: a source (str) was dropped, or chosen among the recent ones.
    """

    choose_requested = Signal()
    demonstration_requested = Signal()
    source_given = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAcceptDrops(True)
        self._card = QFrame(self)
        set_look(self._card, "drop")
        self.choose = QPushButton(tr("&Choose source..."), self._card)
        set_look(self.choose, "primary")
        self.choose.clicked.connect(self.choose_requested)
        self.demonstrate = QPushButton(tr("Try the &demonstration"), self._card)
        self.demonstrate.clicked.connect(self.demonstration_requested)
        icons_of().give(self.choose, "image", "on_accent")
        icons_of().give(self.demonstrate, "play")
        self._recent = QVBoxLayout()
        self._recent.setSpacing(0)
        self._lay_out()

    def _lay_out(self) -> None:
        picture = QLabel(self._card)
        icons_of().give(picture, "mirror", "copy", 72)
        heading = QLabel(tr("Mirror a disk image while it is in use"), self._card)
        set_look(heading, "hero")
        text = QLabel(
            tr(
                "Drop an image here, or choose one. The source stays available to virtual "
                "machines during the whole copy."
            ),
            self._card,
        )
        text.setWordWrap(True)
        set_look(text, "muted")
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        buttons.addWidget(self.choose)
        buttons.addWidget(self.demonstrate)
        buttons.addStretch(1)
        column = QVBoxLayout(self._card)
        column.setContentsMargins(48, 36, 48, 30)
        column.setSpacing(12)
        for label in (picture, heading, text):
            label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            column.addWidget(label)
        column.addSpacing(8)
        column.addLayout(buttons)
        column.addSpacing(6)
        column.addLayout(self._recent)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(24, 24, 24, 24)
        outer.addStretch(1)
        middle = QHBoxLayout()
        middle.addStretch(1)
        middle.addWidget(self._card, 4)
        middle.addStretch(1)
        outer.addLayout(middle)
        outer.addStretch(2)

    def set_recent(self, specifications: list[str]) -> None:
        """Offer sources used before, the newest first."""
        while (item := self._recent.takeAt(0)) is not None:
            old = item.widget()
            if old is not None:
                old.hide()
                old.deleteLater()
        if not specifications:
            return
        caption = QLabel(tr("Recent"), self._card)
        set_look(caption, "caption")
        caption.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._recent.addWidget(caption)
        for specification in specifications[:MAX_RECENT_SHOWN]:
            # An ampersand in a file's name would be taken for a mnemonic.
            label = short_name(specification).replace("&", "&&")
            button = QPushButton(label, self._card)
            set_look(button, "link")
            button.setToolTip(specification)
            button.setAccessibleName(tr("Mirror {source} again", source=specification))
            button.setProperty("specification", specification)
            button.clicked.connect(self._recent_pressed)
            self._recent.addWidget(button, 0, Qt.AlignmentFlag.AlignHCenter)

    def _recent_pressed(self) -> None:
        self.source_given.emit(str(self.sender().property("specification")))

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if dropped_path(event) is not None:
            event.acceptProposedAction()
            set_look(self._card, "true", "over")

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        set_look(self._card, "false", "over")
        super().dragLeaveEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:
        set_look(self._card, "false", "over")
        path = dropped_path(event)
        if path is not None:
            event.acceptProposedAction()
            self.source_given.emit(path)


def dropped_path(event: QDropEvent) -> str | None:
    """Return the first local file or NBD URI that is dragged, or None."""
    for url in event.mimeData().urls():
        if url.isLocalFile():
            return url.toLocalFile()
        if url.scheme().startswith("nbd"):
            return url.toString()
    return None

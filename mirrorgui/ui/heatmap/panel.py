"""The map with everything around it: zoom bar, legend and inspector."""

from dataclasses import dataclass

from PySide6.QtCore import Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QWidget

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.snapshot import JobSnapshot


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A range of an image: bytes from ``offset``."""

    offset: int
    length: int


class MapPanel(QWidget):
    """The live map of one job.

    Signals:
        cursor_moved: the ``ByteRange`` of the cell under the cursor (keyboard or click).
        range_selected: the ``ByteRange`` that was selected; length 0 when the selection was lifted.
        errors_requested: a ``ByteRange``: show the errors there ("Find in errors").
        following_changed: True while the view follows the copy's position.
    """

    cursor_moved = Signal(object)
    range_selected = Signal(object)
    errors_requested = Signal(object)
    following_changed = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)

    def set_source(self, name: str, size: int, granularity: int) -> None:
        """Begin with another image: ``size`` bytes in chunks of ``granularity`` bytes."""

    def update_frame(self, snapshot: JobSnapshot, words: MapWords) -> None:
        """Show a frame; cheap when hidden. ``words`` are read during the call only."""

    def show_offset(self, offset: int) -> None:
        """Bring the chunk at ``offset`` (bytes) into view and put the cursor there."""

    def zoom_in(self) -> None:
        """Halve the bytes a cell stands for, around the cursor."""

    def zoom_out(self) -> None:
        """Double the bytes a cell stands for, around the cursor."""

    def fit(self) -> None:
        """Show the whole image."""

    def picture(self) -> QImage:
        """Return the map with its legend as it is on the screen."""
        return self.grab().toImage()

"""A whole image in one row, for lists of jobs."""

from PySide6.QtWidgets import QWidget

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.snapshot import JobSnapshot


class JobStrip(QWidget):
    """The map of a job in one row: the worst state of each column's chunks."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)

    def set_name(self, name: str) -> None:
        """Say which image it shows, for people who cannot see it."""

    def update_frame(self, snapshot: JobSnapshot, words: MapWords) -> None:
        """Show a frame; ``words`` are read during the call only."""

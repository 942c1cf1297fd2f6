"""The operations in flight: a slot for each, with its offset, length and age."""

from PySide6.QtWidgets import QWidget

from mirrorgui.mirror.snapshot import JobSnapshot


class InFlightPanel(QWidget):
    """A row of slots, one for each operation that may be in flight."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)

    def update_frame(self, snapshot: JobSnapshot) -> None:
        """Show the operations of a snapshot."""

    def clear(self) -> None:
        """Show no operation."""

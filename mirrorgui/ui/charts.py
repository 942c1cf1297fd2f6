"""Three charts over one time base: rate, what is left to copy, latency."""

from PySide6.QtWidgets import QWidget

from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.mirror.rates import Rates


class ChartsPanel(QWidget):
    """Rate, left to copy and latency over the last minute, ten minutes, hour, or all of it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)

    def add_sample(self, snapshot: JobSnapshot, rates: Rates) -> None:
        """Take a sample in; call it for every frame, also while hidden (it is cheap then)."""

    def clear(self) -> None:
        """Forget everything, for another job."""

"""Python's garbage collector, on the Qt thread only.

The collector runs in whichever thread happens to allocate. In a copy thread it would destroy there
what is left of a closed view, Qt objects among it, under the feet of the Qt thread: a crash.
"""

import gc

from PySide6.QtCore import QObject, QTimer

INTERVAL_MS = 500
"""Between two looks at how much garbage there may be."""


class Collector(QObject):
    """Collects on a timer, by the interpreter's own thresholds, while it lives."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._timer = QTimer(self)
        self._timer.setInterval(INTERVAL_MS)
        self._timer.timeout.connect(self.collect)

    def start(self) -> None:
        """Take the collector over from the interpreter."""
        gc.collect()
        # What was made so far stays: no pass has to go through modules and classes again.
        gc.freeze()
        gc.disable()
        self._timer.start()

    def collect(self) -> None:
        """Collect the generations that are due."""
        for generation in (2, 1, 0):
            if gc.get_count()[generation] > gc.get_threshold()[generation]:
                gc.collect(generation)
                return

    def stop(self) -> None:
        """Give the collector back."""
        self._timer.stop()
        gc.unfreeze()
        gc.enable()

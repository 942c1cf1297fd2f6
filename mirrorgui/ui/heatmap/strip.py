"""A whole image in one row, for lists of jobs."""

import time

import numpy as np
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QTransform
from PySide6.QtWidgets import QSizePolicy, QWidget

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.ui.heatmap import colors
from mirrorgui.ui.heatmap.cells import fold, in_flight_chunks
from mirrorgui.ui.heatmap.colors import Cells, Scheme
from mirrorgui.ui.heatmap.geometry import power_of_two_above
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.pixel_view import CellsItem, PixelView
from mirrorgui.ui.theme import theme_of

HEIGHT = 10
PARTS = 2048
"""Parts that the image is counted in; more than a strip has pixels."""
EVERY_S = 0.5
"""A strip says roughly how far a job is: twice a second is plenty."""


class JobStrip(PixelView):
    """The map of a job in one row: the worst state of each column's chunks."""

    def __init__(self, parent: QWidget | None = None) -> None:
        self._values: Cells = np.zeros(0, np.uint8)
        self._drawn_s = -EVERY_S
        self._generation: int | None = None
        super().__init__(parent)
        self._image = CellsItem()
        self.addItem(self._image)
        self.setFixedHeight(HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAccessibleName(tr("Map in one row"))
        self._scheme = Scheme.THEME
        theme = theme_of()
        theme.changed.connect(self._theme_changed)
        self._theme_changed(theme.dark)

    def sizeHint(self) -> QSize:
        return QSize(160, HEIGHT)

    def minimumSizeHint(self) -> QSize:
        return QSize(40, HEIGHT)

    def set_name(self, name: str) -> None:
        """Say which image it shows, for people who cannot see it."""
        self.setAccessibleName(tr("Map of {name} in one row", name=name))

    def set_scheme(self, scheme: Scheme) -> None:
        """Follow the theme, or be monochrome."""
        self._scheme = scheme
        self._theme_changed(theme_of().dark)

    def update_frame(self, snapshot: JobSnapshot, words: MapWords) -> None:
        """Show a frame; ``words`` are read during the call only."""
        now = time.monotonic()
        if snapshot.generation == self._generation or now - self._drawn_s < EVERY_S:
            return
        if not self.isVisible() and len(self._values):
            return
        self._generation, self._drawn_s = snapshot.generation, now
        per_cell = power_of_two_above(-(-words.chunks // PARTS))
        ranges = in_flight_chunks(snapshot.operations, snapshot.granularity, words.chunks)
        counts = fold(words, ranges, 0, -(-words.chunks // per_cell), per_cell)
        self._values = colors.encode(counts)
        self.resized()

    @property
    def columns(self) -> Cells:
        """The values drawn, one for each of the screen's pixels across."""
        return colors.worst(self._values, max(round(self.width() * self.area.ratio), 1))

    def resized(self) -> None:
        self._image.show_values(self.columns[None, :])
        self._image.setTransform(QTransform.fromScale(1 / self.area.ratio, HEIGHT))
        self.repaint_items()

    def _theme_changed(self, dark: bool) -> None:
        palette = colors.palette_for(self._scheme, dark)
        self.set_ground(palette.not_allocated)
        self._image.setLookupTable(colors.opaque_table(palette), update=False)
        self.resized()

"""The map with everything around it: zoom bar, legend, inspector and areas."""

import time
from dataclasses import dataclass

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QImage, QShowEvent
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSplitter,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.ui.heatmap import colors, texts
from mirrorgui.ui.heatmap.areas_view import LargestAreas
from mirrorgui.ui.heatmap.colors import MapPalette, Scheme
from mirrorgui.ui.heatmap.frame import MapFrame
from mirrorgui.ui.heatmap.geometry import CellOrder
from mirrorgui.ui.heatmap.inspector import Inspector
from mirrorgui.ui.heatmap.legend import Legend
from mirrorgui.ui.heatmap.map_view import MapView
from mirrorgui.ui.heatmap.tools import MapTools
from mirrorgui.ui.heatmap.zoom_bar import ZoomBar
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.theme import colors as theme_colors
from mirrorgui.ui.theme import theme_of

SUMS_S = 0.25
"""Numbers that change faster than this cannot be read."""
DETAILS_S = 0.5

SIDE = 308
"""Points: an area's state, place and length fit in."""


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
        self._frame = MapFrame()
        self._latest: tuple[JobSnapshot, MapWords] | None = None
        self._stale = False
        self._scheme = Scheme.THEME
        self._own_palette: MapPalette | None = None
        self._sums_s = self._details_s = 0.0
        self.view = MapView(self)
        self.bar = ZoomBar(self.view.viewport_, self)
        self.tools = MapTools(self)
        self.legend = Legend(self)
        self.inspector = Inspector(self)
        self.areas = LargestAreas(self)
        self._scale = QLabel(self)
        self._part = QLabel(self)
        self._lay_out()
        self._connect()
        self.setFocusProxy(self.view)
        theme = theme_of()
        theme.changed.connect(self._theme_changed)
        self._apply_palette()

    def _lay_out(self) -> None:
        for label in (self._scale, self._part):
            label.setProperty("look", "caption")
        foot = QHBoxLayout()
        foot.setContentsMargins(0, 0, 0, 0)
        foot.addWidget(self._scale)
        foot.addStretch(1)
        foot.addWidget(self._part)
        picture = QHBoxLayout()
        picture.setSpacing(6)
        picture.addWidget(self.bar)
        picture.addWidget(self.view, 1)
        left = QWidget(self)
        column = QVBoxLayout(left)
        column.setContentsMargins(12, 8, 8, 8)
        column.setSpacing(6)
        column.addWidget(self.tools)
        column.addLayout(picture, 1)
        column.addLayout(foot)
        self._splitter = QSplitter(Qt.Orientation.Horizontal, self)
        self._splitter.addWidget(left)
        self._splitter.addWidget(self._make_side())
        self._splitter.setStretchFactor(0, 1)
        self._splitter.setCollapsible(0, False)
        self._splitter.setSizes([10_000, SIDE])
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(self._splitter)

    def _make_side(self) -> QWidget:
        side = QWidget()
        self.side_tabs = _Tabs(side)
        self.side_tabs.setDocumentMode(True)
        self.side_tabs.setMinimumHeight(self.fontMetrics().height() * 11)
        self.side_tabs.setAccessibleName(tr("Details of the map"))
        self.side_tabs.addTab(_padded(self.inspector), tr("Inspector"))
        self.side_tabs.addTab(_padded(self.areas), tr("Areas"))
        column = QVBoxLayout(side)
        column.setContentsMargins(8, 10, 12, 8)
        column.setSpacing(10)
        column.addWidget(self.legend)
        column.addWidget(self.side_tabs, 1)
        # In a low window the details move down, out of sight: the legend is read all the time.
        self.side = scroll = QScrollArea(self)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setWidget(side)
        return scroll

    def _connect(self) -> None:
        self.view.view_moved.connect(self._view_moved)
        self.view.cursor_moved.connect(self._cursor_moved)
        self.view.inspect_requested.connect(self._inspect)
        self.view.selection_changed.connect(self._selection_changed)
        self.view.errors_requested.connect(self._emit_errors)
        self.view.following_changed.connect(self.following_changed)
        self.view.following_changed.connect(self.tools.set_following)
        self.bar.start_requested.connect(self.view.start_at)
        self.bar.selected.connect(self.view.select)
        self.inspector.errors_requested.connect(self._emit_errors)
        self.inspector.place_requested.connect(self.show_offset)
        self.areas.place_requested.connect(self.show_offset)
        self.tools.zoom_requested.connect(self.view.zoom)
        self.tools.fit_requested.connect(self.view.fit)
        self.tools.one_to_one_requested.connect(self.view.one_to_one)
        self.tools.order_chosen.connect(self.set_order)
        self.tools.follow_toggled.connect(self.set_following)

    # ---- frames -------------------------------------------------------------------------------

    def set_source(self, name: str, size: int, granularity: int) -> None:
        """Begin with another image: ``size`` bytes in chunks of ``granularity`` bytes."""
        self._frame = MapFrame(name, size, granularity)
        self._latest = None
        self.view.set_frame(self._frame)
        self.bar.set_source(self._frame, self.view.viewport_)
        self.inspector.set_frame(self._frame)
        self.areas.set_frame(self._frame)
        self._view_moved()

    def update_frame(self, snapshot: JobSnapshot, words: MapWords) -> None:
        """Show a frame; cheap when hidden.

        ``words`` stay in use until the next call (for the tooltip, the inspector, finding); they
        may be overwritten in place before it, on this thread.
        """
        self._latest = snapshot, words
        self._stale = True
        if self.isVisible():
            self._show_latest()

    def _show_latest(self) -> None:
        if self._latest is None or not self._stale:
            return
        self._stale = False
        changed = self._frame.update(*self._latest)
        if changed or self.view.is_holding:
            self.view.refresh()
            self.bar.refresh()
        now = time.monotonic()
        if now - self._sums_s >= SUMS_S:
            self._sums_s = now
            self.legend.update_frame(self._frame)
        if now - self._details_s >= DETAILS_S and self.inspector.chunks is not None:
            self._details_s = now
            self.inspector.refresh()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._show_latest()

    # ---- what is shown ------------------------------------------------------------------------

    def show_offset(self, offset: int) -> None:
        """Bring the chunk at ``offset`` (bytes) into view and put the cursor there."""
        chunk = min(max(offset, 0), max(self._frame.size - 1, 0)) // self._frame.granularity
        self.view.set_cursor_chunk(chunk)
        self._inspect(chunk)
        self.view.setFocus()

    def zoom_in(self) -> None:
        """Halve the bytes a cell stands for, around the cursor."""
        self.view.zoom(1)

    def zoom_out(self) -> None:
        """Double the bytes a cell stands for, around the cursor."""
        self.view.zoom(-1)

    def fit(self) -> None:
        """Show the whole image."""
        self.view.fit()

    def set_following(self, following: bool) -> None:
        """Keep the place that is being copied in view."""
        self.view.set_following(following)
        self.view.refresh()

    def find_failed(self, *, forward: bool = True) -> bool:
        """Put the cursor on the next failed chunk; False when there is none."""
        return self.view.find_marked(self._frame.words.failed, forward=forward)

    def set_order(self, order: CellOrder) -> None:
        """Lay cells out by rows or by neighbourhood."""
        self.tools.show_order(order)
        self.view.set_order(order)

    def picture(self) -> QImage:
        """Return the map with its legend as it is on the screen."""
        return self.grab().toImage()

    # ---- colours ------------------------------------------------------------------------------

    def set_scheme(self, scheme: Scheme) -> None:
        """Follow the theme, or be monochrome."""
        self._scheme, self._own_palette = scheme, None
        self._apply_palette()

    def set_map_palette(self, palette: MapPalette | None) -> None:
        """Use a person's own colours; None goes back to the scheme's."""
        self._own_palette = palette
        self._apply_palette()

    def _theme_changed(self, dark: bool) -> None:  # noqa: ARG002 - the signal's
        self._apply_palette()

    def _apply_palette(self) -> None:
        dark = theme_of().dark
        palette = self._own_palette or colors.palette_for(self._scheme, dark)
        self.view.set_map_palette(palette)
        theme = theme_colors(dark)
        self.bar.set_map_palette(palette, theme.window, theme.text)
        self.legend.set_map_palette(palette)
        self.inspector.table.rows.set_map_palette(palette)
        self.areas.rows.set_map_palette(palette)

    # ---- what the parts tell each other -------------------------------------------------------

    def _view_moved(self) -> None:
        port = self.view.viewport_
        self._scale.setText(texts.scale_text(self._frame, port.view.per_cell))
        self._part.setText(texts.view_text(self._frame, port.view.first, port.end))
        self.tools.set_fit(port.is_fit)
        self.legend.set_mixed(port.view.per_cell > 1)
        self.bar.refresh()

    def _range(self, chunks: tuple[int, int]) -> ByteRange:
        return ByteRange(*self._frame.range_of(*chunks))

    def _cell_around(self, chunk: int) -> tuple[int, int]:
        cell = self.view.viewport_.cell_of(chunk)
        return (chunk, chunk + 1) if cell is None else self.view.viewport_.chunks_of(cell)

    def _cursor_moved(self, chunk: int) -> None:
        self.cursor_moved.emit(self._range(self._cell_around(chunk)))

    def _inspect(self, chunk: int) -> None:
        if self._frame.chunks:
            self._pin(self._cell_around(chunk))

    def _pin(self, chunks: tuple[int, int] | None) -> None:
        self.inspector.inspect(chunks)
        self.view.cursor_pinned = chunks is not None
        self.view.repaint_items()

    def _selection_changed(self, chunks: tuple[int, int] | None) -> None:
        self._pin(chunks)
        self.range_selected.emit(ByteRange(0, 0) if chunks is None else self._range(chunks))

    def _emit_errors(self, chunks: tuple[int, int]) -> None:
        self.errors_requested.emit(self._range(chunks))


class _Tabs(QTabWidget):
    """Tabs that can be low: the height that suits their texts' width is not insisted on."""

    def hasHeightForWidth(self) -> bool:
        return False


def _padded(inner: QWidget) -> QWidget:
    """Put a widget into one with some room above, for a page of tabs."""
    page = QWidget()
    column = QVBoxLayout(page)
    column.setContentsMargins(0, 8, 0, 0)
    column.addWidget(inner)
    return page

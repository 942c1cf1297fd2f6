"""Moving about on the map: the cursor, zooming, following the copy, finding marked chunks."""

import time

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from mirrorgui.ui.heatmap import texts
from mirrorgui.ui.heatmap.canvas import MapCanvas
from mirrorgui.ui.heatmap.cells import Words
from mirrorgui.ui.heatmap.frame import MapFrame
from mirrorgui.ui.heatmap.geometry import CellOrder
from mirrorgui.ui.heatmap.runs import next_marked, previous_marked
from mirrorgui.ui.i18n import tr

DESCRIBE_S = 5.0
"""A screen reader is not told more often than this; moving the cursor tells it at once."""


class MapNavigator(MapCanvas):
    """A map with a cursor, without the means to move it: that is what ``MapView`` adds.

    Signals carry chunks; the panel around it speaks in bytes.

    Signals:
        cursor_moved: the chunk under the cursor.
        inspect_requested: a chunk whose cell shall be shown in detail.
        selection_changed: ``(first, end)`` chunks, or None.
        errors_requested: ``(first, end)`` chunks whose errors shall be listed.
        view_moved: another part of the image is in view, or at another scale.
        following_changed: whether the view follows the copy.
    """

    cursor_moved = Signal(object)
    inspect_requested = Signal(object)
    selection_changed = Signal(object)
    errors_requested = Signal(object)
    view_moved = Signal()
    following_changed = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        self._following = False
        self._described_s = 0.0
        super().__init__(parent)
        self.setAccessibleName(tr("Map"))

    # ---- frames -------------------------------------------------------------------------------

    def set_frame(self, frame: MapFrame) -> None:
        super().set_frame(frame)
        self.setAccessibleName(tr("Map of {name}", name=frame.name))
        self.set_following(False)
        self.describe()

    def refresh(self) -> None:
        if self._following:
            self._follow()
        super().refresh()
        if time.monotonic() - self._described_s >= DESCRIBE_S:
            self.describe()

    def view_changed(self) -> None:
        super().view_changed()
        self.view_moved.emit()

    def describe(self) -> None:
        """Say in the accessible description how the image is doing and where the cursor is."""
        self._described_s = time.monotonic()
        self.setAccessibleDescription(texts.description(self.frame, self.cursor_chunk))

    # ---- moving about -------------------------------------------------------------------------

    @property
    def following(self) -> bool:
        """Whether the view follows the copy's position."""
        return self._following

    def set_following(self, following: bool) -> None:
        """Keep the copy's position in view, until the view is moved by hand."""
        if following != self._following:
            self._following = following
            self.following_changed.emit(following)

    def _follow(self) -> None:
        position = self.frame.copy_position
        if position is not None and self.viewport_.cell_of(position) is None:
            self.viewport_.centre(position)
            self.view_moved.emit()

    def zoom(self, steps: int, cell: int | None = None) -> None:
        """Zoom in (``steps`` > 0) or out around a cell, or around the cursor."""
        if cell is None:
            cell = self.viewport_.cell_of(self.cursor_chunk)
        self.viewport_.zoom(steps, cell if cell is not None else self.viewport_.cells // 2)
        self.view_changed()

    def fit(self) -> None:
        """Show the whole image."""
        self.set_following(False)
        self.viewport_.fit()
        self.view_changed()

    def one_to_one(self, cell: int | None = None) -> None:
        """Zoom in until a cell is a chunk, around a cell or the cursor."""
        if cell is None:
            cell = self.viewport_.cell_of(self.cursor_chunk) or 0
        self.viewport_.one_to_one(cell)
        self.view_changed()

    def start_at(self, chunk: int) -> None:
        """Move the view such that it begins at a chunk."""
        self.set_following(False)
        self.viewport_.start_at(chunk)
        self.view_changed()

    def set_cursor_chunk(self, chunk: int, *, reveal: bool = True) -> None:
        """Put the cursor on a chunk, and bring it into view."""
        self.cursor_chunk = min(max(chunk, 0), max(self.frame.chunks - 1, 0))
        if reveal and self.viewport_.cell_of(self.cursor_chunk) is None:
            self.set_following(False)
            self.viewport_.reveal(self.cursor_chunk)
            self.view_changed()
        else:
            self.repaint_items()
        self.describe()
        self.cursor_moved.emit(self.cursor_chunk)

    def select(self, selection: tuple[int, int] | None) -> None:
        """Select the chunks [first, end), or nothing."""
        self.selection = selection
        self.repaint_items()
        self.selection_changed.emit(selection)

    def find_marked(self, words: Words, *, forward: bool = True) -> bool:
        """Put the cursor on the next marked chunk behind (or before) its cell, around the end.

        Returns:
            Whether any chunk is marked.
        """
        view = self.viewport_.view
        begin = (self.cursor_chunk - view.first) // view.per_cell * view.per_cell + view.first
        if forward:
            behind = min(begin + view.per_cell, self.frame.chunks) - 1
            found = next_marked(words, behind)
            if found is None:
                found = next_marked(words, -1)
        else:
            found = previous_marked(words, max(begin, 0))
            if found is None:
                found = previous_marked(words, self.frame.chunks)
        if found is None:
            return False
        self.set_cursor_chunk(found)
        self.inspect_requested.emit(found)
        return True

    def step(self, across: int, down: int) -> None:
        """Move the cursor by cells across and down."""
        view = self.viewport_.view
        cell = self.viewport_.cell_of(self.cursor_chunk)
        if view.grid.order is CellOrder.HILBERT and cell is not None:
            column, row = view.grid.place(cell)
            column = min(max(column + across, 0), view.grid.columns - 1)
            row = min(max(row + down, 0), view.grid.rows - 1)
            target = min(view.grid.index_of(column, row), self.viewport_.cells - 1)
            self.set_cursor_chunk(self.viewport_.chunks_of(target)[0])
            return
        cells = across + down * view.grid.columns
        aligned = (self.cursor_chunk - view.first) // view.per_cell * view.per_cell + view.first
        target = aligned + cells * view.per_cell
        if 0 <= target < self.frame.chunks or not down:
            self.set_cursor_chunk(target)
        elif abs(down) > 1:
            self.set_cursor_chunk(0 if down < 0 else self.frame.chunks - 1)

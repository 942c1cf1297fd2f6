"""Where cells lie: columns and rows, cell sizes, and the way between pixels and cells. Free of Qt.

Lengths on the screen are in device-independent pixels, as Qt's; a cell's side is always a whole
number of the screen's own pixels, so that cells stay square and sharp on any screen.
"""

import enum
import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLUMN_STEP = 16
"""Columns come in multiples of this, so that resizing the window seldom reshuffles the picture."""

PREFERRED_CELL = 10.0
MIN_CELL, MAX_CELL = 4.0, 24.0
"""What a person may choose as the usual side of a cell."""

MAX_FITTED_CELL = 48.0
"""Few chunks get larger cells, up to this; 100 chunks are 100 squares, not slivers. At 48 there is
room for their offsets."""

ENLARGED_CELLS = (12.0, 16.0, 24.0, 32.0, 48.0, 64.0)
"""Sides for zooming in further when a cell is a chunk already."""

_DISTANCE_COST = 0.35
"""How much of the area may stay empty to be a factor of two nearer to the preferred side."""

_FINER = 0.75


class CellOrder(enum.Enum):
    """How offsets run over the picture; values are what the settings store."""

    ROWS = "rows"
    """Left to right, then down: ranges are sentences, the copy front is a line."""
    HILBERT = "hilbert"
    """Along a Hilbert curve: what is near in the image is near in the picture."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A raster of cells within a widget.

    Attributes:
        columns, rows: cells across and down.
        cell: side of a cell.
        left, top: corner of the first cell.
        order: how indices run over the raster.
    """

    columns: int
    rows: int
    cell: float
    left: float
    top: float
    order: CellOrder = CellOrder.ROWS

    @property
    def cells(self) -> int:
        """Cells that there is room for."""
        return self.columns * self.rows

    def place(self, index: int) -> tuple[int, int]:
        """Return (column, row) of a cell."""
        if self.order is CellOrder.HILBERT:
            row, column = divmod(int(hilbert_places(self.columns)[index]), self.columns)
        else:
            row, column = divmod(index, self.columns)
        return column, row

    def index_at(self, x: float, y: float) -> int | None:
        """Return the cell at a point of the widget, or None beside the raster."""
        column = math.floor((x - self.left) / self.cell)
        row = math.floor((y - self.top) / self.cell)
        if not (0 <= column < self.columns and 0 <= row < self.rows):
            return None
        return self.index_of(column, row)

    def nearest(self, x: float, y: float) -> int:
        """Return the cell at a point, or the one nearest to it."""
        column = math.floor((x - self.left) / self.cell)
        row = math.floor((y - self.top) / self.cell)
        column = min(max(column, 0), self.columns - 1)
        return self.index_of(column, min(max(row, 0), self.rows - 1))

    def index_of(self, column: int, row: int) -> int:
        """Return the cell in a column and row."""
        place = row * self.columns + column
        if self.order is CellOrder.HILBERT:
            return int(hilbert_indices(self.columns)[place])
        return place

    def corner(self, index: int) -> tuple[float, float]:
        """Return the left upper corner of a cell."""
        column, row = self.place(index)
        return self.left + column * self.cell, self.top + row * self.cell

    def corners(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the left upper corners of many cells: shape (n, 2), x and y."""
        places = hilbert_places(self.columns)[indices] if self._is_hilbert else indices
        rows, columns = np.divmod(places, self.columns)
        return np.stack(
            (self.left + columns * self.cell, self.top + rows * self.cell), axis=1, dtype=np.float64
        )

    @property
    def _is_hilbert(self) -> bool:
        return self.order is CellOrder.HILBERT

    def raster(self, values: NDArray[np.uint8], outside: int) -> NDArray[np.uint8]:
        """Lay values out as a picture of (rows, columns); cells that have none get ``outside``."""
        flat = np.full(self.cells, outside, np.uint8)
        count = min(len(values), self.cells)
        flat[:count] = values[:count]
        if self._is_hilbert:
            flat = np.take(flat, hilbert_indices(self.columns))
        return flat.reshape(self.rows, self.columns)


@functools.lru_cache(maxsize=8)
def hilbert_places(side: int) -> NDArray[np.int64]:
    """Return the place (row * side + column) of each index along the curve; side is 2^n."""
    distance = np.arange(side * side, dtype=np.int64)
    x, y, rest = np.zeros_like(distance), np.zeros_like(distance), distance.copy()
    step = 1
    while step < side:
        right = rest // 2 & 1
        down = (rest ^ right) & 1
        flip = (down == 0) & (right == 1)
        x, y = np.where(flip, step - 1 - x, x), np.where(flip, step - 1 - y, y)
        x, y = np.where(down == 0, y, x), np.where(down == 0, x, y)
        x, y, rest = x + step * right, y + step * down, rest // 4
        step *= 2
    places: NDArray[np.int64] = y * side + x
    places.setflags(write=False)
    return places


@functools.lru_cache(maxsize=8)
def hilbert_indices(side: int) -> NDArray[np.int64]:
    """Return the index along the curve of each place: the inverse of ``hilbert_places``."""
    indices = np.empty(side * side, np.int64)
    indices[hilbert_places(side)] = np.arange(side * side)
    indices.setflags(write=False)
    return indices


@dataclass(frozen=True, slots=True)
class Area:
    """The room for a map.

    Attributes:
        width, height: in device-independent pixels.
        ratio: the screen's own pixels per device-independent one (1.0, 1.5, 2.0, ...).
    """

    width: float
    height: float
    ratio: float = 1.0

    def snap(self, cell: float) -> float:
        """Return the nearest side that is a whole number of the screen's pixels."""
        return max(round(cell * self.ratio), 1) / self.ratio

    def sides(self, smallest: float, largest: float) -> list[float]:
        """Return every side that is a whole number of the screen's pixels."""
        low, high = math.ceil(smallest * self.ratio), math.floor(largest * self.ratio)
        return [step / self.ratio for step in range(low, high + 1)]

    def grid(self, cell: float, order: CellOrder) -> Grid:
        """Return the raster of cells of a side that fit in."""
        if order is CellOrder.HILBERT:
            room = max(int(min(self.width, self.height) / cell + 1e-6), 1)
            columns = rows = 1 << (room.bit_length() - 1)
        else:
            columns = max(int(self.width / cell + 1e-6), 1)
            if columns > COLUMN_STEP:
                columns -= columns % COLUMN_STEP
            rows = max(int(self.height / cell + 1e-6), 1)
        return self._placed(columns, rows, cell, order)

    def _placed(self, columns: int, rows: int, cell: float, order: CellOrder) -> Grid:
        left = max(self._whole((self.width - columns * cell) / 2), 0.0)
        top = max(self._whole((self.height - rows * cell) / 2), 0.0)
        return Grid(columns, rows, cell, left, top, order)

    def _whole(self, length: float) -> float:
        return math.floor(length * self.ratio) / self.ratio

    def fit(self, chunks: int, preferred: float, order: CellOrder) -> tuple[Grid, int]:
        """Choose the raster that shows a whole image best, and the chunks per cell it needs.

        Chunks per cell are a power of two, so a fixed side would leave up to half of the area
        empty: the side is chosen near the preferred one such that the picture fills the room.
        """
        best: tuple[float, Grid, int] | None = None
        for cell in self.sides(MIN_CELL, max(MAX_FITTED_CELL, preferred)):
            grid = self.grid(cell, order)
            per_cell = power_of_two_above(-(-chunks // grid.cells))
            if per_cell > 1 and cell > MAX_CELL:
                continue
            score = self._score(grid, -(-chunks // per_cell), per_cell, preferred)
            if best is None or score > best[0]:
                best = score, grid, per_cell
        if best is None:
            grid = self.grid(self.snap(preferred), order)
            return grid, power_of_two_above(-(-chunks // grid.cells))
        _, grid, per_cell = best
        return self._shrunk(grid, -(-chunks // per_cell)), per_cell

    def _score(self, grid: Grid, used: int, per_cell: int, preferred: float) -> float:
        rows = used / grid.columns if grid.order is CellOrder.HILBERT else -(-used // grid.columns)
        covered = grid.columns * rows * grid.cell**2 / max(self.width * self.height, 1.0)
        if grid.order is CellOrder.HILBERT:
            preferred *= _FINER  # its side can only double: rather finer than coarser
        distance = abs(math.log2(grid.cell / preferred))
        if per_cell == 1 and grid.cell > preferred:
            # Every chunk has its cell: enlarging costs nothing and reads better.
            distance = 0.0
        return covered - _DISTANCE_COST * distance

    def _shrunk(self, grid: Grid, used: int) -> Grid:
        """Drop rows that stay empty when there is plenty of room, so that few cells are centred."""
        if grid.order is CellOrder.HILBERT:
            return grid
        rows = max(min(grid.rows, -(-used // grid.columns)), 1)
        return self._placed(grid.columns, rows, grid.cell, grid.order)


def power_of_two_above(value: int) -> int:
    """Return the smallest power of two that is not below ``value``; 1 for less than 1."""
    return 1 << max(value - 1, 0).bit_length()

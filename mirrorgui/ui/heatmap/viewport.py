"""Which part of an image the map shows, and how zooming and panning change it. Free of Qt.

Zooming in halves the chunks per cell around a fixed cell; once a cell is one chunk, cells grow.
"""

from dataclasses import dataclass

from mirrorgui.ui.heatmap.geometry import (
    ENLARGED_CELLS,
    MAX_CELL,
    MIN_CELL,
    PREFERRED_CELL,
    Area,
    CellOrder,
    Grid,
)


@dataclass(frozen=True, slots=True)
class View:
    """What is shown.

    Attributes:
        grid: the raster on the screen.
        first: first chunk of the first cell, a multiple of ``per_cell``.
        per_cell: chunks per cell.
    """

    grid: Grid
    first: int
    per_cell: int


class Viewport:
    """The window of chunks that the map shows. All positions are chunks or cells of the view."""

    def __init__(self, chunks: int, area: Area, order: CellOrder = CellOrder.ROWS) -> None:
        self.chunks = chunks
        self._area = area
        self._order = order
        self._preferred = PREFERRED_CELL
        self._fit_grid, self._fit_per_cell = area.fit(chunks, self._preferred, order)
        self.view = View(self._fit_grid, 0, self._fit_per_cell)

    @property
    def is_fit(self) -> bool:
        """Whether the whole image is shown."""
        return self.view == View(self._fit_grid, 0, self._fit_per_cell)

    @property
    def fit_per_cell(self) -> int:
        """Chunks per cell when the whole image is shown."""
        return self._fit_per_cell

    @property
    def order(self) -> CellOrder:
        """How offsets run over the picture."""
        return self._order

    @property
    def preferred_cell(self) -> float:
        """Side that a person would like cells to have."""
        return self._preferred

    @property
    def cells(self) -> int:
        """Cells in view that have chunks."""
        view = self.view
        return min(view.grid.cells, -(-(self.chunks - view.first) // view.per_cell))

    @property
    def end(self) -> int:
        """The chunk behind the last one in view."""
        return min(self.view.first + self.view.grid.cells * self.view.per_cell, self.chunks)

    def chunks_of(self, cell: int) -> tuple[int, int]:
        """Return the chunks [first, end) of a cell of the view."""
        first = self.view.first + cell * self.view.per_cell
        return first, min(first + self.view.per_cell, self.chunks)

    def cell_of(self, chunk: int) -> int | None:
        """Return the cell of the view that a chunk lies in, or None when it is out of view."""
        cell = (chunk - self.view.first) // self.view.per_cell
        return cell if 0 <= cell < self.cells else None

    def resize(self, area: Area) -> None:
        """Fit another room; what was in the middle of a zoomed view stays in view."""
        if area != self._area:
            self._area = area
            self._refit()

    def set_order(self, order: CellOrder) -> None:
        """Lay the cells out in another order."""
        self._order = order
        self._refit()

    def set_preferred_cell(self, cell: float) -> None:
        """Choose the usual side of a cell, within its limits."""
        self._preferred = min(max(cell, MIN_CELL), MAX_CELL)
        self._refit()

    def _refit(self) -> None:
        fitted, view = self.is_fit, self.view
        middle = (view.first + self.end) // 2
        self._fit_grid, self._fit_per_cell = self._area.fit(
            self.chunks, self._preferred, self._order
        )
        if fitted or view.per_cell > self._fit_per_cell:
            self.fit()
            return
        cell = view.grid.cell if view.grid.cell in ENLARGED_CELLS else self._fit_grid.cell
        self._show(self._zoomed_grid(self._area.snap(cell)), view.per_cell)
        self.centre(middle)

    def _zoomed_grid(self, cell: float) -> Grid:
        return self._area.grid(cell, self._order)

    def _show(self, grid: Grid, per_cell: int, first: int = 0) -> None:
        first = first // per_cell * per_cell
        last = max(-(-self.chunks // per_cell) - grid.cells, 0) * per_cell
        self.view = View(grid, min(max(first, 0), last), per_cell)

    def fit(self) -> None:
        """Show the whole image."""
        self.view = View(self._fit_grid, 0, self._fit_per_cell)

    def zoom(self, steps: int, cell: int) -> None:
        """Zoom in (``steps`` > 0) or out such that a cell's first chunk stays where it is."""
        for _ in range(abs(steps)):
            anchor = self._zoom_in(cell) if steps > 0 else self._zoom_out(cell)
            if anchor is None:
                return
            cell = anchor

    def _zoom_in(self, cell: int) -> int | None:
        view = self.view
        if view.per_cell > 1:
            return self._zoom_to(self._zoomed_grid(self._base_cell), view.per_cell // 2, cell)
        larger = [side for side in self._enlarged if side > view.grid.cell]
        if not larger:
            return None
        return self._zoom_to(self._zoomed_grid(larger[0]), 1, cell)

    def _zoom_out(self, cell: int) -> int | None:
        view = self.view
        if self.is_fit:
            return None
        smaller = [side for side in self._enlarged if side < view.grid.cell]
        if view.grid.cell > self._base_cell:
            side = max([*smaller, self._base_cell])
            return self._settle(self._zoom_to(self._zoomed_grid(side), 1, cell))
        if view.per_cell * 2 >= self._fit_per_cell:
            chunk = view.first + cell * view.per_cell
            self.fit()
            return self.cell_of(chunk)
        return self._zoom_to(view.grid, view.per_cell * 2, cell)

    def _settle(self, cell: int) -> int:
        """Call a view that shows everything the fitted one, so that zooming out has an end."""
        if self.view.per_cell == self._fit_per_cell and self.view.grid.cell <= self._base_cell:
            self.fit()
        return cell

    @property
    def _base_cell(self) -> float:
        return self._fit_grid.cell

    @property
    def _enlarged(self) -> list[float]:
        sides = [self._area.snap(side) for side in ENLARGED_CELLS]
        return [side for side in sides if side > self._base_cell * 1.1]

    def _zoom_to(self, grid: Grid, per_cell: int, cell: int) -> int:
        """Change the scale; the place of ``cell`` on the screen keeps its chunk."""
        old = self.view
        chunk = old.first + cell * old.per_cell
        x, y = old.grid.corner(cell)
        half = old.grid.cell / 2
        target = grid.nearest(x + half, y + half)
        self._show(grid, per_cell, chunk - target * per_cell)
        return max((chunk - self.view.first) // per_cell, 0)

    def pan(self, cells: int) -> None:
        """Move the view by cells towards the image's end, or its beginning when negative."""
        view = self.view
        if not self.is_fit:
            self._show(view.grid, view.per_cell, view.first + cells * view.per_cell)

    def start_at(self, chunk: int) -> None:
        """Move the view such that it begins at a chunk, as far as the image's end allows."""
        if not self.is_fit:
            self._show(self.view.grid, self.view.per_cell, chunk)

    def centre(self, chunk: int) -> None:
        """Move the view such that a chunk is in its middle row."""
        grid, per_cell = self.view.grid, self.view.per_cell
        row = grid.columns * per_cell
        self.start_at(chunk // row * row - grid.rows // 2 * row)

    def reveal(self, chunk: int) -> None:
        """Move the view only if a chunk is out of it."""
        if self.cell_of(chunk) is None:
            self.centre(chunk)

    def one_to_one(self, cell: int) -> None:
        """Zoom in until a cell is one chunk, around a cell."""
        while self.view.per_cell > 1:
            cell = self._zoom_to(self._zoomed_grid(self._base_cell), self.view.per_cell // 2, cell)

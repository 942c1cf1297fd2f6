import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorgui.ui.heatmap.geometry import (
    Area,
    CellOrder,
    Grid,
    hilbert_indices,
    hilbert_places,
    power_of_two_above,
)
from mirrorgui.units import is_power_of_two

areas = st.builds(
    Area, st.integers(80, 2600), st.integers(60, 1500), st.sampled_from([1.0, 1.25, 1.5, 2.0, 3.0])
)


@pytest.mark.parametrize("side", [1, 2, 4, 64, 256])
def test_hilbert_curve_goes_through_every_cell_by_steps_of_one(side):
    places = hilbert_places(side)
    assert sorted(places) == list(range(side * side))
    rows, columns = np.divmod(places, side)
    assert np.all(np.abs(np.diff(rows)) + np.abs(np.diff(columns)) == 1)
    assert np.array_equal(hilbert_indices(side)[places], np.arange(side * side))


@settings(max_examples=150, deadline=None)
@given(areas, st.integers(1, 2**34), st.sampled_from(CellOrder))
def test_fitted_picture_shows_everything_within_its_room(area, chunks, order):
    grid, per_cell = area.fit(chunks, 10.0, order)
    assert is_power_of_two(per_cell)
    assert grid.cells * per_cell >= chunks
    assert grid.left + grid.columns * grid.cell <= area.width + 1e-6
    assert grid.top + grid.rows * grid.cell <= area.height + 1e-6
    pixels = grid.cell * area.ratio
    assert abs(pixels - round(pixels)) < 1e-6
    assert grid.columns % 16 == 0 or grid.columns < 16 or order is CellOrder.HILBERT


@pytest.mark.parametrize("chunks", [4096, 10_000, 1 << 20, 3_000_000, 1 << 24, (1 << 24) - 77])
@pytest.mark.parametrize("size", [(840, 470), (700, 420), (2200, 1200), (1500, 500)])
def test_picture_of_many_chunks_fills_its_room(chunks, size):
    grid, per_cell = Area(*size).fit(chunks, 10.0, CellOrder.ROWS)
    used = -(-chunks // per_cell) * grid.cell**2
    assert used > 0.7 * size[0] * size[1]
    assert 4 <= grid.cell <= 24


def test_hundred_chunks_are_hundred_large_squares():
    grid, per_cell = Area(840, 470).fit(100, 10.0, CellOrder.ROWS)
    assert (per_cell, grid.cell, grid.columns, grid.rows) == (1, 48, 16, 7)
    assert grid.left == (840 - 768) / 2


def test_resizing_a_little_keeps_the_columns():
    columns = {Area(840 + n, 470).fit(1 << 20, 10.0, CellOrder.ROWS)[0].columns for n in range(24)}
    assert len(columns) <= 2


@settings(max_examples=100, deadline=None)
@given(areas, st.sampled_from(CellOrder), st.sampled_from([4.0, 10.0, 32.0]), st.data())
def test_point_in_a_cell_finds_the_cell(area, order, side, data):
    grid = area.grid(area.snap(side), order)
    index = data.draw(st.integers(0, grid.cells - 1))
    x, y = grid.corner(index)
    assert grid.index_at(x + grid.cell / 2, y + grid.cell / 2) == index
    assert grid.nearest(x + grid.cell / 2, y + grid.cell / 2) == index
    assert grid.corners(np.array([index])).tolist() == [[x, y]]


def test_points_beside_the_raster_are_in_no_cell():
    grid = Grid(16, 4, 10.0, 5.0, 5.0)
    assert grid.index_at(4.9, 10) is None
    assert grid.index_at(165.1, 10) is None
    assert grid.index_at(10, 45.1) is None
    assert grid.nearest(-50, 1000) == 48


@pytest.mark.parametrize("order", CellOrder)
def test_raster_has_each_value_in_its_place(order):
    grid = Grid(16, 16, 4.0, 0, 0, order)
    values = np.arange(1, 201, dtype=np.uint8)
    picture = grid.raster(values, 0)
    for index in (0, 1, 17, 199, 200, 255):
        column, row = grid.place(index)
        assert picture[row, column] == (values[index] if index < 200 else 0)


def test_power_of_two_above():
    assert [power_of_two_above(n) for n in (0, 1, 2, 3, 4, 5, 1 << 20)] == [
        1, 1, 2, 4, 4, 8, 1 << 20,
    ]  # fmt: skip

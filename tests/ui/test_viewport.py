import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorgui.ui.heatmap.geometry import Area, CellOrder
from mirrorgui.ui.heatmap.viewport import Viewport

AREA = Area(840, 470)


def make(chunks=1 << 20, order=CellOrder.ROWS):
    return Viewport(chunks, AREA, order)


def test_begins_with_the_whole_image():
    port = make()
    assert port.is_fit
    assert port.view.first == 0
    assert port.end == 1 << 20


@pytest.mark.parametrize("order", CellOrder)
@pytest.mark.parametrize("chunks", [100, 4096, 10_000, 1 << 20, (1 << 24) - 77])
def test_zooming_in_keeps_the_chunk_under_the_pointer(chunks, order):
    port = make(chunks, order)
    cell = port.cells // 4  # far enough from the end, at which the view has to stop
    chunk = port.chunks_of(cell)[0]
    x, y = port.view.grid.corner(cell)
    x, y = x + 2, y + 2
    while port.view.per_cell > 1:
        port.zoom(1, port.view.grid.index_at(x, y))
        first, end = port.chunks_of(port.view.grid.index_at(x, y))
        assert first <= chunk < end
    assert port.view.per_cell == 1


@pytest.mark.parametrize("order", CellOrder)
@pytest.mark.parametrize("chunks", [1, 100, 4096, 1 << 20, 1 << 24])
def test_zooming_has_two_ends_and_finds_back(chunks, order):
    port = make(chunks, order)
    fitted = port.view
    for _ in range(60):
        port.zoom(1, 0)
    assert port.view.per_cell == 1
    assert port.view.grid.cell == 64
    for _ in range(60):
        port.zoom(-1, 0)
    assert port.is_fit
    assert port.view == fitted


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 1 << 24),
    st.sampled_from(CellOrder),
    st.lists(st.tuples(st.sampled_from("zpcrosf1"), st.integers(-2000, 2000)), max_size=12),
)
def test_view_stays_within_the_image(chunks, order, moves):
    port = make(chunks, order)
    for what, number in moves:
        cell = abs(number) % port.cells
        if what == "z":
            port.zoom(number % 7 - 3, cell)
        elif what == "p":
            port.pan(number)
        elif what == "c":
            port.reveal(abs(number) * chunks // 2001)
            assert port.cell_of(abs(number) * chunks // 2001) is not None
        elif what == "r":
            port.resize(Area(200 + abs(number), 150 + abs(number) // 2, 1.5))
        elif what == "o":
            port.set_order(CellOrder.ROWS if number % 2 else CellOrder.HILBERT)
        elif what == "s":
            port.set_preferred_cell(abs(number) % 30)
        elif what == "f":
            port.fit()
        else:
            port.one_to_one(cell)
            assert port.view.per_cell == 1
        view = port.view
        assert 0 <= view.first < chunks
        assert view.first % view.per_cell == 0
        assert 1 <= port.cells <= view.grid.cells
        assert view.per_cell <= port.fit_per_cell
        assert port.chunks_of(port.cells - 1)[1] == port.end
        if not port.is_fit and view.grid.cells * view.per_cell <= chunks:
            assert port.end - view.first > (view.grid.cells - 1) * view.per_cell


def test_panning_stops_at_both_ends():
    port = make()
    port.zoom(3, 0)
    port.pan(-100)
    assert port.view.first == 0
    port.pan(10**9)
    assert port.end == 1 << 20


def test_whole_image_cannot_be_panned():
    port = make()
    port.pan(500)
    assert port.is_fit


def test_tail_chunk_is_reached():
    port = make((1 << 20) + 1)
    port.one_to_one(0)
    port.centre(1 << 20)
    cell = port.cell_of(1 << 20)
    assert port.chunks_of(cell) == (1 << 20, (1 << 20) + 1)
    assert port.cell_of((1 << 20) + 1) is None


def test_resizing_a_zoomed_view_keeps_its_middle():
    port = make()
    port.one_to_one(0)
    port.centre(500_000)
    port.resize(Area(600, 400))
    assert port.view.per_cell == 1
    assert port.cell_of(500_000) is not None


def test_preferred_size_of_cells_has_limits():
    port = make()
    port.set_preferred_cell(1)
    assert port.preferred_cell == 4
    many = port.view.grid.cells
    port.set_preferred_cell(99)
    assert port.preferred_cell == 24
    assert port.view.grid.cells < many

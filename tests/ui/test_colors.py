import itertools

import numpy as np
import pytest

from mirrorgui.ui.heatmap import colors
from mirrorgui.ui.heatmap.cells import CellCounts, ChunkState
from mirrorgui.ui.heatmap.colors import AGAIN, FAILED, IN_SYNC, NOT_ALLOCATED, TO_COPY


def cell(**states):
    """Make the counts of one cell of 64 chunks."""
    arrays = {name: np.array([states.get(name, 0)]) for name in CellCounts.__slots__[2:]}
    arrays["total"] = np.array([64])
    return CellCounts(0, 64, **arrays)


def value(**states):
    return int(colors.encode(cell(**states))[0])


def test_nothing_allocated_is_quiet():
    assert value() == NOT_ALLOCATED


def test_step_zero_only_when_nothing_is_to_copy():
    assert value(in_sync=64) == IN_SYNC
    assert value(in_sync=1) == IN_SYNC
    assert value(in_sync=63, to_copy=1) == IN_SYNC + 1


def test_last_step_only_when_all_is_to_copy():
    assert value(to_copy=64) == TO_COPY
    assert value(to_copy=1) == TO_COPY  # the rest of the cell is not allocated
    assert value(in_sync=1, to_copy=63) == TO_COPY - 1


def test_steps_between_rise_with_the_share():
    found = [value(in_sync=60 - n, to_copy=n) for n in range(61)]
    assert found == sorted(found)
    assert set(found) == set(range(IN_SYNC, TO_COPY + 1))


def test_hue_is_again_when_more_than_half_is_again():
    assert value(again=64) == AGAIN
    assert value(again=5, to_copy=5, in_sync=10) < TO_COPY
    assert TO_COPY < value(again=6, to_copy=5, in_sync=10) < AGAIN


def test_chunks_in_flight_still_count_as_to_copy():
    assert value(in_flight=64) == TO_COPY
    assert value(in_flight=64, in_flight_again=64) == AGAIN
    assert IN_SYNC < value(in_flight=1, in_sync=63) < TO_COPY


def test_one_failed_chunk_beats_everything():
    assert value(failed=1, in_sync=63) == FAILED
    assert value(failed=1, to_copy=63) == FAILED


def test_gravest_value_of_a_part_is_its_maximum():
    values = np.array([IN_SYNC] * 99 + [FAILED] + [NOT_ALLOCATED] * 100, np.uint8)
    assert colors.worst(values, 4).tolist() == [IN_SYNC, FAILED, NOT_ALLOCATED, NOT_ALLOCATED]


def test_gravest_values_of_few_cells_are_stretched():
    values = np.array([IN_SYNC, FAILED], np.uint8)
    assert colors.worst(values, 5).tolist() == [IN_SYNC, IN_SYNC, IN_SYNC, FAILED, FAILED]
    assert colors.worst(values[:0], 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("palette", [colors.LIGHT, colors.DARK, colors.MONOCHROME])
def test_table_is_what_pyqtgraph_draws_fastest(palette):
    table = colors.lookup_table(palette)
    assert table.shape == (256, 4)
    assert table.dtype == np.uint8
    assert tuple(table[IN_SYNC]) == (*colors.to_rgb(palette.in_sync), 255)
    assert tuple(table[TO_COPY]) == (*colors.to_rgb(palette.to_copy), 255)
    assert tuple(table[AGAIN]) == (*colors.to_rgb(palette.again), 255)
    assert tuple(table[FAILED]) == (*colors.to_rgb(palette.failed), 255)
    assert table[NOT_ALLOCATED][3] == 0


# Machado, Oliveira and Fernandes 2009, severity 1.0, for linear light.
VISION = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def lab(name, matrix):
    srgb = np.array(colors.to_rgb(name)) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(matrix) @ linear, 0, 1)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = to_xyz @ linear / (0.9505, 1.0, 1.089)
    f = [np.cbrt(v) if v > 216 / 24389 else (841 / 108) * v + 4 / 29 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("palette", [colors.LIGHT, colors.DARK])
def test_no_two_states_look_alike_to_anybody(palette, vision):
    states = [state for state in ChunkState if state is not ChunkState.IN_FLIGHT]
    for first, second in itertools.combinations(states, 2):
        distance = np.linalg.norm(
            lab(palette.of(first), VISION[vision]) - lab(palette.of(second), VISION[vision])
        )
        assert distance > 20, (first, second)


def test_monochrome_states_differ_in_lightness():
    states = [state for state in ChunkState if state is not ChunkState.IN_FLIGHT]
    grounds = sorted(lab(colors.MONOCHROME.of(state), np.eye(3))[0] for state in states)
    assert min(np.diff(grounds)) > 15


@pytest.mark.parametrize("rising", [True, False])
def test_mixing_meets_both_ends(rising):
    for share, end in ((0.0, "#4A98DA"), (1.0, "#F2B134")):
        found = colors.mix("#4A98DA", "#F2B134", share, rising_hue=rising)
        assert colors.to_name(found) == end


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("palette", [colors.LIGHT, colors.DARK])
def test_a_little_to_copy_never_looks_like_in_sync(palette, vision):
    table = colors.lookup_table(palette)
    look = [lab(colors.to_name(tuple(table[n][:3])), VISION[vision]) for n in range(FAILED + 1)]
    for first in (IN_SYNC + 1, TO_COPY + 1):
        assert np.linalg.norm(look[first] - look[IN_SYNC]) > 10, first

import numpy as np
import pytest

from mirrorgui.mirror.snapshot import ErrorRecord
from mirrorgui.ui.heatmap import areas, texts
from mirrorgui.ui.heatmap.cells import ChunkState
from mirrorgui.ui.heatmap.frame import MapFrame
from mirrorgui.ui.heatmap.runs import Run
from mirrorgui.units import GiB, KiB, MiB
from tests.ui.map_states import GRANULARITY, operations_at, snapshot_of, words_of

NBSP = "\N{NO-BREAK SPACE}"


def frame_of(states, *, size=None, operations=(), errors=()):
    """Make a frame from one letter a chunk: . s t a f."""
    flags = np.array([[each in "ta", each in "sa", each == "f"] for each in states]).T
    chunks = len(states)
    size = size or chunks * GRANULARITY
    frame = MapFrame("source.qcow2", size, GRANULARITY)
    snapshot = snapshot_of(chunks, operations, size=size, errors=errors)
    frame.update(snapshot, words_of(*flags))
    return frame


def test_tooltip_tells_place_range_and_states():
    states = "." * (2639 * 64) + "s" * 51 + "t" * 10 + "a" * 3
    frame = frame_of(states)
    lines = texts.tooltip(frame, 2639 * 64, 2640 * 64, 2639).split("\n")
    assert lines[0] == f"Cell 2{NBSP}639   10.31 GiB - 10.31 GiB + 4.0 MiB"
    assert lines[1] == "0x2_93C0_0000 - 0x2_93FF_FFFF"
    assert lines[2] == "64 chunks: 51 in sync, 10 to copy, 3 again"
    assert len(lines) == 3


def test_tooltip_of_the_short_last_chunk_is_exact():
    frame = frame_of("sst", size=2 * GRANULARITY + 512)
    lines = texts.tooltip(frame, 2, 3, 2).split("\n")
    assert lines[0] == "Cell 2   128.00 KiB - 128.00 KiB + 512 B"
    assert lines[1] == "0x2_0000 - 0x2_01FF"
    assert lines[2] == "1 chunk: to copy"


def test_tooltip_tells_when_a_client_wrote():
    frame = frame_of("ssss")
    frame.words.dirty[0] = 0b0100
    frame.update(snapshot_of(4), frame.words)
    assert "Written by a client 0 ms ago" in texts.tooltip(frame, 2, 3, 2)
    assert "Written" not in texts.tooltip(frame, 1, 2, 1)


def test_what_was_written_before_the_first_frame_has_no_time():
    assert frame_of("sasa").last_write_s(0, 4) is None


def test_write_times_of_vast_images_are_known_by_the_word():
    chunks = (1 << 20) + 64
    frame = MapFrame("vast", chunks * 512, 512)
    frame.update(snapshot_of(chunks, granularity=512), frame.words)
    frame.words.dirty[100] = frame.words.copied[100] = np.uint64(2)
    frame.update(snapshot_of(chunks, granularity=512), frame.words)
    assert frame.last_write_s(6400, 6464) is not None
    assert frame.last_write_s(6464, 6528) is None
    assert frame.last_write_s(6401, 6402) is None  # not known so precisely


def test_counts_line_orders_by_number():
    sums = dict.fromkeys(ChunkState, 0) | {ChunkState.AGAIN: 2, ChunkState.IN_SYNC: 1500}
    assert texts.counts_line(sums, 1502) == f"1{NBSP}502 chunks: 1{NBSP}500 in sync, 2 again"


@pytest.mark.parametrize(
    ("offset", "text"),
    [(0, "0 B"), (512, "512 B"), (64 * KiB, "64.00 KiB"), (12 * GiB, "12.00 GiB")],
)
def test_places_have_two_digits(offset, text):
    assert texts.place(offset) == text


@pytest.mark.parametrize(
    ("offset", "text"),
    [
        (0, "0 B"),
        (448 * KiB, "448 KiB"),
        (12 * GiB + 64 * KiB, "12.0001 GiB"),
        (20 * GiB, "20 GiB"),
    ],
)
def test_neighbours_in_tables_are_told_apart(offset, text):
    assert texts.fine_place(offset) == text


@pytest.mark.parametrize(
    ("offset", "text"), [(0, "0"), (64 * KiB, "64K"), (2 * MiB, "2M"), (1152 * KiB, "1.12M")]
)
def test_labels_are_short(offset, text):
    assert texts.short_place(offset) == text


def test_scale_says_what_a_cell_is():
    frame = frame_of("ss")
    assert texts.scale_text(frame, 64) == "1 cell = 4.0 MiB (64 chunks of 64.0 KiB)"
    assert texts.scale_text(frame, 1) == "1 cell = 1 chunk of 64.0 KiB"


def test_description_says_how_it_goes_and_where_the_cursor_is():
    frame = frame_of("ssst" + "." * 6)
    assert texts.description(frame, 3) == (
        "75 percent in sync, 64.0 KiB to copy, 0 failed places; cursor at 192.00 KiB, to copy"
    )
    assert "1 failed place;" in texts.description(frame_of("sf"), 0)


def test_sums_in_bytes_add_up_to_the_image():
    frame = frame_of("..sstaf", size=6 * GRANULARITY + 1)
    amounts = frame.bytes_by_state()
    assert sum(amounts.values()) == 6 * GRANULARITY + 1
    assert amounts[ChunkState.FAILED] == 1


def test_counts_of_any_range_agree_with_single_chunks():
    rng = np.random.default_rng(8)
    frame = frame_of("".join(rng.choice(list(".staf"), 3000)))
    frame.set_overview_scale(256)
    for first, end in ((0, 3000), (1, 2999), (17, 18), (255, 513), (2048, 3000), (5, 5)):
        naive = [0] * len(ChunkState)
        for run in texts.runs_of(
            texts.chunk_codes(frame.words, frame.in_flight, first, end), first
        ):
            naive[list(ChunkState).index(run.state)] += run.chunks
        assert list(frame.counts_of(first, end).values()) == naive


def failure(offset, **fields):
    known = {
        "offset": offset, "length": GRANULARITY, "operation": "read", "errno": 5,
        "message": "Input/output error", "action": "ignore", "tries": 3,
        "first_ns": 10**9, "last_ns": 90 * 10**9,
    }  # fmt: skip
    return ErrorRecord(**(known | fields))


def test_areas_know_the_failures_and_operations_there():
    operations = operations_at(2, 64, 1)
    frame = frame_of("sf" + "t" * 62, operations=operations, errors=(failure(GRANULARITY),))
    runs = [Run(ChunkState.FAILED, 1, 2), Run(ChunkState.IN_FLIGHT, 2, 3)]
    failed, busy = areas.areas_of(frame, runs, 97 * 10**9)
    assert (failed.tries, failed.error, failed.age_s) == (3, "Input/output error", 7.0)
    assert busy.age_s == pytest.approx(0.012, abs=1e-6)
    assert areas.as_text([failed]).split("\n")[1] == "65536\t65536\tfailed\t3\tInput/output error"
    assert "bytes 65536 to 131071 (0x1_0000 - 0x1_FFFF), 65536 bytes" in areas.exact(failed)


def test_solved_failures_are_not_shown():
    frame = frame_of("sf", errors=(failure(GRANULARITY, solved=True),))
    area = areas.areas_of(frame, [Run(ChunkState.FAILED, 1, 2)], 0)[0]
    assert (area.tries, area.error, area.age_s) == (0, "", None)


def test_copy_position_is_that_of_the_newest_operation():
    operations = operations_at(10, 640, 4)
    assert frame_of("t" * 640, operations=operations).copy_position == operations[0].offset // (
        GRANULARITY
    )
    assert frame_of("t").copy_position is None

"""What the map says in words: tooltip, description, sums, inspector. Free of Qt."""

from mirrorgui.ui.heatmap.cells import ChunkState
from mirrorgui.ui.heatmap.frame import MapFrame
from mirrorgui.ui.heatmap.runs import Run, chunk_codes, runs_of
from mirrorgui.ui.i18n import ntr, tr
from mirrorgui.units import GiB, KiB, MiB, TiB, format_size

SHOWN_RUNS = 500
"""Rows in the inspector; a cell of a vast image can have thousands."""


def state_name(state: ChunkState) -> str:
    """Return the word for a state."""
    words = {
        ChunkState.FAILED: tr("failed"),
        ChunkState.IN_FLIGHT: tr("in flight"),
        ChunkState.AGAIN: tr("again"),
        ChunkState.TO_COPY: tr("to copy"),
        ChunkState.IN_SYNC: tr("in sync"),
        ChunkState.NOT_ALLOCATED: tr("not allocated"),
    }
    return words[state]


def state_help(state: ChunkState) -> str:
    """Explain a state in a sentence."""
    words = {
        ChunkState.FAILED: tr("Reading or writing failed the last time it was tried."),
        ChunkState.IN_FLIGHT: tr("Being copied at this moment."),
        ChunkState.AGAIN: tr("Was copied, and a client has written to it since."),
        ChunkState.TO_COPY: tr("Not copied yet."),
        ChunkState.IN_SYNC: tr("The same on source and target."),
        ChunkState.NOT_ALLOCATED: tr("Nothing is stored there, so nothing needs copying."),
    }
    return words[state]


def grouped(number: int) -> str:
    """Write a number with thin groups of three: ``16 777 216``."""
    return f"{number:,}".replace(",", "\N{NO-BREAK SPACE}")


def place(offset: int, digits: int = 2) -> str:
    """Write an offset for people: ``12.00 GiB``."""
    for unit, name in ((TiB, "TiB"), (GiB, "GiB"), (MiB, "MiB"), (KiB, "KiB")):
        if offset >= unit:
            return f"{offset / unit:.{digits}f} {name}"
    return f"{offset} B"


def fine_place(offset: int) -> str:
    """Write an offset with up to four digits, for neighbours that are a chunk apart."""
    number, unit = place(offset, 4).split(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def short_place(offset: int) -> str:
    """Write an offset as shortly as it can be said exactly, for labels: ``4M``, ``1.5G``."""
    for unit, name in ((TiB, "T"), (GiB, "G"), (MiB, "M"), (KiB, "K")):
        if offset >= unit:
            value = offset / unit
            return f"{value:.0f}{name}" if value == int(value) else f"{value:.2f}{name}"
    return str(offset)


def hexadecimal(offset: int) -> str:
    """Write an offset as ``0x3_0000_0000``."""
    return f"0x{offset:_X}"


def counts_line(sums: dict[ChunkState, int], chunks: int) -> str:
    """Write ``64 chunks: 51 in sync, 10 to copy, 3 again``; a single chunk just has its state."""
    present = [(state, count) for state, count in sums.items() if count]
    present.sort(key=lambda each: -each[1])
    if chunks == 1 and present:
        return tr("1 chunk: {state}", state=state_name(present[0][0]))
    parts = ", ".join(f"{grouped(count)} {state_name(state)}" for state, count in present)
    return tr("{n} chunks: {parts}", n=grouped(chunks), parts=parts)


def cell_title(frame: MapFrame, first: int, end: int, cell: int) -> str:
    """Write ``Cell 2 639   12.00 GiB - 12.00 GiB + 4.0 MiB``."""
    offset, length = frame.range_of(first, end)
    return tr(
        "Cell {cell}   {offset} - {offset} + {length}",
        cell=grouped(cell),
        offset=place(offset),
        length=format_size(length),
    )


def hex_range(offset: int, length: int) -> str:
    """Write the first and the last byte of a range: ``0x3_0000_0000 - 0x3_003F_FFFF``."""
    return f"{hexadecimal(offset)} - {hexadecimal(offset + max(length - 1, 0))}"


def tooltip(frame: MapFrame, first: int, end: int, cell: int) -> str:
    """Write what hovering over a cell tells."""
    lines = [
        cell_title(frame, first, end, cell),
        hex_range(*frame.range_of(first, end)),
        counts_line(frame.counts_of(first, end), end - first),
    ]
    age = frame.last_write_s(first, end)
    if age is not None:
        lines.append(tr("Written by a client {age} ago", age=age_text(age)))
    return "\n".join(lines)


def age_text(seconds: float) -> str:
    """Write an age with one unit: ``12 ms``, ``4 s``, ``3 min``, ``2 h``."""
    if seconds < 1:
        return tr("{n} ms", n=int(seconds * 1000))
    if seconds < 90:
        return tr("{n} s", n=int(seconds))
    if seconds < 5400:
        return tr("{n} min", n=round(seconds / 60))
    return tr("{n} h", n=round(seconds / 3600))


def scale_text(frame: MapFrame, per_cell: int) -> str:
    """Write ``1 cell = 4.0 MiB (64 chunks of 64.0 KiB)``."""
    chunk = format_size(frame.granularity)
    if per_cell == 1:
        return tr("1 cell = 1 chunk of {chunk}", chunk=chunk)
    return tr(
        "1 cell = {size} ({n} chunks of {chunk})",
        size=format_size(per_cell * frame.granularity),
        n=grouped(per_cell),
        chunk=chunk,
    )


def view_text(frame: MapFrame, first: int, end: int) -> str:
    """Write which part of the image is in view."""
    offset, length = frame.range_of(first, end)
    if length == frame.size:
        return tr("whole image, {size}", size=format_size(frame.size))
    return tr("{first} to {end}", first=place(offset), end=place(offset + length))


def description(frame: MapFrame, cursor: int) -> str:
    """Describe the map for people who cannot see it."""
    amounts = frame.bytes_by_state()
    taking_part = frame.size - amounts[ChunkState.NOT_ALLOCATED]
    share = 100 * amounts[ChunkState.IN_SYNC] // taking_part if taking_part else 100
    failed = frame.overview.sums()[ChunkState.FAILED]
    left = sum(
        amounts[each] for each in (ChunkState.TO_COPY, ChunkState.AGAIN, ChunkState.IN_FLIGHT)
    )
    parts = [
        tr("{n} percent in sync", n=share),
        tr("{size} to copy", size=format_size(left)),
        ntr("1 failed place", "{n} failed places", failed),
    ]
    text = ", ".join(parts)
    if not frame.chunks:
        return text
    code = chunk_codes(frame.words, frame.in_flight, cursor, cursor + 1)
    where = tr(
        "cursor at {offset}, {state}",
        offset=place(cursor * frame.granularity),
        state=state_name(tuple(ChunkState)[int(code[0])]),
    )
    return f"{text}; {where}"


def runs_between(frame: MapFrame, first: int, end: int) -> list[Run]:
    """Return the runs among the chunks [first, end), at most ``SHOWN_RUNS``."""
    found = []
    for run in runs_of(chunk_codes(frame.words, frame.in_flight, first, end), first):
        found.append(run)
        if len(found) >= SHOWN_RUNS:
            break
    return found

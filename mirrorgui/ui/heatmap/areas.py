"""Runs of an image as rows of a table: where, how long, and what is the matter. Free of Qt."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mirrorgui.ui.heatmap.cells import ChunkState
from mirrorgui.ui.heatmap.frame import MapFrame
from mirrorgui.ui.heatmap.runs import Run
from mirrorgui.ui.heatmap.texts import age_text, fine_place, hexadecimal, state_name
from mirrorgui.ui.i18n import tr
from mirrorgui.units import format_size

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Area:
    """Adjacent bytes in one state.

    Attributes:
        state: what is the matter with them.
        offset, length: in bytes.
        tries: how often copying there failed; 0 for what never did.
        error: the system's text of the last failure.
        age_s: seconds since that failure, or since the operation in flight began.
    """

    state: ChunkState
    offset: int
    length: int
    tries: int = 0
    error: str = ""
    age_s: float | None = None


def areas_of(frame: MapFrame, runs: Iterable[Run], wall_ns: int) -> list[Area]:
    """Turn runs into areas, with what is known about failures and operations there.

    Args:
        frame: the image.
        runs: of that image.
        wall_ns: now, in nanoseconds since 1970, for the ages of failures.
    """
    pending = [error for error in frame.errors if not error.solved]
    begins = np.array([error.offset for error in pending], np.int64)
    ends = np.array([error.offset + max(error.length, 1) for error in pending], np.int64)
    found = []
    for run in runs:
        offset, length = frame.range_of(run.first, run.end)
        tries, text, age = 0, "", None
        if run.state is ChunkState.FAILED and len(pending):
            inside = np.flatnonzero((begins < offset + length) & (ends > offset))
            if len(inside):
                newest = max((pending[int(n)] for n in inside), key=lambda each: each.last_ns)
                tries, text = newest.tries, newest.message
                age = max(wall_ns - newest.last_ns, 0) / SECOND
        elif run.state is ChunkState.IN_FLIGHT:
            age = _operation_age(frame, offset, length)
        found.append(Area(run.state, offset, length, tries, text, age))
    return found


def _operation_age(frame: MapFrame, offset: int, length: int) -> float | None:
    begun = [
        each.started_ns
        for each in frame.operations
        if each.offset < offset + length and each.offset + each.length > offset
    ]
    return max(frame.time_ns - min(begun), 0) / SECOND if begun else None


def as_text(areas: Iterable[Area]) -> str:
    """Write areas as lines with tabs, exact bytes first, for pasting elsewhere."""
    lines = ["\t".join((tr("offset"), tr("length"), tr("state"), tr("tries"), tr("error")))]
    lines += [
        f"{each.offset}\t{each.length}\t{state_name(each.state)}\t{each.tries}\t{each.error}"
        for each in areas
    ]
    return "\n".join(lines)


def exact(area: Area) -> str:
    """Write an area's place to the byte, for tooltips."""
    last = area.offset + max(area.length - 1, 0)
    return tr(
        "bytes {first} to {last} ({hex_first} - {hex_last}), {length} bytes",
        first=area.offset,
        last=last,
        hex_first=hexadecimal(area.offset),
        hex_last=hexadecimal(last),
        length=area.length,
    )


def cells_of(area: Area) -> tuple[str, ...]:
    """Return what a row shows: state, from, length, to, tries, last error, age."""
    return (
        state_name(area.state),
        fine_place(area.offset),
        format_size(area.length),
        fine_place(area.offset + area.length),
        str(area.tries) if area.tries else "",
        area.error,
        age_text(area.age_s) if area.age_s is not None else "",
    )

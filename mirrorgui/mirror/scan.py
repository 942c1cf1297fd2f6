"""The beginning of a job: which chunks are to be copied, and what of the target must go.

Guest writes are tracked before this starts, so a write that lands in a range already scanned marks
its chunks like any other.
"""

import time
from dataclasses import dataclass

from mirrorgui.block.node import BlockNode, Extent, ExtentKind, Range, chain_extents
from mirrorgui.errors import BlockIOError
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.units import GiB, MiB

MIN_STEP = 64 * MiB
"""Asked at once where the map is dense: a fragmented gigabyte can be 100,000 extents."""

MAX_STEP = 64 * GiB
"""Asked at once across large holes."""

ZERO_STEP = 1 * GiB
"""Made zero at once on a target that does it cheaply."""

TURN_S = 0.05
"""A turn ends after this long, for progress, pause and cancel."""


@dataclass(slots=True)
class Scan:
    """Marks what to copy, turn by turn. ``turn`` blocks and runs in a copy thread.

    Attributes:
        source, target: the images.
        dirty: gets the chunks to copy.
        target_data: gets the chunks of the target that may hold something else than zeroes.
        top: copy only what the source itself holds, not what its backing chain does.
        clean_target: whether what the source does not hold must read as zeroes on the target. Not
            for ``top`` (the target has the backing file) and not when the target is known zero.
        unmap: whether cleaning may give storage back.
        done: bytes scanned.
    """

    source: BlockNode
    target: BlockNode
    dirty: DirtyBitmap
    target_data: DirtyBitmap
    top: bool
    clean_target: bool
    unmap: bool
    done: int = 0
    _step: int = MIN_STEP

    @property
    def finished(self) -> bool:
        """Whether the whole source has been scanned."""
        return self.done >= self.source.size

    def turn(self) -> None:
        """Scan on for a short while.

        Raises:
            BlockIOError: the source's map could not be read. The turn can be repeated.
        """
        deadline = time.monotonic() + TURN_S
        while not self.finished:
            self._scan_step()
            if time.monotonic() >= deadline:
                return

    def skip(self, length: int) -> None:
        """Take a range whose map cannot be read as data: the copy finds out what can be read."""
        length = min(length, self.source.size - self.done)
        self._leave_to_copy(self.done, length)
        self.done += length

    def _scan_step(self) -> None:
        length = min(self._step, self.source.size - self.done)
        runs = self._source_runs(self.done, length)
        # Asked for once: nothing but this step changes the target meanwhile.
        held = self._target_data_runs(self.done, length)
        data = [(run.offset, run.length) for run in runs if run.kind is ExtentKind.DATA]
        self.dirty.mark_ranges(data)
        self.target_data.mark_ranges(overlaps(data, held))
        zeroes = [(run.offset, run.length) for run in runs if run.kind is ExtentKind.ZERO]
        for offset, there in overlaps(zeroes, held):
            self._clean_target(offset, there)
        self.done += length
        simple = len(runs) <= 2 and len(held) <= 2
        self._step = min(self._step * 2, MAX_STEP) if simple else MIN_STEP

    def _source_runs(self, offset: int, length: int) -> list[Extent]:
        """Return DATA for what to copy and ZERO for what must be zero on the target."""
        if not self.top:
            return chain_extents(self.source, offset, length)
        return [
            # Zeroes of the top layer hide data of the layers below: they are copied.
            run
            if run.kind is ExtentKind.UNALLOCATED
            else Extent(run.offset, run.length, ExtentKind.DATA)
            for run in self.source.extents(offset, length)
        ]

    def _target_data_runs(self, offset: int, length: int) -> list[Range]:
        """Return where the target may hold something else than zeroes, if that matters."""
        if not self.clean_target:
            return []
        try:
            if self.target.unopened_backing:
                # What is unallocated reads as zeroes only until the backing file is opened.
                runs = self.target.extents(offset, length)
                return [(run.offset, run.length) for run in runs if run.kind is not ExtentKind.ZERO]
            found = chain_extents(self.target, offset, length)
            return [(run.offset, run.length) for run in found if run.kind is ExtentKind.DATA]
        except BlockIOError:
            return [(offset, length)]

    def _clean_target(self, offset: int, length: int) -> None:
        """Remove what the target holds where the source has zeroes."""
        if not self.target.limits.can_zero:
            self._leave_to_copy(offset, length)
            return
        for start in range(offset, offset + length, ZERO_STEP):
            self._zero(start, min(ZERO_STEP, offset + length - start))

    def _zero(self, offset: int, length: int) -> None:
        try:
            self.target.write_zeroes(offset, length, may_unmap=self.unmap)
        except BlockIOError:
            # The copy meets the error again, and there a policy decides.
            self._leave_to_copy(offset, length)

    def _leave_to_copy(self, offset: int, length: int) -> None:
        self.target_data.mark(offset, length)
        self.dirty.mark(offset, length)


def overlaps(one: list[Range], other: list[Range]) -> list[Range]:
    """Return what two lists of ranges have in common; both are in order, without overlaps."""
    found: list[Range] = []
    if not one or not other:
        return found
    at, (low, length) = 0, other[0]
    high = low + length
    for offset, length in one:
        end = offset + length
        while True:
            if max(offset, low) < min(end, high):
                start = max(offset, low)
                found.append((start, min(end, high) - start))
            if high > end:  # it may reach into the next one
                break
            at += 1
            if at == len(other):
                return found
            low, high = other[at][0], sum(other[at])
    return found

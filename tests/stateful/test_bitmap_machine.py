"""DirtyBitmap against a set of chunk numbers."""

import hypothesis.strategies as st
import numpy as np
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mirrorgui.mirror.bitmap import DirtyBitmap, MapWords

POSITIONS = st.floats(0, 1, width=32)


class BitmapMachine(RuleBasedStateMachine):
    """The same calls to a bitmap and to a set of numbers."""

    @initialize(
        granularity=st.sampled_from([512, 4096, 65536]),
        chunks=st.integers(0, 200),
        slack=st.floats(0, 1, exclude_max=True),
    )
    def begin(self, granularity: int, chunks: int, slack: float) -> None:
        self.granularity = granularity
        self.size = max(chunks * granularity - int(slack * granularity), 0)
        self.chunks = -(-self.size // granularity)
        self.bitmap = DirtyBitmap(self.size, granularity)
        self.model: set[int] = set()

    def _range(self, at: float, to: float) -> tuple[int, int]:
        low, high = sorted((int(at * self.size), int(to * self.size)))
        return low, high - low

    def _bytes(self, chunks: set[int]) -> int:
        return sum(
            min((chunk + 1) * self.granularity, self.size) - chunk * self.granularity
            for chunk in chunks
        )

    def _touched(self, offset: int, length: int) -> set[int]:
        return set(range(offset // self.granularity, -(-(offset + length) // self.granularity)))

    @rule(at=POSITIONS, to=POSITIONS)
    def mark(self, at: float, to: float) -> None:
        offset, length = self._range(at, to)
        new = self._touched(offset, length) - self.model if length else set()
        assert self.bitmap.mark(offset, length) == self._bytes(new)
        self.model |= new

    @rule(at=POSITIONS, to=POSITIONS)
    def clear(self, at: float, to: float) -> None:
        offset, length = self._range(at, to)
        end = offset + length
        inside = {
            chunk
            for chunk in self._touched(offset, length)
            if chunk * self.granularity >= offset
            and min((chunk + 1) * self.granularity, self.size) <= end
        }
        gone = inside & self.model if length else set()
        assert self.bitmap.clear(offset, length) == self._bytes(gone)
        self.model -= gone

    @rule()
    def mark_all(self) -> None:
        self.bitmap.mark_all()
        self.model = set(range(self.chunks))

    @rule(at=POSITIONS)
    def next_dirty(self, at: float) -> None:
        offset = int(at * self.size)
        ahead = [chunk for chunk in self.model if (chunk + 1) * self.granularity > offset]
        expected = min(ahead) * self.granularity if ahead else None
        assert self.bitmap.next_dirty(offset) == expected

    @rule(at=POSITIONS, limit=st.integers(1, 20))
    def next_run(self, at: float, limit: int) -> None:
        offset = int(at * self.size)
        run = self.bitmap.next_run(offset, limit * self.granularity)
        start = self.bitmap.next_dirty(offset)
        if start is None:
            assert run is None
            return
        first = last = start // self.granularity
        while last + 1 in self.model and last + 1 - first < limit:
            last += 1
        assert run == (start, self._bytes(set(range(first, last + 1))))

    @rule(at=POSITIONS, to=POSITIONS)
    def look(self, at: float, to: float) -> None:
        offset, length = self._range(at, to)
        if not length:
            return
        touched = self._touched(offset, length)
        assert self.bitmap.touches(offset, length) == bool(touched & self.model)
        assert self.bitmap.covers(offset, length) == (touched <= self.model)
        assert (offset in self.bitmap) == (offset // self.granularity in self.model)
        position = offset
        for run, dirty in self.bitmap.runs(offset, length):
            assert run > 0
            chunks = self._touched(position, run)
            assert chunks <= self.model if dirty else not chunks & self.model
            position += run
        assert position == offset + length

    @invariant()
    def counters_and_words_agree(self) -> None:
        if not hasattr(self, "bitmap"):
            return
        assert self.bitmap.dirty_bytes == self._bytes(self.model)
        assert self.bitmap.is_clean == (not self.model)
        words = MapWords.empty(self.chunks).dirty
        self.bitmap.copy_words_into(words)
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        assert set(np.flatnonzero(bits).tolist()) == self.model


TestBitmapMachine = BitmapMachine.TestCase

"""The demonstration: temporary images, and a guest that keeps writing at random places.

The guest knows what it wrote: every block carries its own offset and the number of the write that
made it, and a record keeps the last number of each block. So the copy can be checked against what
the guest did, not only against the source.
"""

import logging
import os
import random
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirrorgui.block.node import BlockNode
from mirrorgui.errors import BlockIOError
from mirrorgui.mirror.options import ErrorPolicy, MirrorOptions
from mirrorgui.session import MirrorRequest
from mirrorgui.units import KiB, MiB

logger = logging.getLogger(__name__)

SIZE = 256 * MiB
SPEED = 8 * MiB
"""Slow enough that there is something to look at."""

BLOCK = 4 * KiB
"""The guest's unit of writing, as most file systems have it."""

_WORDS = BLOCK // 8
_LONGEST = 16
"""Blocks of the guest's longest write: 64 KiB."""

_PAUSE_S = (0.01, 0.13)
"""Between two writes: about 14 a second, which make a bit more than 1 MiB a second dirty."""

_UNKNOWN = np.uint64(2**64 - 1)
"""In the record: a write failed here, so that nobody knows what the block holds."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether an image holds what the guest wrote.

    Attributes:
        equal: every block does.
        blocks: how many were compared.
        first_difference: offset in bytes of the first block that does not, or None.
    """

    equal: bool
    blocks: int
    first_difference: int | None = None


def stamp(first_block: int, numbers: NDArray[np.uint64]) -> bytes:
    """Return the content of adjacent blocks: each is filled with its offset and its number.

    Args:
        first_block: index of the first block.
        numbers: the number of the write that made each block; 0 for a block of zeroes.
    """
    count = len(numbers)
    offsets = (first_block + np.arange(count, dtype=np.uint64)) * np.uint64(BLOCK)
    content = np.empty((count, _WORDS), np.uint64)
    content[:, 0::2] = offsets[:, None]
    content[:, 1::2] = numbers[:, None]
    content[numbers == 0] = 0
    return content.tobytes()


class Demonstration:
    """Temporary images, and the guest of the source.

    Concurrency: belongs to one thread; the guest has its own.

    Attributes:
        folder: holds both images; gone after ``close``.
        source, target: their paths.
    """

    def __init__(
        self, *, size: int = SIZE, speed: int = SPEED, seed: int | None = None, busy: float = 1.0
    ) -> None:
        """Make the source.

        Args:
            size: length of both images in bytes, a multiple of ``BLOCK``.
            speed: the mirror's limit in bytes per second.
            seed: makes the guest's writes come again.
            busy: how busy the guest is: 2.0 writes twice as often.

        Raises:
            OSError: there is no room for temporary files; nothing is left behind.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="mirrorgui-demo-"))
        self.source = self.folder / "disk.img"
        self.target = self.folder / "copy.img"
        self._speed = speed
        self._busy = busy
        self._random = random.Random(seed)
        self._numbers = np.zeros(size // BLOCK, np.uint64)
        self._next_number = 1
        self._stopping = threading.Event()
        self._guest: threading.Thread | None = None
        self.writes = 0
        try:
            self._make_source(size)
        except OSError:
            self.close()
            raise

    def _make_source(self, size: int) -> None:
        """Write a few areas of data; the rest stays a hole, as in a disk that is half full."""
        areas = ((0.0, 0.16), (0.2, 0.05), (0.3, 0.22), (0.6, 0.04), (0.7, 0.14), (0.97, 0.03))
        with self.source.open("wb") as file:
            file.truncate(size)
            for start, share in areas:
                first = int(start * len(self._numbers))
                count = int(share * len(self._numbers))
                self._numbers[first : first + count] = self._next_number
                file.seek(first * BLOCK)
                for part in range(first, first + count, 256):
                    end = min(part + 256, first + count)
                    file.write(stamp(part, self._numbers[part:end]))
        self._next_number += 1

    @property
    def request(self) -> MirrorRequest:
        """What to mirror."""
        return MirrorRequest(
            source=os.fspath(self.source),
            target=os.fspath(self.target),
            source_format="raw",
            target_format="raw",
            writable=True,
            options=MirrorOptions(
                job_id="demonstration",
                speed=self._speed,
                on_source_error=ErrorPolicy.STOP,
                on_target_error=ErrorPolicy.STOP,
            ),
        )

    # The guest.

    def begin_on(self, drive: BlockNode) -> None:
        """Let the guest write to a node, such as a session's drive, until ``stop``."""
        if self._guest is not None:
            return
        self._stopping.clear()
        self._guest = threading.Thread(target=self._work, args=(drive,), name="demo-guest")
        self._guest.start()

    def _work(self, drive: BlockNode) -> None:
        shortest, longest = _PAUSE_S
        while not self._stopping.wait(self._random.uniform(shortest, longest) / self._busy):
            self._write_once(drive)

    def _write_once(self, drive: BlockNode) -> None:
        blocks = len(self._numbers)
        count = min(self._random.randint(1, _LONGEST), blocks)
        first = self._place(blocks - count)
        numbers = np.full(count, self._next_number, np.uint64)
        if self._random.random() < 0.05:  # a guest also deletes
            numbers[:] = 0
        # Unknown until the write has ended: it may fail in the middle.
        self._numbers[first : first + count] = _UNKNOWN
        try:
            if numbers.any():
                drive.write(first * BLOCK, stamp(first, numbers))
            else:
                drive.write_zeroes(first * BLOCK, count * BLOCK)
        except BlockIOError as error:
            logger.warning("the demonstration's guest: %s", error)
            return
        self._numbers[first : first + count] = numbers
        self._next_number += 1
        self.writes += 1

    def _place(self, last: int) -> int:
        """Choose a block: mostly in a few hot places, as guests do, sometimes anywhere."""
        if self._random.random() < 0.4:
            return self._random.randint(0, last)
        center = self._random.choice((0.04, 0.33, 0.48, 0.74))
        return min(max(int(self._random.gauss(center, 0.012) * last), 0), last)

    def stop(self) -> None:
        """End the guest and wait for it. Idempotent."""
        self._stopping.set()
        if self._guest is not None:
            self._guest.join()
            self._guest = None

    # The proof.

    def verify(self, path: Path | None = None) -> Verification:
        """Compare an image with what the guest wrote. The guest must have been stopped.

        Args:
            path: the image; the target by default.

        Raises:
            OSError: it cannot be read.
        """
        blocks = len(self._numbers)
        with (path or self.target).open("rb") as file:
            for first in range(0, blocks, 256):
                numbers = self._numbers[first : first + 256]
                found = file.read(len(numbers) * BLOCK)
                wrong = self._first_wrong(first, numbers, found)
                if wrong is not None:
                    return Verification(equal=False, blocks=blocks, first_difference=wrong * BLOCK)
        return Verification(equal=True, blocks=blocks)

    @staticmethod
    def _first_wrong(first: int, numbers: NDArray[np.uint64], found: bytes) -> int | None:
        wanted = stamp(first, numbers)
        if found == wanted:
            return None
        for index, number in enumerate(numbers):
            place = slice(index * BLOCK, (index + 1) * BLOCK)
            if number != _UNKNOWN and found[place] != wanted[place]:
                return first + index
        return None

    def close(self) -> None:
        """End the guest and delete both images. Idempotent."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

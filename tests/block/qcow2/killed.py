"""A process that writes to an image until it is killed; what it does follows from a seed.

Run as ``python -m tests.block.qcow2.killed IMAGE SEED THREADS``. Each thread has a stripe of the
image to itself. It tells on standard output which operation it begins (``T begin N``), and up to
which one everything of its own is flushed (``T flushed N``).
"""

import os
import random
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mirrorgui.block.how import How
from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import open_image
from tests.block.qcow2.images import scatter

SIZE = 8 << 20
SECTOR = 512


@dataclass(frozen=True, slots=True)
class Operation:
    """One request; ``data`` is what the range reads as afterwards, unless it is a discard."""

    number: int
    kind: str
    offset: int
    data: bytes


def operations(seed: int, thread: int = 0, threads: int = 1) -> Iterator[Operation]:
    """Yield endless operations of one thread, the same ones for the same seed."""
    rng = random.Random(seed * 100 + thread)
    span = SIZE // threads
    number = 0
    while True:
        number += 1
        kinds = ("write", "scatter", "write_zeroes", "discard", "flush")
        kind = rng.choices(kinds, (6, 4, 2, 2, 2))[0]
        longest = rng.choice((1, 16, 128, 1024))
        length = rng.randint(1, longest) * SECTOR
        offset = thread * span + rng.randrange(0, span - length, SECTOR)
        data = b""
        if kind == "scatter":
            step = rng.choice((4096, 65536))
            length = step * rng.randint(2, 8)
            offset = thread * span + rng.randrange(0, span - length, step)
        if kind in ("write", "scatter"):
            data = number.to_bytes(4, "big") * (length // 4)
        elif kind != "flush":
            data = bytes(length)
        yield Operation(number, kind, offset, data)


def step_of(data: bytes) -> int:
    """Return the length of the ranges in which scattered data is written."""
    return 65536 if len(data) % 65536 == 0 else 4096


def carry_out(node: BlockNode, todo: Iterator[Operation], thread: int) -> None:
    """Carry operations out, for ever."""
    for each in todo:
        os.write(1, b"%d begin %d\n" % (thread, each.number))
        if each.kind == "flush":
            node.flush()
            os.write(1, b"%d flushed %d\n" % (thread, each.number))
        elif each.kind == "write":
            node.write(each.offset, each.data)
        elif each.kind == "scatter":
            scatter(node, each.offset, each.data, step_of(each.data))
        elif each.kind == "write_zeroes":
            node.write_zeroes(each.offset, len(each.data))
        else:
            node.discard(each.offset, len(each.data))


def main(path: str, seed: int, threads: int) -> None:
    """Begin all threads."""
    node = open_image(Path(path), format="qcow2", how=How(field="target"))
    for thread in range(threads):
        todo = operations(seed, thread, threads)
        threading.Thread(target=carry_out, args=(node, todo, thread)).start()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

"""Power failures while an image is written: of what was not flushed, anything may be missing.

The image's file is one that remembers every write and every flush. A crash keeps all that stands
before a flush, and of what comes after it any sectors, in any order.
"""

import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mirrorgui.block.node import Buffer
from mirrorgui.block.qcow2.header import read_header
from mirrorgui.block.qcow2.node import Qcow2Node
from tests.block.qcow2.images import scatter
from tests.block.qcow2.killed import Operation, operations, step_of
from tests.block.qcow2.nodes import ByteFile

SECTOR = 512
SIZE = 1 << 20
CRASHES = 200 if os.environ.get("MIRRORGUI_SOAK") == "1" else 10
OPTIONS = [
    "cluster_size=4k",
    "cluster_size=512,refcount_bits=64",
    "cluster_size=4k,lazy_refcounts=on",
    "cluster_size=16k,extended_l2=on",
    "compat=v2,cluster_size=512",
    "cluster_size=512,snapshot",
    "cluster_size=4k,preallocation=metadata",
]


@dataclass(frozen=True, slots=True)
class Event:
    """A write, a new length of the file, or a flush; in the order in which they were asked for."""

    kind: str
    offset: int = 0
    data: bytes = b""


class Remembering(ByteFile):
    """A file that remembers what was done to it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.first = content
        self.events: list[Event] = []

    def write(self, offset: int, data: Buffer) -> None:
        self.events.append(Event("write", offset, bytes(data)))
        super().write(offset, data)

    def flush(self) -> None:
        self.events.append(Event("flush"))
        super().flush()

    def discard(self, offset: int, length: int) -> None:  # it may become anything
        self.write(offset, b"\xee" * length)

    def resize(self, size: int) -> None:
        self.events.append(Event("resize", size))
        super().resize(size)

    def after_crash(self, count: int, rng: random.Random) -> bytes:
        """Return what is on the disk when power fails behind ``count`` events."""
        flushed = max(
            (number for number in range(count) if self.events[number].kind == "flush"), default=0
        )
        disk = ByteFile(self.first)
        for event in self.events[:flushed]:
            _apply(disk, event)
        loose = self.events[flushed:count]
        rng.shuffle(loose)
        kept = rng.random()
        for event in loose:
            if event.kind == "resize":  # the file only grows while it is open
                disk.resize(max(disk.size, event.offset if rng.random() < kept else 0))
            elif event.kind == "write":
                for start in range(0, len(event.data), SECTOR):
                    if rng.random() < kept:
                        part = event.data[start : start + SECTOR]
                        _apply(disk, Event("write", event.offset + start, part))
        return disk.content


def _apply(disk: ByteFile, event: Event) -> None:
    if event.kind == "write":
        disk.resize(max(disk.size, event.offset + len(event.data)))
        disk.patch(event.offset, event.data)
    elif event.kind == "resize":
        disk.resize(event.offset)


def qemu(*command: object, codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode in codes, done.stdout + done.stderr
    return done.stdout + done.stderr


def create(folder: Path, options: str) -> tuple[Remembering, bytes]:
    path = folder / "new.qcow2"
    named = ",".join(each for each in options.split(",") if "=" in each)
    qemu("qemu-img", "create", "-f", "qcow2", "-o", named, path, SIZE)
    content = bytes(SIZE)
    if "snapshot" in options:
        qemu("qemu-io", "-c", f"write -P 77 0 {SIZE}", path)
        qemu("qemu-img", "snapshot", "-c", "kept", path)
        content = b"\x4d" * SIZE
    return Remembering(path.read_bytes()), content


def open_node(file: ByteFile) -> Qcow2Node:
    # So few tables are kept that writing them back begins in the middle of requests too.
    return Qcow2Node(file, header=read_header(file, "filename"), l2_cache_size=0)


def small(seed: int, count: int) -> list[Operation]:
    """Return operations that fit into the image."""
    found = []
    for each in operations(seed):
        if len(each.data) <= SIZE // 4:
            offset = each.offset % (SIZE - SIZE // 4) // SECTOR * SECTOR
            found.append(Operation(each.number, each.kind, offset, each.data))
        if len(found) == count:
            return found
    raise AssertionError


def play(node: Qcow2Node, file: Remembering, todo: list[Operation]) -> list[tuple[int, int]]:
    """Carry operations out; return for each how many events were there before and after it."""
    spans = []
    for each in todo:
        before = len(file.events)
        if each.kind == "flush":
            node.flush()
        elif each.kind == "write":
            node.write(each.offset, each.data)
        elif each.kind == "scatter":
            scatter(node, each.offset, each.data, step_of(each.data))
        elif each.kind == "write_zeroes":
            node.write_zeroes(each.offset, len(each.data), may_unmap=each.number % 2 == 0)
        else:
            node.discard(each.offset, len(each.data))
        spans.append((before, len(file.events)))
    return spans


@pytest.mark.soak
@pytest.mark.parametrize("options", OPTIONS)
def test_a_power_failure_loses_nothing_that_was_flushed(tmp_path: Path, options: str) -> None:
    file, content = create(tmp_path, options)
    todo = small(OPTIONS.index(options), 120)
    node = open_node(file)
    spans = play(node, file, todo)
    node.close()
    path, raw = tmp_path / "crashed.qcow2", tmp_path / "raw"
    rng = random.Random(1)
    for crash in range(CRASHES):
        count = rng.randrange(len(file.events) + 1)
        path.write_bytes(file.after_crash(count, rng))
        lazy = "lazy" in options
        if lazy:
            mended = ByteFile(path.read_bytes())
            open_node(mended).close()
            path.write_bytes(mended.content)
        qemu("qemu-img", "check", path, codes=(0,) if lazy else (0, 3))
        qemu("qemu-img", "convert", "-O", "raw", path, raw)
        compare(raw, content, todo, spans, count, f"crash {crash} behind {count} events")
        if "snapshot" in options:
            qemu("qemu-img", "convert", "-l", "kept", "-O", "raw", path, raw)
            assert raw.read_bytes() == content, f"the snapshot after crash {crash}"


def compare(
    raw: Path,
    content: bytes,
    todo: list[Operation],
    spans: list[tuple[int, int]],
    count: int,
    what: str,
) -> None:
    """Check every sector that nothing has touched since the last flush that had ended."""
    ended = [each.number for each, span in zip(todo, spans, strict=True) if span[1] <= count]
    flushes = [each.number for each in todo if each.kind == "flush" and each.number in ended]
    flushed = max(flushes, default=0)
    expected, settled = bytearray(content), np.ones(SIZE // SECTOR, bool)
    for each, (before, _) in zip(todo, spans, strict=True):
        if before > count:
            break
        first, end = each.offset, each.offset + len(each.data)
        if each.number <= flushed:
            expected[first:end] = each.data
        known = each.number <= flushed and each.kind != "discard"
        settled[first // SECTOR : end // SECTOR] = known
    found = np.frombuffer(raw.read_bytes(), np.uint8).reshape(-1, SECTOR)
    wanted = np.frombuffer(bytes(expected), np.uint8).reshape(-1, SECTOR)
    lost = (found != wanted).any(axis=1) & settled
    assert not lost.any(), f"{what}: sector {int(lost.argmax())}, flushed up to {flushed}"

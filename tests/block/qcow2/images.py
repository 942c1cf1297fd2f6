"""Images that QEMU's tools make, and nodes on them."""

import random
import subprocess
from pathlib import Path
from typing import Any

from mirrorgui.block.file import FileNode
from mirrorgui.block.node import BlockNode
from mirrorgui.block.qcow2.header import read_header
from mirrorgui.block.qcow2.node import Qcow2Node


def tool(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make(path: Path, size: int, options: str = "", *more: object) -> None:
    chosen = ["-o", options] if options else []
    tool("qemu-img", "create", "-q", "-f", "qcow2", *chosen, *more, path, size)


def check(path: Path) -> None:
    """See that there is no error and no leak."""
    tool("qemu-img", "check", "-q", path)


def content(path: Path, folder: Path) -> bytes:
    """What a guest sees by QEMU's reading."""
    out = folder / "content.raw"
    tool("qemu-img", "convert", "-O", "raw", path, out)
    return out.read_bytes()


def open_chain(path: Path, *, read_only: bool = True, **options: Any) -> Qcow2Node:
    """Open an image and all below it, by the absolute paths that it names."""
    file = FileNode(path, read_only=read_only, resizes=not read_only)
    header = read_header(file, "source")
    backing: BlockNode | None = None
    if header.backing_file:
        below = Path(header.backing_file)
        is_raw = header.backing_format == "raw"
        backing = FileNode(below, read_only=True) if is_raw else open_chain(below)
    data_file = None
    if header.has_data_file:
        data_file = FileNode(header.data_file, read_only=read_only, resizes=not read_only)
    return Qcow2Node(
        file, header=header, backing=backing, data_file=data_file, read_only=read_only, **options
    )


def read(node: BlockNode, offset: int = 0, length: int | None = None) -> bytes:
    buffer = bytearray(node.size - offset if length is None else length)
    node.read_into(offset, buffer)
    return bytes(buffer)


def scatter(node: BlockNode, offset: int, data: bytes, step: int) -> None:
    """Write every other range of so many bytes, and those between, by one request."""
    starts = [*range(0, len(data), 2 * step), *range(step, len(data), 2 * step)]
    packed = b"".join(data[start : start + step] for start in starts)
    ranges = [(offset + start, min(step, len(data) - start)) for start in starts]
    node.write_ranges(ranges, memoryview(packed))


def scribble(path: Path, size: int, rng: random.Random, *, zeroes: bool) -> None:
    """Let qemu-io write all over an image."""
    commands: list[str] = []
    for _ in range(12):
        length = rng.choice((512, 4096, 65536, 150_000))
        length = min(length, size)
        offset = rng.randrange(size - length + 1)
        kind = rng.choice(("write", "write", "write -z", "write -z -u", "discard"))
        if kind in ("write",) or not zeroes:
            commands += ["-c", f"write -q -P {rng.randrange(1, 256)} {offset} {length}"]
        else:
            commands += ["-c", f"{kind} -q {offset} {length}"]
    tool("qemu-io", "-f", "qcow2", "-d", "unmap", *commands, path)

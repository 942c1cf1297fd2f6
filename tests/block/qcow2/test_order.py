"""The order in which an image is written: what a kill or a power failure leaves at any moment."""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrorgui.block.file import FileNode
from mirrorgui.block.node import BlockNode, Buffer
from mirrorgui.block.qcow2.header import read_header
from mirrorgui.block.qcow2.node import Qcow2Node
from mirrorgui.errors import BlockIOError
from mirrorgui.units import MiB
from tests.block.qcow2.images import make, read, tool
from tests.block.qcow2.nodes import ByteFile

KILLS = 16
"""Moments that are tried of each run; each costs a qemu-img."""


class Recorder(ByteFile):
    """Remembers what was written, with the flushes between."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.name = "recorded"
        self.steps: list[tuple[int, bytes] | int | None] = []

    def write(self, offset: int, data: Buffer) -> None:
        super().write(offset, data)
        self.steps.append((offset, bytes(data)))

    def resize(self, size: int) -> None:
        super().resize(size)
        self.steps.append(size)

    def flush(self) -> None:
        self.steps.append(None)


def replay(before: bytes, steps: list[tuple[int, bytes] | int | None], lost: set[int]) -> bytes:
    """The file after some steps, of which some writes never arrived."""
    image = bytearray(before)
    for number, step in enumerate(steps):
        if isinstance(step, int):
            image[step:] = b""
            image += bytes(step - len(image))
        elif step is not None and number not in lost:
            image[step[0] : step[0] + len(step[1])] = step[1]
    return bytes(image)


def work(node: Qcow2Node, recorder: Recorder, rng: random.Random) -> Iterator[tuple[int, bytes]]:
    """Change the image at random; after each flush, yield the steps so far and the content."""
    for _ in range(60):
        offset = rng.randrange(node.size - 70_000)
        length = rng.choice((512, 4096, 66_000))
        kind = rng.random()
        if kind < 0.5:
            node.write(offset, rng.randbytes(length))
        elif kind < 0.65:
            node.write_zeroes(offset, length)
        elif kind < 0.8:
            node.discard(offset, length)
        else:
            node.flush()
            yield len(recorder.steps), read(node)


def checked(path: Path) -> None:
    """There may be leaks (3), but no errors (2)."""
    done = subprocess.run(["qemu-img", "check", path], capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stdout + done.stderr


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power failure"])
@pytest.mark.parametrize(
    "options", ["", "cluster_size=512", "extended_l2=on,cluster_size=16k", "snapshot"]
)
def test_nothing_but_leaks_is_left_at_any_moment(tmp_path: Path, options: str, power: bool) -> None:
    rng = random.Random(f"{options}{power}")
    path = tmp_path / "disk.qcow2"
    make(path, 2 * MiB, options if options != "snapshot" else "cluster_size=4k")
    if options == "snapshot":
        tool("qemu-io", "-c", "write -q 0 1M", path)
        tool("qemu-img", "snapshot", "-c", "then", path)
    before = path.read_bytes()
    recorder = Recorder(before)
    node = Qcow2Node(recorder, header=read_header(recorder, "t"))
    list(work(node, recorder, rng))
    node.close()
    for _ in range(KILLS):
        end = rng.randrange(len(recorder.steps) + 1)
        lost: set[int] = set()
        if power:
            flushes = [at for at, step in enumerate(recorder.steps[:end]) if step is None]
            since = flushes[-1] if flushes else 0
            lost = {at for at in range(since, end) if rng.random() < 0.5}
        path.write_bytes(replay(before, recorder.steps[:end], lost))
        checked(path)


def test_what_was_flushed_survives_a_power_failure(tmp_path: Path) -> None:
    rng = random.Random(4)
    path = tmp_path / "disk.qcow2"
    make(path, 2 * MiB, "cluster_size=4k")
    before = path.read_bytes()
    recorder = Recorder(before)
    node = Qcow2Node(recorder, header=read_header(recorder, "t"))
    states = list(work(node, recorder, rng))
    for steps, content in states:
        later = recorder.steps[steps:]
        end = steps + next((at for at, step in enumerate(later) if step is None), len(later))
        # What a guest has not flushed again may be there or not; metadata must not be.
        path.write_bytes(replay(before, recorder.steps[:steps], set()))
        checked(path)
        file = FileNode(path, read_only=True)
        again = Qcow2Node(file, header=read_header(file, "t"), read_only=True)
        assert read(again) == content
        again.close()
        path.write_bytes(replay(before, recorder.steps[:end], set(range(steps, end, 2))))
        checked(path)
    node.close()


def test_a_flush_of_nothing_is_one_flush(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 2 * MiB)
    recorder = Recorder(path.read_bytes())
    node = Qcow2Node(recorder, header=read_header(recorder, "t"))
    node.write(0, b"x" * 65536)
    node.flush()
    node.write(0, b"y" * 65536)
    recorder.steps.clear()
    node.flush()
    assert recorder.steps == [None]
    node.write(5, b"z")
    assert len(recorder.steps) == 2  # in place: no table changes
    node.close()


def test_freed_clusters_are_not_used_while_somebody_may_still_read_them(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 2 * MiB)
    recorder = Recorder(path.read_bytes())
    node = Qcow2Node(recorder, header=read_header(recorder, "t"))
    node.write(0, b"x" * 65536)
    node.flush()
    image = node._image
    with image.lock:
        age = image.requests.enter()
        runs = image.tables.runs(0, 65536)
        assert runs is not None
        place = runs[0].place
    node.discard(0, 65536)
    node.flush()
    node.write(65536, b"y" * 655360)
    assert recorder.content[place : place + 65536] == b"x" * 65536
    with image.lock:
        image.requests.leave(age)
    node.flush()
    node.write(1 * MiB, b"z" * 65536)
    assert recorder.content[place : place + 65536] == b"z" * 65536
    node.close()


def test_close_tells_of_what_was_lost_and_closes_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Recorder):
        closed = False

        def write(self, offset: int, data: Buffer) -> None:
            raise BlockIOError("write", offset, len(data), 5, self.name)

        def close(self) -> None:
            self.closed = True

    path = tmp_path / "disk.qcow2"
    make(path, 2 * MiB)
    file: BlockNode = Broken(path.read_bytes())
    node = Qcow2Node(file, header=read_header(file, "t"))
    with pytest.raises(BlockIOError):
        node.write(0, b"x")
    node.close()
    assert isinstance(file, Broken)
    assert file.closed
    assert "may be lost" in caplog.text

"""Requests of several threads at once: no byte is lost, and none is ever somebody else's."""

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrorgui.block.file import FileNode
from mirrorgui.block.node import BlockNode, Buffer
from mirrorgui.block.qcow2.header import read_header
from mirrorgui.block.qcow2.node import Qcow2Node
from mirrorgui.block.qcow2.requests import Requests
from mirrorgui.units import KiB, MiB
from tests.block.conftest import stamped
from tests.block.qcow2.images import check, content, make, open_chain, read


class HeldFile(FileNode):
    """A file whose data writes wait until the test lets them go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, resizes=True)
        self.hold = False
        self.arrived = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def write(self, offset: int, data: Buffer) -> None:
        if self.hold:
            self.arrived.release()
            assert self.go.acquire(timeout=20)
        super().write(offset, data)


def held(path: Path, backing: BlockNode | None = None) -> tuple[Qcow2Node, HeldFile]:
    file = HeldFile(path)
    return Qcow2Node(file, header=read_header(file, "t"), backing=backing), file


def start(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def end(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_two_writes_to_one_fresh_cluster_keep_both_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB)
    node, file = held(path)
    file.hold = True
    first = start(lambda: node.write(0, b"a" * 100))
    assert file.arrived.acquire(timeout=20)
    second = start(lambda: node.write(200, b"b" * 100))
    assert not file.arrived.acquire(timeout=0.05)  # it waits for the first, which copies around it
    file.hold = False
    file.go.release()
    end(first, second)
    assert read(node, 0, 300) == b"a" * 100 + bytes(100) + b"b" * 100
    node.close()
    check(path)


def test_writes_to_different_clusters_do_not_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB)
    node, file = held(path)
    file.hold = True
    first = start(lambda: node.write(0, b"a" * 100))
    assert file.arrived.acquire(timeout=20)
    second = start(lambda: node.write(64 * KiB, b"b" * 100))
    assert file.arrived.acquire(timeout=20)
    assert read(node, 0, 128 * KiB) == bytes(128 * KiB)  # old bytes, without waiting
    file.go.release(2)
    end(first, second)
    assert read(node, 64 * KiB, 100) == b"b" * 100
    file.hold = False
    node.close()
    check(path)


@pytest.mark.parametrize("zeroing", [True, False])
def test_zeroing_waits_for_a_write_that_is_giving_the_cluster_a_place(
    tmp_path: Path, zeroing: bool
) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB)
    node, file = held(path)
    file.hold = True
    first = start(lambda: node.write(0, b"a" * 64 * KiB))
    assert file.arrived.acquire(timeout=20)
    done = threading.Event()

    def clear() -> None:
        node.write_zeroes(0, 64 * KiB) if zeroing else node.discard(0, 64 * KiB)
        done.set()

    second = start(clear)
    assert not done.wait(0.05)
    file.hold = False
    file.go.release()
    end(first, second)
    assert read(node, 0, 64 * KiB) == bytes(64 * KiB)
    node.close()
    check(path)


def test_a_flush_does_not_wait_for_a_write_that_is_not_finished(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB)
    node, file = held(path)
    node.write(512 * KiB, b"x")
    node.flush()
    file.hold = True
    first = start(lambda: node.write(0, b"a" * 100))
    assert file.arrived.acquire(timeout=20)
    file.hold = False
    node.flush()
    file.go.release()
    end(first)
    assert read(node, 0, 100) == b"a" * 100
    node.close()
    check(path)


@pytest.mark.parametrize(
    "options", ["", "cluster_size=4k", "extended_l2=on", "lazy_refcounts=on", "snapshot", "backed"]
)
def test_many_threads_change_their_own_bytes_of_the_same_clusters(
    tmp_path: Path, options: str
) -> None:
    """Each thread owns every sixth sector, so that all clusters are everybody's."""
    path, size, threads, sector = tmp_path / "disk.qcow2", 1 * MiB, 6, 512
    expected = bytearray(size)
    if options == "backed":
        base = tmp_path / "base.raw"
        base.write_bytes(stamped(size))
        make(path, size, "", "-b", base, "-F", "raw")
        expected[:] = stamped(size)
    else:
        make(path, size, "" if options == "snapshot" else options)
    node = open_chain(path, read_only=False, l2_cache_size=16 * KiB)
    wrong: list[object] = []
    lock = threading.Lock()

    def work(own: int) -> None:
        rng = random.Random(own)
        for _ in range(150):
            number = rng.randrange(size // sector // threads) * threads + own
            offset = number * sector
            if offset + sector > size:
                continue
            kind = rng.random()
            if kind < 0.6:
                data = bytes([rng.randrange(1, 256)]) * sector
                node.write(offset, data)
            elif kind < 0.75:
                data = bytes(sector)
                node.write_zeroes(offset, sector)
            elif kind < 0.8:
                node.flush()
                continue
            else:
                data = bytes(expected[offset : offset + sector])
                if read(node, offset, sector) != data:
                    wrong.append((own, offset))
                node.extents(0, size)
                continue
            with lock:
                expected[offset : offset + sector] = data

    end(*[start(lambda own=own: work(own)) for own in range(threads)])
    assert not wrong
    assert read(node) == expected
    node.close()
    check(path)
    assert content(path, tmp_path) == expected


def test_discards_and_reuse_never_show_somebody_elses_bytes(tmp_path: Path) -> None:
    """Each thread fills, reads and discards its own megabyte: freed places go to the others."""
    path, threads = tmp_path / "disk.qcow2", 4
    make(path, threads * MiB, "cluster_size=4k")
    node = open_chain(path, read_only=False)
    wrong: list[object] = []

    def work(own: int) -> None:
        rng = random.Random(own)
        for turn in range(25):
            offset = own * MiB + rng.randrange(0, 900) * KiB
            length = rng.randrange(1, 120) * KiB
            length = min(length, (own + 1) * MiB - offset)
            data = bytes([own * 50 + turn + 1]) * length
            node.write(offset, data)
            if read(node, offset, length) != data:
                wrong.append((own, turn))
            node.discard(offset, length)
            if turn % 4 == own:
                node.flush()
            shown = set(read(node, own * MiB, 1 * MiB))
            if not shown <= {0, *range(own * 50 + 1, own * 50 + 27)}:
                wrong.append((own, turn, shown))

    end(*[start(lambda own=own: work(own)) for own in range(threads)])
    assert not wrong
    node.close()
    check(path)


def test_claims_and_ages() -> None:
    lock = threading.Lock()
    requests = Requests(lock)
    with lock:
        claim = requests.claim(5, 8)
        assert [requests.first_claimed(*each) for each in ((0, 5), (0, 6), (6, 7), (8, 9))] == [
            None,
            5,
            6,
            None,
        ]
        requests.release(claim)
        assert requests.first_claimed(0, 100) is None
        old = requests.enter()
        age = requests.next_age()
        young = requests.enter()
        assert not requests.all_left(age)
        requests.leave(old)
        assert requests.all_left(age)
        requests.leave(young)

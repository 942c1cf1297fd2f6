"""The guest's front door: the gate, the hook, the exchange, the statistics."""

import threading
from collections.abc import Callable

import pytest

from mirrorgui.block.blkdebug import InjectError
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode
from mirrorgui.errors import BlockIOError
from mirrorgui.mirror.drive import Drive
from tests.mirror.harness import Side, content, pattern, wait_until

SIZE = 64 * 1024


class Hook:
    """Writes down what it was given, and does it."""

    writes_wait = False

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def guest_write(
        self, node: BlockNode, offset: int, length: int, request: Callable[[BlockNode], None]
    ) -> None:
        self.seen.append(("write", offset, length))
        request(node)

    def guest_discard(self, node: BlockNode, offset: int, length: int) -> None:
        self.seen.append(("discard", offset, length))
        node.discard(offset, length)


def thread(function: Callable[[], object]) -> threading.Thread:
    one = threading.Thread(target=function)
    one.start()
    return one


def test_requests_reach_the_node() -> None:
    node = MemoryNode(pattern(SIZE))
    drive = Drive(node)
    found = bytearray(100)
    drive.read_into(50, found)
    assert found == pattern(SIZE)[50:150]
    drive.write(0, b"abc")
    drive.write_zeroes(10, 5)
    drive.discard(0, SIZE)
    drive.flush()
    assert drive.extents(0, SIZE) == node.extents(0, SIZE)
    assert (drive.size, drive.name, drive.limits, drive.backing) == (
        node.size,
        node.name,
        node.limits,
        None,
    )
    assert not drive.read_only
    drive.close()
    assert node.content() == bytes(SIZE), "nodes belong to whoever opened them"


def test_changing_requests_go_to_the_hook_and_others_do_not() -> None:
    drive = Drive(MemoryNode(SIZE))
    hook = Hook()
    drive.attach(hook)
    drive.write(1, b"abc")
    drive.write_zeroes(10, 20)
    drive.discard(100, 200)
    drive.read_into(0, bytearray(10))
    drive.flush()
    assert hook.seen == [("write", 1, 3), ("write", 10, 20), ("discard", 100, 200)]
    drive.detach()
    drive.write(0, b"x")
    assert len(hook.seen) == 3


REQUESTS: dict[str, Callable[[Drive], object]] = {
    "read": lambda drive: drive.read_into(0, bytearray(512)),
    "write": lambda drive: drive.write(0, bytes(512)),
    "zero": lambda drive: drive.write_zeroes(0, 512),
    "discard": lambda drive: drive.discard(0, 512),
    "flush": lambda drive: drive.flush(),
    "extents": lambda drive: drive.extents(0, 512),
}


@pytest.mark.parametrize("kind", list(REQUESTS))
def test_newcomers_wait_while_guests_are_held(kind: str) -> None:
    drive = Drive(MemoryNode(SIZE))
    empty = threading.Event()
    drive.hold(empty.set)
    assert empty.is_set(), "nobody was inside"
    done = threading.Event()
    guest = thread(lambda: (REQUESTS[kind](drive), done.set()))
    assert not done.wait(0.03)
    assert drive.statistics().in_flight == 0
    drive.release()
    assert done.wait(10)
    guest.join()


@pytest.mark.parametrize("kind", list(REQUESTS))
@pytest.mark.parametrize("fails", [False, True])
def test_a_hold_waits_for_every_insider_however_it_leaves(kind: str, fails: bool) -> None:
    side = Side(MemoryNode(SIZE))
    side.node.add(InjectError("none", errno=5 if fails else 0, hang=True))
    side.node.add(InjectError("none", iotype="block-status", errno=5 if fails else 0, hang=True))
    drive = Drive(side.node)
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            REQUESTS[kind](drive)
        except BlockIOError as error:
            ended.append(error)
        else:
            ended.append(None)

    guests = [thread(run) for _ in range(3)]
    assert side.node.wait_for_waiting(3, 10)
    calls: list[int] = []
    drive.hold(lambda: calls.append(1))
    assert not calls and drive.statistics().in_flight == 3
    side.node.release()
    for guest in guests:
        guest.join(10)
    assert calls == [1], "told once, when the last one left"
    assert len(ended) == 3 and all((each is not None) == fails for each in ended)
    drive.release()


def test_a_released_hold_is_told_nothing() -> None:
    side = Side(MemoryNode(SIZE))
    side.hang("read")
    drive = Drive(side.node)
    guest = thread(lambda: drive.read_into(0, bytearray(1)))
    assert side.node.wait_for_waiting(1, 10)
    calls: list[int] = []
    drive.hold(lambda: calls.append(1))
    drive.release()
    side.node.clear()
    guest.join(10)
    assert calls == []


def test_an_exchange_is_seen_by_the_next_request_and_no_guest_meets_both() -> None:
    first, second = MemoryNode(pattern(SIZE, 1)), MemoryNode(pattern(SIZE, 2))
    drive = Drive(first)
    stop = threading.Event()
    failures: list[str] = []

    def read() -> None:
        found = bytearray(SIZE)
        while not stop.is_set():
            drive.read_into(0, found)
            if bytes(found) not in (pattern(SIZE, 1), pattern(SIZE, 2)):
                failures.append("a mixture")

    guests = [thread(read) for _ in range(3)]
    for _ in range(50):
        empty = threading.Event()
        drive.hold(empty.set)
        assert empty.wait(10)
        old = drive.exchange(second if drive.node is first else first)
        assert old is not drive.node
        drive.release()
    stop.set()
    for guest in guests:
        guest.join(10)
    assert failures == []
    drive.write(0, b"x")
    assert content(drive.node)[:1] == b"x"


def test_totals_count_what_ended_and_how() -> None:
    side = Side(MemoryNode(SIZE))
    drive = Drive(side.node)
    for _ in range(3):
        drive.read_into(0, bytearray(100))
    drive.write(0, bytes(10))
    drive.write_zeroes(0, 20)
    drive.discard(0, 512)
    drive.flush()
    side.fail("read", once=True)
    with pytest.raises(BlockIOError):
        drive.read_into(0, bytearray(1))
    totals = drive.statistics()
    assert (totals.reads, totals.bytes_read) == (3, 300)
    assert (totals.writes, totals.bytes_written) == (3, 30)
    assert (totals.flushes, totals.failed, totals.in_flight) == (1, 1, 0)
    assert sum(totals.latency) == 6


def test_totals_are_right_with_many_guests() -> None:
    drive = Drive(MemoryNode(SIZE))
    guests = [
        thread(lambda: [drive.write(number, b"x") for number in range(500)]) for _ in range(4)
    ]
    for guest in guests:
        guest.join()
    assert drive.statistics().writes == 2000
    assert drive.statistics().bytes_written == 2000


def test_reads_that_must_not_wait_do_not_wait_for_the_gate_either() -> None:
    class Ready(MemoryNode):
        def try_read_into(self, offset: int, buffer: bytearray | memoryview) -> bool:
            self.read_into(offset, buffer)
            return True

    drive = Drive(Ready(pattern(SIZE)))
    found = bytearray(8)
    assert drive.try_read_into(0, found) and found == pattern(8)
    drive.hold(lambda: None)
    assert not drive.try_read_into(0, found)
    drive.release()
    assert not Drive(MemoryNode(SIZE)).try_read_into(0, found)
    wait_until(lambda: drive.statistics().in_flight == 0)

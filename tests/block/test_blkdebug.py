import errno
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mirrorgui.block.blkdebug import BlkdebugNode, InjectError, SetState
from mirrorgui.block.blkdebug_rules import take_rules
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.options import Options
from mirrorgui.errors import BlockIOError, InvalidInput, RequestCancelled

VERBS = {
    "read": lambda node: node.read_into(0, bytearray(512)),
    "write": lambda node: node.write(0, bytes(512)),
    "write-zeroes": lambda node: node.write_zeroes(0, 512),
    "discard": lambda node: node.discard(0, 512),
    "flush": lambda node: node.flush(),
    "block-status": lambda node: node.extents(0, 512),
}


def failing(node: BlkdebugNode) -> set[str]:
    """Which kinds of request fail at this moment."""
    found = set()
    for name, request in VERBS.items():
        try:
            request(node)
        except BlockIOError:
            found.add(name)
    return found


def node_with(*rules: InjectError | SetState) -> BlkdebugNode:
    return BlkdebugNode(MemoryNode(8192), rules)


@pytest.mark.parametrize(
    ("event", "hit"),
    [
        ("read_aio", {"read"}),
        ("write_aio", {"write"}),
        ("pwritev", {"write"}),
        ("pwritev_zero", {"write-zeroes"}),
        ("flush_to_disk", {"flush"}),
        ("flush_to_os", {"flush"}),
        ("none", {"read", "write", "write-zeroes", "discard", "flush"}),
    ],
)
def test_an_event_is_raised_by_its_requests(event: str, hit: set[str]) -> None:
    assert failing(node_with(InjectError(event))) == hit


@pytest.mark.parametrize("iotype", list(VERBS))
def test_event_none_with_an_iotype_hits_that_kind_alone(iotype: str) -> None:
    assert failing(node_with(InjectError("none", iotype=iotype))) == {iotype}


def test_the_error_is_the_one_of_the_rule_and_eio_by_default() -> None:
    for rule, number in (
        (InjectError("write_aio"), errno.EIO),
        (InjectError("write_aio", errno=errno.ENOSPC), errno.ENOSPC),
    ):
        with pytest.raises(BlockIOError) as caught:
            node_with(rule).write(512, b"x")
        assert (caught.value.errno, caught.value.offset, caught.value.length) == (number, 512, 1)


def test_a_sector_is_hit_by_the_requests_that_touch_it() -> None:
    node = node_with(InjectError("read_aio", sector=2))
    for offset, length, fails in (
        (0, 1024, False),
        (0, 1025, True),
        (1024, 1, True),
        (1025, 10, False),
        (1536, 512, False),
    ):
        try:
            node.read_into(offset, bytearray(length))
        except BlockIOError:
            assert fails, (offset, length)
        else:
            assert not fails, (offset, length)


def test_once_fails_once() -> None:
    node = node_with(InjectError("read_aio", once=True))
    assert failing(node) == {"read"}
    assert failing(node) == set()
    assert node.rules == ()


def test_states_choose_the_rules() -> None:
    node = node_with(
        InjectError("read_aio", state=2),
        SetState("write_aio", new_state=2, state=1),
        SetState("flush_to_disk", new_state=3),
    )
    node.read_into(0, bytearray(1))
    node.write(0, b"x")
    assert node.state == 2
    with pytest.raises(BlockIOError):
        node.read_into(0, bytearray(1))
    node.flush()
    node.read_into(0, bytearray(1))


def test_a_failed_request_does_not_reach_the_node_below() -> None:
    below = MemoryNode(b"old")
    node = BlkdebugNode(below, [InjectError("write_aio")])
    with pytest.raises(BlockIOError):
        node.write(0, b"new")
    assert below.content() == b"old"


def test_rules_come_and_go_while_the_node_is_used() -> None:
    node = node_with()
    rule = node.add(InjectError("read_aio"))
    assert failing(node) == {"read"}
    node.remove(rule)
    node.remove(rule)
    assert failing(node) == set()


def test_a_delayed_request_goes_on_by_itself() -> None:
    below = MemoryNode(b"old")
    node = BlkdebugNode(below, [InjectError("write_aio", errno=0, delay=0.02)])
    node.write(0, b"new")
    assert below.content() == b"new"
    assert node.waiting == 0


def test_a_hanging_request_waits_for_release_and_others_pass() -> None:
    node = node_with(InjectError("write_aio", errno=0, hang=True, sector=0))
    with ThreadPoolExecutor(1) as pool:
        write = pool.submit(node.write, 0, b"x")
        assert node.wait_for_waiting(1, 5)
        node.write(4096, b"y")
        assert not write.done()
        node.release()
        write.result(5)


def test_removing_a_rule_releases_what_it_holds() -> None:
    node = node_with()
    rule = node.add(InjectError("read_aio", errno=0, hang=True))
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(node.read_into, 0, bytearray(1))
        assert node.wait_for_waiting(1, 5)
        node.remove(rule)
        read.result(5)


def test_cancel_wakes_what_hangs_with_request_cancelled() -> None:
    node = node_with(InjectError("none", hang=True))
    with ThreadPoolExecutor(2) as pool:
        read = pool.submit(node.read_into, 512, bytearray(10))
        flush = pool.submit(node.flush)
        assert node.wait_for_waiting(2, 5)
        node.cancel_in_flight()
        with pytest.raises(RequestCancelled) as caught:
            read.result(5)
        assert (caught.value.operation, caught.value.offset) == ("read", 512)
        with pytest.raises(RequestCancelled):
            flush.result(5)
    assert node.waiting == 0


def test_a_rule_that_fails_once_hits_one_of_many_threads() -> None:
    node = node_with(InjectError("read_aio", once=True))
    start = threading.Barrier(4)

    def read() -> bool:
        start.wait(5)
        try:
            node.read_into(0, bytearray(1))
        except BlockIOError:
            return True
        return False

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda _: read(), range(4))) == 1


def test_options_are_those_of_qemu() -> None:
    tree = {
        "inject-error": [
            {
                "event": "read_aio",
                "errno": 28,
                "sector": 7,
                "once": True,
                "iotype": "read",
                "state": 1,
                "immediately": False,
                "delay": 1,
            }
        ],
        "set-state": [{"event": "write_aio", "state": 1, "new_state": 2}],
    }
    assert take_rules(Options(tree, "source")) == [
        InjectError("read_aio", 28, 7, "read", 1, once=True, delay=1.0),
        SetState("write_aio", 2, 1),
    ]


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ({"event": "l2_load"}, "event"),
        ({"errno": 5}, "source.inject-error.0.event"),
        ({"event": "none", "iotype": "seek"}, "iotype"),
        ({"event": "none", "sector": -2}, "sector"),
        ({"event": "none", "delay": -0.5}, "delay"),
        ({"event": "none", "delay": float("nan")}, "delay"),
        ({"event": "none", "delay": float("inf")}, "delay"),
        ({"event": "none", "errno": "EIO"}, "source.inject-error.0.errno"),
        ({"event": "none", "bogus": 1}, "source.inject-error.0.bogus"),
        ("none", "source.inject-error.0"),
    ],
)
def test_a_wrong_rule_is_refused_by_the_name_of_its_option(rule: object, name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        take_rules(Options({"inject-error": [rule]}, "source"))
    assert caught.value.field == name

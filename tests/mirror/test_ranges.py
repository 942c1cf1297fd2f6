"""RangeLock. tests/stateful plays it with several guests."""

import threading

import pytest

from mirrorgui.mirror.ranges import RangeLock
from tests.mirror.harness import wait_until


def in_guest(lock: RangeLock, offset: int, length: int) -> tuple[threading.Event, threading.Event]:
    """Let a guest claim a range; returns "it is inside" and "it may leave"."""
    inside, leave = threading.Event(), threading.Event()

    def run() -> None:
        with lock.guest_claim(offset, length):
            inside.set()
            assert leave.wait(10)

    threading.Thread(target=run).start()
    return inside, leave


def test_a_claim_ends_where_another_begins_in_whole_units() -> None:
    lock = RangeLock()
    other = lock.claim_prefix(1000, 24, 8)
    assert other is not None
    claim = lock.claim_prefix(0, 4000, 512)
    assert claim is not None and (claim.offset, claim.end) == (0, 512)
    assert lock.claim_prefix(512, 512, 512) is None
    assert lock.claim_prefix(1010, 8, 8) is None
    lock.release(other)
    claim = lock.claim_prefix(512, 488 + 4000, 512)
    assert claim is not None and claim.length == 4488, "nothing in the way: not cut to units"


def test_the_job_is_refused_what_a_guest_waits_for() -> None:
    lock = RangeLock()
    copy = lock.claim_prefix(0, 64, 64)
    inside, leave = in_guest(lock, 32, 64)
    wait_until(lambda: lock.waiting == 1)
    assert lock.claim_prefix(64, 64, 64) is None, "the next copy does not overtake the guest"
    assert lock.busy_until(70) == 96 and lock.busy_until(96) == 96
    lock.release(copy)
    assert inside.wait(10)
    leave.set()


def test_a_guest_waits_for_all_of_its_range() -> None:
    lock = RangeLock()
    first, last = lock.claim_prefix(0, 64, 64), lock.claim_prefix(128, 64, 64)
    inside, leave = in_guest(lock, 0, 192)
    wait_until(lambda: lock.waiting == 1)
    lock.release(first)
    assert not inside.wait(0.05)
    lock.release(last)
    assert inside.wait(10)
    leave.set()


def test_the_job_is_told_when_a_guest_leaves_and_only_then() -> None:
    left = threading.Event()
    lock = RangeLock(left.set)
    lock.release(lock.claim_prefix(0, 8, 8))
    assert not left.is_set()
    inside, leave = in_guest(lock, 0, 8)
    assert inside.wait(10)
    assert [(claim.guest, claim.since_ns > 0) for claim in lock.held()] == [(True, True)]
    leave.set()
    assert left.wait(10)
    wait_until(lambda: not lock.held())


def test_a_claim_is_released_when_the_guest_fails() -> None:
    lock = RangeLock()
    with pytest.raises(ZeroDivisionError), lock.guest_claim(0, 8):
        raise ZeroDivisionError
    assert lock.held() == ()

"""The book of failed places, on a clock that the test moves."""

import errno

from mirrorgui.errors import BlockIOError
from mirrorgui.mirror.failures import (
    FIRST_RETRY_NS,
    LAST_RETRY_NS,
    MAX_DEFERRED,
    Failures,
)
from mirrorgui.mirror.policy import Action
from mirrorgui.mirror.snapshot import MAX_ERROR_RECORDS

CHUNK = 512


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


def error(operation: str = "write", offset: int = 0, length: int = CHUNK) -> BlockIOError:
    return BlockIOError(operation, offset, length, errno.EIO)


def note(failures: Failures, offset: int, length: int = CHUNK, operation: str = "write"):
    return failures.note(error(operation, offset, length), offset, length, Action.IGNORE)


def test_repeated_failures_of_a_place_are_one_record() -> None:
    failures = Failures(100 * CHUNK, CHUNK)
    note(failures, 0)
    note(failures, CHUNK)
    record = note(failures, 0)
    assert (record.tries, record.operation, record.message) == (2, "write", "Input/output error")
    assert [(each.offset, each.tries) for each in failures.records()] == [(CHUNK, 1), (0, 2)]
    assert failures.count == 3
    note(failures, 0, operation="read")
    assert len(failures.records()) == 3


def test_a_place_is_solved_when_all_of_it_was_copied() -> None:
    failures = Failures(100 * CHUNK, CHUNK)
    note(failures, 0, 4 * CHUNK)
    failures.solved(0, 2 * CHUNK)
    assert not failures.records()[0].solved
    assert not failures.must_split(0) and failures.must_split(2 * CHUNK)
    failures.solved(2 * CHUNK, 2 * CHUNK)
    assert failures.records()[0].solved
    assert failures.failed.is_clean


def test_a_failed_flush_has_no_place_and_is_solved_by_a_flush() -> None:
    failures = Failures(100 * CHUNK, CHUNK)
    record = failures.note(error("flush", 0, 0), 0, 0, Action.STOP)
    assert (record.length, record.operation, record.action) == (0, "write", "stop")
    assert failures.failed.is_clean
    failures.solved(0, 100 * CHUNK)
    assert not failures.records()[0].solved
    failures.flush_solved()
    assert failures.records()[0].solved


def test_the_records_are_bounded_and_say_how_many_were_lost() -> None:
    failures = Failures(2000 * CHUNK, CHUNK)
    for number in range(MAX_ERROR_RECORDS + 7):
        note(failures, number * CHUNK)
    assert len(failures.records()) == MAX_ERROR_RECORDS
    assert failures.lost == 7
    assert failures.records() is failures.records(), "frozen until something changes"


def test_a_chunk_is_tried_after_pauses_that_double_up_to_a_bound() -> None:
    clock = Clock()
    failures = Failures(100 * CHUNK, CHUNK, clock)
    pauses = []
    for _ in range(12):
        assert failures.defer(0, CHUNK)
        due = failures.next_due_ns()
        assert due is not None
        pauses.append(due - clock.now)
        clock.now = due - 1
        assert failures.take_due() == []
        clock.now = due
        assert failures.take_due() == [0]
    assert pauses[:4] == [FIRST_RETRY_NS << number for number in range(4)]
    assert pauses[-1] == LAST_RETRY_NS
    note(failures, 0)
    failures.solved(0, CHUNK)
    failures.defer(0, CHUNK)
    assert failures.next_due_ns() == clock.now + FIRST_RETRY_NS, "a success forgets the tries"


def test_everything_can_be_taken_at_once() -> None:
    failures = Failures(100 * CHUNK, CHUNK, Clock())
    failures.defer(0, 3 * CHUNK)
    assert failures.take_due() == []
    assert sorted(failures.take_due(everything=True)) == [0, CHUNK, 2 * CHUNK]
    assert failures.deferred == 0 and failures.next_due_ns() is None


def test_too_many_failing_chunks_are_no_bad_spots() -> None:
    failures = Failures(10**6 * CHUNK, CHUNK)
    assert failures.defer(0, MAX_DEFERRED * CHUNK)
    assert failures.defer(0, MAX_DEFERRED * CHUNK), "the same ones again"
    assert not failures.defer(MAX_DEFERRED * CHUNK, CHUNK)


def test_deferred_bytes_know_the_short_last_chunk() -> None:
    failures = Failures(10 * CHUNK + 100, CHUNK)
    assert failures.deferred_bytes == 0
    failures.defer(9 * CHUNK, CHUNK + 100)
    assert failures.deferred_bytes == CHUNK + 100
    assert Failures(0, CHUNK).deferred_bytes == 0


def test_a_deferred_chunk_that_was_copied_meanwhile_is_not_tried_again() -> None:
    failures = Failures(10 * CHUNK, CHUNK)
    note(failures, 0, 2 * CHUNK)
    failures.defer(0, 2 * CHUNK)
    failures.solved(0, CHUNK)
    assert failures.deferred == 1

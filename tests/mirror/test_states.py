"""The two tables: moves and verbs (REFERENCE 2.2 and 2.5)."""

import pytest

from mirrorgui.errors import StateError
from mirrorgui.mirror.events import EventLog
from mirrorgui.mirror.record import JobRecord
from mirrorgui.mirror.states import MOVES, VERBS, JobStatus, Verb, is_allowed, require

# One line a verb; columns are the statuses in this order.
STATUSES = [
    "created",
    "running",
    "paused",
    "ready",
    "standby",
    "waiting",
    "pending",
    "aborting",
    "concluded",
    "null",
]
ACCEPTED = {
    "cancel": "x x x x x x x . . .",
    "pause": "x x x x x . . . . .",
    "resume": "x x x x x . . . . .",
    "set-speed": "x x x x x . . . . .",
    "complete": ". . . x x . . . . .",
    "finalize": ". . . . . . x . . .",
    "dismiss": ". . . . . . . . x .",
    "change": "x x x x x . . . . .",
}
MAY_BECOME = {
    "created": "running paused aborting null",
    "running": "paused ready waiting aborting",
    "paused": "running",
    "ready": "standby waiting aborting",
    "standby": "ready",
    "waiting": "pending aborting",
    "pending": "aborting concluded",
    "aborting": "aborting concluded",
    "concluded": "null",
    "null": "",
}


def test_the_expectations_name_every_verb_and_status() -> None:
    assert set(ACCEPTED) == {verb.value for verb in VERBS} == {verb.value for verb in Verb}
    assert set(STATUSES) == {status.value for status in JobStatus}


@pytest.mark.parametrize("verb", list(Verb))
def test_every_verb_is_accepted_where_qemu_does(verb: Verb) -> None:
    for name, mark in zip(STATUSES, ACCEPTED[verb.value].split(), strict=True):
        status = JobStatus(name)
        assert is_allowed(verb, status) == (mark == "x")
        if mark == "x":
            require("j", verb, status)
            continue
        with pytest.raises(StateError) as caught:
            require("j", verb, status)
        assert str(caught.value) == (
            f"Job 'j' in state '{name}' cannot accept command verb '{verb.value}'"
        )
        assert set(caught.value.allowed) == {each.value for each in VERBS[verb]}


@pytest.mark.parametrize("before", list(JobStatus))
@pytest.mark.parametrize("after", list(JobStatus))
def test_every_move_is_as_in_the_table_and_every_other_asserts(
    before: JobStatus, after: JobStatus
) -> None:
    record = JobRecord("j", EventLog())
    record.status = before
    allowed = after.value in MAY_BECOME[before.value].split()
    assert allowed == (after in MOVES[before])
    if allowed:
        record.set_status(after)
        assert record.status is after
        return
    with pytest.raises(AssertionError, match=f"{before.value} -> {after.value}"):
        record.set_status(after)
    assert record.status is before

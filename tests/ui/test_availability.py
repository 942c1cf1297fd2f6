"""What can be done in each state, and the reason when it cannot."""

import pytest

from mirrorgui.mirror.options import CopyMode
from mirrorgui.mirror.snapshot import Outcome, Phase
from mirrorgui.mirror.states import OVER, VERBS, JobStatus, Verb, is_allowed
from mirrorgui.ui.availability import Act, availability, is_incomplete
from tests.ui.fakes import full, snapshot, stopped

S = JobStatus
YES = ""
SYNC = "Possible when in sync"
RESUME = "Resume first"
LATER = "Resume first; possible when in sync"
ENDING = "The mirror is being finished"
GONE = "This mirror has ended"
BUSY = "The mirror is still at work"

# status: pause, resume, speed, complete, finish, cancel, remove
TABLE = {
    S.CREATED: ("The mirror has not begun", "Not paused", YES, SYNC, SYNC, YES, BUSY),
    S.RUNNING: (YES, "Not paused", YES, SYNC, SYNC, YES, BUSY),
    S.PAUSED: ("Already paused", YES, YES, LATER, LATER, YES, BUSY),
    S.READY: (YES, "Not paused", YES, YES, YES, YES, BUSY),
    S.STANDBY: ("Already paused", YES, YES, RESUME, RESUME, YES, BUSY),
    S.WAITING: (ENDING, ENDING, ENDING, ENDING, ENDING, "The switch has begun", BUSY),
    S.PENDING: (ENDING, ENDING, ENDING, ENDING, ENDING, "The switch has begun", BUSY),
    S.ABORTING: (*("The mirror is being cancelled",) * 6, BUSY),
    S.CONCLUDED: (*(GONE,) * 6, YES),
    S.NULL: (*(GONE,) * 6, YES),
}
ACTS = (
    Act.PAUSE,
    Act.RESUME,
    Act.SPEED,
    Act.COMPLETE,
    Act.FINISH,
    Act.CANCEL,
    Act.REMOVE,
)
CASES = [
    (status, act, reason)
    for status, reasons in TABLE.items()
    for act, reason in zip(ACTS, reasons, strict=True)
]


def test_the_table_knows_every_status():
    assert set(TABLE) == set(JobStatus)


@pytest.mark.parametrize(("status", "act", "reason"), CASES)
def test_each_act_in_each_status(status, act, reason):
    found = availability(act, snapshot(status))
    assert (found.enabled, found.reason) == (reason == YES, reason)


@pytest.mark.parametrize("status", list(JobStatus))
@pytest.mark.parametrize("act", list(Act))
def test_nothing_is_offered_that_the_engine_refuses(status, act):
    verbs = {
        Act.PAUSE: Verb.PAUSE,
        Act.RESUME: Verb.RESUME,
        Act.SPEED: Verb.SET_SPEED,
        Act.COMPLETE: Verb.COMPLETE,
        Act.FINISH: Verb.CANCEL,
        Act.CANCEL: Verb.CANCEL,
        Act.WRITE_BLOCKING: Verb.CHANGE,
        Act.POLICY: Verb.CHANGE,
    }
    found = availability(act, snapshot(status))
    if act in verbs and found.enabled:
        assert status in VERBS[verbs[act]]
        assert is_allowed(verbs[act], status)
    assert bool(found.reason) is not found.enabled


@pytest.mark.parametrize("act", list(Act))
def test_without_a_mirror_nothing_is_possible(act):
    found = availability(act, None)
    assert (found.enabled, found.reason) == (False, "No mirror is selected")


def test_a_full_target_can_be_resumed_once_there_is_room():
    assert availability(Act.RESUME, full(), free_space=0).reason == "Free space: 0 B"
    assert availability(Act.RESUME, full(), free_space=4096).enabled
    assert availability(Act.RESUME, full(), free_space=None).enabled


def test_a_mirror_stopped_by_an_error_can_be_resumed_and_cancelled():
    assert availability(Act.RESUME, stopped()).enabled
    assert availability(Act.CANCEL, stopped()).enabled
    assert not availability(Act.PAUSE, stopped()).enabled


def test_a_pause_under_way_is_not_asked_for_twice_but_can_be_taken_back():
    pausing = snapshot(S.RUNNING, pause_requested=True)
    assert not availability(Act.PAUSE, pausing).enabled
    assert availability(Act.RESUME, pausing).enabled


def test_an_end_that_was_asked_for_is_not_asked_for_again():
    switching = snapshot(S.READY, complete_requested=True)
    assert availability(Act.COMPLETE, switching).reason == "Already switching"
    assert availability(Act.FINISH, switching).reason == "Already switching"
    assert availability(Act.CANCEL, switching).enabled
    finishing = snapshot(S.READY, soft_cancel_requested=True)
    assert availability(Act.COMPLETE, finishing).reason == "Already finishing without switching"
    begun = snapshot(S.READY, complete_requested=True, phase=Phase.SWITCHING)
    assert availability(Act.CANCEL, begun).reason == "The switch has begun"


def test_write_blocking_is_offered_once():
    assert availability(Act.WRITE_BLOCKING, snapshot()).enabled
    blocking = snapshot(copy_mode=CopyMode.WRITE_BLOCKING)
    assert not availability(Act.WRITE_BLOCKING, blocking).enabled


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_what_did_not_succeed_is_tried_again(outcome):
    found = availability(Act.RETRY, snapshot(S.NULL, outcome=outcome))
    assert found.enabled is (outcome in (Outcome.FAILED, Outcome.CANCELLED))


def test_a_target_is_incomplete_until_in_sync():
    assert is_incomplete(snapshot())
    assert not is_incomplete(snapshot(S.READY))
    assert all(not is_incomplete(snapshot(each)) for each in OVER)

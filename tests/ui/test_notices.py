"""What the message bar says: what happened, whether data are safe, what can be done."""

import pytest

from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.names import Names
from mirrorgui.ui.notices import (
    NoticeAction,
    closing_notice,
    internal_error,
    notice_for,
    refused,
)
from mirrorgui.ui.wording import Tone, clock
from mirrorgui.units import GiB, MiB
from tests.ui.fakes import NOON_NS, error, full, snapshot, stopped

NAMES = Names.of("/vm/source.qcow2", "/vm2/target.qcow2")
STOP = (NoticeAction.RESUME, NoticeAction.CHANGE_POLICY, NoticeAction.CANCEL)


@pytest.mark.parametrize(
    "status",
    [
        JobStatus.CREATED,
        JobStatus.RUNNING,
        JobStatus.READY,
        JobStatus.PAUSED,
        JobStatus.STANDBY,
        JobStatus.WAITING,
        JobStatus.ABORTING,
    ],
)
def test_there_is_no_message_while_nothing_is_wrong(status):
    assert notice_for(snapshot(status), NAMES) is None


@pytest.mark.parametrize("status", [JobStatus.READY, JobStatus.STANDBY])
def test_a_switch_that_was_refused(status):
    reason = "Cannot open /vm/base.qcow2: No such file or directory."
    notice = notice_for(snapshot(status, complete_refused=reason), NAMES)
    assert notice.title == f"target.qcow2 cannot take over: {reason}"
    assert notice.text == (
        "Clients are not affected: they work on source.qcow2, and the target is kept in sync. "
        "Put that right, then complete again."
    )
    assert notice.tone is Tone.ERROR


def test_a_full_target():
    notice = notice_for(full(dirty_bytes=0, length=1024 * MiB), NAMES, free_space=0)
    assert notice.title == (
        "Writing to target.qcow2 stopped: no space left (0 B free, up to 389.0 MiB needed)."
    )
    assert notice.text == (
        "Clients are not affected: they work on source.qcow2. Free some space, then resume."
    )
    assert notice.actions == STOP
    assert notice.tone is Tone.ERROR
    assert "unknown free" in notice_for(full(), NAMES).title


def test_a_write_error():
    notice = notice_for(stopped(), NAMES)
    assert notice.title == "Writing to target.qcow2 stopped at 12.0 GiB: Input/output error."
    assert notice.text == (
        "Clients are not affected: they work on source.qcow2. Resume tries this place again."
    )
    assert notice.actions == (*STOP, NoticeAction.SHOW_ERRORS)


def test_a_read_error_says_what_clients_may_see():
    notice = notice_for(stopped(error(operation="read")), NAMES)
    assert notice.title == "Reading source.qcow2 stopped at 12.0 GiB: Input/output error."
    assert notice.text.startswith("Nothing was changed on the source; clients that read")


def test_a_flush_error_has_no_place():
    notice = notice_for(stopped(error(offset=0, length=0)), NAMES)
    assert notice.title == "Flushing target.qcow2 stopped: Input/output error."


def test_a_stop_without_a_record_still_says_what_can_be_done():
    notice = notice_for(stopped(errors=()), NAMES)
    assert notice.title == "The mirror stopped on an error."
    assert notice.actions == STOP


def test_each_new_stop_is_announced_again():
    first = notice_for(stopped(error_count=1), NAMES)
    assert first.key != notice_for(stopped(error_count=2), NAMES).key


def test_a_mirror_that_will_not_finish_names_both_rates():
    notice = notice_for(snapshot(speed=60 * MiB), NAMES, too_slow=(80 * MiB, 60 * MiB))
    assert notice.title == (
        "Will not finish: clients write 80.0 MiB/s, the mirror copies 60.0 MiB/s."
    )
    assert notice.actions == (NoticeAction.RAISE_LIMIT, NoticeAction.WRITE_BLOCKING)
    unlimited = notice_for(snapshot(), NAMES, too_slow=(80 * MiB, 60 * MiB))
    assert unlimited.actions == (NoticeAction.WRITE_BLOCKING,)


def test_each_end_says_what_the_target_is_worth():
    ends = {
        outcome: notice_for(snapshot(JobStatus.NULL, outcome=outcome), NAMES) for outcome in Outcome
    }
    time = clock(NOON_NS)
    switched = ends[Outcome.SWITCHED]
    assert switched.title == "Done. Clients use target.qcow2."
    assert switched.text == f"source.qcow2 is as it was at {time} and receives no more writes."
    finished = ends[Outcome.FINISHED]
    assert finished.title == f"Done. target.qcow2 is a copy as of {time}."
    assert finished.text == "Clients use source.qcow2 as before."
    cancelled = ends[Outcome.CANCELLED]
    assert cancelled.title == "Cancelled. target.qcow2 is not usable."
    assert cancelled.text == "Clients stay on source.qcow2; nothing is lost there."
    assert NoticeAction.RETRY in cancelled.actions
    assert NoticeAction.RETRY not in switched.actions


def test_a_failure_names_error_and_place():
    failed = snapshot(
        JobStatus.CONCLUDED,
        outcome=Outcome.FAILED,
        error="Input/output error",
        errors=(error(12 * GiB),),
    )
    notice = notice_for(failed, NAMES)
    assert notice.title == (
        "Failed: Input/output error (write error at 12.0 GiB). The target is not usable."
    )
    assert notice.actions == (NoticeAction.RETRY, NoticeAction.SHOW_ERRORS, NoticeAction.DISMISS)
    bare = snapshot(JobStatus.CONCLUDED, outcome=Outcome.FAILED, error=None)
    assert notice_for(bare, NAMES).title == "Failed: unknown reason. The target is not usable."


def test_notices_that_belong_to_no_state():
    assert internal_error("KeyError", "trace").details == "trace"
    assert NoticeAction.COPY_DETAILS in internal_error("KeyError", "trace").actions
    assert refused("No.").title == "No."
    assert "target.qcow2" in closing_notice(NAMES).title


def test_a_target_that_was_taken_away():
    loss = "/vm2/target.qcow2 was removed by another program"
    working = notice_for(snapshot(), NAMES, target_loss=loss)
    assert working.title == f"The target is lost: {loss}."
    assert working.text == "Clients are not affected: they work on source.qcow2."
    assert working.actions == (NoticeAction.CANCEL,)
    finished = snapshot(JobStatus.NULL, outcome=Outcome.FINISHED)
    assert NoticeAction.RETRY in notice_for(finished, NAMES, target_loss=loss).actions
    switched = notice_for(snapshot(JobStatus.NULL), NAMES, target_loss=loss)
    assert "Copy their data elsewhere now" in switched.text

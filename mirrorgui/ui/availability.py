"""What a person can do with a mirror now, and why not otherwise. Free of Qt.

Rests on the engine's table of verbs; the rules added here are the window's own and only narrow it.
"""

import enum
from dataclasses import dataclass

from mirrorgui.mirror.options import CopyMode
from mirrorgui.mirror.snapshot import JobSnapshot, Outcome, Phase
from mirrorgui.mirror.states import OVER, JobStatus, Verb, is_allowed
from mirrorgui.ui.i18n import tr


class Act(enum.Enum):
    """Something to do with a mirror."""

    PAUSE = "pause"
    RESUME = "resume"
    SPEED = "speed"
    COMPLETE = "complete"
    FINISH = "finish"
    CANCEL = "cancel"
    WRITE_BLOCKING = "write-blocking"
    POLICY = "policy"
    REMOVE = "remove"
    RETRY = "retry"


_VERB = {
    Act.PAUSE: Verb.PAUSE,
    Act.RESUME: Verb.RESUME,
    Act.SPEED: Verb.SET_SPEED,
    Act.COMPLETE: Verb.COMPLETE,
    Act.FINISH: Verb.CANCEL,
    Act.CANCEL: Verb.CANCEL,
    Act.WRITE_BLOCKING: Verb.CHANGE,
    Act.POLICY: Verb.CHANGE,
}


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether an act is possible.

    Attributes:
        enabled: it can be done now.
        reason: why not, as a short sentence without a full stop; empty when it can.
        pointless: it will not become possible without another act; better hidden than greyed out.
    """

    enabled: bool
    reason: str = ""
    pointless: bool = False


_YES = Availability(enabled=True)


def _no(reason: str, *, pointless: bool = False) -> Availability:
    return Availability(enabled=False, reason=reason, pointless=pointless)


def availability(
    act: Act, snapshot: JobSnapshot | None, *, free_space: int | None = None
) -> Availability:
    """Say whether ``act`` is possible for a job.

    Args:
        act: what to do.
        snapshot: the job, or None when there is none.
        free_space: bytes free where the target lies, when that is known.
    """
    if snapshot is None:
        return _no(tr("No mirror is selected"), pointless=True)
    if act in (Act.REMOVE, Act.RETRY):
        return _afterwards(act, snapshot)
    if snapshot.status in OVER:
        return _no(tr("This mirror has ended"), pointless=True)
    narrowed = _RULES[act](snapshot)
    if narrowed is not None:
        return narrowed
    if act is Act.RESUME and snapshot.io_status == "nospace" and free_space == 0:
        return _no(tr("Free space: 0 B"))
    if not is_allowed(_VERB[act], snapshot.status):
        return _no(_status_reason(snapshot))
    return _YES


def _status_reason(snapshot: JobSnapshot) -> str:
    if snapshot.status is JobStatus.ABORTING:
        return tr("The mirror is being cancelled")
    return tr("The mirror is being finished")


def _afterwards(act: Act, snapshot: JobSnapshot) -> Availability:
    if snapshot.status not in OVER:
        return _no(tr("The mirror is still at work"), pointless=True)
    if act is Act.RETRY and snapshot.outcome in (Outcome.SWITCHED, Outcome.FINISHED):
        return _no(tr("The mirror has succeeded"), pointless=True)
    return _YES


def _is_ending(snapshot: JobSnapshot) -> bool:
    return snapshot.phase is Phase.SWITCHING or snapshot.status in (
        JobStatus.WAITING,
        JobStatus.PENDING,
        JobStatus.ABORTING,
    )


def _stopped(snapshot: JobSnapshot) -> bool:
    return snapshot.paused or snapshot.status in (JobStatus.PAUSED, JobStatus.STANDBY)


def _pause(snapshot: JobSnapshot) -> Availability | None:
    if snapshot.status is JobStatus.CREATED:
        return _no(tr("The mirror has not begun"))
    if _is_ending(snapshot):
        return _no(_status_reason(snapshot))
    if _stopped(snapshot):
        return _no(tr("Already paused"), pointless=True)
    if snapshot.pause_requested:
        return _no(tr("Pausing: waiting for the operations in flight"))
    return None


def _resume(snapshot: JobSnapshot) -> Availability | None:
    if _is_ending(snapshot):
        return _no(_status_reason(snapshot))
    if not _stopped(snapshot) and not snapshot.pause_requested:
        return _no(tr("Not paused"), pointless=True)
    return None


def _needs_sync(snapshot: JobSnapshot) -> Availability | None:
    if _is_ending(snapshot):
        return _no(_status_reason(snapshot))
    if snapshot.complete_requested:
        return _no(tr("Already switching"))
    if snapshot.soft_cancel_requested:
        return _no(tr("Already finishing without switching"))
    if snapshot.status is JobStatus.STANDBY:
        return _no(tr("Resume first"))
    if snapshot.status is JobStatus.PAUSED:
        return _no(tr("Resume first; possible when in sync"))
    if snapshot.status is not JobStatus.READY:
        return _no(tr("Possible when in sync"))
    return None


def _cancel(snapshot: JobSnapshot) -> Availability | None:
    if snapshot.phase is Phase.SWITCHING:
        return _no(tr("The switch has begun"))
    return None


def _write_blocking(snapshot: JobSnapshot) -> Availability | None:
    if snapshot.copy_mode is CopyMode.WRITE_BLOCKING:
        return _no(tr("Client writes wait for the target already"))
    return None


def _nothing_more(_snapshot: JobSnapshot) -> Availability | None:
    return None


_RULES = {
    Act.PAUSE: _pause,
    Act.RESUME: _resume,
    Act.SPEED: _nothing_more,
    Act.COMPLETE: _needs_sync,
    Act.FINISH: _needs_sync,
    Act.CANCEL: _cancel,
    Act.WRITE_BLOCKING: _write_blocking,
    Act.POLICY: _nothing_more,
}


def is_incomplete(snapshot: JobSnapshot) -> bool:
    """Say whether a cancel now would leave a target that nobody can use."""
    return not snapshot.ready and snapshot.status not in OVER

"""The job's states and verbs: two tables, as in QEMU (job.c: JobSTT and JobVerbTable).

The job's only setter checks moves against ``MOVES``; the window enables its buttons from ``VERBS``.
"""

import enum

from mirrorgui.errors import StateError


class JobStatus(enum.Enum):
    """Where a job is in its life; values are QEMU's."""

    CREATED = "created"
    """Exists, has not begun."""
    RUNNING = "running"
    """Scanning or copying."""
    PAUSED = "paused"
    """Stopped by a person or an error before READY; nothing is in flight."""
    READY = "ready"
    """In sync (or closely behind, while the guest writes); waits to be told how to end."""
    STANDBY = "standby"
    """READY, and stopped by a person or an error; nothing is in flight."""
    WAITING = "waiting"
    """Its work is done; waits for the other jobs of its transaction."""
    PENDING = "pending"
    """Waits for ``finalize`` (for no time at all with auto-finalize)."""
    ABORTING = "aborting"
    """Failed or cancelled; cleaning up."""
    CONCLUDED = "concluded"
    """Over; only the record is left."""
    NULL = "null"
    """Gone."""


class Verb(enum.Enum):
    """What can be asked of a job; values are QEMU's."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    SET_SPEED = "set-speed"
    COMPLETE = "complete"
    FINALIZE = "finalize"
    DISMISS = "dismiss"
    CHANGE = "change"


_S = JobStatus

MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    _S.CREATED: frozenset({_S.RUNNING, _S.PAUSED, _S.ABORTING, _S.NULL}),
    _S.RUNNING: frozenset({_S.PAUSED, _S.READY, _S.WAITING, _S.ABORTING}),
    _S.PAUSED: frozenset({_S.RUNNING}),
    _S.READY: frozenset({_S.STANDBY, _S.WAITING, _S.ABORTING}),
    _S.STANDBY: frozenset({_S.READY}),
    _S.WAITING: frozenset({_S.PENDING, _S.ABORTING}),
    _S.PENDING: frozenset({_S.ABORTING, _S.CONCLUDED}),
    _S.ABORTING: frozenset({_S.ABORTING, _S.CONCLUDED}),
    _S.CONCLUDED: frozenset({_S.NULL}),
    _S.NULL: frozenset(),
}
"""The moves that may happen."""

_ALIVE = frozenset({_S.CREATED, _S.RUNNING, _S.PAUSED, _S.READY, _S.STANDBY})

VERBS: dict[Verb, frozenset[JobStatus]] = {
    Verb.CANCEL: _ALIVE | {_S.WAITING, _S.PENDING},
    Verb.PAUSE: _ALIVE,
    Verb.RESUME: _ALIVE,
    Verb.SET_SPEED: _ALIVE,
    Verb.COMPLETE: frozenset({_S.READY, _S.STANDBY}),
    Verb.FINALIZE: frozenset({_S.PENDING}),
    Verb.DISMISS: frozenset({_S.CONCLUDED}),
    Verb.CHANGE: _ALIVE,
}
"""The statuses in which each verb is accepted."""

WORKING = frozenset({_S.CREATED, _S.RUNNING, _S.PAUSED, _S.READY, _S.STANDBY})
"""The job has not begun to end."""

OVER = frozenset({_S.CONCLUDED, _S.NULL})
"""Nothing will happen any more."""


def is_allowed(verb: Verb, status: JobStatus) -> bool:
    """Say whether a verb is accepted in a status."""
    return status in VERBS[verb]


def require(job_id: str, verb: Verb, status: JobStatus) -> None:
    """Raise ``StateError`` unless the verb is accepted in the status."""
    if status not in VERBS[verb]:
        allowed = sorted(each.value for each in VERBS[verb])
        raise StateError(job_id, verb.value, status.value, allowed)

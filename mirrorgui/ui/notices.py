"""What the message bar says: what happened, whether the clients' data are safe, what can be done.

Free of Qt. One notice for a job at a time; the most urgent wins.
"""

import enum
from dataclasses import dataclass

from mirrorgui.mirror.snapshot import ErrorRecord, JobSnapshot, Outcome
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.names import Names
from mirrorgui.ui.wording import Tone, clock, failure_place
from mirrorgui.units import format_rate, format_size


class NoticeAction(enum.Enum):
    """A button of the message bar."""

    RESUME = "resume"
    CHANGE_POLICY = "change-policy"
    CANCEL = "cancel"
    SHOW_ERRORS = "show-errors"
    RETRY = "retry"
    RAISE_LIMIT = "raise-limit"
    WRITE_BLOCKING = "write-blocking"
    COPY_DETAILS = "copy-details"
    DISMISS = "dismiss"


@dataclass(frozen=True, slots=True)
class Notice:
    """A message with its buttons.

    Attributes:
        key: equal for the same message of the same cause, so that it is announced once.
        tone: how it should feel.
        title: what happened, one sentence.
        text: whether the clients' data are safe, and what can be done.
        actions: buttons, the one that helps first.
        details: more for a report, or empty.
    """

    key: str
    tone: Tone
    title: str
    text: str
    actions: tuple[NoticeAction, ...] = ()
    details: str = ""


_IN_SYNC = (JobStatus.READY, JobStatus.STANDBY)
_STOP_ACTIONS = (NoticeAction.RESUME, NoticeAction.CHANGE_POLICY, NoticeAction.CANCEL)


def notice_for(
    snapshot: JobSnapshot,
    names: Names,
    *,
    free_space: int | None = None,
    too_slow: tuple[float, float] | None = None,
    target_loss: str = "",
) -> Notice | None:
    """Return what the message bar has to say about a job, or None.

    Args:
        snapshot: the job.
        names: both ends.
        free_space: bytes free where the target lies, when that is known.
        too_slow: rates in bytes per second (clients write, mirror copies) when the mirror will not
            finish like this; None otherwise.
        target_loss: what another program did to the target's file; empty when nothing.
    """
    if target_loss and snapshot.outcome in (None, Outcome.FINISHED, Outcome.SWITCHED):
        return _lost(snapshot, names, target_loss)
    if snapshot.status in OVER:
        return _over(snapshot, names)
    if snapshot.paused_by_error and snapshot.status in (JobStatus.PAUSED, JobStatus.STANDBY):
        if snapshot.io_status == "nospace":
            return _full(snapshot, names, free_space)
        return _stopped(snapshot, names)
    if snapshot.complete_refused is not None and snapshot.status in _IN_SYNC:
        return _not_switched(snapshot.complete_refused, names)
    if too_slow is not None and snapshot.status is JobStatus.RUNNING:
        return _too_slow(snapshot, too_slow)
    return None


def _lost(snapshot: JobSnapshot, names: Names, loss: str) -> Notice:
    title = tr("The target is lost: {loss}.", loss=loss)
    if snapshot.outcome is Outcome.SWITCHED:
        text = tr(
            "Clients work on it as long as this window is open. Copy their data elsewhere now."
        )
        return Notice("lost", Tone.ERROR, title, text)
    text = tr("Clients are not affected: they work on {source}.", source=names.source)
    if snapshot.status in OVER:
        return Notice("lost", Tone.ERROR, title, text, (NoticeAction.RETRY, NoticeAction.DISMISS))
    return Notice("lost", Tone.ERROR, title, text, (NoticeAction.CANCEL,))


def _not_switched(reason: str, names: Names) -> Notice:
    """Complete came to nothing: what belongs below the target could not be opened."""
    title = tr("{target} cannot take over: {reason}", target=names.target, reason=reason)
    text = tr(
        "Clients are not affected: they work on {source}, and the target is kept in sync. Put "
        "that right, then complete again.",
        source=names.source,
    )
    return Notice(f"not-switched:{reason}", Tone.ERROR, title, text)


def _full(snapshot: JobSnapshot, names: Names, free_space: int | None) -> Notice:
    free = tr("unknown") if free_space is None else format_size(free_space)
    title = tr(
        "Writing to {target} stopped: no space left ({free} free, up to {needed} needed).",
        target=names.target,
        free=free,
        needed=format_size(snapshot.remaining),
    )
    text = tr(
        "Clients are not affected: they work on {source}. Free some space, then resume.",
        source=names.source,
    )
    return Notice(f"full:{snapshot.error_count}", Tone.ERROR, title, text, _STOP_ACTIONS)


def _stopped(snapshot: JobSnapshot, names: Names) -> Notice:
    if not snapshot.errors:
        return Notice(
            f"stopped:{snapshot.error_count}",
            Tone.ERROR,
            tr("The mirror stopped on an error."),
            tr("Clients are not affected."),
            _STOP_ACTIONS,
        )
    record = snapshot.errors[-1]
    title, text = _stop_words(record, names)
    actions = (*_STOP_ACTIONS, NoticeAction.SHOW_ERRORS)
    return Notice(f"stopped:{snapshot.error_count}", Tone.ERROR, title, text, actions)


def _stop_words(record: ErrorRecord, names: Names) -> tuple[str, str]:
    where = format_size(record.offset)
    if record.operation == "read":
        title = tr(
            "Reading {source} stopped at {offset}: {message}.",
            source=names.source,
            offset=where,
            message=record.message,
        )
        safe = tr(
            "Nothing was changed on the source; clients that read this place may see the same "
            "error. Resume tries this place again."
        )
        return title, safe
    if record.length == 0:
        title = tr(
            "Flushing {target} stopped: {message}.", target=names.target, message=record.message
        )
    else:
        title = tr(
            "Writing to {target} stopped at {offset}: {message}.",
            target=names.target,
            offset=where,
            message=record.message,
        )
    safe = tr(
        "Clients are not affected: they work on {source}. Resume tries this place again.",
        source=names.source,
    )
    return title, safe


def _too_slow(snapshot: JobSnapshot, rates: tuple[float, float]) -> Notice:
    title = tr(
        "Will not finish: clients write {written}, the mirror copies {copied}.",
        written=format_rate(rates[0]),
        copied=format_rate(rates[1]),
    )
    if snapshot.speed:
        text = tr(
            "The speed limit is {limit}. Raise it, or let client writes wait for the target.",
            limit=format_rate(snapshot.speed),
        )
        actions = (NoticeAction.RAISE_LIMIT, NoticeAction.WRITE_BLOCKING)
        return Notice("too-slow", Tone.ATTENTION, title, text, actions)
    text = tr("No data are in danger. Let client writes wait for the target, or reduce them.")
    return Notice("too-slow", Tone.ATTENTION, title, text, (NoticeAction.WRITE_BLOCKING,))


def _over(snapshot: JobSnapshot, names: Names) -> Notice:
    if snapshot.outcome is Outcome.SWITCHED:
        return Notice(
            "switched",
            Tone.GOOD,
            tr("Done. Clients use {target}.", target=names.target),
            tr(
                "{source} is as it was at {time} and receives no more writes.",
                source=names.source,
                time=clock(snapshot.ended_wall_ns),
            ),
            (NoticeAction.DISMISS,),
        )
    if snapshot.outcome is Outcome.FINISHED:
        return Notice(
            "finished",
            Tone.GOOD,
            tr(
                "Done. {target} is a copy as of {time}.",
                target=names.target,
                time=clock(snapshot.ended_wall_ns),
            ),
            tr("Clients use {source} as before.", source=names.source),
            (NoticeAction.DISMISS,),
        )
    if snapshot.outcome is Outcome.FAILED or snapshot.error:
        return _failed(snapshot, names)
    return Notice(
        "cancelled",
        Tone.NEUTRAL,
        tr("Cancelled. {target} is not usable.", target=names.target),
        tr("Clients stay on {source}; nothing is lost there.", source=names.source),
        (NoticeAction.RETRY, NoticeAction.DISMISS),
    )


def _failed(snapshot: JobSnapshot, names: Names) -> Notice:
    reason = (snapshot.error or tr("unknown reason")).rstrip(".")
    place = f" ({failure_place(snapshot.errors[-1])})" if snapshot.errors else ""
    show = (NoticeAction.SHOW_ERRORS,) if snapshot.errors else ()
    actions = (NoticeAction.RETRY, *show, NoticeAction.DISMISS)
    return Notice(
        "failed",
        Tone.ERROR,
        tr("Failed: {error}{place}. The target is not usable.", error=reason, place=place),
        tr("Clients stay on {source}; nothing is lost there.", source=names.source),
        actions,
    )


def internal_error(kind: str, details: str) -> Notice:
    """Return the notice about an error of this program that no code expected."""
    return Notice(
        f"internal:{kind}",
        Tone.ERROR,
        tr("Internal error: {kind}.", kind=kind),
        tr("The mirror goes on where it can; images were not touched by this. Please report it."),
        (NoticeAction.COPY_DETAILS, NoticeAction.DISMISS),
        details,
    )


def refused(sentence: str) -> Notice:
    """Return the notice about a verb that the job did not accept."""
    return Notice(f"refused:{sentence}", Tone.ATTENTION, sentence, "", (NoticeAction.DISMISS,))


def closing_notice(names: Names) -> Notice:
    """Return the notice about a window that has to wait for a switch before it closes."""
    return Notice(
        "closing",
        Tone.ACTIVE,
        tr("Finishing: the last writes to {target} are being flushed.", target=names.target),
        tr("The window closes by itself afterwards."),
    )

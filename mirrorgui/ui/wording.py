"""The state of a job in plain words: what the header, the list and the title say. Free of Qt.

Internal states are QEMU's; people see the words of this module, always with an icon, so that no
colour has to be told from another.
"""

import enum
import math
import time
from dataclasses import dataclass

from mirrorgui.mirror.snapshot import ErrorRecord, JobSnapshot, Outcome, Phase
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.names import Names
from mirrorgui.units import format_size

APPLICATION = "MirrorGUI"


class Tone(enum.Enum):
    """How a state should feel; the theme turns it into a colour."""

    NEUTRAL = "neutral"
    ACTIVE = "active"
    GOOD = "good"
    ATTENTION = "attention"
    ERROR = "error"


class Bar(enum.Enum):
    """What the progress bar shows."""

    SHARE = "share"
    BUSY = "busy"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Shown:
    """A state as it is shown.

    Attributes:
        text: the state in words.
        icon: name of the icon beside it.
        tone: how it should feel.
        bar: what the progress bar shows.
        share: progress from 0.0 to 1.0.
        waiting: the mirror goes no further without the person.
    """

    text: str
    icon: str
    tone: Tone
    bar: Bar = Bar.SHARE
    share: float = 0.0
    waiting: bool = False


def percent(share: float, digits: int = 0) -> str:
    """Write a share of 1.0 as ``62 %``, rounded down: 100 % means all of it."""
    scale = 10**digits
    return f"{math.floor(share * 100 * scale + 1e-9) / scale:.{digits}f} %"


def clock(wall_ns: int) -> str:
    """Write a wall clock time (nanoseconds since 1970) as local ``19:52:07``."""
    return time.strftime("%H:%M:%S", time.localtime(wall_ns / 1e9))


def progress_share(snapshot: JobSnapshot) -> float:
    """Return the progress to show, from 0.0 to 1.0; 1.0 only once everything is on the target."""
    if snapshot.phase is Phase.SCANNING:
        return snapshot.scan_done / snapshot.scan_total if snapshot.scan_total else 0.0
    return min(max(snapshot.fraction, 0.0), 1.0)


def failure_place(record: ErrorRecord) -> str:
    """Say what failed and where: ``write error at 12.0 GiB``."""
    if record.operation == "write" and record.length == 0:
        return tr("flush error")
    kind = tr("read error") if record.operation == "read" else tr("write error")
    return tr("{kind} at {offset}", kind=kind, offset=format_size(record.offset))


def behind(snapshot: JobSnapshot) -> int:
    """Return the bytes that the target lags behind the source."""
    return snapshot.dirty_bytes + snapshot.in_flight_bytes


def shown_state(
    snapshot: JobSnapshot, names: Names, *, converging: bool = True, target_loss: str = ""
) -> Shown:
    """Put a job's state into words.

    Args:
        snapshot: the job.
        names: both ends.
        converging: False when guests write faster than the mirror copies, for a while already.
        target_loss: what another program did to the target's file; empty when nothing.
    """
    status = snapshot.status
    if target_loss and snapshot.outcome in (None, Outcome.FINISHED, Outcome.SWITCHED):
        text = tr("The target is lost: {loss}.", loss=target_loss)
        return Shown(text, "error", Tone.ERROR, share=progress_share(snapshot), waiting=True)
    if status in OVER:
        return _over(snapshot, names)
    if status is JobStatus.ABORTING:
        text = tr("Stopping after an error...") if snapshot.error else tr("Cancelling...")
        return Shown(text, "cancel", Tone.ATTENTION, Bar.BUSY)
    if status in (JobStatus.WAITING, JobStatus.PENDING) or snapshot.phase is Phase.SWITCHING:
        return _ending(snapshot)
    if status is JobStatus.CREATED:
        return Shown(tr("Preparing..."), "wait", Tone.NEUTRAL, Bar.BUSY)
    if status in (JobStatus.PAUSED, JobStatus.STANDBY):
        return _stopped(snapshot)
    if status is JobStatus.READY:
        return _in_sync(snapshot)
    return _running(snapshot, converging=converging)


def _running(snapshot: JobSnapshot, *, converging: bool) -> Shown:
    share = progress_share(snapshot)
    if snapshot.pause_requested or snapshot.paused:
        return Shown(tr("Pausing..."), "pause", Tone.NEUTRAL, share=share)
    if snapshot.phase is Phase.PREPARING:
        return Shown(tr("Preparing..."), "wait", Tone.NEUTRAL, Bar.BUSY)
    if snapshot.phase is Phase.SCANNING:
        text = tr("Preparing: looking for data {percent}", percent=percent(share))
        return Shown(text, "scan", Tone.ACTIVE, share=share)
    if snapshot.phase is Phase.FLUSHING:
        return Shown(tr("Flushing..."), "flush", Tone.ACTIVE, Bar.BUSY, share)
    if not converging:
        text = tr("Copying - clients write faster than the copy")
        return Shown(text, "warning", Tone.ATTENTION, share=share)
    return Shown(tr("Copying {percent}", percent=percent(share)), "copy", Tone.ACTIVE, share=share)


def _in_sync(snapshot: JobSnapshot) -> Shown:
    late = behind(snapshot)
    share = progress_share(snapshot)
    if snapshot.pause_requested or snapshot.paused:
        return Shown(tr("In sync, pausing..."), "pause", Tone.NEUTRAL, share=share)
    if snapshot.complete_requested or snapshot.soft_cancel_requested:
        return _told_to_end(snapshot, late, share)
    if late:
        text = tr("In sync, {size} behind", size=format_size(late))
        return Shown(text, "in-sync", Tone.GOOD, share=share, waiting=True)
    text = tr("In sync - complete when you like")
    return Shown(text, "in-sync", Tone.GOOD, Bar.FULL, 1.0, waiting=True)


def _told_to_end(snapshot: JobSnapshot, late: int, share: float) -> Shown:
    if not late or snapshot.phase is Phase.FLUSHING:
        return _ending(snapshot)
    size = format_size(late)
    if snapshot.soft_cancel_requested:
        return Shown(tr("Finishing, {size} left", size=size), "finish", Tone.ACTIVE, share=share)
    return Shown(tr("Switching, {size} left", size=size), "switch", Tone.ACTIVE, share=share)


def _stopped(snapshot: JobSnapshot) -> Shown:
    share = progress_share(snapshot)
    if snapshot.paused_by_error:
        if snapshot.io_status == "nospace":
            text = tr("Stopped: target is full")
        elif snapshot.errors:
            text = tr("Stopped: {what}", what=failure_place(snapshot.errors[-1]))
        else:
            text = tr("Stopped by an error")
        return Shown(text, "error", Tone.ERROR, share=share, waiting=True)
    if snapshot.status is JobStatus.STANDBY:
        return Shown(tr("In sync, paused"), "pause", Tone.ATTENTION, share=share, waiting=True)
    return Shown(tr("Paused by you"), "pause", Tone.ATTENTION, share=share, waiting=True)


def _ending(snapshot: JobSnapshot) -> Shown:
    if snapshot.soft_cancel_requested:
        text = tr("Finishing... writes are being flushed")
        return Shown(text, "finish", Tone.ACTIVE, Bar.BUSY)
    return Shown(tr("Switching... writes are being flushed"), "switch", Tone.ACTIVE, Bar.BUSY)


def _over(snapshot: JobSnapshot, names: Names) -> Shown:
    if snapshot.outcome is Outcome.SWITCHED:
        text = tr("Done. Clients use {target}.", target=names.target)
        return Shown(text, "done", Tone.GOOD, Bar.FULL, 1.0)
    if snapshot.outcome is Outcome.FINISHED:
        text = tr(
            "Done. {target} is a copy as of {time}. Clients use {source}.",
            target=names.target,
            source=names.source,
            time=clock(snapshot.ended_wall_ns),
        )
        return Shown(text, "done", Tone.GOOD, Bar.FULL, 1.0)
    share = progress_share(snapshot)
    if snapshot.outcome is Outcome.FAILED or snapshot.error:
        reason = (snapshot.error or tr("unknown reason")).rstrip(".")
        text = tr("Failed: {error}. The target is not usable.", error=reason)
        return Shown(text, "error", Tone.ERROR, share=share)
    text = tr("Cancelled. {target} is incomplete and not usable.", target=names.target)
    if snapshot.ready:
        text = tr("Stopped without completing. Do not rely on {target}.", target=names.target)
    return Shown(text, "cancel", Tone.NEUTRAL, share=share)


def headline(snapshot: JobSnapshot, shown: Shown) -> str:
    """Return the state with one more digit of progress, for the header."""
    if shown.icon == "copy" and snapshot.status is JobStatus.RUNNING:
        return tr("Copying - {percent}", percent=percent(shown.share, 1))
    return shown.text


def list_text(snapshot: JobSnapshot, shown: Shown) -> str:
    """Return the state in a word or two, for the list of mirrors."""
    if shown.tone is Tone.ERROR and snapshot.outcome is not Outcome.FAILED:
        return tr("stopped, {percent}", percent=percent(shown.share))
    if snapshot.status in OVER:
        words = {
            Outcome.SWITCHED: tr("done, switched"),
            Outcome.FINISHED: tr("done"),
            Outcome.CANCELLED: tr("cancelled"),
            Outcome.FAILED: tr("failed"),
            None: tr("ended"),
        }
        return words[snapshot.outcome]
    if snapshot.status is JobStatus.READY and shown.waiting:
        return tr("in sync")
    if snapshot.status is JobStatus.STANDBY:
        return tr("in sync, paused")
    if snapshot.status is JobStatus.PAUSED:
        return tr("paused, {percent}", percent=percent(shown.share))
    if shown.bar is Bar.BUSY:
        return shown.text
    return percent(shown.share)


def window_title(
    snapshot: JobSnapshot, names: Names, shown: Shown, *, minimised: bool = False
) -> str:
    """Return the window's title; in a task bar the first word has to say most."""
    if snapshot.status is JobStatus.READY and shown.waiting and shown.tone is Tone.GOOD:
        return tr("In sync - complete? {source}", source=names.source)
    if shown.waiting:
        return f"{shown.text} - {names.source}"
    state = list_text(snapshot, shown)
    if minimised:
        return f"{state} {names.source}"
    return f"{names.source} → {names.target} - {state} - {APPLICATION}"

"""The questions that are asked before something is lost, word for word. Free of Qt.

Never "Yes" and "No": answers are verbs. The first answer is harmless, the default, and what Escape
means.
"""

import enum
from dataclasses import dataclass

from mirrorgui.mirror.snapshot import JobSnapshot, Outcome
from mirrorgui.ui.exported import users_text
from mirrorgui.ui.i18n import ntr, tr
from mirrorgui.ui.names import Names
from mirrorgui.ui.wording import percent, progress_share


class Answer(enum.Enum):
    """What was answered; ``KEEP`` is always the harmless one."""

    KEEP = "keep"
    CANCEL = "cancel"
    FINISH = "finish"
    STOP = "stop"
    SWITCH = "switch"


@dataclass(frozen=True, slots=True)
class Choice:
    """A button of a question.

    Attributes:
        answer: what it means.
        label: its text, with a mnemonic.
        dangerous: something is lost by it; drawn in red.
    """

    answer: Answer
    label: str
    dangerous: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answers, the harmless one first.

    Attributes:
        title: the question itself.
        text: what follows from the answers.
        choices: the buttons.
        tick: text of a box that can be ticked, or empty.
    """

    title: str
    text: str
    choices: tuple[Choice, ...]
    tick: str = ""


def cancel_question(snapshot: JobSnapshot, names: Names, *, created: bool) -> Question:
    """Ask before a mirror that is not in sync is cancelled.

    Args:
        snapshot: the job.
        names: both ends.
        created: the target file was made by this mirror, so that it may be deleted.
    """
    return Question(
        tr("Cancel this mirror?"),
        tr(
            "{target} is incomplete ({percent}) and not usable. Clients stay on the source; "
            "nothing is lost there.",
            target=names.target,
            percent=percent(progress_share(snapshot)),
        ),
        (
            Choice(Answer.KEEP, tr("&Keep mirroring")),
            Choice(Answer.CANCEL, tr("&Cancel the mirror"), dangerous=True),
        ),
        tr("&Delete the incomplete file") if created else "",
    )


def discard_question() -> Question:
    """Ask before a mirror that is in sync is stopped without being completed."""
    return Question(
        tr("Stop without completing?"),
        tr("To get a usable copy choose Finish without switching instead."),
        (
            Choice(Answer.KEEP, tr("&Keep mirroring")),
            Choice(Answer.FINISH, tr("&Finish without switching")),
            Choice(Answer.STOP, tr("&Stop now"), dangerous=True),
        ),
    )


def complete_question(names: Names, *, clients: int | None, backing: str = "") -> Question:
    """Ask before clients are switched to the target.

    Args:
        names: both ends.
        clients: how many are connected; None when that is not counted.
        backing: the source's backing file when the target will not need it, or empty.
    """
    if clients is None:
        words = tr("Clients continue on the target.")
    elif clients == 0:
        words = tr("No client is connected; new ones will use the target.")
    else:
        words = ntr(
            "The {n} connected client continues on the target.",
            "The {n} connected clients continue on the target.",
            clients,
        )
    text = tr(
        "{clients} The source is left as it is from this moment and no longer receives writes.",
        clients=words,
    )
    if backing:
        needs = tr("{target} will not need {backing}.", target=names.target, backing=backing)
        text = f"{text} {needs}"
    return Question(
        tr("Switch to {target}?", target=names.target),
        text,
        (Choice(Answer.KEEP, tr("&Not yet")), Choice(Answer.SWITCH, tr("&Switch"))),
    )


def close_question(
    working: tuple[tuple[JobSnapshot, Names], ...], *, created: bool, clients: int | None = None
) -> Question:
    """Ask before the window closes on mirrors that are at work.

    Args:
        working: each job with its names; at least one.
        created: some incomplete target file was made by us, so that it may be deleted.
        clients: how many use exports; None when nothing is exported.
    """
    synced = [names for snapshot, names in working if snapshot.ready]
    unfinished = [(each, names) for each, names in working if not each.ready]
    sentences = [
        tr(
            "{target} is incomplete ({percent}) and will not be usable.",
            target=names.target,
            percent=percent(progress_share(snapshot)),
        )
        for snapshot, names in unfinished
    ]
    sentences += [
        tr("{target} is in sync but not finished.", target=names.target) for names in synced
    ]
    if clients is None:
        sentences.append(tr("Nothing is lost on the source."))
    else:
        sentences.append(users_text(clients))
        sentences.append(tr("Clients lose their disk; nothing is lost on the source."))
    title = ntr("A mirror is running.", "{n} mirrors are running.", len(working))
    finish = (
        (Choice(Answer.FINISH, tr("&Finish without switching, then close")),)
        if synced and not unfinished
        else ()
    )
    return Question(
        title,
        " ".join(sentences),
        (
            Choice(Answer.KEEP, tr("Sta&y")),
            *finish,
            Choice(Answer.STOP, tr("&Stop everything"), dangerous=True),
        ),
        tr("&Delete the incomplete file") if created and unfinished else "",
    )


def stop_serving_question(
    served: tuple[tuple[JobSnapshot, Names], ...], *, clients: int, closing: bool
) -> Question:
    """Ask before clients of mirrors that have ended lose their disk.

    Args:
        served: each job with its names; at least one.
        clients: how many use them.
        closing: the window is being closed; otherwise the mirror goes off the list.
    """
    names = [
        pair.target if snapshot.outcome is Outcome.SWITCHED else pair.source
        for snapshot, pair in served
    ]
    text = tr(
        "{users} Clients lose their disk; what they have written stays in {images}.",
        users=users_text(clients),
        images=", ".join(names),
    )
    stop = tr("&Disconnect and close") if closing else tr("&Disconnect and remove")
    return Question(
        tr("Stop offering {images} to clients?", images=", ".join(names)),
        text,
        (Choice(Answer.KEEP, tr("Sta&y")), Choice(Answer.STOP, stop, dangerous=clients > 0)),
    )


def end_demonstration_question() -> Question:
    """Ask before the demonstration and its files go."""
    return Question(
        tr("End the demonstration?"),
        tr("Its mirror stops and its temporary files are deleted. Nothing else is touched."),
        (
            Choice(Answer.KEEP, tr("&Keep watching")),
            Choice(Answer.STOP, tr("&End and delete")),
        ),
    )

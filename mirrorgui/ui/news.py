"""What somebody who looks elsewhere should be told about a mirror. Free of Qt."""

from dataclasses import dataclass

from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.frame import Frame
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.wording import Tone

SETTLED_S = 1.0
"""A mirror may pass through a state on its way: only what lasts is news."""
TOO_SLOW_S = 300.0
"""Guests that write a lot for a while are none yet."""


@dataclass(frozen=True, slots=True)
class News:
    """Something to tell.

    Attributes:
        key: equal for the same event of the same mirror, so that it is told once.
        title, text: for people.
        urgent: the mirror stands still, or its target is not usable.
        after_s: how long it has to last before it is told, in seconds.
    """

    key: str
    title: str
    text: str
    urgent: bool = False
    after_s: float = 0.0


def news_of(frame: Frame) -> News | None:
    """Return what there is to tell about a mirror as it stands, or None."""
    if frame.demonstration:
        return None
    notice, status = frame.notice, frame.snapshot.status
    if notice is not None and notice.key != "cancelled":
        after_s = {"too-slow": TOO_SLOW_S, "switched": 0.0, "finished": 0.0, "failed": 0.0}
        return News(
            notice.key,
            notice.title,
            notice.text,
            urgent=notice.tone is Tone.ERROR,
            after_s=after_s.get(notice.key, SETTLED_S),
        )
    if status is JobStatus.READY and frame.shown.waiting:
        title = tr("{source} is in sync. Complete when you like.", source=frame.names.source)
        text = tr("Both images are kept equal until you decide.")
        return News("in-sync", title, text, after_s=SETTLED_S)
    return None

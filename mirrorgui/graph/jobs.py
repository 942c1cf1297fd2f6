"""What all jobs have in common."""

from typing import Protocol

from mirrorgui.mirror.events import EventLog
from mirrorgui.mirror.states import JobStatus


class Job(Protocol):
    """A job as QMP sees it: a mirror (``mirror.job.MirrorJob``) or a creation of an image.

    Attributes:
        kind: QEMU's ``JobType``.
        events: what happens to it.
    """

    @property
    def kind(self) -> str:
        """See above."""

    @property
    def events(self) -> EventLog:
        """See above."""

    @property
    def job_id(self) -> str:
        """Its name."""

    @property
    def status(self) -> JobStatus:
        """Where it is in its life."""

    @property
    def error(self) -> str | None:
        """Why it failed, or None."""

    def progress(self) -> tuple[int, int]:
        """Return how much there is to do in all, and how much is done."""

    def pause(self) -> None:
        """Stop soon."""

    def resume(self) -> None:
        """Go on."""

    def complete(self) -> None:
        """End in the full sense."""

    def cancel(self, *, force: bool = False) -> None:
        """End otherwise."""

    def finalize(self) -> None:
        """Let a job that waits for that end."""

    def dismiss(self) -> None:
        """Forget a concluded job."""

    async def shut_down(self) -> None:
        """Drop everything and return when it has concluded."""

"""The job that makes a new image."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mirrorgui.errors import MirrorGUIError, StateError
from mirrorgui.mirror.events import EventLog
from mirrorgui.mirror.record import JobRecord
from mirrorgui.mirror.states import JobStatus, Verb, require

logger = logging.getLogger(__name__)


class CreateJob:
    """Makes an image; stays as a record until it is dismissed. See ``graph.jobs.Job``.

    Args:
        job_id: its name.
        create: makes the image; raises ``MirrorGUIError`` when that fails.
        text_of: puts such an error into words.

    Concurrency: belongs to the event loop's thread.
    """

    kind = "create"

    def __init__(
        self,
        job_id: str,
        create: Callable[[], Awaitable[object]],
        text_of: Callable[[MirrorGUIError], str] = str,
    ) -> None:
        self.events = EventLog()
        self._record = JobRecord(job_id, self.events)
        self._create = create
        self._text_of = text_of
        self._done = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def job_id(self) -> str:
        """Its name."""
        return self._record.job_id

    @property
    def status(self) -> JobStatus:
        """Where it is in its life."""
        return self._record.status

    @property
    def error(self) -> str | None:
        """Why it failed, or None."""
        return self._record.error

    def progress(self) -> tuple[int, int]:
        """Return 1 and, once it has ended, 1: how much there is to do is not known."""
        return 1, self._done

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        """The job from beginning to end. A border: nothing but cancellation gets out.

        Whoever waits for the job must see it concluded, also where this program is wrong.
        """
        record = self._record
        record.set_status(JobStatus.RUNNING)
        try:
            await self._create()
        except MirrorGUIError as error:
            record.fail(self._text_of(error))
        except Exception as error:
            logger.exception("job=%s broken", record.job_id)
            record.fail(f"internal error: {error}")
        self._done = 1
        if record.forced:
            record.fail("Operation canceled")
        if record.failed:
            record.set_status(JobStatus.ABORTING)
        else:
            record.set_status(JobStatus.WAITING)
            record.set_status(JobStatus.PENDING)
        record.set_status(JobStatus.CONCLUDED)

    # Verbs. Nothing here takes so long that it could stop half-way.

    def pause(self) -> None:
        """Be told to stop, which it only could between two steps; it has one.

        Raises:
            StateError: not in this status, or paused already.
        """
        self._require(Verb.PAUSE)
        if self._record.paused_by_user:
            raise self._refusal(Verb.PAUSE, "Job is already paused")
        self._record.paused_by_user = True

    def resume(self) -> None:
        """Be told to go on.

        Raises:
            StateError: it was not paused.
        """
        if not self._record.paused_by_user:
            raise self._refusal(Verb.RESUME, "Can't resume a job that was not paused")
        self._require(Verb.RESUME)
        self._record.paused_by_user = False

    def complete(self) -> None:
        """Refuse: it ends by itself.

        Raises:
            StateError: always.
        """
        self._require(Verb.COMPLETE)

    def cancel(self, *, force: bool = False) -> None:  # noqa: ARG002 - it is all the same here
        """End with an error as soon as the image has been made; it is left behind.

        Raises:
            StateError: not in this status.
        """
        self._require(Verb.CANCEL)
        self._record.forced = True

    def finalize(self) -> None:
        """Refuse: it does not wait for that.

        Raises:
            StateError: always.
        """
        self._require(Verb.FINALIZE)

    def dismiss(self) -> None:
        """Forget it.

        Raises:
            StateError: not concluded.
        """
        self._require(Verb.DISMISS)
        self._record.set_status(JobStatus.NULL)

    async def shut_down(self) -> None:
        """Return when it has concluded."""
        if self._task is not None:
            await self._task

    def _require(self, verb: Verb) -> None:
        require(self.job_id, verb, self.status)

    def _refusal(self, verb: Verb, text: str) -> StateError:
        return StateError(self.job_id, verb.value, self.status.value, (), text)

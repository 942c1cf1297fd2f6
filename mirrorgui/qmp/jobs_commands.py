"""QMP commands that act upon jobs."""

import asyncio
from typing import Any

from mirrorgui.graph.jobs import Job
from mirrorgui.house import House
from mirrorgui.mirror.job import MirrorJob
from mirrorgui.mirror.options import CopyMode
from mirrorgui.mirror.snapshot import JobSnapshot, Outcome, Phase
from mirrorgui.mirror.states import JobStatus
from mirrorgui.qmp.dispatch import Arguments, command
from mirrorgui.qmp.errors import ErrorClass, QmpError
from mirrorgui.qmp.refusals import qemu_words

_AT_WORK = frozenset({Phase.SCANNING, Phase.FLUSHING, Phase.SWITCHING, Phase.ENDING})
_READY = frozenset({JobStatus.READY, JobStatus.STANDBY})


def any_job(house: House, job_id: str) -> Job:
    """Return a job for the ``job-`` commands.

    Raises:
        QmpError: there is none.
    """
    job = house.job(job_id)
    if job is None:
        raise QmpError("Job not found")
    return job


def block_job(house: House, job_id: str) -> MirrorJob:
    """Return a job for the ``block-job-`` commands.

    Raises:
        QmpError: there is none, or it copies nothing.
    """
    job = house.job(job_id)
    if not isinstance(job, MirrorJob):
        raise QmpError(f"Block job '{job_id}' not found", ErrorClass.DEVICE_NOT_ACTIVE)
    return job


# Verbs.


@command("block-job-set-speed")
async def block_job_set_speed(house: House, args: Arguments) -> None:
    """Change the limit in bytes per second."""
    with qemu_words():
        block_job(house, args["device"]).set_speed(args["speed"])


@command("block-job-cancel")
async def block_job_cancel(house: House, args: Arguments) -> None:
    """End without switching."""
    block_job(house, args["device"]).cancel(force=args["force"])


@command("block-job-pause")
async def block_job_pause(house: House, args: Arguments) -> None:
    """Begin nothing more."""
    block_job(house, args["device"]).pause()
    await asyncio.sleep(0)  # what is idle stops, or goes on, before the reply


@command("block-job-resume")
async def block_job_resume(house: House, args: Arguments) -> None:
    """Go on after a pause or an error."""
    block_job(house, args["device"]).resume()
    await asyncio.sleep(0)  # what is idle stops, or goes on, before the reply


@command("block-job-complete")
async def block_job_complete(house: House, args: Arguments) -> None:
    """Switch to the target."""
    await _complete(block_job(house, args["device"]))


@command("block-job-finalize")
async def block_job_finalize(house: House, args: Arguments) -> None:
    """Let a pending job end."""
    block_job(house, args["id"]).finalize()


@command("block-job-dismiss")
async def block_job_dismiss(house: House, args: Arguments) -> None:
    """Forget a concluded job."""
    block_job(house, args["id"]).dismiss()


@command("block-job-change")
async def block_job_change(house: House, args: Arguments) -> None:
    """Change a mirror's copy mode."""
    job = block_job(house, args["id"])
    with qemu_words():
        job.change(CopyMode(args["copy-mode"]))


@command("job-cancel")
async def job_cancel(house: House, args: Arguments) -> None:
    """Drop everything."""
    any_job(house, args["id"]).cancel(force=True)


@command("job-pause")
async def job_pause(house: House, args: Arguments) -> None:
    """Begin nothing more."""
    any_job(house, args["id"]).pause()
    await asyncio.sleep(0)  # what is idle stops, or goes on, before the reply


@command("job-resume")
async def job_resume(house: House, args: Arguments) -> None:
    """Go on after a pause or an error."""
    any_job(house, args["id"]).resume()
    await asyncio.sleep(0)  # what is idle stops, or goes on, before the reply


@command("job-complete")
async def job_complete(house: House, args: Arguments) -> None:
    """Switch to the target."""
    await _complete(any_job(house, args["id"]))


@command("job-finalize")
async def job_finalize(house: House, args: Arguments) -> None:
    """Let a pending job end."""
    any_job(house, args["id"]).finalize()


@command("job-dismiss")
async def job_dismiss(house: House, args: Arguments) -> None:
    """Forget a concluded job."""
    any_job(house, args["id"]).dismiss()


async def _complete(job: Job) -> None:
    if isinstance(job, MirrorJob):
        with qemu_words():
            await job.check_complete()
    job.complete()


# Looks.


@command("query-jobs")
async def query_jobs(house: House, args: Arguments) -> list[dict[str, Any]]:  # noqa: ARG001
    """Tell of all jobs."""
    return [_describe(job) for job in reversed(house.jobs)]


def _describe(job: Job) -> dict[str, Any]:
    total, done = job.progress()
    told: dict[str, Any] = {
        "id": job.job_id,
        "type": job.kind,
        "status": job.status.value,
        "current-progress": done,
        "total-progress": total,
    }
    return _with_error(job, told)


def _with_error(job: Job, told: dict[str, Any]) -> dict[str, Any]:
    """Add why a job has failed; in QEMU one that was cancelled has failed as well."""
    cancelled = isinstance(job, MirrorJob) and job.snapshot().outcome is Outcome.CANCELLED
    error = job.error or ("Operation canceled" if cancelled else None)
    if error is not None:
        told["error"] = error
    return told


@command("query-block-jobs")
async def query_block_jobs(house: House, args: Arguments) -> list[dict[str, Any]]:  # noqa: ARG001
    """Tell of all jobs that copy."""
    return [_describe_block_job(job) for job in reversed(house.jobs) if isinstance(job, MirrorJob)]


def _describe_block_job(job: MirrorJob) -> dict[str, Any]:
    snapshot = job.snapshot()
    told: dict[str, Any] = {
        "type": job.kind,
        "device": job.job_id,
        "len": snapshot.length,
        "offset": snapshot.offset,
        "busy": _is_busy(snapshot),
        "paused": _is_paused(snapshot),
        "speed": snapshot.speed,
        "io-status": snapshot.io_status,
        "ready": snapshot.status in _READY,
        "status": snapshot.status.value,
        "auto-finalize": job.options.auto_finalize,
        "auto-dismiss": job.options.auto_dismiss,
        "actively-synced": snapshot.actively_synced,
    }
    return _with_error(job, told)


def _is_paused(snapshot: JobSnapshot) -> bool:
    """Whether it is kept from working; nothing keeps what has ended, whatever did before."""
    is_over = snapshot.status is JobStatus.CONCLUDED
    return not is_over and (snapshot.paused or snapshot.pause_requested)


def _is_busy(snapshot: JobSnapshot) -> bool:
    """Whether it does something rather than wait to be woken."""
    if snapshot.status is JobStatus.PENDING:
        return False
    return bool(snapshot.operations) or snapshot.phase in _AT_WORK

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from mirrorgui.errors import ImageRefused
from mirrorgui.graph.creating import CreateJob
from mirrorgui.mirror.states import JobStatus


def ended(create: Callable[[], Awaitable[object]]) -> CreateJob:
    async def play() -> CreateJob:
        job = CreateJob("job", create)
        job.start()
        await job.shut_down()
        return job

    return asyncio.run(play())


def test_a_refused_image_is_the_jobs_error() -> None:
    async def create() -> None:
        raise ImageRefused("filename", "/a", "There is no space left in /.")

    job = ended(create)
    assert job.status is JobStatus.CONCLUDED
    assert "no space left" in (job.error or "")


def test_a_defect_ends_the_job_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def create() -> None:
        raise ZeroDivisionError("by zero")

    job = ended(create)
    assert (job.status, job.error) == (JobStatus.CONCLUDED, "internal error: by zero")
    (record,) = caplog.records
    assert (record.levelno, record.exc_info is not None) == (logging.ERROR, True)
    caplog.clear()
    job.dismiss()
    assert job.status is JobStatus.NULL

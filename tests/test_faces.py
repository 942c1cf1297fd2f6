"""What people and programs are told."""

import io
from dataclasses import replace

from mirrorgui.faces import JsonFace, TextFace
from mirrorgui.mirror.events import JobEvent
from mirrorgui.mirror.options import CopyMode, SyncMode
from mirrorgui.mirror.rates import EtaState, Rates
from mirrorgui.mirror.snapshot import ErrorRecord, JobSnapshot, Phase
from mirrorgui.mirror.states import JobStatus
from mirrorgui.units import MiB

COPYING = JobSnapshot(
    job_id="mirror0",
    status=JobStatus.RUNNING,
    phase=Phase.COPYING,
    sync=SyncMode.FULL,
    copy_mode=CopyMode.BACKGROUND,
    size=8 * MiB,
    granularity=65536,
    chunks=128,
    buf_size=16 * MiB,
    speed=0,
    offset=2 * MiB,
    length=8 * MiB,
)
FAILED = ErrorRecord(4096, 512, "write", 28, "No space left on device", "stop", 1, 0, 0)
STOPPED = replace(COPYING, status=JobStatus.PAUSED, paused_by_error=True, errors=(FAILED,))
RATES = Rates(current=1 * MiB)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def event(name: str, **data: object) -> JobEvent:
    return JobEvent(1, name, data, 1_500_000_000)


def test_a_log_gets_a_line_each_time() -> None:
    stream = io.StringIO()
    face = TextFace(stream)
    face.progress(COPYING, RATES)
    face.progress(COPYING, replace(RATES, state=EtaState.ETA, eta_s=6.4))
    face.end()
    assert stream.getvalue() == (
        "Copying: 25.0%, 2.0 MiB of 8.0 MiB, 1.0 MiB/s\n"
        "Copying: 25.0%, 2.0 MiB of 8.0 MiB, 1.0 MiB/s, 6 s left\n"
    )


def test_a_terminal_keeps_one_line_and_a_shorter_text_hides_the_longer_one() -> None:
    stream = Terminal()
    face = TextFace(stream)
    face.progress(COPYING, replace(RATES, state=EtaState.ETA, eta_s=6.4))
    face.progress(COPYING, RATES)
    face.event(event("BLOCK_JOB_READY"))
    face.end()
    lines = stream.getvalue().split("\r")
    assert len(lines[1]) == len(lines[2].partition("\n")[0])
    assert lines[2].endswith("1.0 MiB/s" + " " * len(", 6 s left") + "\nIn sync.\n")


def test_guests_that_are_too_fast_are_told() -> None:
    stream = io.StringIO()
    TextFace(stream).progress(COPYING, replace(RATES, state=EtaState.WILL_NOT_FINISH))
    assert "will not finish: guests write faster" in stream.getvalue()


def test_the_scan_has_its_own_words_and_the_preparation_none() -> None:
    stream = io.StringIO()
    face = TextFace(stream)
    face.progress(replace(COPYING, phase=Phase.PREPARING), RATES)
    face.progress(replace(COPYING, phase=Phase.SCANNING, scan_done=1, scan_total=8), RATES)
    face.progress(replace(COPYING, status=JobStatus.CONCLUDED), RATES)
    assert stream.getvalue() == "Scanning: 1 B of 8 B\n"


def test_a_stop_is_told_once_and_again_when_it_is_another() -> None:
    stream = io.StringIO()
    face = TextFace(stream)
    face.event(event("BLOCK_JOB_ERROR", operation="write", action="stop"))
    for snapshot in (STOPPED, STOPPED, COPYING, STOPPED):
        face.progress(snapshot, RATES)
    text = "Stopped: write error at 4096: No space left on device. SIGCONT tries again."
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["A write failed: stop.", text]
    assert lines[3:] == [text]


def test_a_failed_flush_has_no_place() -> None:
    stream = io.StringIO()
    record = replace(FAILED, offset=0, length=0)
    TextFace(stream).progress(replace(STOPPED, errors=(record,)), RATES)
    assert stream.getvalue().startswith("Stopped: write error: No space left")


def test_streams_that_are_closed_or_full_are_forgotten() -> None:
    people = io.StringIO()
    face = JsonFace(Full(), people)
    face.event(event("BLOCK_JOB_READY"))
    face.event(event("BLOCK_JOB_READY"))
    assert people.getvalue() == "mirrorgui: nobody reads stdout any more; the mirror goes on\n"
    for stream in (None, Full()):
        silent = TextFace(stream)
        silent.say("nobody hears it")
        silent.progress(COPYING, RATES)
        silent.end()

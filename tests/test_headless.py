"""``mirrorgui run`` from outside: its lines, its signals, its policies, and what it ends with."""

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirrorgui.block.nbd import NbdNode
from mirrorgui.units import KiB, MiB
from tests.block import conftest as block
from tests.block.conftest import run, stamped
from tests.running import (
    PATIENCE_S,
    blkdebug,
    fingerprint,
    inside,
    last_line,
    mirroring,
    same,
)

loop_device = block.loop_device

SIZE = 4 * MiB + 777

ENOSPC, EIO = 28, 5

ONCE = {"event": "write_aio", "errno": EIO, "once": True}
"""The first write fails: the job stops at a place that is the same in every run."""

FAR = {"sector": 2048}
"""A place that nobody reads to recognise the format."""

HANG = {"event": "write_aio", "hang": True}


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """An image that no test may harm."""
    folder = tmp_path / "source"
    folder.mkdir()
    path = folder / "s.raw"
    path.write_bytes(stamped(SIZE))
    before = fingerprint(folder)
    yield path
    assert fingerprint(folder) == before


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An empty image of the right length."""
    path = tmp_path / "t.raw"
    path.touch()
    os.truncate(path, SIZE)
    return path


class Told:
    """A mirror carried out in this process: its status, and what it told."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        self.status = inside("run", "--json", *arguments)
        told = capsys.readouterr()
        self.lines = [json.loads(line) for line in told.out.splitlines()]
        self.stderr = told.err

    def event(self, name: str) -> dict[str, object]:
        """Fields of the first event of a name."""
        return next(line["data"] for line in self.lines if line["event"] == name)


# The lines


def test_json_lines_are_the_events_of_qmp_with_times(source: Path, tmp_path: Path) -> None:
    with mirroring(source, tmp_path / "new.raw") as mirror:
        assert mirror.end() == 0
    states = [line["data"]["status"] for line in mirror.lines if "STATUS" in line["event"]]
    assert states == ["created", "running", "ready", "waiting", "pending", "concluded", "null"]
    others = [name for name in mirror.names() if name != "JOB_STATUS_CHANGE"]
    assert others == ["BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED"]
    assert mirror.wait_for("BLOCK_JOB_COMPLETED") == {
        "type": "mirror",
        "device": "mirror0",
        "len": SIZE,
        "offset": SIZE,
        "speed": 0,
    }
    times = [
        line["timestamp"]["seconds"] * 10**6 + line["timestamp"]["microseconds"]
        for line in mirror.lines
    ]
    assert times == sorted(times)
    assert same(source, tmp_path / "new.raw")


def test_progress_comes_each_second_with_all_its_fields(source: Path, target: Path) -> None:
    with mirroring(source, target, "--speed", "512K") as mirror:
        mirror.wait_for("PROGRESS", status="running")
        again = mirror.wait_for("PROGRESS", status="running", phase="copying")
        mirror.send(signal.SIGTERM)
        assert mirror.end() == 130
    assert " ".join(again) == "id status phase len offset dirty in-flight rate eta"
    assert again["id"] == "mirror0"
    assert again["len"] == again["offset"] + again["dirty"] + again["in-flight"] == SIZE


def test_people_read_how_far_it_is_and_how_it_ended(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = blkdebug(target, {"event": "write_aio", "errno": 0, "delay": 1.2, "once": True})
    assert inside("run", source, slow, "--granularity", "1M") == 0
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"Copying: [\d.]+%, .+ of 4\.0 MiB, .+/s", lines[0])
    assert lines[-2:] == ["In sync.", "Completed: 4.0 MiB copied, 0 B of zeroes."]


def test_a_larger_target_is_warned_of_and_its_rest_stays(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with target.open("r+b") as stream:
        stream.write(bytes(SIZE) + b"rest" * 1000)
    assert inside("run", source, target, "--overwrite") == 0
    assert "warning: target: Target is 3.9 KiB (4,000 bytes) larger." in capsys.readouterr().err
    assert target.read_bytes() == source.read_bytes() + b"rest" * 1000


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_cancels_before_ready(
    source: Path, target: Path, number: signal.Signals
) -> None:
    with mirroring(source, blkdebug(target, HANG)) as mirror:
        mirror.wait_for("JOB_STATUS_CHANGE", status="running")
        mirror.send(number)
        assert mirror.end() == 130
    assert "BLOCK_JOB_CANCELLED" in mirror.names()
    assert last_line(mirror.stderr).endswith("is incomplete")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_softly_after_ready(
    source: Path, target: Path, number: signal.Signals
) -> None:
    with mirroring(source, target, "--finish", "wait") as mirror:
        mirror.wait_for("BLOCK_JOB_READY")
        mirror.send(number)
        assert mirror.end() == 0
    assert mirror.wait_for("BLOCK_JOB_COMPLETED")["offset"] == SIZE
    assert last_line(mirror.stderr).startswith("Finished without switching:")
    assert same(source, target)


def test_the_second_signal_forces_the_end(source: Path, target: Path) -> None:
    # The second flush, that of the soft end, hangs.
    image = blkdebug(
        target,
        {"event": "flush_to_disk", "hang": True, "state": 2},
        states=[{"event": "flush_to_disk", "state": 1, "new_state": 2}],
    )
    with mirroring(source, image, "--finish", "wait") as mirror:
        mirror.wait_for("BLOCK_JOB_READY")
        mirror.send(signal.SIGTERM)
        mirror.wait_for("PROGRESS", phase="flushing")
        mirror.send(signal.SIGTERM)
        assert mirror.end() == 130
    assert last_line(mirror.stderr).endswith("is not guaranteed to be complete")


def test_sigusr1_completes_a_mirror_in_sync_and_is_refused_before(
    source: Path, target: Path
) -> None:
    image = blkdebug(target, ONCE)
    with mirroring(source, image, "--finish", "wait", "--on-target-error", "stop") as mirror:
        mirror.wait_for("JOB_STATUS_CHANGE", status="paused")
        mirror.send(signal.SIGUSR1)
        mirror.send(signal.SIGCONT)
        mirror.wait_for("BLOCK_JOB_READY")
        mirror.send(signal.SIGUSR1)
        assert mirror.end() == 0
    assert "in state 'paused' cannot accept command verb 'complete'" in mirror.stderr
    assert last_line(mirror.stderr).startswith("Completed:")
    assert same(source, target)


def test_sigcont_behind_sigterm_changes_nothing(source: Path, target: Path) -> None:
    image = blkdebug(target, ONCE)
    with mirroring(source, image, "--on-target-error", "stop") as mirror:
        mirror.wait_for("JOB_STATUS_CHANGE", status="paused")
        mirror.send(signal.SIGTERM)
        mirror.send(signal.SIGCONT)
        assert mirror.end() == 130


@contextmanager
def mute_server(path: Path) -> Iterator[socket.socket]:
    """An NBD server that accepts and never says a word."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(PATIENCE_S)
        yield listening


def test_a_signal_while_the_images_are_opened_leaves_everything_as_it_was(
    source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "new.raw"
    uri = f"nbd+unix:///?socket={tmp_path}/mute"
    with mute_server(tmp_path / "mute") as server, mirroring(uri, target) as mirror:
        connection, _ = server.accept()
        mirror.send(signal.SIGTERM)
        # What waits for the server's words cannot be interrupted, but ends with the connection.
        connection.close()
        assert mirror.end() == 130
        assert last_line(mirror.stderr).endswith("nothing was changed")
    assert not target.exists()


def test_a_second_signal_while_the_images_are_opened_ends_at_once(tmp_path: Path) -> None:
    uri = f"nbd+unix:///?socket={tmp_path}/mute"
    with mute_server(tmp_path / "mute") as server, mirroring(uri, tmp_path / "t.raw") as mirror:
        connection, _ = server.accept()
        with connection:
            mirror.send(signal.SIGTERM)
            mirror.send(signal.SIGINT)
            assert mirror.end() == 130


# Policies


@pytest.mark.parametrize("end", ["source", "target"])
def test_report_ends_with_1_and_the_reason_last(
    source: Path, target: Path, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    event = "read_aio" if end == "source" else "write_aio"
    broken = blkdebug(source if end == "source" else target, {**FAR, "event": event})
    images = (broken, target) if end == "source" else (source, broken)
    told = Told(capsys, *images)
    assert told.status == 1
    operation = "read" if end == "source" else "write"
    error = {"device": "mirror0", "operation": operation, "action": "report"}
    assert told.event("BLOCK_JOB_ERROR") == error
    assert told.event("BLOCK_JOB_COMPLETED")["error"] == "Input/output error"
    lines = told.stderr.splitlines()
    assert lines[-2].startswith(f"mirrorgui: {operation} failed at 1048576 (+")
    assert lines[-1] == (
        f"mirrorgui: the mirror failed: Input/output error. {images[1]} is not usable."
    )


@pytest.mark.parametrize("end", ["source", "target"])
def test_ignore_tries_again_until_it_works(
    source: Path, target: Path, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    event = "read_aio" if end == "source" else "write_aio"
    image = blkdebug(source if end == "source" else target, {**FAR, "event": event, "once": True})
    images = (image, target) if end == "source" else (source, image)
    told = Told(capsys, *images, f"--on-{end}-error", "ignore")
    assert told.status == 0
    assert told.event("BLOCK_JOB_ERROR")["action"] == "ignore"
    assert same(source, target)


def test_ignore_goes_on_around_a_place_that_never_works(source: Path, target: Path) -> None:
    image = blkdebug(source, {**FAR, "event": "read_aio"})
    with mirroring(image, target, "--on-source-error", "ignore") as mirror:
        mirror.wait_for("PROGRESS", dirty=64 * KiB)
        mirror.send(signal.SIGTERM)
        assert mirror.end() == 130
    there, wanted = bytearray(target.read_bytes()), source.read_bytes()
    assert not any(there[MiB : MiB + 64 * KiB])
    there[MiB : MiB + 64 * KiB] = wanted[MiB : MiB + 64 * KiB]
    assert there == wanted


@pytest.mark.parametrize("end", ["source", "target"])
def test_stop_waits_for_sigcont_and_tries_again(source: Path, target: Path, end: str) -> None:
    event = "read_aio" if end == "source" else "write_aio"
    image = blkdebug(source if end == "source" else target, {**FAR, "event": event, "once": True})
    images = (image, target) if end == "source" else (source, image)
    with mirroring(*images, f"--on-{end}-error", "stop") as mirror:
        mirror.wait_for("JOB_STATUS_CHANGE", status="paused")
        mirror.send(signal.SIGCONT)
        assert mirror.end() == 0
    assert mirror.wait_for("BLOCK_JOB_ERROR")["action"] == "stop"
    assert same(source, target)


def test_enospc_stops_for_lack_of_space(source: Path, target: Path) -> None:
    image = blkdebug(target, {**ONCE, "errno": ENOSPC})
    with mirroring(source, image, "--on-target-error", "enospc") as mirror:
        mirror.wait_for("JOB_STATUS_CHANGE", status="paused")
        mirror.send(signal.SIGCONT)
        assert mirror.end() == 0
    assert mirror.wait_for("BLOCK_JOB_ERROR")["action"] == "stop"
    assert same(source, target)


def test_enospc_reports_everything_else(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Told(capsys, source, blkdebug(target, ONCE), "--on-target-error", "enospc")
    assert told.status == 1
    assert told.event("BLOCK_JOB_ERROR")["action"] == "report"


@pytest.mark.parametrize(("policy", "status"), [("report", 1), ("ignore", 0)])
def test_a_failed_flush_is_an_error_of_the_target(
    source: Path,
    target: Path,
    policy: str,
    status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = blkdebug(target, {"event": "flush_to_disk", "once": True})
    told = Told(capsys, source, image, "--on-target-error", policy)
    assert told.status == status
    assert told.event("BLOCK_JOB_ERROR")["operation"] == "write"
    assert status == 1 or same(source, target)


def test_a_failed_flush_can_be_tried_again(source: Path, target: Path) -> None:
    image = blkdebug(target, {"event": "flush_to_disk", "once": True})
    with mirroring(source, image, "--on-target-error", "stop") as mirror:
        mirror.wait_for("JOB_STATUS_CHANGE", status="paused")
        mirror.send(signal.SIGCONT)
        assert mirror.end() == 0
    assert same(source, target)


# A full file system


@contextmanager
def small_tmpfs(folder: Path, size: int) -> Iterator[Path]:
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder)
    try:
        yield folder
    finally:
        run("umount", folder)


def needs_mounts() -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")


@pytest.mark.root
@pytest.mark.parametrize("policy", ["stop", "enospc"])
def test_a_full_file_system_stops_the_mirror_until_there_is_room(
    source: Path, tmp_path: Path, policy: str
) -> None:
    needs_mounts()
    with small_tmpfs(tmp_path / "small", 2 * MiB) as folder:
        target = folder / "t.raw"
        with mirroring(source, target, "--on-target-error", policy) as mirror:
            mirror.wait_for("JOB_STATUS_CHANGE", status="paused")
            run("mount", "-o", "remount,size=8M", folder)
            mirror.send(signal.SIGCONT)
            assert mirror.end() == 0
        assert "warning: target: May run out of space" in mirror.stderr
        assert same(source, target)


@pytest.mark.root
def test_a_full_file_system_ends_the_mirror_when_it_is_to_be_reported(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_mounts()
    with small_tmpfs(tmp_path / "small", 2 * MiB) as folder:
        target = folder / "t.raw"
        told = Told(capsys, source, target)
    assert told.status == 1
    assert last_line(told.stderr) == (
        f"mirrorgui: the mirror failed: No space left on device. {target} is not usable."
    )


@pytest.mark.root
def test_space_freed_on_a_full_disk_lets_the_mirror_complete(
    source: Path, tmp_path: Path, loop_device: Callable[..., str]
) -> None:
    disk, folder = tmp_path / "disk.raw", tmp_path / "mnt"
    disk.touch()
    os.truncate(disk, 8 * MiB)
    run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", disk)
    device = loop_device(disk)
    folder.mkdir()
    run("mount", device, folder)
    try:
        (folder / "filler").write_bytes(b"x" * (4 * MiB))
        with mirroring(source, folder / "t.raw", "--on-target-error", "stop") as mirror:
            mirror.wait_for("JOB_STATUS_CHANGE", status="paused")
            (folder / "filler").unlink()
            mirror.send(signal.SIGCONT)
            assert mirror.end() == 0
        assert same(source, folder / "t.raw")
    finally:
        run("umount", folder)
    run("e2fsck", "-fn", disk)


# What others do to the files meanwhile


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    os.truncate(path, 1000)


def rename(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"other")
    other.rename(path)


@pytest.mark.parametrize(
    ("how", "harm", "words"),
    [
        (signal.SIGUSR1, remove, "was removed by another program"),
        (signal.SIGTERM, remove, "was removed by another program"),
        (signal.SIGUSR1, cut, "was cut short by another program"),
        (signal.SIGTERM, rename, "was renamed or replaced"),
        (signal.SIGUSR1, replace, "was removed by another program"),
    ],
)
def test_a_target_that_others_took_away_is_no_copy(
    source: Path,
    target: Path,
    harm: Callable[[Path], None],
    words: str,
    how: signal.Signals,
) -> None:
    with mirroring(source, target, "--finish", "wait") as mirror:
        mirror.wait_for("BLOCK_JOB_READY")
        harm(target)
        mirror.send(how)
        assert mirror.end() == 1
    assert last_line(mirror.stderr).startswith(f"mirrorgui: the mirror failed: {target} {words}.")


def test_a_target_that_is_cut_short_and_written_on_is_no_copy(source: Path, target: Path) -> None:
    image = blkdebug(target, ONCE)
    with mirroring(source, image, "--on-target-error", "stop", "--finish", "wait") as mirror:
        mirror.wait_for("JOB_STATUS_CHANGE", status="paused")
        cut(target)
        mirror.send(signal.SIGCONT)
        mirror.wait_for("BLOCK_JOB_READY")
        mirror.send(signal.SIGUSR1)
        assert mirror.end() == 1
    assert "was cut short by another program" in last_line(mirror.stderr)


@pytest.mark.parametrize("policy", ["report", "stop"])
def test_a_source_that_is_cut_short_is_a_read_error(tmp_path: Path, policy: str) -> None:
    source, target = tmp_path / "s.raw", tmp_path / "t.raw"
    source.write_bytes(stamped(SIZE))
    target.touch()
    os.truncate(target, SIZE)
    data = source.read_bytes()
    options = ("--on-source-error", policy, "--on-target-error", "stop", "--speed", "4M")
    with mirroring(source, blkdebug(target, ONCE), *options) as mirror:
        mirror.wait_for("BLOCK_JOB_ERROR", operation="write")
        mirror.wait_for("JOB_STATUS_CHANGE", status="paused")
        cut(source)
        mirror.send(signal.SIGCONT)
        mirror.wait_for("BLOCK_JOB_ERROR", operation="read")
        if policy == "stop":
            mirror.wait_for("JOB_STATUS_CHANGE", 2, status="paused")
            source.write_bytes(data)
            mirror.send(signal.SIGCONT)
        assert mirror.end() == (1 if policy == "report" else 0)
    assert policy == "report" or same(source, target)


# Guests


@pytest.mark.interop
def test_guests_write_to_an_export_and_move_to_the_target(tmp_path: Path) -> None:
    source, target = tmp_path / "s.raw", tmp_path / "t.raw"
    source.write_bytes(stamped(SIZE // 512 * 512))
    uri = f"nbd+unix:///disk?socket={tmp_path}/socket"
    with mirroring(source, target, "--export", uri, "--copy-mode", "write-blocking") as mirror:
        mirror.wait_for("BLOCK_JOB_READY")
        run("qemu-io", "-f", "raw", "-c", "write -P 7 1M 64k", "-c", "flush", uri)
        mirror.send(signal.SIGUSR1)
        assert mirror.end() == 0
    assert f"Guests: {uri}" in mirror.stderr
    assert target.read_bytes()[MiB : MiB + 64 * KiB] == b"\7" * 64 * KiB
    assert same(source, target)


@pytest.mark.parametrize("ending", ["complete", "failed"])
def test_guests_keep_their_disk_until_they_leave(tmp_path: Path, ending: str) -> None:
    source, target = tmp_path / "s.raw", tmp_path / "t.raw"
    source.write_bytes(bytes(1 * MiB))
    target.touch()
    os.truncate(target, 1 * MiB)
    uri = f"nbd+unix:///disk?socket={tmp_path}/socket"
    image = target if ending == "complete" else blkdebug(target, {"event": "write_aio"})
    with mirroring(source, image, "--export", uri) as mirror:
        mirror.wait_for("BLOCK_JOB_READY")
        guest = NbdNode(uri)
        try:
            guest.write(0, b"\1" * 512)
            if ending == "complete":
                mirror.send(signal.SIGUSR1)
            mirror.wait_for_text("serving them until they leave")
            guest.write(512 * KiB, b"\2" * 512)
        finally:
            guest.close()
        assert mirror.end() == (0 if ending == "complete" else 1)
    used = target if ending == "complete" else source
    assert used.read_bytes()[512 * KiB : 512 * KiB + 512] == b"\2" * 512


def test_a_signal_ends_the_serving_of_guests(source: Path, tmp_path: Path) -> None:
    uri = f"nbd+unix:///disk?socket={tmp_path}/socket"
    with mirroring(source, tmp_path / "t.raw", "--export", uri) as mirror:
        mirror.wait_for("BLOCK_JOB_READY")
        guest = NbdNode(uri)
        try:
            mirror.send(signal.SIGUSR1)
            mirror.wait_for_text("serving them until they leave")
            mirror.send(signal.SIGTERM)
            assert mirror.end() == 0
        finally:
            guest.close()

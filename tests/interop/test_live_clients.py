"""The live mirror as its guests see it: real clients on the export while the job works.

Scenario numbers (S34, ...) are those of the mirror's behaviour description: consistency of guest
writes, write-blocking mode, control while guests work.
"""

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mirrorgui.errors import InvalidInput
from mirrorgui.mirror.options import CopyMode, ErrorPolicy
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import JobStatus
from mirrorgui.units import KiB, MiB
from tests.interop.live import (
    Guest,
    LiveMirror,
    MirrorCommand,
    NbdKit,
    assert_same,
    make_image,
    pattern,
    qemu_nbd,
    raw_connection,
    run,
)

pytestmark = pytest.mark.interop

CHUNK = 64 * KiB
BLOCKING = CopyMode.WRITE_BLOCKING


@pytest.fixture
def source(folder: Path) -> Path:
    return make_image(folder / "source", 4 * MiB)


@pytest.fixture
def target(folder: Path) -> Path:
    path = folder / "target"
    path.touch()
    os.truncate(path, 4 * MiB)
    return path


def live(source: Path | str, target: Path | str, **options: object) -> LiveMirror:
    place = source if isinstance(source, Path) else target
    assert isinstance(place, Path)
    return LiveMirror(source, target, place.with_name("guests.sock"), **options)


def at(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def slow_target(folder: Path, image: Path, *more: str) -> NbdKit:
    """A target that takes 20 ms for each request that changes it."""
    return NbdKit(folder, "--filter=delay", *more, "file", image, "wdelay=20ms")


def throttled_target(folder: Path, image: Path) -> NbdKit:
    """A target that takes 4 MiB a second, without a burst at the beginning."""
    return NbdKit(folder, "--filter=rate", "file", image, "rate=32M", "burstiness=0.1")


# --------------------------------------------------------------------- consistency of writes


def test_chunks_written_while_they_are_copied_reach_the_target_in_their_last_state(
    folder, source, target
):
    """S34: the target never ends with old bytes over new ones."""
    with (
        slow_target(folder, target) as kit,
        live(source, kit.uri) as mirror,
        Guest(mirror.uri) as guest,
    ):
        guest.start_load("random", offset=0, length=1 * MiB, block=4 * KiB)
        mirror.start().wait_ready()
        before = mirror.snapshot()
        assert before.copied_bytes + before.zeroed_bytes > 4 * MiB, "no chunk was copied twice"
        assert guest.stop_load()["error"] is None
        mirror.complete()
        mirror.wait_end()
    assert_same(source, target)


def test_operations_on_one_chunk_never_overlap_at_the_target(folder, source, target):
    """S35: the second copy of a chunk begins when the first one has ended, also on the wire."""
    log = folder / "log"
    with (
        NbdKit(
            folder, "--filter=log", "--filter=delay", "file", target, "wdelay=5ms", f"logfile={log}"
        ) as kit,
        live(source, kit.uri, copy_mode=BLOCKING) as mirror,
        Guest(mirror.uri) as guest,
        Guest(mirror.uri) as other,
    ):
        guest.start_load("random", offset=0, length=256 * KiB, seed=1)
        other.start_load("random", offset=0, length=256 * KiB, seed=2)
        before = mirror.start().wait_ready().snapshot().guest.writes
        mirror.wait_for(lambda job: job.guest.writes > before + 100, "guests write")
        guest.stop_load()
        other.stop_load()
        mirror.complete()
        mirror.wait_end()
    assert_same(source, target)
    assert overlaps(log.read_text()) == []


def overlaps(log: str) -> list[str]:
    """Find changing requests that were under way at the same time on the same bytes."""
    under_way: dict[tuple[str, str], tuple[int, int]] = {}
    found, seen = [], 0
    for line in log.splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        key = words.get("connection", ""), words.get("id", "")
        if "return" in words:
            under_way.pop(key, None)
        elif "offset" in words and (" Write " in line or " Zero " in line or " Trim " in line):
            offset = int(words["offset"], 0)
            end = offset + int(words["count"], 0)
            found += [line for first, last in under_way.values() if first < end and offset < last]
            under_way[key] = offset, end
            seen += 1
    assert seen > 50, log[:2000]
    return found


def test_len_and_offset_grow_with_what_guests_write(source, target):
    """S37: 1 MiB written after READY of 4 MiB makes both 5 MiB; offset never decreases."""
    with live(source, target) as mirror, Guest(mirror.uri) as guest:
        mirror.start().wait_ready()
        offsets = [mirror.snapshot().offset]
        for place in range(16):
            guest.write(place * CHUNK, pattern(CHUNK, seed=2, offset=place * CHUNK))
            snapshot = mirror.snapshot()
            offsets.append(snapshot.offset)
            left = snapshot.dirty_bytes + snapshot.in_flight_bytes
            assert snapshot.length - snapshot.offset == left
        settled = mirror.wait_for(lambda job: not job.remaining, "in sync again")
        assert settled.offset == settled.length == 5 * MiB
        assert offsets == sorted(offsets)
        mirror.cancel()
        mirror.wait_end()
    assert_same(source, target)


@pytest.mark.parametrize("mode", CopyMode)
def test_no_answered_write_is_lost_when_completing_under_load(source, target, mode):
    """S39: writes between the last look at the bitmap and the switch are there afterwards."""
    with live(source, target, copy_mode=mode) as mirror, Guest(mirror.uri) as guest:
        guest.start_load("counter", offset=0, length=4 * MiB, block=512)
        mirror.start().wait_ready()
        mirror.complete()
        assert mirror.wait_end().outcome is Outcome.SWITCHED
        until = guest.load()["done"] + 50
        mirror.wait_for(lambda _: guest.load()["done"] > until, "the guest goes on")
        load = guest.stop_load()
        assert load["error"] is None
        assert load["slowest_s"] < 1.0
    check_counters(target, load["done"], places=8192, block=512)


def check_counters(path: Path, done: int, *, places: int, block: int) -> None:
    """Every place holds the last of the writes 1 to ``done`` that went there, or its original."""
    data, original = path.read_bytes(), pattern(places * block)
    for place in range(places):
        last = done - (done - place) % places
        if last > 0:
            expected = struct.pack("<Q", last) * (block // 8)
        else:
            expected = original[place * block : (place + 1) * block]
        found = data[place * block : (place + 1) * block]
        assert found == expected, f"place {place}, write {last}: {found[:16].hex()}"


def test_after_a_soft_cancel_the_target_is_the_source_at_one_moment(source, target):
    """S02 under load: what the target holds are the guest's first N writes, for one N."""
    with live(source, target) as mirror, Guest(mirror.uri) as guest:
        mirror.start().wait_ready()
        guest.start_load("counter", offset=0, length=4 * MiB, block=512)
        mirror.wait_for(lambda _: guest.load()["done"] > 200, "the guest writes")
        answered = guest.load()["done"]
        mirror.cancel()
        assert mirror.wait_end().outcome is Outcome.FINISHED
        asked = guest.load()["done"] + 1
        mirror.wait_for(lambda _: guest.load()["done"] > asked + 50, "the guest goes on")
        load = guest.stop_load()
        assert load["error"] is None
    numbers = [struct.unpack("<Q", at(target, place * 512, 8))[0] for place in range(8192)]
    original = struct.unpack("<524288Q", pattern(4 * MiB))[::64]
    last = max(n for n, first in zip(numbers, original, strict=True) if n != first)
    assert answered <= last <= asked
    check_counters(target, last, places=8192, block=512)
    check_counters(source, load["done"], places=8192, block=512)


def test_a_guest_that_is_faster_than_the_target_is_told_and_ready_comes_after_it(
    folder, source, target
):
    """S41: in background mode there is no READY while the guest outruns the mirror."""
    with (
        throttled_target(folder, target) as kit,
        live(source, kit.uri) as mirror,
        Guest(mirror.uri) as guest,
    ):
        guest.start_load("random", offset=0, length=4 * MiB, block=64 * KiB)
        mirror.start()
        time.sleep(2.0)
        assert "BLOCK_JOB_READY" not in mirror.names()
        assert mirror.snapshot().dirtied_bytes > 4 * MiB
        guest.stop_load()
        mirror.wait_ready()
        mirror.complete()
        mirror.wait_end()
    assert_same(source, target)


def test_a_guest_with_small_writes_does_not_outrun_a_slow_target(folder, source, target):
    """Its chunks would be three times what the target takes; what it writes is a fifth of that."""
    with (
        throttled_target(folder, target) as kit,
        live(source, kit.uri) as mirror,
        Guest(mirror.uri) as guest,
    ):
        guest.start_load("random", offset=0, length=4 * MiB, block=4 * KiB, pause_s=0.005)
        mirror.start().wait_ready()
        assert guest.stop_load()["error"] is None
        mirror.complete()
        mirror.wait_end()
    assert_same(source, target)


def test_write_blocking_reaches_ready_under_a_guest_that_is_faster_than_the_target(
    folder, source, target
):
    """S42: the guest is slowed to what the target takes; copying goes on meanwhile."""
    with (
        NbdKit(folder, "--filter=delay", "file", target, "wdelay=5ms") as kit,
        live(source, kit.uri, copy_mode=BLOCKING) as mirror,
        Guest(mirror.uri) as guest,
    ):
        guest.start_load("random", offset=0, length=4 * MiB, block=64 * KiB)
        mirror.start().wait_ready()
        assert mirror.snapshot().copied_bytes > 0
        load = guest.stop_load()
        assert load["error"] is None
        assert load["slowest_s"] >= 0.005
        mirror.complete()
        mirror.wait_end()
    assert_same(source, target)


# --------------------------------------------------------------------- write-blocking


def test_write_blocking_brings_a_whole_chunk_over_before_it_answers(source, target):
    """S43: also where nothing has been copied yet."""
    with live(source, target, copy_mode=BLOCKING, speed=1) as mirror, Guest(mirror.uri) as guest:
        mirror.start()
        wait_write_blocking(mirror)
        place = last_dirty_chunk(mirror)
        data = pattern(CHUNK, seed=3)
        guest.write(place, data)
        assert at(target, place, CHUNK) == data
        assert at(source, place, CHUNK) == data


def wait_write_blocking(mirror: LiveMirror) -> None:
    """Return when guests' writes go to both images, however little has been copied."""
    mirror.wait_for(lambda _: type(mirror.session.drive._hook).__name__ == "WriteBlocking", "mode")


def last_dirty_chunk(mirror: LiveMirror) -> int:
    """Return the offset of the last chunk, which must be one that was not copied yet."""
    place = 4 * MiB - CHUNK
    extents = mirror.do(lambda session: session.job.dirty_extents(place, CHUNK))
    assert extents == [(CHUNK, True)]
    return place


def test_a_byte_written_into_a_dirty_chunk_arrives_with_its_chunk(source, target):
    """S44: it may wait for the chunk; in the end both are equal."""
    with live(source, target, copy_mode=BLOCKING, speed=1) as mirror, Guest(mirror.uri) as guest:
        mirror.start()
        wait_write_blocking(mirror)
        place = last_dirty_chunk(mirror)
        guest.write(place + 42, b"!")
        guest.write(place - CHUNK - 8, pattern(2 * CHUNK, seed=4)[: CHUNK + 16])
        mirror.do(lambda session: session.job.set_speed(0))
        mirror.wait_ready()
        mirror.complete()
        mirror.wait_end()
        assert guest.read(place + 42, 1) == b"!"
    assert at(target, place + 42, 1) == b"!"
    assert_same(source, target)


def test_after_ready_every_kind_of_write_is_on_both_when_it_is_answered(source, target):
    """S46: also zeroes and discards that are smaller than a chunk."""
    with live(source, target, copy_mode=BLOCKING) as mirror, Guest(mirror.uri) as guest:
        mirror.start().wait_ready()
        mirror.wait_for(lambda job: job.actively_synced, "actively synced")
        requests = [
            lambda: guest.write(12345 * 8, pattern(100_000, seed=5)),
            lambda: guest.write(7, b"x"),
            lambda: guest.zero(3 * CHUNK + 4 * KiB, 4 * KiB),
            lambda: guest.zero(8 * CHUNK - 1, CHUNK + 2),
            lambda: guest.trim(20 * CHUNK, 2 * CHUNK),
            lambda: guest.trim(30 * CHUNK + 4 * KiB, 8 * KiB),
            lambda: guest.write(4 * MiB - 1, b"y"),
        ]
        for request in requests:
            request()
            assert_same(source, target)
        assert mirror.snapshot().actively_synced
        assert mirror.snapshot().status is JobStatus.READY
        mirror.complete()
        mirror.wait_end()


def test_a_target_that_fails_a_guests_write_fails_the_job_and_not_the_guest(folder, source, target):
    """S48: the guest goes on with the source."""
    trigger = folder / "trigger"
    filters = ("--filter=error", "file", target, "error-pwrite=EIO", "error-pwrite-rate=100%")
    with (
        NbdKit(folder, *filters, f"error-pwrite-file={trigger}") as kit,
        live(source, kit.uri, copy_mode=BLOCKING) as mirror,
        Guest(mirror.uri) as guest,
    ):
        mirror.start().wait_ready()
        trigger.touch()
        guest.write(CHUNK, pattern(CHUNK, seed=6))
        last = mirror.wait_end()
        assert last.outcome is Outcome.FAILED
        assert last.error == "Input/output error"
        assert mirror.wait_event("BLOCK_JOB_ERROR").data["operation"] == "write"
        guest.write(2 * CHUNK, pattern(CHUNK, seed=7))
        assert guest.read(CHUNK, CHUNK) == pattern(CHUNK, seed=6)
    assert at(source, 2 * CHUNK, CHUNK) == pattern(CHUNK, seed=7)


def test_the_mode_changes_to_write_blocking_while_requests_are_under_way(source, target):
    """S50, S51, S52."""
    with (
        live(source, target) as mirror,
        Guest(mirror.uri) as guest,
        Guest(mirror.uri) as other,
    ):
        mirror.start()
        guest.start_load("random", offset=0, length=2 * MiB, seed=1)
        other.start_load("random", offset=0, length=2 * MiB, seed=2)
        mirror.wait_ready()
        assert not mirror.snapshot().actively_synced
        mirror.do(lambda session: session.job.change(CopyMode.BACKGROUND))  # is the mode: nothing
        mirror.do(lambda session: session.job.change(BLOCKING))
        mirror.wait_for(lambda job: job.actively_synced, "actively synced under load")
        assert guest.stop_load()["error"] is None
        assert other.stop_load()["error"] is None
        for place in range(8):
            data = pattern(CHUNK, seed=8 + place)
            guest.write(place * CHUNK, data)
            assert at(target, place * CHUNK, CHUNK) == data
        with pytest.raises(InvalidInput, match="Change to copy mode 'background'"):
            mirror.do(lambda session: session.job.change(CopyMode.BACKGROUND))
        mirror.do(lambda session: session.job.change(BLOCKING))
        mirror.complete()
        mirror.wait_end()
    assert_same(source, target)


def test_background_mode_is_never_actively_synced(source, target):
    """S52."""
    with live(source, target) as mirror:
        mirror.start().wait_ready()
        assert not mirror.wait_for(lambda job: not job.remaining, "in sync").actively_synced


# --------------------------------------------------------------------- control while guests work


def test_a_soft_cancel_that_cannot_come_to_an_end_is_forced(folder, source, target):
    """S80: the guest outruns a target, so the copy as of one moment is not reached."""
    with (
        throttled_target(folder, target) as kit,
        live(source, kit.uri) as mirror,
        Guest(mirror.uri) as guest,
    ):
        mirror.start().wait_ready()
        mirror.wait_for(lambda job: not job.remaining, "in sync")
        guest.start_load("random", offset=0, length=4 * MiB, block=4 * KiB)
        mirror.wait_for(lambda job: job.remaining > 2 * MiB, "dirty")
        mirror.cancel()
        time.sleep(0.3)
        assert mirror.snapshot().outcome is None
        mirror.cancel(force=True)
        started = time.monotonic()
        assert mirror.wait_end().outcome is Outcome.CANCELLED
        assert time.monotonic() - started < 5.0
        done = guest.load()["done"]
        mirror.wait_for(lambda _: guest.load()["done"] > done + 20, "the guest goes on")
        assert guest.stop_load()["error"] is None


@pytest.mark.parametrize("mode", CopyMode)
@pytest.mark.parametrize("ready", [False, True])
def test_a_forced_cancel_ends_requests_that_hang_in_the_target(folder, source, target, mode, ready):
    """S81: within five seconds, with a guest's write hanging as well in write-blocking mode."""
    with (
        NbdKit(folder, "file", target) as kit,
        live(source, kit.spec(), copy_mode=mode, speed=0 if ready else 256 * KiB) as mirror,
        Guest(mirror.uri) as guest,
    ):
        mirror.start()
        if ready:
            mirror.wait_ready()
        else:
            mirror.wait_for(lambda job: job.copied_bytes, "copies")
        if mode is BLOCKING:
            wait_write_blocking(mirror)
        kit.hang()
        guest.tell("write", offset=CHUNK, data=pattern(CHUNK, seed=9).hex())
        mirror.wait_for(lambda job: job.operations, "something hangs")
        started = time.monotonic()
        mirror.cancel(force=True)
        assert mirror.wait_end().outcome is Outcome.CANCELLED
        assert time.monotonic() - started < 5.0
        guest.answer(timeout_s=5.0)
        assert guest.read(CHUNK, CHUNK) == pattern(CHUNK, seed=9)
        guest.write(0, b"on the source")
    assert at(source, 0, 13) == b"on the source"


def test_a_pause_comes_quickly_with_a_slow_source_and_guests_go_on(folder, source, target):
    """S92: the job is neither finished nor failed by it."""
    with (
        NbdKit(folder, "--filter=delay", "file", source, "delay-read=100ms") as kit,
        LiveMirror(kit.uri, target, folder / "guests.sock") as mirror,
        Guest(mirror.uri) as guest,
    ):
        mirror.start()
        mirror.wait_for(lambda job: job.in_flight_bytes, "copies")
        started = time.monotonic()
        mirror.do(lambda session: session.job.pause())
        mirror.wait_for(lambda job: job.status is JobStatus.PAUSED, "paused")
        assert time.monotonic() - started < 1.0
        guest.write(5 * CHUNK, pattern(CHUNK, seed=10))
        guest.flush()
        assert mirror.snapshot().status is JobStatus.PAUSED
        mirror.do(lambda session: session.job.resume())
        mirror.wait_ready()
        mirror.complete()
        mirror.wait_end()
    assert_same(source, target)


def test_locks_are_held_while_the_mirror_runs_and_given_back_in_the_end(source, target):
    """S94: other programs can neither write to the images nor read what is being changed."""
    write = ("qemu-io", "-f", "raw", "-c", "write 0 512")
    with live(source, target) as mirror, Guest(mirror.uri):
        mirror.start().wait_ready()
        for image in (source, target):
            assert 'Failed to get "write" lock' in run(*write, image, status=1)
        mirror.cancel(force=True)
        mirror.wait_end()
    for image in (source, target):
        run(*write, image)
        run("qemu-img", "check", "-f", "raw", image, status=63)  # raw knows no check: it opened


def test_a_target_lost_while_ready_and_a_cancel_end_with_an_error_in_time(folder, source, target):
    """S99: no loop, and a text that says what happened."""
    with (
        NbdKit(folder, "file", target) as kit,
        live(source, kit.spec(**{"reconnect-delay": 1})) as mirror,
        Guest(mirror.uri) as guest,
    ):
        mirror.start().wait_ready()
        mirror.wait_for(lambda job: not job.remaining, "in sync")
        kit.kill()
        guest.write(0, pattern(CHUNK, seed=11))
        mirror.cancel()
        last = mirror.wait_end(timeout_s=10.0)
        assert last.outcome is Outcome.FAILED
        assert last.error == "Transport endpoint is not connected"
        assert mirror.names().count("BLOCK_JOB_ERROR") <= 20
        assert guest.read(0, CHUNK) == pattern(CHUNK, seed=11)


@pytest.mark.parametrize("policy", [ErrorPolicy.STOP, ErrorPolicy.IGNORE])
def test_a_target_that_comes_back_is_brought_up_to_date(folder, source, target, policy):
    """A lost server is a write error: stop waits for a resume, ignore tries again by itself."""
    with (
        NbdKit(folder, "file", target) as kit,
        live(source, kit.spec(**{"reconnect-delay": 0}), on_target_error=policy) as mirror,
        Guest(mirror.uri) as guest,
    ):
        mirror.start().wait_ready()
        kit.kill()
        guest.write(0, pattern(CHUNK, seed=12))
        mirror.wait_event("BLOCK_JOB_ERROR")
        guest.write(CHUNK, pattern(CHUNK, seed=13))
        kit.come_back()
        if policy is ErrorPolicy.STOP:
            mirror.wait_for(lambda job: job.status is JobStatus.STANDBY, "stopped")
            mirror.do(lambda session: session.job.resume())
        mirror.wait_for(lambda job: not job.remaining, "in sync again")
        mirror.complete()
        assert mirror.wait_end().outcome is Outcome.SWITCHED
        assert guest.read(0, CHUNK) == pattern(CHUNK, seed=12)
    assert_same(source, target)


@pytest.mark.parametrize("action", ["report", "stop"])
def test_a_target_that_exits_while_it_is_copied_to_is_answered_by_the_policy(
    folder, source, target, action
):
    with (
        NbdKit(folder, "--filter=delay", "file", target, "wdelay=10ms") as kit,
        live(
            source,
            kit.spec(**{"reconnect-delay": 0}),
            on_target_error=ErrorPolicy(action),
            speed=2 * MiB,
        ) as mirror,
        Guest(mirror.uri) as guest,
    ):
        mirror.start()
        mirror.wait_for(lambda job: job.copied_bytes, "copies")
        kit.kill()
        assert mirror.wait_event("BLOCK_JOB_ERROR").data["action"] == action
        if action == "report":
            assert mirror.wait_end().outcome is Outcome.FAILED
        else:
            kit.come_back()
            mirror.wait_for(lambda job: job.status is JobStatus.PAUSED, "stopped")
            mirror.do(lambda session: session.job.resume())
            mirror.wait_ready()
            mirror.complete()
            assert mirror.wait_end().outcome is Outcome.SWITCHED
            assert_same(source, target)
        guest.write(0, b"still served")


# --------------------------------------------------------------------- guests come, stay and go


def test_a_connection_lives_through_the_switch(source, target):
    with live(source, target) as mirror, Guest(mirror.uri) as guest:
        mirror.start().wait_ready()
        guest.write(0, b"before")
        mirror.complete()
        assert mirror.wait_end().outcome is Outcome.SWITCHED
        guest.write(8, b"after!")
        guest.flush()
        assert guest.read(0, 14) == b"before" + pattern(8)[6:] + b"after!"
        (client,) = mirror.do(lambda session: session.clients())
        assert client.writes == 2
    assert at(target, 8, 6) == b"after!"
    assert at(source, 8, 6) == pattern(16)[8:14]


def test_qemu_io_keeps_its_image_through_the_switch(source, target):
    with live(source, target) as mirror:
        client = subprocess.Popen(
            ["qemu-io", "-f", "raw", mirror.uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert client.stdin is not None
            client.stdin.write("write -P 1 0 64k\nflush\n")
            client.stdin.flush()
            mirror.start().wait_ready()
            mirror.wait_for(lambda job: job.guest.writes == 1, "the first write")
            mirror.complete()
            mirror.wait_end()
            script = "read -P 1 0 64k\nwrite -P 2 1M 64k\nread -P 2 1M 64k\nq\n"
            output, _ = client.communicate(script, timeout=20)
        finally:
            client.kill()
            client.communicate()
    assert client.returncode == 0, output
    assert "Pattern verification failed" not in output
    assert output.count("65536/65536 bytes") == 4, output
    assert at(target, 1 * MiB, CHUNK) == bytes([2]) * CHUNK
    assert at(source, 1 * MiB, CHUNK) == pattern(CHUNK, offset=1 * MiB)


def test_reads_during_the_switch_are_answered_after_it(folder, source, target):
    """The last flush takes half a second, in which newcomers wait at the drive."""
    with (
        NbdKit(folder, "eval", *slow_flush(target)) as kit,
        live(source, kit.uri) as mirror,
        Guest(mirror.uri) as guest,
    ):
        mirror.start().wait_ready()
        mirror.complete()
        mirror.wait_for(lambda _: mirror.session.drive._held, "the drive is held")
        guest.tell("read", offset=CHUNK, length=16)
        time.sleep(0.1)
        assert guest.waits
        assert mirror.wait_end().outcome is Outcome.SWITCHED
        assert guest.answer() == pattern(16, offset=CHUNK).hex()


def slow_flush(image: Path) -> list[str]:
    """Arguments for nbdkit's eval plugin: an image whose flush takes half a second."""
    return [
        f"get_size=stat -c %s {image}",
        f"pread=dd if={image} skip=$4 count=$3 iflag=count_bytes,skip_bytes status=none",
        f"pwrite=dd of={image} seek=$4 conv=notrunc oflag=seek_bytes status=none",
        "can_flush=true",
        "flush=sleep 0.5",
        "can_write=true",
    ]


def test_a_client_that_vanishes_in_the_middle_of_a_write_changes_nothing(source, target):
    with live(source, target) as mirror, Guest(mirror.uri) as guest:
        mirror.start().wait_ready()
        before = mirror.snapshot()
        socket_path = source.with_name("guests.sock")
        connection = raw_connection(socket_path)
        shake_hands(connection)
        header = struct.pack(">LHHQQL", 0x25609513, 0, 1, 77, 2 * MiB, CHUNK)
        connection.sendall(header + b"half of it" * 3000)
        connection.close()
        mirror.wait_for(lambda _: len(mirror.session.clients()) == 1, "it is gone")
        assert guest.read(2 * MiB, CHUNK) == pattern(CHUNK, offset=2 * MiB)
        after = mirror.snapshot()
        assert (after.dirtied_bytes, after.length) == (before.dirtied_bytes, before.length)
        mirror.complete()
        mirror.wait_end()
    assert_same(source, target)


def shake_hands(connection) -> None:
    """Negotiate the oldest way: EXPORT_NAME."""
    greeting = connection.recv(18)
    assert greeting[:8] == b"NBDMAGIC"
    connection.sendall(struct.pack(">L", 3) + struct.pack(">8sLL", b"IHAVEOPT", 1, 4) + b"disk")
    assert len(connection.recv(10)) == 10


def test_a_guest_killed_under_load_leaves_a_mirror_that_completes(source, target):
    with live(source, target, copy_mode=BLOCKING) as mirror:
        guest = Guest(mirror.uri)
        guest.start_load("random", offset=0, length=4 * MiB, block=64 * KiB)
        mirror.start().wait_ready()
        guest.kill()
        mirror.wait_for(lambda _: not mirror.session.clients(), "it is gone")
        mirror.complete()
        assert mirror.wait_end().outcome is Outcome.SWITCHED
    assert_same(source, target)


def test_other_programs_can_read_the_dirty_bitmap(source, target):
    with live(source, target, speed=1) as mirror, Guest(mirror.uri) as guest:
        mirror.start()
        mirror.wait_for(lambda job: job.dirty_bytes, "scanned")
        listed = run("nbdinfo", "--map=qemu:dirty-bitmap:mirror0", "--json", mirror.uri)
        assert covered(listed, 1) >= 3 * MiB
        mirror.do(lambda session: session.job.set_speed(0))
        mirror.wait_ready()
        mirror.wait_for(lambda job: not job.remaining, "in sync")
        listed = run("nbdinfo", "--map=qemu:dirty-bitmap:mirror0", "--json", mirror.uri)
        assert (covered(listed, 1), covered(listed, 0)) == (0, 4 * MiB)
        mirror.do(lambda session: session.job.pause())
        mirror.wait_for(lambda job: job.status is JobStatus.STANDBY, "paused")
        guest.write(1 * MiB + 5, b"dirty")
        listed = run("nbdinfo", "--map=qemu:dirty-bitmap:mirror0", "--json", mirror.uri)
        dirty = [each for each in json.loads(listed) if each["type"] == 1]
        assert [(each["offset"], each["length"]) for each in dirty] == [(1 * MiB, CHUNK)]


def covered(listed: str, kind: int) -> int:
    return sum(each["length"] for each in json.loads(listed) if each["type"] == kind)


def test_qemu_img_copies_the_export_while_it_is_mirrored(folder, source, target):
    copy = folder / "copy"
    with live(source, target, speed=1 * MiB) as mirror:
        mirror.start()
        run("qemu-img", "convert", "-f", "raw", "-O", "raw", mirror.uri, copy)
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", mirror.uri, copy)
    assert_same(source, copy)


# --------------------------------------------------------------------- to and from NBD


def test_mirror_from_one_qemu_nbd_to_another(folder, source, target):
    with (
        qemu_nbd(source, folder / "a.sock") as left,
        qemu_nbd(target, folder / "b.sock") as right,
        LiveMirror(left, right, folder / "guests.sock") as mirror,
        Guest(mirror.uri) as guest,
    ):
        guest.start_load("random", offset=0, length=4 * MiB)
        mirror.start().wait_ready()
        mirror.complete()
        assert mirror.wait_end().outcome is Outcome.SWITCHED
        guest.stop_load()
        guest.write(0, b"on the right")
    assert at(target, 0, 12) == b"on the right"
    assert at(source, 0, 12) != b"on the right"


def test_a_read_only_server_is_a_source(folder, source, target):
    target.unlink()
    with NbdKit(folder, "-r", "file", source) as kit:
        output = run_mirrorgui("run", kit.uri, target, "--json")
    assert '"BLOCK_JOB_COMPLETED"' in output
    assert_same(source, target)


def test_a_read_only_server_is_refused_where_guests_would_write(folder, source, target):
    with NbdKit(folder, "-r", "file", source) as kit:
        output = run_mirrorgui(
            *("run", kit.uri, target, "--export", f"nbd+unix:///?socket={folder}/guests.sock"),
            status=2,
        )
    assert "the export is read-only" in output


def run_mirrorgui(*arguments: str | Path, status: int = 0) -> str:
    return run(sys.executable, "-m", "mirrorgui", *arguments, status=status)


def test_sparse_stays_sparse_over_nbd(folder):
    source, target = folder / "source", folder / "target"
    for path in (source, target):
        path.touch()
        os.truncate(path, 64 * MiB)
    with source.open("r+b") as file:
        file.seek(32 * MiB)
        file.write(pattern(1 * MiB))
    with (
        qemu_nbd(source, folder / "a.sock", "--discard=unmap") as left,
        qemu_nbd(target, folder / "b.sock", "--discard=unmap") as right,
    ):
        run_mirrorgui("run", left, right, "--overwrite")
    assert_same(source, target)
    assert target.stat().st_blocks * 512 <= 1 * MiB + CHUNK


# --------------------------------------------------------------------- the command


def test_the_command_switches_on_sigusr1_and_serves_until_the_guest_leaves(source, target):
    with MirrorCommand(source, target, source.with_name("guests.sock")) as command:
        command.wait_event("BLOCK_JOB_READY")
        with Guest(command.uri) as guest:
            guest.write(0, b"before")
            command.complete()
            command.wait_event("BLOCK_JOB_COMPLETED")
            guest.write(CHUNK, b"after")
        assert command.exit_status() == 0
    assert at(source, 0, 6) == at(target, 0, 6) == b"before"
    assert at(target, CHUNK, 5) == b"after"
    assert at(source, CHUNK, 5) != b"after"


def test_the_command_ends_softly_on_sigint_and_guests_stay_on_the_source(source, target):
    with MirrorCommand(source, target, source.with_name("guests.sock")) as command:
        command.wait_event("BLOCK_JOB_READY")
        with Guest(command.uri) as guest:
            guest.write(0, b"before")
            command.end()
            command.wait_event("BLOCK_JOB_COMPLETED")
            guest.write(CHUNK, b"after")
        assert command.exit_status() == 0
    assert at(source, 0, 6) == at(target, 0, 6) == b"before"
    assert at(source, CHUNK, 5) == b"after"
    assert at(target, CHUNK, 5) != b"after"

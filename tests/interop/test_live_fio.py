"""fio verifies what it writes, through mirrors that end under it at random moments.

Every block of fio's regions is written once while the mirror works, in random order, over bytes
that fio would not take for its own. ``MIRRORGUI_SOAK=1`` plays 20 rounds of each kind.
"""

import os
import random
import time
from pathlib import Path

import pytest

from mirrorgui.mirror.options import CopyMode
from mirrorgui.mirror.snapshot import Outcome
from tests.interop.fio import SIZE, UNTOUCHED, Fio, run_fio
from tests.interop.live import (
    SOAK,
    LiveMirror,
    MirrorCommand,
    assert_same,
    make_image,
    pattern,
)

pytestmark = [pytest.mark.interop, pytest.mark.soak]

ROUNDS = range(20 if SOAK else 1)
LONGEST_PAUSE_S = 1.0
"""A guest's request at the switch. A tenth of a second is usual; the machine may be busy."""


@pytest.fixture
def images(folder: Path) -> tuple[Path, Path]:
    source, target = make_image(folder / "source", SIZE), folder / "target"
    target.touch()
    os.truncate(target, SIZE)
    return source, target


def check_untouched(path: Path) -> None:
    with path.open("rb") as file:
        for offset, length in UNTOUCHED:
            file.seek(offset)
            assert file.read(length) == pattern(length, offset=offset)


def tell_pause(pause_s: float) -> None:
    print(f"longest request at the switch: {pause_s * 1e3:.1f} ms")
    assert pause_s < LONGEST_PAUSE_S


@pytest.mark.parametrize("mode", CopyMode)
@pytest.mark.parametrize("number", ROUNDS)
def test_a_mirror_completes_under_a_verifying_guest(folder, images, mode, number):
    source, target = images
    moments = random.Random(number)
    more = ("--copy-mode", mode.value)
    with MirrorCommand(source, target, folder / "guests.sock", *more) as mirror:
        mirror.wait_event("PROGRESS")  # serves guests
        time.sleep(moments.uniform(0, 0.2))
        with Fio(f"uri={mirror.uri}", folder, number, slow=True) as fio:
            mirror.wait_event("BLOCK_JOB_READY")
            time.sleep(moments.uniform(0.3, 1.8))
            told_s = time.time()
            mirror.complete()
            mirror.wait_event("BLOCK_JOB_COMPLETED")
            ended_s = time.time()
            left_as_it_is = source.stat().st_mtime_ns
            fio.finish()
            tell_pause(fio.slowest_s(told_s, ended_s + 1.0))
        assert mirror.exit_status() == 0
    assert source.stat().st_mtime_ns == left_as_it_is
    run_fio(f"filename={target}", folder, number, verify_only=True)
    check_untouched(target)


@pytest.mark.parametrize("number", ROUNDS)
def test_the_mode_changes_under_a_verifying_guest(folder, images, number):
    source, target = images
    moments = random.Random(100 + number)
    with LiveMirror(source, target, folder / "guests.sock") as mirror:
        mirror.start()
        with Fio(f"uri={mirror.uri}", folder, number, slow=True) as fio:
            time.sleep(moments.uniform(0.0, 1.0))
            mirror.do(lambda session: session.job.change(CopyMode.WRITE_BLOCKING))
            mirror.wait_ready()
            mirror.wait_for(lambda job: job.actively_synced, "actively synced")
            time.sleep(moments.uniform(0.0, 0.8))
            told_s = time.time()
            mirror.complete()
            assert mirror.wait_end().outcome is Outcome.SWITCHED
            ended_s = time.time()
            fio.finish()
            tell_pause(fio.slowest_s(told_s, ended_s + 1.0))
    run_fio(f"filename={target}", folder, number, verify_only=True)
    check_untouched(target)


@pytest.mark.parametrize("mode", CopyMode)
@pytest.mark.parametrize("number", ROUNDS)
def test_a_soft_cancel_leaves_a_copy_and_the_guest_on_the_source(folder, images, mode, number):
    """The target must be the source as it was: fio is stopped for the moment of comparing."""
    source, target = images
    moments = random.Random(200 + number)
    with LiveMirror(source, target, folder / "guests.sock", copy_mode=mode) as mirror:
        mirror.start()
        with Fio(f"uri={mirror.uri}", folder, number, slow=True) as fio:
            mirror.wait_ready()
            time.sleep(moments.uniform(0.2, 1.5))
            fio.stop()
            wait_quiet(mirror)
            mirror.cancel()
            assert mirror.wait_end().outcome is Outcome.FINISHED
            assert_same(source, target)
            copied = target.stat().st_mtime_ns
            fio.go_on()
            fio.finish()
    assert target.stat().st_mtime_ns == copied
    run_fio(f"filename={source}", folder, number, verify_only=True)
    check_untouched(source)
    check_untouched(target)


def wait_quiet(mirror: LiveMirror) -> None:
    """Return when the requests of a stopped guest have been served."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < 0.1:
        guest = mirror.snapshot().guest
        if guest.writes != before or guest.in_flight:
            before, since = guest.writes, time.monotonic()
        time.sleep(0.01)

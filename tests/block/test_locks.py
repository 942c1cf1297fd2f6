"""Image locks against real QEMU programs."""

import fcntl
import json
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirrorgui.block import locks
from mirrorgui.block.file import FileNode
from mirrorgui.block.holders import find_holders
from mirrorgui.errors import ImageRefused
from tests.block.conftest import open_descriptors, run

pytestmark = pytest.mark.interop


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.raw"
    path.write_bytes(bytes(65536))
    return path


@contextmanager
def storage_daemon(image: Path, *, writable: bool) -> Iterator[int]:
    """A qemu-storage-daemon that has the image open; yields its pid."""
    socket = image.parent / "nbd.sock"
    daemon = subprocess.Popen(
        [
            "qemu-storage-daemon",
            "--blockdev",
            json.dumps(
                {
                    "driver": "file",
                    "node-name": "disk",
                    "filename": str(image),
                    "read-only": not writable,
                }
            ),
            "--nbd-server",
            f"addr.type=unix,addr.path={socket}",
            "--export",
            f"type=nbd,id=e,node-name=disk,writable={'on' if writable else 'off'}",
            "--chardev",
            "stdio,id=m",
            "--monitor",
            "chardev=m",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert daemon.stdin is not None
    assert daemon.stdout is not None
    try:
        assert "QMP" in daemon.stdout.readline()  # it greets when all is open
        yield daemon.pid
    finally:
        daemon.stdin.close()
        daemon.terminate()
        daemon.wait(10)
        daemon.stdout.close()


def test_qemu_is_refused_while_we_write(image: Path) -> None:
    node = FileNode(image)
    assert node.locked
    done = run("qemu-io", "-f", "raw", "-c", "read 0 512", image, check=False)
    assert done.returncode == 1
    assert 'Failed to get "write" lock' in done.stderr
    done = run("qemu-img", "convert", "-O", "raw", image, image.parent / "copy", check=False)
    assert 'Failed to get shared "write" lock' in done.stderr
    node.close()
    run("qemu-io", "-f", "raw", "-c", "write 0 512", image)


def test_qemu_may_look_while_we_write(image: Path) -> None:
    node = FileNode(image)
    run("qemu-img", "info", "-U", image)
    run("qemu-io", "-r", "-f", "raw", "-c", "read 0 512", image)
    node.close()


def test_readers_do_not_mind_one_another(image: Path) -> None:
    ours = FileNode(image, read_only=True)
    second = FileNode(image, read_only=True)
    run("qemu-img", "info", image)
    run("qemu-img", "convert", "-O", "raw", image, image.parent / "copy")
    done = run("qemu-io", "-f", "raw", "-c", "read 0 512", image, check=False)
    assert 'Failed to get "write" lock' in done.stderr
    second.close()
    ours.close()


@pytest.mark.parametrize("read_only", [True, False])
def test_an_image_that_qemu_writes_is_refused_with_its_name_and_pid(
    image: Path, read_only: bool
) -> None:
    with storage_daemon(image, writable=True) as pid:
        with pytest.raises(ImageRefused) as caught:
            FileNode(image, read_only=read_only, field="source")
        assert caught.value.reason == (
            f"Open for writing by qemu-storage-daemon (pid {pid}). Two writers destroy an image. "
            "Stop that program or mirror through it."
        )
        with pytest.raises(ImageRefused) as caught:
            FileNode(image, read_only=read_only, field="target")
        assert caught.value.reason == f"image.raw is open in qemu-storage-daemon (pid {pid})."
        FileNode(image, read_only=True, force_share=True).close()
        FileNode(image, locking="off").close()
    FileNode(image).close()


def test_an_image_that_qemu_reads_may_be_read_as_well(image: Path) -> None:
    with storage_daemon(image, writable=False) as pid:
        FileNode(image, read_only=True).close()
        status = image.stat()
        holders = find_holders(status.st_dev, status.st_ino)
        assert [(one.pid, one.writing, one.locked) for one in holders] == [(pid, False, True)]


def test_our_own_second_writer_is_refused(image: Path) -> None:
    node = FileNode(image)
    with pytest.raises(ImageRefused, match=r"image\.raw is open in MirrorGUI itself"):
        FileNode(image, field="target")
    node.close()


def test_a_refused_opening_leaves_no_lock_and_no_descriptor(image: Path) -> None:
    node = FileNode(image)
    before = open_descriptors()
    with pytest.raises(ImageRefused):
        FileNode(image)
    assert open_descriptors() == before
    node.close()
    run("qemu-io", "-f", "raw", "-c", "write 0 512", image)


def test_checking_takes_no_lock(image: Path) -> None:
    fd = os.open(image, os.O_RDWR)
    locks.check_image(fd, *locks.READ_WRITE)
    run("qemu-io", "-f", "raw", "-c", "write 0 512", image)
    node = FileNode(image)
    with pytest.raises(locks.LockConflict) as caught:
        locks.check_image(fd, *locks.READ_WRITE)
    assert str(caught.value) == 'Failed to get "write" lock'
    node.close()
    os.close(fd)


def test_without_such_locks_an_image_opens_unless_they_are_asked_for(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object) -> None:
        raise locks.LocksUnavailableError(37, "No locks available")

    monkeypatch.setattr(locks, "lock_image", unavailable)
    node = FileNode(image)
    assert not node.locked
    node.close()
    with pytest.raises(ImageRefused, match="cannot be locked here: No locks available"):
        FileNode(image, locking="on")


def test_an_exclusive_lock_of_another_program_is_a_conflict(image: Path) -> None:
    holder = os.open(image, os.O_RDWR)
    whole = struct.pack("@hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
    fcntl.fcntl(holder, fcntl.F_OFD_SETLK, whole)
    with pytest.raises(ImageRefused, match="is open in"):
        FileNode(image, field="target")
    os.close(holder)
    FileNode(image).close()

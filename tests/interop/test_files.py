"""``mirrorgui run`` on real file systems and devices, judged by e2fsck, cmp and QEMU's programs."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrorgui.units import KiB, MiB
from tests.block import conftest as block
from tests.block.conftest import run, stamped
from tests.running import (
    background,
    fingerprint,
    inside,
    last_line,
    mirrorgui,
    mirroring,
    same,
)

pytestmark = pytest.mark.interop

loop_device = block.loop_device

TREE = Path(os.__file__).parent / "encodings"
"""Files for a file system: many small ones, and nobody changes them."""

ODD = 3 * MiB + 777
"""A length that is a multiple of nothing."""


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def content(device: str, length: int, offset: int = 0) -> bytes:
    with Path(device).open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An ext4 file system with files in it, sparse as mkfs makes it."""
    path = tmp_path / "disk.raw"
    path.touch()
    os.truncate(path, 64 * MiB)
    run("mkfs.ext4", "-q", "-d", TREE, path)
    return path


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Data, zeroes and a hole, of an odd length."""
    path = tmp_path / "odd.raw"
    with path.open("wb") as stream:
        stream.write(stamped(1 * MiB) + bytes(256 * KiB))
        stream.seek(2 * MiB)
        stream.write(stamped(ODD - 2 * MiB, seed=3))
    return path


# Files


@pytest.mark.parametrize("granularity", ["4K", "64K", "1M"])
def test_a_file_system_is_sound_and_equal_and_as_sparse(
    disk: Path, tmp_path: Path, granularity: str
) -> None:
    target = tmp_path / "t.raw"
    ended = mirrorgui("run", disk, target, "--granularity", granularity)
    assert ended.returncode == 0, ended.stderr
    run("e2fsck", "-fn", target)
    assert same(disk, target)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", disk, target)
    assert allocated(target) <= allocated(disk) + 1 * MiB


def test_what_a_used_target_held_is_gone_and_its_space_given_back(
    disk: Path, tmp_path: Path
) -> None:
    target = tmp_path / "t.raw"
    target.write_bytes(b"garbage!" * (8 * MiB))
    assert inside("run", disk, target, "--overwrite") == 0
    run("e2fsck", "-fn", target)
    assert same(disk, target)
    assert allocated(target) <= allocated(disk) + 1 * MiB


def test_written_zeroes_become_holes_and_holes_stay(tmp_path: Path) -> None:
    source, target = tmp_path / "s.raw", tmp_path / "t.raw"
    source.write_bytes(stamped(1 * MiB) + bytes(6 * MiB) + stamped(1 * MiB))
    os.truncate(source, 1 << 40)
    assert inside("run", source, target) == 0
    assert target.stat().st_size == 1 << 40
    assert allocated(target) <= 2 * MiB + 64 * KiB
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, target)


@pytest.mark.parametrize("size", [1, 511, 513, 4095, 64 * KiB + 1, ODD])
def test_every_length_is_copied_to_the_byte(tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "s.raw", tmp_path / "t.raw"
    source.write_bytes(stamped(size))
    assert inside("run", source, target, "--granularity", "512") == 0
    assert same(source, target)


def test_the_rest_of_a_longer_target_stays(odd: Path, tmp_path: Path) -> None:
    target = tmp_path / "t.raw"
    target.write_bytes(b"r" * (ODD + 100_000))
    assert inside("run", odd, target, "--overwrite") == 0
    assert target.read_bytes() == odd.read_bytes() + b"r" * 100_000


def test_two_mirrors_at_once_cannot_have_one_target(odd: Path, tmp_path: Path) -> None:
    target, other = tmp_path / "t.raw", tmp_path / "other.raw"
    other.write_bytes(stamped(ODD, seed=9))
    with mirroring(odd, target, "--finish", "wait") as first:
        first.wait_for("BLOCK_JOB_READY")
        before = fingerprint(tmp_path)
        ended = mirrorgui("run", other, target, "--overwrite")
        assert ended.returncode == 2
        assert last_line(ended.stderr).startswith(
            f"mirrorgui: target: '{target}': t.raw is open in"
        )
        assert f"(pid {first.process.pid})" in ended.stderr
        assert fingerprint(tmp_path) == before
        # What is being written is no source either; what is being read is one for many.
        ended = mirrorgui("run", target, tmp_path / "third.raw")
        assert ended.returncode == 2
        assert "Two writers destroy an image." in ended.stderr
        assert mirrorgui("run", odd, tmp_path / "third.raw").returncode == 0
        first.send(signal.SIGTERM)
        assert first.end() == 0
    assert same(odd, target)
    assert same(odd, tmp_path / "third.raw")


def test_what_an_export_is_written_to_is_mirrored(disk: Path, tmp_path: Path) -> None:
    """QEMU writes to the source through the export while it is mirrored, slowly."""
    target = tmp_path / "t.raw"
    uri = f"nbd+unix:///disk?socket={tmp_path}/socket"
    with mirroring(disk, target, "--export", uri, "--speed", "8M") as mirror:
        mirror.wait_for("JOB_STATUS_CHANGE", status="running")
        writes = [("-c", f"write -P {n + 1} {n * 5 * MiB + 512} 3k") for n in range(12)]
        run("qemu-io", "-f", "raw", *(part for write in writes for part in write), uri)
        mirror.wait_for("BLOCK_JOB_READY")
        mirror.send(signal.SIGTERM)
        assert mirror.end() == 0
    assert same(disk, target)
    assert content(str(target), 3 * KiB, 5 * MiB + 512) == b"\2" * 3 * KiB


# Devices


@pytest.mark.root
@pytest.mark.parametrize("sector", ["512", "4096"])
def test_a_device_is_a_target_and_a_source(
    disk: Path, tmp_path: Path, loop_device: Callable[..., str], sector: str
) -> None:
    file, back = tmp_path / "file.raw", tmp_path / "back.raw"
    file.write_bytes(b"garbage!" * (8 * MiB))
    device = loop_device(file, "--sector-size", sector)
    ended = mirrorgui("run", disk, device)
    assert ended.returncode == 2
    assert "All data on" in ended.stderr
    assert ended.stderr.endswith("will be lost. Use --overwrite to allow that.\n")
    assert inside("run", disk, device, "--overwrite") == 0
    run("e2fsck", "-fn", device)
    assert inside("run", device, back) == 0
    assert same(disk, back)
    assert same(disk, file)
    assert allocated(back) <= allocated(disk) + 1 * MiB


@pytest.mark.root
@pytest.mark.parametrize("sector", ["512", "4096"])
def test_an_odd_image_fits_into_a_device_and_the_rest_stays(
    odd: Path, tmp_path: Path, loop_device: Callable[..., str], sector: str
) -> None:
    file = tmp_path / "file.raw"
    file.write_bytes(b"r" * (4 * MiB))
    device = loop_device(file, "--sector-size", sector)
    assert inside("run", odd, device, "--overwrite") == 0
    assert content(device, ODD) == odd.read_bytes()
    assert content(device, 4 * MiB - ODD, ODD) == b"r" * (4 * MiB - ODD)


@pytest.mark.root
def test_a_device_that_is_too_small_by_a_sector_is_refused(
    tmp_path: Path, loop_device: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    source, file = tmp_path / "s.raw", tmp_path / "file.raw"
    source.write_bytes(stamped(1 * MiB))
    file.write_bytes(b"r" * (1 * MiB - 512))
    device = loop_device(file)
    assert inside("run", source, device, "--overwrite") == 2
    assert "Target is 512 B too small" in capsys.readouterr().err
    assert file.read_bytes() == b"r" * (1 * MiB - 512)


@pytest.mark.root
def test_a_device_cannot_be_mounted_while_it_is_a_target(
    disk: Path, tmp_path: Path, loop_device: Callable[..., str]
) -> None:
    file, folder = tmp_path / "file.raw", tmp_path / "mnt"
    run("cp", disk, file)
    device = loop_device(file)
    folder.mkdir()
    with mirroring(disk, device, "--overwrite", "--finish", "wait") as mirror:
        mirror.wait_for("BLOCK_JOB_READY")
        assert run("mount", device, folder, check=False).returncode != 0
        ended = mirrorgui("run", disk, device, "--overwrite")
        assert ended.returncode == 2
        assert "in use" in ended.stderr or "is open in" in ended.stderr
        mirror.send(signal.SIGTERM)
        assert mirror.end() == 0


# NBD


@pytest.fixture
def qemu_nbd(tmp_path: Path) -> Callable[..., object]:
    def serve(image: Path, *options: str) -> object:
        socket = tmp_path / f"{image.name}.socket"
        arguments = ("qemu-nbd", "-f", "raw", "-t", "-e", "8", "-k", socket, *options, image)
        return background(*arguments, ready=socket.exists)

    return serve


def uri_of(image: Path) -> str:
    return f"nbd+unix:///?socket={image}.socket"


def test_exports_of_qemu_nbd_are_sources_and_targets(
    disk: Path, tmp_path: Path, qemu_nbd: Callable[..., object]
) -> None:
    remote, back = tmp_path / "remote.raw", tmp_path / "back.raw"
    remote.touch()
    os.truncate(remote, 64 * MiB)
    with qemu_nbd(remote, "--discard=unmap"):
        assert inside("run", disk, uri_of(remote)) == 0
        assert inside("compare", disk, uri_of(remote)) == 0
        assert inside("run", uri_of(remote), back) == 0
    run("e2fsck", "-fn", remote)
    assert same(disk, remote)
    assert same(disk, back)
    assert allocated(remote) <= allocated(disk) + 1 * MiB
    assert allocated(back) <= allocated(disk) + 1 * MiB


def test_a_read_only_export_is_no_target(
    odd: Path, tmp_path: Path, qemu_nbd: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    remote = tmp_path / "remote.raw"
    remote.write_bytes(stamped(4 * MiB))
    with qemu_nbd(remote, "-r"):
        assert inside("run", odd, uri_of(remote)) == 2
    assert "read-only" in capsys.readouterr().err


def test_one_export_is_not_its_own_target(
    odd: Path, qemu_nbd: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    with qemu_nbd(odd):
        assert inside("run", uri_of(odd), uri_of(odd), "--overwrite") == 2
    assert "Source and target are the same image." in capsys.readouterr().err


def test_a_server_that_is_not_there_is_refused(
    odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = f"nbd+unix:///?socket={tmp_path}/none"
    assert inside("run", odd, nobody) == 2
    assert inside("run", nobody, tmp_path / "t.raw") == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(f"mirrorgui: target: '{nobody}': ")
    assert told[1].startswith(f"mirrorgui: source: '{nobody}': ")
    assert not (tmp_path / "t.raw").exists()


def test_a_server_that_dies_is_an_error_of_its_end(odd: Path, tmp_path: Path) -> None:
    remote = tmp_path / "remote.raw"
    remote.touch()
    os.truncate(remote, 4 * MiB)
    node = (
        '{"driver":"nbd","reconnect-delay":0,'
        f'"server":{{"type":"unix","path":"{remote}.socket"}}}}'
    )
    socket = Path(f"{remote}.socket")
    arguments = ("qemu-nbd", "-f", "raw", "-t", "-k", socket, remote)
    with (
        background(*arguments, ready=socket.exists) as server,
        mirroring(odd, f"json:{node}", "--speed", "1M") as mirror,
    ):
        mirror.wait_for("JOB_STATUS_CHANGE", status="running")
        server.kill()
        assert mirror.end() == 1
    assert mirror.wait_for("BLOCK_JOB_ERROR")["operation"] == "write"
    assert last_line(mirror.stderr).startswith("mirrorgui: the mirror failed: ")


# Memory


def test_memory_does_not_grow_with_the_image(tmp_path: Path) -> None:
    source, target = tmp_path / "s.raw", tmp_path / "t.raw"
    source.touch()
    os.truncate(source, (1 << 44) - 1 * MiB)  # as long as a file on ext4 can be
    with mirroring(source, target, "--finish", "wait") as mirror:
        mirror.wait_for("BLOCK_JOB_READY")
        status = Path(f"/proc/{mirror.process.pid}/status").read_text()
        mirror.send(signal.SIGTERM)
        assert mirror.end() == 0
    assert allocated(target) == 0
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    assert int(peak) * KiB < 120 * MiB

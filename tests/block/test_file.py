import errno
import os
import shutil
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mirrorgui.block import file as file_module
from mirrorgui.block import holes, linux, zeroing
from mirrorgui.block.file import FileNode
from mirrorgui.block.node import Extent, ExtentKind
from mirrorgui.errors import BlockIOError, ImageRefused
from mirrorgui.units import KiB, MiB
from tests.block.conftest import run, stamped

DATA, ZERO = ExtentKind.DATA, ExtentKind.ZERO


def sparse(path: Path, size: int = 4 * MiB) -> Path:
    with path.open("wb") as stream:
        stream.truncate(size)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return sparse(tmp_path / "image.raw")


def content(node: FileNode) -> bytes:
    buffer = bytearray(node.size)
    node.read_into(0, buffer)
    return bytes(buffer)


def test_what_is_written_is_in_the_file(image: Path) -> None:
    node = FileNode(image)
    node.write(1000, stamped(100_000))
    node.flush()
    node.close()
    node.close()  # idempotent
    assert image.read_bytes()[1000:101_000] == stamped(100_000)
    assert image.stat().st_size == 4 * MiB


@pytest.mark.parametrize("size", [0, 1, 511, 513, 65537])
def test_any_size_is_read_and_written_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "odd.raw"
    path.write_bytes(bytes(size))
    node = FileNode(path)
    assert node.size == size
    node.write(0, stamped(size))
    assert content(node) == stamped(size)
    node.write_zeroes(0, size)
    assert content(node) == bytes(size)
    node.close()
    assert path.stat().st_size == size


def test_the_descriptor_is_not_inherited(image: Path) -> None:
    node = FileNode(image)
    assert not os.get_inheritable(node.fileno())
    node.close()


def test_holes_are_zero_and_the_rest_is_data(image: Path) -> None:
    node = FileNode(image)
    node.write(1 * MiB, stamped(64 * KiB))
    assert node.extents(0, node.size) == [
        Extent(0, 1 * MiB, ZERO),
        Extent(1 * MiB, 64 * KiB, DATA),
        Extent(1 * MiB + 64 * KiB, 3 * MiB - 64 * KiB, ZERO),
    ]
    assert node.extents(1 * MiB + 5, 10) == [Extent(1 * MiB + 5, 10, DATA)]
    node.close()


def test_zeroing_gives_the_storage_back(image: Path) -> None:
    node = FileNode(image)
    node.write(0, stamped(4 * MiB))
    node.flush()
    assert node.limits.can_zero
    node.write_zeroes(0, 4 * MiB)
    node.flush()
    assert image.stat().st_blocks * 512 < 64 * KiB
    assert content(node) == bytes(4 * MiB)
    node.close()


def test_zeroing_without_unmap_keeps_the_storage(image: Path) -> None:
    node = FileNode(image)
    node.write(0, stamped(4 * MiB))
    node.write_zeroes(0, 4 * MiB, may_unmap=False)
    node.flush()
    assert image.stat().st_blocks * 512 >= 4 * MiB
    assert content(node) == bytes(4 * MiB)
    node.close()


def test_discard_gives_the_storage_back(image: Path) -> None:
    node = FileNode(image)
    node.write(0, stamped(4 * MiB))
    node.discard(1 * MiB, 1 * MiB)
    assert node.extents(1 * MiB, 1 * MiB) == [Extent(1 * MiB, 1 * MiB, ZERO)]
    node.close()


def test_where_holes_cannot_be_punched_zeroes_are_written(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def unsupported(*arguments: int) -> None:
        calls.append(arguments)
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(linux, "fallocate", unsupported)
    node = FileNode(image)
    node.write(0, stamped(3 * MiB))
    node.write_zeroes(1000, 2 * MiB)
    assert content(node)[1000 : 1000 + 2 * MiB] == bytes(2 * MiB)
    node.discard(0, 1 * MiB)
    assert not node.limits.can_zero
    asked = len(calls)
    node.write_zeroes(1000, 2 * MiB)
    node.discard(0, 1 * MiB)
    assert len(calls) == asked, "asks again for what is known to be missing"
    node.close()


def test_zeroing_that_fails_for_want_of_space_is_an_error(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = FileNode(image)

    def full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(linux, "fallocate", full)
    with pytest.raises(BlockIOError) as caught:
        node.write_zeroes(0, 4096)
    assert (caught.value.operation, caught.value.errno) == ("write_zeroes", errno.ENOSPC)
    node.close()


def test_a_file_cut_short_fails_to_read_and_never_gives_zeroes(image: Path) -> None:
    node = FileNode(image)
    os.truncate(image, 1 * MiB + 10)
    node.read_into(0, bytearray(1 * MiB))
    for request in (
        lambda: node.read_into(1 * MiB, bytearray(4096)),
        lambda: node.read_into(2 * MiB, bytearray(4096)),
        lambda: node.extents(2 * MiB, 4096),
    ):
        with pytest.raises(BlockIOError) as caught:
            request()
        assert caught.value.errno == errno.EIO
    node.close()


def test_short_transfers_are_continued(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = FileNode(image)
    real_read, real_write = os.preadv, os.pwrite
    monkeypatch.setattr(os, "preadv", lambda fd, b, o: real_read(fd, (memoryview(b[0])[:1000],), o))
    monkeypatch.setattr(os, "pwrite", lambda fd, b, o: real_write(fd, memoryview(b)[:777], o))
    node.write(5, stamped(10_000))
    buffer = bytearray(10_000)
    node.read_into(5, buffer)
    assert buffer == stamped(10_000)
    node.close()


def test_a_full_file_system_is_named_as_such(tmp_path: Path) -> None:
    # A limit of the process is as good as a full disk: the kernel writes a part, then refuses.
    path = sparse(tmp_path / "image.raw", 64 * KiB)
    code = (
        "import resource, signal, sys\n"
        "from mirrorgui.block.file import FileNode\n"
        "from mirrorgui.errors import BlockIOError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "node = FileNode(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (32768, 32768))\n"
        "try:\n    node.write(16384, bytes(32768))\n"
        "except BlockIOError as error:\n    print(error.errno)\n"
    )
    root = Path(__file__).parents[2]
    done = run("env", f"PYTHONPATH={root}", os.sys.executable, "-c", code, path)
    assert done.stdout.strip() == str(errno.EFBIG)


def test_a_failed_flush_is_not_forgotten(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = FileNode(image)

    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, "gone")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(BlockIOError):
            node.flush()
    with pytest.raises(BlockIOError) as caught:
        node.flush()  # the lost pages are clean now: a success would be a lie
    assert (caught.value.operation, caught.value.errno) == ("flush", errno.EIO)
    node.close()


def test_a_read_only_node_refuses_changes_and_flushes_nothing(image: Path) -> None:
    node = FileNode(image, read_only=True)
    for request in (
        lambda: node.write(0, b"x"),
        lambda: node.write_zeroes(0, 1),
        lambda: node.discard(0, 1),
    ):
        with pytest.raises(BlockIOError) as caught:
            request()
        assert caught.value.errno == errno.EPERM
    node.flush()
    node.close()


def test_a_hole_that_moves_between_two_looks_is_data_at_worst(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = FileNode(image)

    def moving(_fd: int, position: int, whence: int) -> int:
        return position  # "data here" and "a hole here", for ever

    monkeypatch.setattr(os, "lseek", moving)
    assert node.extents(0, 8192) == [Extent(0, 8192, DATA)]
    monkeypatch.undo()
    node.close()


def test_a_file_system_that_knows_no_holes_has_only_data(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = FileNode(image)

    def unknown(*_: int) -> int:
        raise OSError(errno.EINVAL, "no")

    monkeypatch.setattr(holes.os, "lseek", unknown)
    assert node.extents(100, 8192) == [Extent(100, 8192, DATA)]
    monkeypatch.undo()
    node.close()


def test_a_long_run_of_data_is_looked_up_once(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = FileNode(image)
    node.write(0, stamped(4 * MiB))
    looks = []
    real = file_module.seek_extents
    monkeypatch.setattr(file_module, "seek_extents", lambda *a: (looks.append(a), real(*a))[1])
    for offset in range(0, 4 * MiB, 64 * KiB):
        assert node.extents(offset, 64 * KiB) == [Extent(offset, 64 * KiB, DATA)]
    assert len(looks) == 1
    node.write_zeroes(1 * MiB, 1 * MiB)
    assert node.extents(1 * MiB, 1 * MiB) == [Extent(1 * MiB, 1 * MiB, ZERO)]
    node.close()


def test_write_out_starts_after_so_many_bytes(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(linux, "sync_file_range", lambda *a: calls.append(a))
    node = FileNode(image, write_out=1 * MiB)
    for offset in range(0, 4 * MiB, 256 * KiB):
        node.write(offset, stamped(256 * KiB))
    assert len(calls) == 4
    node.close()


def test_write_out_by_the_real_call_changes_nothing(image: Path) -> None:
    node = FileNode(image, write_out=1 * MiB)
    node.write(0, stamped(4 * MiB))
    assert content(node) == stamped(4 * MiB)
    node.close()


def test_missing_directory_pipe_socket_and_character_device_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path, text in (
            (tmp_path / "none", "Cannot read {path}: No such file or directory."),
            (tmp_path, "{path} is a folder. Choose an image file or a device."),
            (tmp_path / "pipe", "{path} is a pipe. Choose an image file or a block device."),
            (tmp_path / "socket", "{path} is a socket. Choose an image file or a block device."),
            (
                Path("/dev/zero"),
                "{path} is a character device. Choose an image file or a block device.",
            ),
            (Path("bad\0name"), "Cannot read {path}: embedded null byte."),
        ):
            with pytest.raises(ImageRefused) as caught:
                FileNode(path, field="source")
            assert caught.value.field == "source"
            assert caught.value.value == str(path)
            assert caught.value.reason == text.format(path=path)


def test_a_file_on_a_read_only_file_system_is_refused_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Path
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ImageRefused, match="for writing: Read-only file system"):
        FileNode(image)


@pytest.mark.root
def test_a_loop_device_is_read_written_zeroed_and_discarded(
    tmp_path: Path, loop_device: Callable[..., str]
) -> None:
    path = sparse(tmp_path / "disk.raw")
    node = FileNode(loop_device(path))
    assert (node.driver, node.size) == ("host_device", 4 * MiB)
    assert node.limits.request_alignment == 512
    assert node.limits.can_zero
    assert node.limits.can_discard
    expected = bytearray(stamped(4 * MiB))
    node.write(0, expected)
    for offset, length, may_unmap in (
        (1000, 100_000, True),
        (300_000, 7, True),
        (400_000, 3_000, False),
        (1 * MiB, 1 * MiB, False),
    ):
        node.write_zeroes(offset, length, may_unmap=may_unmap)
        expected[offset : offset + length] = bytes(length)
    assert content(node) == expected
    node.discard(3 * MiB + 5, 1 * MiB - 5)
    assert content(node)[: 3 * MiB + 512] == expected[: 3 * MiB + 512]
    assert {one.kind for one in node.extents(0, node.size)} == {DATA}
    node.flush()
    node.close()


@pytest.mark.root
def test_a_mounted_device_cannot_be_opened_for_writing(
    tmp_path: Path, loop_device: Callable[..., str]
) -> None:
    path = sparse(tmp_path / "disk.raw", 8 * MiB)
    run("mkfs.ext4", "-q", path)
    device = loop_device(path)
    folder = tmp_path / "mounted"
    folder.mkdir()
    run("mount", device, folder)
    try:
        with pytest.raises(ImageRefused, match="is in use"):
            FileNode(device, field="target")
        FileNode(device, read_only=True).close()
    finally:
        run("umount", folder)


def test_the_tools_of_the_tests_are_there() -> None:
    for tool in ("qemu-img", "qemu-io", "qemu-storage-daemon", "losetup", "mkfs.ext4"):
        assert shutil.which(tool), tool


def _drop_from_page_cache(node: FileNode, path: Path) -> None:
    # The kernel keeps pages that another processor has just had in its hands.
    end = time.monotonic() + 10
    while time.monotonic() < end:
        os.posix_fadvise(node.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if run("fincore", "--bytes", "--noheadings", "--output", "res", path).stdout.strip() == "0":
            return
        time.sleep(0.02)
    raise AssertionError("the page cache keeps it")


def test_what_the_page_cache_has_is_read_without_waiting(image: Path) -> None:
    node = FileNode(image)
    # Longer than what a disk reads ahead: it may have the first pages there in no time.
    content = stamped(2 * MiB)
    node.write(0, content)
    assert node.reads_wait
    assert not node.writes_wait
    buffer = bytearray(len(content))
    assert node.try_read_into(0, buffer)
    assert buffer == content
    node.flush()
    _drop_from_page_cache(node, image)
    assert not node.try_read_into(0, buffer)
    node.read_into(0, buffer)
    assert node.try_read_into(0, buffer[:4096])
    with pytest.raises(BlockIOError):
        node.try_read_into(4 * MiB, buffer)
    node.close()


def test_a_file_in_ram_never_waits() -> None:
    path = Path(f"/dev/shm/mirrorgui-test-{os.getpid()}.raw")
    path.write_bytes(bytes(512))
    node = FileNode(path)
    assert not node.reads_wait
    node.close()
    path.unlink()


def test_many_threads_read_and_write_at_the_same_time(image: Path) -> None:
    node = FileNode(image)
    part = 256 * KiB

    def work(number: int) -> bool:
        data, back = stamped(part, number), bytearray(part)
        for _ in range(5):
            node.write(number * part, data)
            node.extents(0, node.size)
            node.read_into(number * part, back)
            if back != data:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    node.close()


@pytest.mark.parametrize("known", [True, False])
def test_opening_changes_no_time_of_a_file(
    image: Path, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not known:
        monkeypatch.setattr(zeroing, "mount_of", lambda _: None)
    os.utime(image, (1e9, 1e9))
    node = FileNode(image)
    assert node.limits.can_zero
    node.close()
    assert image.stat().st_mtime == 1e9


def test_a_file_system_of_an_unknown_type_is_asked_for_holes(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*arguments: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(zeroing, "mount_of", lambda _: None)
    monkeypatch.setattr(linux, "fallocate", unsupported)
    node = FileNode(image)
    assert not node.limits.can_zero
    assert not node.limits.can_discard
    node.close()


def test_resize_grows_with_zeroes_and_cuts(tmp_path: Path) -> None:
    path = tmp_path / "grows.img"
    path.write_bytes(stamped(5000))
    node = FileNode(path)
    node.extents(0, 5000)
    node.resize(100_000)
    assert (node.size, path.stat().st_size) == (100_000, 100_000)
    back = bytearray(100_000)
    node.read_into(0, back)
    assert back == stamped(5000) + bytes(95_000)
    node.write(99_000, stamped(1000))
    node.resize(10)
    assert (node.size, path.read_bytes()) == (10, stamped(5000)[:10])
    node.close()


def test_a_length_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "fixed.img"
    path.write_bytes(bytes(10))
    for read_only, size, code in ((True, 20, errno.EPERM), (False, -1, errno.EINVAL)):
        node = FileNode(path, read_only=read_only)
        with pytest.raises(BlockIOError) as caught:
            node.resize(size)
        assert (caught.value.operation, caught.value.errno) == ("resize", code)
        assert node.size == 10
        node.close()

import errno
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrorgui.block.blkdebug import BlkdebugNode, InjectError
from mirrorgui.block.file import FileNode
from mirrorgui.block.node import ExtentKind
from mirrorgui.block.qcow2.header import read_header
from mirrorgui.block.qcow2.node import Qcow2Node
from mirrorgui.block.qcow2.tables import L2Table, Tables
from mirrorgui.errors import BlockIOError, ImageRefused
from mirrorgui.units import GiB, KiB, MiB
from tests.block.conftest import stamped
from tests.block.qcow2.images import check, content, make, open_chain, read, tool

DATA, ZERO, UNALLOCATED = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.UNALLOCATED


def kinds(node: Qcow2Node) -> list[tuple[int, int, ExtentKind]]:
    return [(run.offset // KiB, run.length // KiB, run.kind) for run in node.extents(0, node.size)]


def backed(folder: Path, size: int = 1 * MiB, options: str = "", base: int = 1 * MiB) -> Path:
    below, path = folder / "base.raw", folder / "top.qcow2"
    below.write_bytes(stamped(base))
    make(path, size, options, "-b", below, "-F", "raw")
    return path


def allocated(path: Path) -> int:
    """Bytes that the file really takes."""
    return path.stat().st_blocks * 512


def test_a_write_takes_whole_clusters_and_shows_what_was_around(tmp_path: Path) -> None:
    path = backed(tmp_path)
    node = open_chain(path, read_only=False)
    node.write(100 * KiB, b"x" * 10)
    expected = bytearray(stamped(1 * MiB))
    expected[100 * KiB : 100 * KiB + 10] = b"x" * 10
    assert read(node) == expected
    assert kinds(node) == [(0, 64, UNALLOCATED), (64, 64, DATA), (128, 896, UNALLOCATED)]
    node.close()
    check(path)
    assert content(path, tmp_path) == expected


def test_subclusters_take_less(tmp_path: Path) -> None:
    path = backed(tmp_path, options="extended_l2=on")
    node = open_chain(path, read_only=False)
    node.write(100 * KiB, b"x" * 10)
    assert kinds(node) == [(0, 100, UNALLOCATED), (100, 2, DATA), (102, 922, UNALLOCATED)]
    node.write_zeroes(70 * KiB, 4 * KiB)
    assert (70, 4, ZERO) in kinds(node)
    node.close()
    check(path)
    assert content(path, tmp_path)[99 * KiB : 100 * KiB] == stamped(1 * MiB)[99 * KiB : 100 * KiB]


def test_a_long_write_moves_its_data_once_into_one_place(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 8 * MiB)
    node = open_chain(path, read_only=False)
    node.write(1000, stamped(4 * MiB))
    assert len(node._image.tables.runs(0, 4 * MiB) or []) == 1
    assert read(node, 1000, 4 * MiB) == stamped(4 * MiB)
    node.close()
    check(path)


def test_snapshots_stay_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 2 * MiB)
    tool("qemu-io", "-c", "write -q -P 1 0 1M", "-c", "write -q -z 1M 128k", path)
    before = content(path, tmp_path)
    tool("qemu-img", "snapshot", "-c", "then", path)
    node = open_chain(path, read_only=False)
    node.write(10, stamped(300_000))
    node.write_zeroes(512 * KiB, 128 * KiB)
    node.discard(768 * KiB, 128 * KiB)
    node.write(1 * MiB + 5, b"new")
    after = read(node)
    node.flush()
    node.write(0, b"more")
    node.close()
    check(path)
    assert content(path, tmp_path) == b"more" + after[4:]
    tool("qemu-img", "snapshot", "-a", "then", path)
    assert content(path, tmp_path) == before
    check(path)


def test_compressed_clusters_are_replaced_by_plain_ones(tmp_path: Path) -> None:
    raw, path = tmp_path / "source.raw", tmp_path / "packed.qcow2"
    raw.write_bytes(stamped(1 * MiB))
    tool("qemu-img", "convert", "-c", "-O", "qcow2", raw, path)
    node = open_chain(path, read_only=False)
    expected = bytearray(stamped(1 * MiB))
    node.write(70_000, b"y" * 100_000)
    expected[70_000:170_000] = b"y" * 100_000
    node.write_zeroes(512 * KiB, 100_000)
    expected[512 * KiB : 512 * KiB + 100_000] = bytes(100_000)
    node.discard(1 * MiB - 64 * KiB, 64 * KiB)
    expected[1 * MiB - 64 * KiB :] = bytes(64 * KiB)
    assert read(node) == expected
    node.close()
    check(path)
    assert content(path, tmp_path) == expected


@pytest.mark.parametrize("options", ["", "extended_l2=on"])
def test_zeroes_keep_their_place_unless_they_may_lose_it(tmp_path: Path, options: str) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 8 * MiB, options)
    node = open_chain(path, read_only=False)
    node.write(0, stamped(8 * MiB))
    node.flush()
    full = allocated(path)
    node.write_zeroes(0, 4 * MiB, may_unmap=False)
    node.flush()
    assert allocated(path) == full
    assert kinds(node) == [(0, 4096, ZERO), (4096, 4096, DATA)]
    node.write(0, b"again")
    assert read(node, 0, 10) == b"again" + bytes(5)
    node.write_zeroes(4 * MiB, 4 * MiB, may_unmap=True)
    node.flush()
    assert allocated(path) <= full - 3 * MiB
    node.close()
    check(path)


def test_a_discard_frees_what_the_next_writes_use(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 8 * MiB)
    node = open_chain(path, read_only=False)
    for _ in range(5):
        node.write(0, stamped(8 * MiB))
        node.flush()
        node.discard(0, 8 * MiB)
        node.flush()
        assert kinds(node) == [(0, 8192, UNALLOCATED)]
    assert allocated(path) < 2 * MiB
    node.close()
    check(path)
    assert path.stat().st_size < 20 * MiB


def test_discarded_bytes_never_show_the_backing_file(tmp_path: Path) -> None:
    for version, expected in (("1.1", bytes(64 * KiB)), ("0.10", stamped(1 * MiB)[: 64 * KiB])):
        folder = tmp_path / version
        folder.mkdir()
        path = backed(folder, options=f"compat={version}")
        node = open_chain(path, read_only=False)
        node.discard(0, 64 * KiB)  # version 2 cannot say zero: nothing happens
        assert read(node, 0, 64 * KiB) == expected
        node.close()
        check(path)


def test_version_2_writes_zeroes_only_over_a_backing_file(tmp_path: Path) -> None:
    path = backed(tmp_path, size=3 * MiB, options="compat=0.10")
    node = open_chain(path, read_only=False)
    node.write(2 * MiB, stamped(128 * KiB))
    node.write_zeroes(0, 3 * MiB)
    assert kinds(node) == [(0, 1024, DATA), (1024, 2048, UNALLOCATED)]
    assert read(node) == bytes(3 * MiB)
    node.close()
    check(path)


def test_zeroes_over_nothing_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 100 * GiB)
    before = path.read_bytes()
    node = open_chain(path, read_only=False)
    node.write_zeroes(1000, 100 * GiB - 2000)
    node.discard(0, 100 * GiB)
    node.close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", ["write_zeroes", "discard"])
def test_ranges_without_a_table_are_stepped_over(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.qcow2"
    make(path, 8 * GiB, "cluster_size=512")
    data = stamped(0, 4 * KiB)
    places = (0, 5 * GiB, 8 * GiB - len(data))
    node = open_chain(path, read_only=False)
    for offset in places:
        node.write(offset, data)
    looked: list[int] = []
    find = Tables.find

    def counted(tables: Tables, l1_index: int) -> L2Table | None:
        looked.append(l1_index)
        return find(tables, l1_index)

    monkeypatch.setattr(Tables, "find", counted)
    getattr(node, change)(0, node.size)
    assert len(looked) < 20, "of 262144 tables"
    for offset in places:
        assert read(node, offset, len(data)) == bytes(len(data))
    node.close()
    check(path)


def test_zeroes_hide_a_backing_file_that_is_not_open_yet(tmp_path: Path) -> None:
    path = backed(tmp_path)
    file = FileNode(path, resizes=True)

    def opener() -> FileNode:
        return FileNode(tmp_path / "base.raw", read_only=True)

    node = Qcow2Node(
        file, header=read_header(file, "t"), unopened_backing="base.raw", open_backing=opener
    )
    assert read(node) == bytes(1 * MiB)
    node.write_zeroes(1000, 200 * KiB)
    node.write(300 * KiB, b"x")
    node.open_backing()
    assert (node.unopened_backing, node.backing is None) == ("", False)
    node.open_backing()
    shown = read(node)
    assert shown[1000 : 201 * KiB] == bytes(201 * KiB - 1000)
    assert shown[512 * KiB :] == stamped(1 * MiB)[512 * KiB :]
    node.close()
    check(path)


@pytest.mark.parametrize("raw", ["on", "off"])
def test_a_data_file_holds_guest_bytes_at_their_offset(tmp_path: Path, raw: str) -> None:
    path, data = tmp_path / "disk.qcow2", tmp_path / "disk.data"
    make(path, 1 * MiB, f"data_file={data},data_file_raw={raw}")
    node = open_chain(path, read_only=False)
    expected = bytearray(1 * MiB)
    node.write(70_000, stamped(200_000))
    expected[70_000:270_000] = stamped(200_000)
    node.write_zeroes(128 * KiB, 64 * KiB)
    expected[128 * KiB : 192 * KiB] = bytes(64 * KiB)
    assert read(node) == expected
    node.close()
    check(path)
    assert content(path, tmp_path) == expected
    if raw == "on":
        assert data.read_bytes() == expected


def test_bits_that_would_lie_are_cleared_by_the_first_change(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB)
    with path.open("r+b") as file:
        file.seek(88)
        file.write((1 << 40).to_bytes(8, "big"))
    node = open_chain(path, read_only=False)
    node.close()
    assert path.read_bytes()[88:96] == (1 << 40).to_bytes(8, "big")
    node = open_chain(path, read_only=False)
    node.write(0, b"x")
    node.close()
    assert path.read_bytes()[88:96] == bytes(8)
    check(path)


def test_lazy_refcounts_are_written_at_the_end_under_the_dirty_bit(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB, "lazy_refcounts=on")
    node = open_chain(path, read_only=False)
    node.write(0, stamped(256 * KiB))
    assert not path.read_bytes()[79] & 1
    node.flush()
    assert path.read_bytes()[79] & 1
    node.close()
    assert not path.read_bytes()[79] & 1
    check(path)
    assert content(path, tmp_path)[: 256 * KiB] == stamped(256 * KiB)


def test_a_corrupt_image_can_only_be_read(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB)
    with path.open("r+b") as file:
        file.seek(79)
        file.write(b"\2")
    open_chain(path).close()
    with pytest.raises(ImageRefused, match="marked corrupt"):
        open_chain(path, read_only=False)


def test_a_guest_cannot_write_over_the_images_own_structures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB)
    tool("qemu-io", "-c", "write -q 0 128k", path)
    node = open_chain(path)
    table = node._image.tables.find(0)
    assert table is not None
    place = table.offset
    node.close()
    with path.open("r+b") as file:  # the first cluster stands in the L1 table
        file.seek(place)
        file.write((1 << 63 | 3 << 16).to_bytes(8, "big"))
    node = open_chain(path, read_only=False)
    before = path.read_bytes()[3 << 16 : 4 << 16]
    with pytest.raises(BlockIOError) as caught:
        node.write(0, b"evil")
    assert caught.value.errno == errno.EIO
    assert caught.value.detail
    with pytest.raises(BlockIOError, match="found damaged"):
        node.write(64 * KiB, b"more")
    node.close()
    after = path.read_bytes()
    assert after[3 << 16 : 4 << 16] == before
    assert after[79] & 2
    assert "damaged" in caplog.text


def failing(path: Path, event: str, code: int) -> tuple[Qcow2Node, BlkdebugNode, InjectError]:
    file = BlkdebugNode(FileNode(path, resizes=True), [])
    rule = InjectError(event, errno=code, once=True)
    return Qcow2Node(file, header=read_header(file, "t")), file, rule


def test_a_write_that_failed_leaves_the_cluster_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB)
    node, file, rule = failing(path, "write_aio", errno.EIO)
    node.write(512 * KiB, b"x")
    file.add(rule)
    with pytest.raises(BlockIOError) as caught:
        node.write(1000, b"y" * 100)
    assert (caught.value.operation, caught.value.offset) == ("write", 1000)
    assert kinds(node)[0] == (0, 512, UNALLOCATED)
    node.write(1000, b"z")
    assert read(node, 999, 3) == b"\0z\0"
    node.close()
    check(path)


@pytest.mark.parametrize("event", ["write_aio", "flush_to_disk"])
def test_a_flush_that_failed_is_made_good_by_the_next(tmp_path: Path, event: str) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB)
    node, file, rule = failing(path, event, errno.EIO)
    node.write(0, stamped(300_000))
    file.add(rule)
    with pytest.raises(BlockIOError) as caught:
        node.flush()
    assert caught.value.operation == "flush"
    node.flush()
    node.close()
    check(path)
    assert content(path, tmp_path)[:300_000] == stamped(300_000)


def test_a_failed_copy_from_below_is_a_failed_write(tmp_path: Path) -> None:
    path = backed(tmp_path)
    file = FileNode(path, resizes=True)
    below = BlkdebugNode(FileNode(tmp_path / "base.raw", read_only=True), [InjectError("read_aio")])
    node = Qcow2Node(file, header=read_header(file, "t"), backing=below)
    with pytest.raises(BlockIOError) as caught:
        node.write(1000, b"x")
    assert (caught.value.operation, caught.value.offset) == ("write", 1000)
    assert not caught.value.is_read
    node.write(0, bytes(range(256)) * 256)  # a whole cluster needs nothing from below
    node.close()
    check(path)


def change(node: Qcow2Node, model: bytearray, rng: random.Random) -> None:
    size = node.size
    offset = rng.randrange(size)
    length = min(size - offset, rng.choice((1, 512, 4096, 65536, rng.randrange(1, 300_000))))
    if rng.random() < 0.4:
        offset -= offset % 4096
    kind = rng.random()
    if kind < 0.6:
        data = rng.randbytes(length)
        node.write(offset, data)
        model[offset : offset + length] = data
    elif kind < 0.85:
        node.write_zeroes(offset, length, may_unmap=rng.random() < 0.5)
        model[offset : offset + length] = bytes(length)
    elif kind < 0.95:
        node.discard(offset, length)
        model[offset : offset + length] = read(node, offset, length)
    else:
        node.flush()


OPTIONS = [
    "",
    "compat=0.10",
    "cluster_size=512",
    "cluster_size=2M,refcount_bits=1",
    "extended_l2=on",
    "extended_l2=on,cluster_size=16k",
    "lazy_refcounts=on,refcount_bits=64,cluster_size=4k",
    "data_file=DATA",
    "data_file=DATA,extended_l2=on",
    "preallocation=metadata",
]


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
def test_random_changes_read_back_here_and_by_qemu(
    tmp_path: Path, options: str, below: bool
) -> None:
    rng = random.Random(f"{options}{below}")
    size = 3 * MiB // 2 + 512 * rng.randrange(1000)
    options = options.replace("DATA", str(tmp_path / "disk.data"))
    model = bytearray(size)
    if below and "preallocation" not in options:
        path = backed(tmp_path, size, options, base=1 * MiB)
        model[: 1 * MiB] = stamped(1 * MiB)
    else:
        path = tmp_path / "disk.qcow2"
        make(path, size, options)
    for _ in range(3):
        node = open_chain(path, read_only=False, l2_cache_size=16 * KiB)
        for _ in range(40):
            change(node, model, rng)
        assert read(node) == model
        node.close()
        check(path)
        assert content(path, tmp_path) == model


def test_the_file_fills_up_and_nothing_is_lost(tmp_path: Path) -> None:
    path, mount = tmp_path / "disk.qcow2", FullFile
    make(path, 4 * MiB)
    file = mount(path, limit=2 * MiB)
    node = Qcow2Node(file, header=read_header(file, "t"))
    written = 0
    with pytest.raises(BlockIOError) as caught:
        for offset in range(0, 4 * MiB, 64 * KiB):
            node.write(offset, stamped(64 * KiB, offset))
            written = offset + 64 * KiB
    assert caught.value.errno == errno.ENOSPC
    assert written >= 1 * MiB
    node.discard(0, 512 * KiB)
    node.write(written, stamped(64 * KiB, written))  # into what the discard has freed
    for offset in range(512 * KiB, written + 1, 64 * KiB):
        assert read(node, offset, 64 * KiB) == stamped(64 * KiB, offset)
    node.close()
    check(path)


class FullFile(FileNode):
    """A file on a full file system."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path, resizes=True)
        self._limit = limit

    def resize(self, size: int) -> None:
        if size > self._limit:
            raise BlockIOError("resize", size, 0, errno.ENOSPC, self.name)
        super().resize(size)


@pytest.mark.parametrize("request_of", [lambda n: n.write(0, b""), lambda n: n.discard(5, 0)])
def test_requests_of_no_length_do_nothing(
    tmp_path: Path, request_of: Callable[[Qcow2Node], None]
) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB)
    before = path.read_bytes()
    node = open_chain(path, read_only=False)
    request_of(node)
    node.write_zeroes(7, 0)
    node.close()
    assert path.read_bytes() == before


def test_persistent_bitmaps_become_inconsistent_with_the_first_write(tmp_path: Path) -> None:
    path = tmp_path / "marked.qcow2"
    make(path, 1 * MiB)
    for name in ("one", "two"):
        tool("qemu-img", "bitmap", "--add", path, name)
    node = open_chain(path, read_only=False)
    assert not any(bitmap_flags(path, "in-use"))
    node.write(0, b"x" * KiB)
    assert bitmap_flags(path, "in-use") == [True, True]
    node.close()
    check(path)  # no leak: their clusters stay accounted for
    tool("qemu-img", "bitmap", "--remove", path, "one")
    tool("qemu-img", "bitmap", "--remove", path, "two")
    check(path)
    assert content(path, tmp_path)[:KiB] == b"x" * KiB


def bitmap_flags(path: Path, flag: str) -> list[bool]:
    """Whether each of the image's bitmaps has a flag, by qemu-img."""
    text = tool("qemu-img", "info", "-U", "--output=json", path)
    bitmaps = json.loads(text)["format-specific"]["data"]["bitmaps"]
    return [flag in bitmap["flags"] for bitmap in bitmaps]

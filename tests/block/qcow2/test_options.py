"""Every option of a node that is taken acts."""

import random
from pathlib import Path

import pytest

from mirrorgui.block.file import FileNode
from mirrorgui.block.filter import FilterNode
from mirrorgui.block.how import How
from mirrorgui.block.node import BlockNode
from mirrorgui.block.options import Options
from mirrorgui.block.qcow2.create import create_qcow2
from mirrorgui.block.qcow2.create_options import CreateOptions
from mirrorgui.block.qcow2.driver import open_qcow2
from mirrorgui.block.qcow2.header import read_header
from mirrorgui.units import KiB, MiB
from tests.block.conftest import run

CLUSTER = 4 * KiB
TABLE_SPAN = CLUSTER // 8 * CLUSTER
TABLES = 40


class CountingNode(FilterNode):
    """Counts the reads of the image's file."""

    def __init__(self, child: BlockNode) -> None:
        super().__init__(child)
        self.reads = 0

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        self.reads += 1
        super().read_into(offset, buffer)


def opened(
    path: Path, *, read_only: bool = False, **given: object
) -> tuple[BlockNode, CountingNode]:
    options = Options({name.replace("_", "-"): value for name, value in given.items()}, "source")
    file = CountingNode(FileNode(path, read_only=read_only))
    options.put("file", file)
    return open_qcow2(options, How("source", read_only=read_only)), file


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """An image with a cluster in the span of each of many L2 tables, which shares none."""
    path = tmp_path / "wide.qcow2"
    create_qcow2(path, TABLES * TABLE_SPAN, CreateOptions(cluster_size=CLUSTER, refcount_bits=64))
    node, _ = opened(path)
    # A refcount block has 512 entries: enough lies between two clusters that both need their own.
    for number in range(TABLES):
        node.write(number * TABLE_SPAN, bytes([1 + number]) * (MiB + CLUSTER))
    node.close()
    return path


def reads_of_the_second_round(node: BlockNode, file: CountingNode) -> int:
    for _ in range(2):
        before = file.reads
        for number in range(TABLES):
            node.extents(number * TABLE_SPAN, TABLE_SPAN)
    return file.reads - before


@pytest.mark.parametrize("name", ["l2_cache_size", "cache_size"])
def test_l2_tables_are_kept_as_far_as_their_cache_reaches(wide: Path, name: str) -> None:
    for size, expected in ((TABLES * CLUSTER, 0), (CLUSTER, TABLES)):
        node, file = opened(wide, read_only=True, **{name: size})
        assert reads_of_the_second_round(node, file) == expected
        node.close()


def test_refcount_blocks_are_kept_as_far_as_their_cache_reaches(wide: Path) -> None:
    """Each L2 table that comes from the file is checked against the refcounts of its places."""
    reads = []
    for size in (4 * MiB, 1):
        node, file = opened(wide, l2_cache_size=0, refcount_cache_size=size)
        reads.append(reads_of_the_second_round(node, file))
        node.close()
    assert reads[0] == TABLES
    assert reads[1] >= 1.5 * TABLES


@pytest.mark.parametrize("wanted", [True, False, None])
@pytest.mark.parametrize("of_image", [True, False])
def test_lazy_refcounts_leave_the_image_dirty(
    tmp_path: Path, of_image: bool, wanted: bool | None
) -> None:
    path = tmp_path / "a.qcow2"
    create_qcow2(path, MiB, CreateOptions(lazy_refcounts=of_image))
    node, file = opened(path, **({} if wanted is None else {"lazy_refcounts": wanted}))
    node.write(0, b"x" * 65536)
    node.flush()
    assert read_header(file, "source").dirty is (of_image if wanted is None else wanted)
    node.close()
    run("qemu-img", "check", path)


@pytest.mark.parametrize("passed", [True, False])
def test_discards_are_passed_on_to_the_file(tmp_path: Path, passed: bool) -> None:
    path = tmp_path / "a.qcow2"
    create_qcow2(path, 8 * MiB)
    node, _ = opened(path, pass_discard_request=passed)
    node.write(0, b"x" * (8 * MiB))
    node.flush()
    full = path.stat().st_blocks * 512
    node.discard(0, 8 * MiB)
    node.flush()
    assert (path.stat().st_blocks * 512 <= full - 8 * MiB) is passed
    node.close()


def test_what_is_freed_otherwise_is_passed_on_when_that_is_wanted(tmp_path: Path) -> None:
    """Compressed clusters that are written anew go elsewhere."""
    raw, path = tmp_path / "raw", tmp_path / "a.qcow2"
    rng = random.Random(1)
    raw.write_bytes(b"".join(rng.randbytes(4) + bytes(4) for _ in range(MiB // 8)))
    sizes = []
    for passed in (True, False):
        run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, path)
        node, _ = opened(path, pass_discard_other=passed)
        node.write(0, b"x" * (512 * KiB))
        node.flush()
        node.close()
        run("qemu-img", "check", path)
        sizes.append(path.stat().st_blocks * 512)
    assert sizes[0] <= sizes[1] - 128 * KiB

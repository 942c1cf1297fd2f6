import errno
import random
import threading
from pathlib import Path

import pytest

from mirrorgui.block.blkdebug import BlkdebugNode, InjectError
from mirrorgui.block.file import FileNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import ExtentKind, chain_extents
from mirrorgui.block.qcow2.header import read_header
from mirrorgui.block.qcow2.node import Qcow2Node
from mirrorgui.errors import BlockIOError, ImageRefused
from mirrorgui.units import KiB, MiB
from tests.block.conftest import stamped
from tests.block.qcow2.images import content, make, open_chain, read, scribble, tool

UNALIGNED = 1 * MiB + 513 * 512
DATA, ZERO, UNALLOCATED = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.UNALLOCATED

MATRIX = [
    "",
    "compat=0.10",
    "compat=0.10,cluster_size=512",
    "cluster_size=512",
    "cluster_size=4k,refcount_bits=1",
    "cluster_size=2M,refcount_bits=64",
    "extended_l2=on",
    "extended_l2=on,cluster_size=16k,refcount_bits=32",
    "extended_l2=on,cluster_size=2M",
    "lazy_refcounts=on,refcount_bits=8",
    "preallocation=metadata",
    "DATA",
    "DATA,data_file_raw=on",
    "DATA,extended_l2=on",
]


def build(folder: Path, options: str, depth: int, rng: random.Random, size: int) -> Path:
    """Make a chain: a raw image and ``depth`` layers, each written all over by qemu-io."""
    below = folder / "base.raw"
    below.write_bytes(stamped(size - 100 * KiB, 9))
    old = "compat=0.10" in options
    path = folder / "0.qcow2"
    for level in range(depth + 1):
        path = folder / f"{level}.qcow2"
        named = options.replace("DATA", f"data_file={folder / f'{level}.data'}")
        if "raw=on" in options or "metadata" in options or (depth == 0):
            make(path, size, named)
        else:
            kind = "raw" if level == 0 else "qcow2"
            make(path, size, named, "-b", below, "-F", kind)
        scribble(path, size, rng, zeroes=not old)
        below = path
    return path


@pytest.mark.parametrize("options", MATRIX)
def test_images_of_qemu_read_as_qemu_reads_them(tmp_path: Path, options: str) -> None:
    for depth in range(6):
        rng = random.Random(f"{options}{depth}")
        folder = tmp_path / str(depth)
        folder.mkdir()
        size = UNALIGNED if depth % 2 else 2 * MiB
        path = build(folder, options, depth, rng, size)
        expected = content(path, folder)
        node = open_chain(path)
        assert read(node) == expected
        for _ in range(50):
            offset = rng.randrange(size)
            length = rng.randrange(1, min(size - offset, 200_000) + 1)
            assert read(node, offset, length) == expected[offset : offset + length]
        zeroes_are_zero(node, expected)
        node.close()


def zeroes_are_zero(node: Qcow2Node, expected: bytes) -> None:
    runs = list(chain_extents(node, 0, node.size))
    assert [run.offset for run in runs] == [0, *(run.end for run in runs[:-1])]
    assert runs[-1].end == node.size
    for run in runs:
        if run.kind is ZERO:
            assert not any(expected[run.offset : run.end])


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
@pytest.mark.parametrize("cluster_size", ["4k", "64k", "2M"])
@pytest.mark.parametrize("extended", ["off", "on"])
def test_compressed_clusters_are_read(
    tmp_path: Path, compression: str, cluster_size: str, extended: str
) -> None:
    if extended == "on" and cluster_size == "4k":
        cluster_size = "16k"
    raw, path = tmp_path / "source.raw", tmp_path / "packed.qcow2"
    rng = random.Random(3)
    parts = [rng.choice((rng.randbytes(30_000), stamped(50_000), bytes(70_000))) for _ in range(40)]
    whole = b"".join(parts)
    raw.write_bytes(whole[: len(whole) // 512 * 512])
    options = f"compression_type={compression},cluster_size={cluster_size},extended_l2={extended}"
    tool("qemu-img", "convert", "-c", "-O", "qcow2", "-o", options, raw, path)
    node = open_chain(path)
    expected = raw.read_bytes()
    assert read(node) == expected
    for _ in range(200):
        offset = rng.randrange(len(expected))
        length = min(rng.randrange(1, 100_000), len(expected) - offset)
        assert read(node, offset, length) == expected[offset : offset + length]
    node.close()


def test_a_damaged_compressed_cluster_is_an_error_and_no_other_is(tmp_path: Path) -> None:
    raw, path = tmp_path / "source.raw", tmp_path / "packed.qcow2"
    raw.write_bytes(stamped(256 * KiB))
    tool("qemu-img", "convert", "-c", "-O", "qcow2", raw, path)
    node = open_chain(path)
    entry = int(node._image.tables.find(0).entries[1])
    place, _ = node._image.geometry.compressed_place(entry)
    node.close()
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 40)
    node = open_chain(path)
    with pytest.raises(BlockIOError, match=f"the compressed cluster at {place} is damaged"):
        read(node, 64 * KiB, 10)
    assert read(node, 0, 64 * KiB) == stamped(256 * KiB)[: 64 * KiB]
    node.close()


def test_zstd_without_its_package_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "packed.qcow2"
    make(path, 1 * MiB, "compression_type=zstd")
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(ImageRefused, match="needs the Python package zstandard"):
        open_chain(path)


@pytest.mark.parametrize(("method", "name"), [(1, "AES"), (2, "LUKS")])
def test_encrypted_images_are_refused_by_method(tmp_path: Path, method: int, name: str) -> None:
    path = tmp_path / "secret.qcow2"
    make(path, 1 * MiB)
    image = bytearray(path.read_bytes())
    image[35] = method
    path.write_bytes(image)
    with pytest.raises(ImageRefused, match=rf"encrypted \({name}\)"):
        open_chain(path)


def test_extents_say_what_each_layer_holds(tmp_path: Path) -> None:
    base, path = tmp_path / "base.raw", tmp_path / "top.qcow2"
    base.write_bytes(stamped(512 * KiB))
    make(path, 1 * MiB, "", "-b", base, "-F", "raw")
    tool("qemu-io", "-c", "write -q 64k 128k", "-c", "write -q -z 300k 212k", path)
    node = open_chain(path)
    runs = node.extents(0, node.size)
    kinds = [(run.offset // KiB, run.length // KiB, run.kind) for run in runs]
    assert kinds[:3] == [(0, 64, UNALLOCATED), (64, 128, DATA), (192, 64, UNALLOCATED)]
    assert kinds[-2:] == [(320, 192, ZERO), (512, 512, UNALLOCATED)]
    assert node.extents(70 * KiB, 10) == [type(runs[0])(70 * KiB, 10, DATA)]
    assert node.extents(5, 0) == []
    node.close()


def test_an_empty_disk_of_many_tables_is_described_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sparse.qcow2"
    make(path, 64 << 30, "cluster_size=512")
    tool("qemu-io", "-c", "write -q 60G 512", path)
    node = open_chain(path)
    runs = node.extents(0, node.size)
    assert [(run.offset, run.length) for run in runs if run.kind is DATA] == [(60 << 30, 512)]
    assert len(runs) == 3
    node.close()


def test_map_leads_to_the_bytes(tmp_path: Path) -> None:
    base, path = tmp_path / "base.raw", tmp_path / "top.qcow2"
    base.write_bytes(stamped(512 * KiB))
    make(path, 512 * KiB, "", "-b", base, "-F", "raw")
    tool("qemu-io", "-c", "write -q -P 7 64k 128k", "-c", "write -q -z 256k 64k", path)
    node = open_chain(path)
    found = node.map(1000, 400_000)
    for run in found:
        assert read(run.file, run.host_offset, run.length) == read(node, run.offset, run.length)
    if found:  # where the file's own map says where it is
        assert {run.file.name for run in found} == {str(path), str(base)}
        assert sum(run.length for run in found) == 400_000 - 64 * KiB
    node.close()


def test_reading_without_waiting_needs_tables_in_memory_and_nothing_compressed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB)
    tool("qemu-io", "-c", "write -q -P 7 0 64k", "-c", "write -q -c -P 8 64k 64k", path)
    node = open_chain(path)
    buffer = bytearray(4096)
    assert not node.try_read_into(0, buffer)
    read(node, 0, 1)
    assert node.try_read_into(0, buffer)
    assert buffer == b"\7" * 4096
    assert node.try_read_into(512 * KiB, buffer)
    assert buffer == bytes(4096)
    assert not node.try_read_into(64 * KiB, buffer)
    assert node.prefetch(0, 1 * MiB) in (True, False)
    node.close()


def test_a_failed_read_names_guest_bytes_and_the_file_below(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB)
    tool("qemu-io", "-c", "write -q 512k 64k", path)
    broken = BlkdebugNode(FileNode(path, read_only=True), [])
    node = Qcow2Node(broken, header=read_header(broken, "source"), read_only=True)
    read(node, 512 * KiB, 1)
    broken.add(InjectError("read_aio"))
    with pytest.raises(BlockIOError) as caught:
        read(node, 520 * KiB, 10)
    error = caught.value
    assert (error.operation, error.offset, error.length) == ("read", 520 * KiB, 10)
    assert (error.errno, error.node) == (errno.EIO, str(path))
    node.close()


def test_a_layer_shorter_than_the_one_above_reads_as_zeroes_behind_its_end(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB)
    file = FileNode(path, read_only=True)
    backing = MemoryNode(stamped(1000))
    node = Qcow2Node(file, header=read_header(file, "source"), backing=backing, read_only=True)
    assert read(node, 0, 3000) == stamped(1000) + bytes(2000)
    node.close()


def test_a_read_only_image_refuses_every_change(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * MiB)
    before = path.read_bytes()
    node = open_chain(path)
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
    node.close()
    assert path.read_bytes() == before


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    path = build(tmp_path, "cluster_size=4k", 2, random.Random(5), 2 * MiB)
    expected = content(path, tmp_path)
    node = open_chain(path, l2_cache_size=4096)
    wrong: list[int] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(100):
            offset = rng.randrange(2 * MiB)
            length = min(rng.randrange(1, 100_000), 2 * MiB - offset)
            if read(node, offset, length) != expected[offset : offset + length]:
                wrong.append(offset)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    node.close()

import subprocess
from pathlib import Path

import numpy as np
import pytest

from mirrorgui.block.file import FileNode
from mirrorgui.block.qcow2 import repair as repair_module
from mirrorgui.block.qcow2.features import Incompatible
from mirrorgui.block.qcow2.header import read_header
from mirrorgui.block.qcow2.repair import RepairReport, repair
from mirrorgui.errors import BlockIOError, ImageError


def run(*command: object, codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode in codes, done.stdout + done.stderr
    return done.stdout + done.stderr


def create(path: Path, options: str = "", size: str = "100M") -> Path:
    run("qemu-img", "create", "-f", "qcow2", "-o", f"lazy_refcounts=on{options}", path, size)
    return path


def qemu_io(path: Path, *commands: str, kill: bool = False) -> None:
    arguments = [word for command in commands for word in ("-c", command)]
    if kill:  # QEMU itself is stopped by the signal, with its refcounts in memory
        arguments += ["-c", "flush", "-c", "sigraise 9"]
    run("qemu-io", *arguments, path, codes=(-9, 137) if kill else (0,))


def mend(path: Path) -> RepairReport:
    file = FileNode(path)
    try:
        return repair(file, read_header(file, "filename"))
    finally:
        file.close()


def is_dirty(path: Path) -> bool:
    file = FileNode(path, read_only=True)
    try:
        return read_header(file, "filename").dirty
    finally:
        file.close()


@pytest.mark.parametrize(
    "options",
    [
        "",
        ",cluster_size=512",
        ",cluster_size=2M",
        ",refcount_bits=1",
        ",refcount_bits=64,cluster_size=512",
        ",extended_l2=on",
    ],
)
def test_what_a_killed_qemu_leaves_is_repaired(tmp_path: Path, options: str) -> None:
    path = create(tmp_path / "image.qcow2", options)
    qemu_io(path, "write -P 1 0 1M")
    qemu_io(path, "write -P 2 512k 4M", "discard 0 128k", "write -P 3 90M 2M", kill=True)
    assert is_dirty(path)
    assert "ERROR" in run("qemu-img", "check", path, codes=(2,))
    report = mend(path)
    assert report.raised > 0
    assert not is_dirty(path)
    assert "No errors" in run("qemu-img", "check", path)
    qemu_io(
        path, "read -P 1 256k 256k", "read -P 2 512k 4M", "read -P 3 90M 2M", "read -P 0 50M 1M"
    )
    assert mend(path) == RepairReport()


def test_snapshots_and_bitmaps_and_compressed_clusters_are_counted(tmp_path: Path) -> None:
    path, raw = tmp_path / "image.qcow2", tmp_path / "raw"
    raw.write_bytes(b"text " * 2_000_000)
    run("qemu-img", "convert", "-c", "-O", "qcow2", "-o", "lazy_refcounts=on", raw, path)
    for number in range(3):
        qemu_io(path, f"write -P {number} {number}M 2M")
        run("qemu-img", "snapshot", "-c", f"s{number}", path)
    run("qemu-img", "bitmap", "--add", "-g", "512", path, "marked")
    qemu_io(path, "write -P 9 1M 1M")
    before = path.read_bytes()
    assert mend(path) == RepairReport()
    assert path.read_bytes() == before
    file = FileNode(path)
    header = read_header(file, "filename")
    block = header.refcount_table_offset + header.cluster_size
    file.write(block + 20, bytes(200))  # and so all snapshots have lost their protection
    file.write(block + 2000, b"\0\7" * 100)  # and what is free is taken
    file.close()
    report = mend(path)
    assert report.raised > 90
    assert report.lowered == 100
    assert path.read_bytes() == before
    assert "No errors" in run("qemu-img", "check", path)


def test_flags_are_repaired(tmp_path: Path) -> None:
    path = create(tmp_path / "image.qcow2")
    qemu_io(path, "write -P 1 0 10M")
    run("qemu-img", "snapshot", "-c", "one", path)
    qemu_io(path, "write -P 2 5M 1M")
    before = path.read_bytes()
    file = FileNode(path)
    header = read_header(file, "filename")
    l1 = bytearray(8)
    file.read_into(header.l1_offset, l1)
    l2_offset = int.from_bytes(l1, "big") & ~(1 << 63)
    l2 = bytearray(header.cluster_size)
    file.read_into(l2_offset, l2)
    entries = np.frombuffer(l2, ">u8")
    entries[entries != 0] ^= 1 << 63
    file.write(l2_offset, l2)
    file.write(header.l1_offset, l2_offset.to_bytes(8, "big"))
    file.close()
    assert mend(path) == RepairReport(flags=161)
    assert path.read_bytes() == before


@pytest.mark.parametrize("window_bits", [10, 24])
def test_more_than_a_window_of_clusters_is_counted(
    tmp_path: Path, window_bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = create(tmp_path / "image.qcow2", ",cluster_size=512")
    qemu_io(path, "write 0 2M")
    qemu_io(path, "write 2M 2M", kill=True)
    file = FileNode(path)
    header = read_header(file, "filename")
    for index in range(10):  # of 256 refcounts each
        entry = bytearray(8)
        file.read_into(header.refcount_table_offset + 8 * (index + 2), entry)
        file.write(int.from_bytes(entry, "big"), bytes(512))
    file.close()
    monkeypatch.setattr(repair_module, "_WINDOW_BITS", window_bits)
    monkeypatch.setattr(repair_module, "_LOW", (1 << window_bits) - 1)
    assert mend(path).raised > 2000
    assert "No errors" in run("qemu-img", "check", path)


def test_a_refcount_block_that_is_missing_is_made(tmp_path: Path) -> None:
    path = create(tmp_path / "image.qcow2", ",cluster_size=512,refcount_bits=64")
    qemu_io(path, "write -P 1 0 1M")
    file = FileNode(path)
    header = read_header(file, "filename")
    file.write(header.refcount_table_offset + 80, bytes(16))
    file.close()
    report = mend(path)
    assert report.blocks == 2
    # The old blocks are free now, and the new ones stand in their places.
    assert "No errors" in run("qemu-img", "check", path)
    qemu_io(path, "read -P 1 0 1M")


def test_an_image_of_many_tables_is_repaired_soon(tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    run(
        *("qemu-img", "create", "-f", "qcow2", "-o", "preallocation=metadata"),
        *("-o", "lazy_refcounts=on", path, "100G"),
    )
    qemu_io(path, "write 99G 1M", "write 0 64k", kill=True)
    file = FileNode(path)
    header = read_header(file, "filename")
    file.write(header.refcount_table_offset + 65536, bytes(65536))
    file.close()
    assert header.l1_entries == 200
    assert mend(path).raised > 30000
    assert "No errors" in run("qemu-img", "check", path)


def damage(path: Path, offset: int, value: int) -> bytes:
    file = FileNode(path)
    file.write(offset, value.to_bytes(8, "big"))
    file.write(72, int(Incompatible.DIRTY).to_bytes(8, "big"))
    file.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("l1", 1 << 40, "an L2 table at 1099511627776 is outside the file"),
        ("l1", 0x10200, "an L2 table at 66048 is .* not a whole cluster"),
        ("l2", 1 << 40, "a cluster at 1099511627776 is outside the file"),
        ("l2", 0x50200, "a cluster at 328192 is .* not a whole cluster"),
        ("l2", 1 << 62 | 1 << 40, "a compressed cluster at 1099511627776 is outside"),
        ("l2", 0, ""),
        ("l2", 0x10000, "the refcount table is referenced as something else too"),
        ("l2", 0x20000, "a refcount block is referenced as something else too"),
        ("l2", 0x30000, "the L1 table is referenced as something else too"),
        ("table", 0x30000, "where something else is"),
        ("table", 0x20200, "a refcount block at 131584"),
        ("table", 1 << 40, "behind the end of the file"),
    ],
)
def test_what_no_crash_leaves_is_refused_and_not_written(
    tmp_path: Path, place: str, value: int, reason: str
) -> None:
    path = create(tmp_path / "image.qcow2")
    qemu_io(path, "write 0 1M")
    before = damage(path, {"table": 0x10000, "l1": 0x30000, "l2": 0x40000}[place], value)
    if not reason:
        assert mend(path).lowered == 1
        assert "No errors" in run("qemu-img", "check", path)
        return
    with pytest.raises(ImageError, match=reason) as caught:
        mend(path)
    assert caught.value.value == str(path)
    assert path.read_bytes() == before


def test_more_references_than_a_refcount_holds_are_refused(tmp_path: Path) -> None:
    path = create(tmp_path / "image.qcow2", ",refcount_bits=1")
    qemu_io(path, "write 0 1M")
    before = damage(path, 0x40000, 0x60000)  # as the cluster behind it
    with pytest.raises(ImageError, match="more references than 1") as caught:
        mend(path)
    assert caught.value.offset == 0x60000
    assert path.read_bytes() == before


def test_a_full_range_without_a_refcount_block_is_refused(tmp_path: Path) -> None:
    path = create(tmp_path / "image.qcow2", ",cluster_size=512,refcount_bits=64")
    qemu_io(path, "write -P 1 0 1M")
    file = FileNode(path)
    header = read_header(file, "filename")
    table = header.refcount_table_offset + 80  # of clusters 640 to 703
    data = np.arange(640, 704, dtype=np.uint64) << np.uint64(9)
    l2 = bytearray(8)
    file.read_into(header.l1_offset, l2)
    file.write(int.from_bytes(l2, "big") & ~(1 << 63), data.astype(">u8").tobytes())
    file.write(table, bytes(8))
    file.close()
    with pytest.raises(ImageError, match="nor room for one"):
        mend(path)


def test_a_crash_in_the_repair_leaves_the_image_dirty(tmp_path: Path) -> None:
    path = create(tmp_path / "image.qcow2", ",cluster_size=512")
    qemu_io(path, "write 0 1M", kill=True)

    class Breaking(FileNode):
        left = 0

        def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
            if not self.left:
                raise BlockIOError("write", offset, len(data), 5, self.name)
            self.left -= 1
            super().write(offset, data)

    file = Breaking(path)
    with pytest.raises(BlockIOError):
        repair(file, read_header(file, "filename"))
    file.close()
    assert is_dirty(path)
    mend(path)
    assert "No errors" in run("qemu-img", "check", path)

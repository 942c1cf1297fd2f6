"""The table of internal snapshots: read, so that what they hold stays untouched.

An entry, from QEMU's docs/interop/qcow2.txt, all numbers big-endian, padded to a multiple of 8::

      0  8  L1 table: offset            24  8  guest's running time in ns
      8  4  L1 table: entries           32  4  size of the VM state
     12  2  length of the id            36  4  length of extra data
     14  2  length of the name          40    extra data: 8 size of the VM state,
     16  4  date in s, 20 4 and in ns             8 virtual disk size, 8 instructions executed
                                                  (all ones: not counted); then the id and the name
"""

import struct
from dataclasses import dataclass

from mirrorgui.block.node import BlockNode
from mirrorgui.block.qcow2.header import Header
from mirrorgui.block.qcow2.layout import MAX_L1_SIZE, MAX_SNAPSHOT_TABLE_SIZE
from mirrorgui.errors import ImageError
from mirrorgui.units import KiB

_ENTRY = struct.Struct(">QIHHIIQII")
_EXTRA = struct.Struct(">QQQ")
_UNKNOWN = (1 << 64) - 1
_MAX_EXTRA = 1024
"""Longest extra data in bytes, QEMU's limit."""
_READ = 64 * KiB


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One entry; offsets and sizes in bytes.

    Attributes:
        id: unique in the image; the names need not be.
        name: what a person has called it.
        l1_offset, l1_entries: its L1 table.
        disk_size: what a guest saw then; ``None`` where the entry does not say.
        vm_state_size: what was saved of the guest itself.
        date_s, date_ns: when it was made, in seconds since 1970 and nanoseconds.
        vm_clock_ns: how long the guest had been running, in nanoseconds.
        icount: instructions that the guest had executed; ``None`` where they were not counted.
    """

    id: str
    name: str
    l1_offset: int
    l1_entries: int
    disk_size: int | None
    vm_state_size: int
    date_s: int
    date_ns: int
    vm_clock_ns: int
    icount: int | None


@dataclass(frozen=True, slots=True)
class SnapshotTable:
    """All snapshots of an image.

    Attributes:
        offset, length: where the table is in the file, in bytes; 0 without snapshots.
    """

    snapshots: tuple[Snapshot, ...] = ()
    offset: int = 0
    length: int = 0


def read_snapshots(file: BlockNode, header: Header, field: str) -> SnapshotTable:
    """Read and check the snapshot table.

    Args:
        file: the node that stores the image.
        header: the image's.
        field: the option that named the image, for refusals.

    Raises:
        BlockIOError: it cannot be read.
        ImageError: it is damaged.
    """
    if not header.snapshot_count:
        return SnapshotTable()
    reader = _Reader(file, header, field)
    snapshots = tuple(reader.read_entry() for _ in range(header.snapshot_count))
    return SnapshotTable(snapshots, header.snapshots_offset, reader.length)


class _Reader:
    """Goes through the table, a piece of the file at a time."""

    def __init__(self, file: BlockNode, header: Header, field: str) -> None:
        self._file = file
        self._header = header
        self._field = field
        self._position = header.snapshots_offset
        self._piece = b""
        self._piece_at = 0

    @property
    def length(self) -> int:
        """Bytes of the table that have been read."""
        return self._position - self._header.snapshots_offset

    def read_entry(self) -> Snapshot:
        self._position += -self.length % 8  # the last entry need not be padded
        at = self._position
        l1_offset, l1_entries, id_length, name_length, *times, state_size, extra_length = (
            _ENTRY.unpack(self._take(_ENTRY.size))
        )
        if extra_length > _MAX_EXTRA:
            raise self._error(at, f"a snapshot has {extra_length} bytes of extra data")
        extra = self._take(extra_length)
        id, name = self._take(id_length), self._take(name_length)
        if self.length > MAX_SNAPSHOT_TABLE_SIZE:
            raise self._error(at, f"it is longer than {MAX_SNAPSHOT_TABLE_SIZE} bytes")
        self._check_l1(at, l1_offset, l1_entries)
        # Only whole fields count, and programs before a field was invented did not write it.
        whole = len(extra) // 8 * 8
        long_state_size, disk_size, icount = _EXTRA.unpack(
            extra[: min(whole, _EXTRA.size)].ljust(_EXTRA.size, b"\xff")
        )
        return Snapshot(
            id=id.decode("utf-8", "replace"),
            name=name.decode("utf-8", "replace"),
            l1_offset=l1_offset,
            l1_entries=l1_entries,
            disk_size=disk_size if whole >= 16 else None,
            vm_state_size=long_state_size if whole >= 8 else state_size,
            date_s=times[0],
            date_ns=times[1],
            vm_clock_ns=times[2],
            icount=icount if icount != _UNKNOWN else None,
        )

    def _check_l1(self, at: int, offset: int, entries: int) -> None:
        length = entries * 8
        if length > MAX_L1_SIZE:
            raise self._error(at, f"a snapshot's L1 table of {length} bytes is too long")
        if offset % self._header.cluster_size:
            raise self._error(at, f"a snapshot's L1 table at {offset} does not begin at a cluster")
        if offset + length > self._file.size:
            text = f"a snapshot's L1 table, {length} bytes at {offset}, is outside the file"
            raise self._error(at, text)

    def _take(self, length: int) -> bytes:
        end = self._position + length
        if end > self._file.size:
            raise self._error(self._position, "the file ends in the snapshot table")
        if end > self._piece_at + len(self._piece):
            self._piece_at = self._position
            piece = bytearray(min(max(length, _READ), self._file.size - self._position))
            self._file.read_into(self._position, piece)
            self._piece = bytes(piece)
        start = self._position - self._piece_at
        self._position = end
        return self._piece[start : start + length]

    def _error(self, offset: int, reason: str) -> ImageError:
        return ImageError(self._field, self._file.name, offset, f"snapshot table: {reason}")

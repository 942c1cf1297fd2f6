"""An open image: what its parts share."""

import threading
from collections.abc import Callable

from mirrorgui.block.node import BlockNode, Extent, ExtentKind
from mirrorgui.block.qcow2.allocator import Allocator
from mirrorgui.block.qcow2.bits import FeatureBits
from mirrorgui.block.qcow2.compressed import inflate, zstd_decompressor
from mirrorgui.block.qcow2.damage import Damage
from mirrorgui.block.qcow2.header import Header
from mirrorgui.block.qcow2.layout import Kind
from mirrorgui.block.qcow2.metadata import REFCOUNT_TABLE, MetadataMap
from mirrorgui.block.qcow2.requests import Requests
from mirrorgui.block.qcow2.store import Store
from mirrorgui.block.qcow2.structures import read_structures
from mirrorgui.block.qcow2.tables import Tables

_EXTENT_KINDS = {
    Kind.UNALLOCATED: ExtentKind.UNALLOCATED,
    Kind.UNALLOCATED_HOST: ExtentKind.UNALLOCATED,
    Kind.ZERO: ExtentKind.ZERO,
    Kind.ZERO_HOST: ExtentKind.ZERO,
    Kind.DATA: ExtentKind.DATA,
    Kind.COMPRESSED: ExtentKind.DATA,
    Kind.BROKEN: ExtentKind.DATA,  # reading it tells
}
_EXTENT_KIND = tuple(_EXTENT_KINDS[kind] for kind in Kind)
"""The same by number: making members of an enumeration of numbers takes longer than all else."""


class Image:
    """What reading, writing, zeroing and writing back share. They are its only users.

    Args:
        file: the node that stores the image.
        header: of the image.
        data_file: the node that stores guest clusters, where that is another one.
        backing: the node that shows where nothing is allocated.
        unopened: the image names a backing file that is not open.
        read_only: nothing will be changed.
        field: the option that named the image, for refusals.
        cache_size: bytes of L2 tables kept in memory; by default as many as QEMU keeps.

    Attributes:
        lock: guards the tables, the allocator and the requests. No data is read or written under
            it; a table that is not in memory is.
        allocator: ``None`` where the image is open for reading.
        bitmaps: the persistent dirty bitmaps, as they were found.

    Raises:
        BlockIOError: a table cannot be read.
        ImageRefused: a feature needs what is not installed.
        ImageError: the image is damaged.
    """

    def __init__(
        self,
        file: BlockNode,
        header: Header,
        *,
        data_file: BlockNode | None,
        backing: BlockNode | None,
        unopened: bool,
        read_only: bool,
        field: str,
        cache_size: int | None,
    ) -> None:
        self.name = file.name
        self.file = file
        self.header = header
        self.geometry = header.geometry
        self.size = header.size
        self.backing = backing
        self.unopened = unopened
        self.lock = threading.Lock()
        self.requests = Requests(self.lock)
        self.bits = FeatureBits(file, header)
        self.damage = Damage(self.name, None if read_only else self.bits)
        self.store = Store(data_file or file, self.geometry.cluster_size)
        self.decompress: Callable[[bytes | bytearray, int], bytes] = inflate
        if header.compression_type == "zstd":
            self.decompress = zstd_decompressor(field, self.name)
        self.metadata = MetadataMap(header.cluster_bits)
        structures = read_structures(file, header, field)
        structures.add_to(self.metadata)
        self.bitmaps = structures.bitmaps
        if read_only:  # otherwise the allocator does
            length = header.refcount_table_clusters << header.cluster_bits
            self.metadata.add(REFCOUNT_TABLE, header.refcount_table_offset, length)
        self.tables = Tables(file, header, self.metadata, field=field, cache_size=cache_size)
        self.allocator: Allocator | None = None

    def shows_below(self, offset: int) -> bool:
        """Say whether anything but zeroes may show, now or later, from ``offset`` on."""
        return self.unopened or (self.backing is not None and offset < self.backing.size)

    def extents(self, offset: int, length: int) -> list[Extent]:
        """Return runs of one kind that cover a range, neighbours of one kind joined.

        Raises:
            BlockIOError: a table cannot be read.
        """
        if not length:
            return []
        with self.lock:
            runs = self.tables.runs(offset, offset + length) or []
        found: list[Extent] = []
        start, kind = offset, _EXTENT_KIND[runs[0].kind]
        for run in runs:
            new = _EXTENT_KIND[run.kind]
            if new is not kind:
                found.append(Extent(start, run.offset - start, kind))
                start, kind = run.offset, new
        found.append(Extent(start, offset + length - start, kind))
        return found

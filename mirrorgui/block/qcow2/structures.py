"""What the header of an image names, directly or through a list: where it all stands."""

from dataclasses import dataclass

from mirrorgui.block.node import BlockNode
from mirrorgui.block.qcow2.bitmap_directory import BitmapDirectory, read_bitmap_directory
from mirrorgui.block.qcow2.header import Header
from mirrorgui.block.qcow2.metadata import REFCOUNT_TABLE, MetadataMap
from mirrorgui.block.qcow2.snapshots import SnapshotTable, read_snapshots
from mirrorgui.errors import ImageError


@dataclass(frozen=True, slots=True)
class Structure:
    """``length`` bytes at ``offset`` in the file; ``what`` is a name for messages."""

    what: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Structures:
    """The structures of an image, but for L2 tables, refcount blocks and tables of bitmaps.

    Attributes:
        named: all of them that are not empty.
        snapshots: the table of snapshots.
        bitmaps: the directory of bitmaps.
    """

    named: tuple[Structure, ...]
    snapshots: SnapshotTable
    bitmaps: BitmapDirectory

    def add_to(self, metadata: MetadataMap) -> None:
        """Note them all, but for the refcount table, which its own class notes."""
        for each in self.named:
            if each.what != REFCOUNT_TABLE:
                metadata.add(each.what, each.offset, each.length)


def read_structures(file: BlockNode, header: Header, field: str) -> Structures:
    """Find out where everything stands that has to be protected.

    Args:
        file: the node that stores the image.
        header: the image's.
        field: the option that named the image, for refusals.

    Raises:
        BlockIOError: a list cannot be read.
        ImageError: one is damaged, or two structures stand at the same place.
    """
    snapshots = read_snapshots(file, header, field)
    bitmaps = read_bitmap_directory(file, header, field)
    table_length = header.refcount_table_clusters << header.cluster_bits
    named = [
        Structure("the header", 0, header.cluster_size),
        Structure(REFCOUNT_TABLE, header.refcount_table_offset, table_length),
        Structure("the L1 table", header.l1_offset, header.l1_entries * 8),
        Structure("the snapshot table", snapshots.offset, snapshots.length),
        Structure("the bitmap directory", bitmaps.offset, bitmaps.length),
    ]
    named += [
        Structure("the L1 table of a snapshot", each.l1_offset, each.l1_entries * 8)
        for each in snapshots.snapshots
    ]
    kept = sorted((each for each in named if each.length), key=lambda each: each.offset)
    end, before = 0, ""
    for each in kept:
        if each.offset < end:
            text = f"{each.what} stands where {before} is"
            raise ImageError(field, file.name, each.offset, text)
        end, before = each.offset + each.length, each.what
        end += -end % header.cluster_size
    return Structures(tuple(kept), snapshots, bitmaps)

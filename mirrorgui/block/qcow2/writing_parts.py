"""What an image has in addition when it is open for writing."""

import numpy as np

from mirrorgui.block.qcow2.allocator import Allocator
from mirrorgui.block.qcow2.image import Image
from mirrorgui.block.qcow2.layout import COMPRESSED, OFFSET_MASK
from mirrorgui.block.qcow2.reading import Reader
from mirrorgui.block.qcow2.scattered import ScatteredWriter
from mirrorgui.block.qcow2.tables import L2Table
from mirrorgui.block.qcow2.writeback import WriteBack
from mirrorgui.block.qcow2.writing import Writer
from mirrorgui.block.qcow2.zeroing import Zeroer
from mirrorgui.errors import BlockIOError, ImageError
from mirrorgui.units import KiB

_REFCOUNT_CACHE = 256 * KiB
_U = np.uint64


class WritingParts:
    """The allocator of an image, and the ways of its changing requests.

    Args:
        image: gets the allocator.
        reader: of the image.
        field: the option that named the image, for refusals.
        lazy: write refcounts late, under the dirty bit.
        refcount_cache_size: bytes of refcount blocks kept in memory.
        pass_discard: what is discarded or zeroed is given back to the file's storage.
        pass_freed: what is freed otherwise is as well.

    Raises:
        BlockIOError: the refcount table cannot be read.
        ImageError: it is damaged.
    """

    def __init__(
        self,
        image: Image,
        reader: Reader,
        *,
        field: str,
        lazy: bool,
        refcount_cache_size: int | None,
        pass_discard: bool,
        pass_freed: bool,
    ) -> None:
        header = image.header
        try:
            allocator = Allocator(
                image.file,
                image.geometry,
                table_offset=header.refcount_table_offset,
                table_clusters=header.refcount_table_clusters,
                metadata=image.metadata,
                cache_size=refcount_cache_size or _REFCOUNT_CACHE,
            )
        except BlockIOError as error:
            if not error.detail:
                raise
            raise ImageError(field, image.name, error.offset, error.detail) from error
        image.allocator = allocator
        allocator.when_damaged(lambda text: image.damage.found("write", 0, 0, text))
        image.tables.allocate = lambda: allocator.allocate(1)[0].host_offset
        image.tables.free = lambda offset: allocator.free_later(offset, 1)
        if not image.geometry.data_file:
            image.tables.loaded = lambda table: _check_used(image, allocator, table)
        self.write_back = WriteBack(image, lazy=lazy)
        self.writer = Writer(image, reader, self.write_back, pass_freed=pass_freed)
        self.scattered = ScatteredWriter(image, self.write_back)
        self.zeroer = Zeroer(image, self.writer, self.write_back, pass_discard=pass_discard)


def _check_used(image: Image, allocator: Allocator, table: L2Table) -> None:
    """Find damage that an allocation would make worse: a place with refcount 0 may go twice."""
    if image.damage.text:  # nothing is allocated any more
        return
    placed = (table.entries & _U(COMPRESSED)) == 0
    if table.broken is not None:
        placed &= ~table.broken
    places = table.entries[placed] & _U(OFFSET_MASK)
    try:
        unused = allocator.first_unused(places[places != 0])
    except BlockIOError:
        if not image.damage.text:
            raise
        return  # what is there can be read all the same
    if unused is not None:
        span = image.geometry.l2_span
        start = table.l1_index * span
        text = f"the cluster at {unused} is in use, but has refcount 0"
        image.damage.found("write", start, min(span, image.size - start), text)

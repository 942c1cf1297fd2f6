"""A qcow2 image as a node."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from mirrorgui.block.checks import check_change, check_range
from mirrorgui.block.node import BlockLimits, BlockNode, Buffer, Extent, Mapped, Range
from mirrorgui.block.qcow2.features import Autoclear
from mirrorgui.block.qcow2.header import Header, read_header
from mirrorgui.block.qcow2.image import Image
from mirrorgui.block.qcow2.layout import Kind
from mirrorgui.block.qcow2.reading import Reader
from mirrorgui.block.qcow2.repair import repair
from mirrorgui.block.qcow2.runs import Run
from mirrorgui.block.qcow2.writing_parts import WritingParts
from mirrorgui.errors import BlockIOError, ImageRefused, RequestCancelled

_log = logging.getLogger(__name__)

_CRYPT_METHODS = {1: "AES", 2: "LUKS"}


class Qcow2Node(BlockNode):
    """A qcow2 image, which owns the nodes below it and closes them.

    Args:
        file: the node that stores the image.
        header: as ``read_header`` has found it there. A dirty image is repaired when it is opened
            for writing.
        backing: the node that shows where nothing is allocated.
        data_file: the node that stores guest clusters, for images with an external data file.
        read_only: refuse every changing request.
        node_name: its name among nodes.
        field: the option that named the image, for refusals.
        unopened_backing: the backing file that is named, where it is not opened yet.
        open_backing: opens it, for the method of that name.
        lazy_refcounts: write refcounts late, under the dirty bit; by default as the image says.
        l2_cache_size: bytes of L2 tables kept in memory; by default as many as QEMU keeps.
        refcount_cache_size: bytes of refcount blocks kept in memory.
        pass_discard: clusters that are discarded or zeroed are given back to the file's storage.
        pass_freed: those that are freed otherwise are as well.

    Raises:
        BlockIOError: a table cannot be read.
        ImageRefused: it is encrypted, is marked corrupt and would be written, or lacks its data
            file.
        ImageError: its tables are damaged.

    On failure the nodes stay the caller's, open.

    Concurrency: data is read and written without a lock. A read that overlaps a write sees old or
    new bytes; writes to different bytes of one cluster never lose any.
    """

    driver = "qcow2"

    def __init__(
        self,
        file: BlockNode,
        *,
        header: Header,
        backing: BlockNode | None = None,
        data_file: BlockNode | None = None,
        read_only: bool = False,
        node_name: str = "",
        field: str = "filename",
        unopened_backing: str = "",
        open_backing: Callable[[], BlockNode] | None = None,
        lazy_refcounts: bool | None = None,
        l2_cache_size: int | None = None,
        refcount_cache_size: int | None = None,
        pass_discard: bool = True,
        pass_freed: bool = False,
    ) -> None:
        self.name = file.name
        self.node_name = node_name
        self.read_only = read_only
        self.size = header.size
        self.file = file
        self.data_file = data_file
        self.header = header
        self.unopened_backing = unopened_backing
        self._open_backing = open_backing
        self._closed = False
        self._unchanged = True
        _refuse(header, file, field, read_only=read_only)
        if header.dirty and not read_only:
            repair(file, header, field=field)
            self.header = header = read_header(file, field)  # the refcount table may have moved
        if header.has_data_file and data_file is None:
            raise ImageRefused(field, file.name, "its external data file is missing")
        self._image = Image(
            file,
            header,
            data_file=data_file,
            backing=backing,
            unopened=bool(header.backing_file) and backing is None,
            read_only=read_only,
            field=field,
            cache_size=l2_cache_size,
        )
        self._reader = Reader(self._image)
        if not read_only:
            lazy = header.lazy_refcounts if lazy_refcounts is None else lazy_refcounts
            self._parts = WritingParts(
                self._image,
                self._reader,
                field=field,
                lazy=lazy,
                refcount_cache_size=refcount_cache_size,
                pass_discard=pass_discard,
                pass_freed=pass_freed,
            )
        self._set_backing(backing)
        self.limits = BlockLimits(
            request_alignment=self._image.store.file.limits.request_alignment,
            cluster_size=header.cluster_size,
            can_zero=header.version >= 3 or not header.backing_file,
            can_discard=True,
            gathers=True,
        )

    # BlockNode

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """See ``BlockNode.read_into``."""
        check_range(self, "read", offset, len(buffer))
        try:
            self._reader.read(offset, buffer)
        except BlockIOError as error:
            raise self._of_guest("read", offset, len(buffer), error) from error

    def try_read_into(self, offset: int, buffer: bytearray | memoryview) -> bool:
        """See ``BlockNode.try_read_into``. Tables and compressed clusters are not waited for."""
        check_range(self, "read", offset, len(buffer))
        try:
            return self._reader.try_read(offset, buffer)
        except BlockIOError as error:
            raise self._of_guest("read", offset, len(buffer), error) from error

    def prefetch(self, offset: int, length: int) -> bool:
        """See ``BlockNode.prefetch``."""
        try:
            runs = self._runs(offset, min(offset + length, self.size), cached_only=True)
        except BlockIOError:  # the reading that follows will tell
            return False
        begun = [self._prefetch_run(run) for run in runs]
        return any(begun)

    def read_ranges(self, ranges: Sequence[Range], buffer: memoryview) -> None:
        """See ``BlockNode.read_ranges``. What is side by side in the file is read at once."""
        for offset, length in ranges:
            check_range(self, "read", offset, length)
        try:
            self._reader.read_ranges(ranges, buffer)
        except BlockIOError as error:
            raise self._of_guest("read", ranges[0][0], len(buffer), error) from error

    def write_ranges(self, ranges: Sequence[Range], data: memoryview) -> None:
        """See ``BlockNode.write_ranges``. Whole clusters without a place get theirs at once."""
        if len(ranges) > 1:
            for offset, length in ranges:
                check_change(self, "write", offset, length)
            try:
                self._begin_change()
                if self._parts.scattered.write(ranges, data):
                    self._parts.write_back.relieve()
                    return
            except BlockIOError as error:
                raise self._of_guest("write", ranges[0][0], len(data), error) from error
        super().write_ranges(ranges, data)

    def write(self, offset: int, data: Buffer) -> None:
        """See ``BlockNode.write``."""
        check_change(self, "write", offset, len(data))
        if not len(data):
            return
        try:
            self._begin_change()
            self._parts.writer.write(offset, memoryview(data))
        except BlockIOError as error:
            raise self._of_guest("write", offset, len(data), error) from error

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        """See ``BlockNode.write_zeroes``. Whole clusters or subclusters only change their entry."""
        check_change(self, "write_zeroes", offset, length)
        if not length:
            return
        try:
            self._begin_change()
            self._parts.zeroer.write_zeroes(offset, length, may_unmap=may_unmap)
        except BlockIOError as error:
            raise self._of_guest("write_zeroes", offset, length, error) from error

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockNode.discard``. Whole clusters are freed, and read as zeroes."""
        check_change(self, "discard", offset, length)
        if not length:
            return
        try:
            self._begin_change()
            self._parts.zeroer.discard(offset, length)
        except BlockIOError as error:
            raise self._of_guest("discard", offset, length, error) from error

    def flush(self) -> None:
        """See ``BlockNode.flush``."""
        if self.read_only:
            return
        self._image.damage.check("flush", 0, 0)
        try:
            self._parts.write_back.flush()
        except BlockIOError as error:
            raise self._of_guest("flush", 0, 0, error) from error

    def extents(self, offset: int, length: int) -> list[Extent]:
        """See ``BlockNode.extents``. Compressed clusters are data."""
        check_range(self, "extents", offset, length)
        try:
            return self._image.extents(offset, length)
        except BlockIOError as error:
            raise self._of_guest("extents", offset, length, error) from error

    def map(self, offset: int, length: int) -> list[Mapped]:
        """See ``BlockNode.map``. What the backing node stores plainly is there as well."""
        check_range(self, "extents", offset, length)
        try:
            return [each for run in self._runs(offset, offset + length) for each in self._map(run)]
        except BlockIOError as error:
            raise self._of_guest("extents", offset, length, error) from error

    def open_backing(self) -> None:
        """See ``BlockNode.open_backing``."""
        opener = self._backing_opener()
        if opener is None:
            return
        backing = opener()
        self._set_backing(backing)
        self._image.backing = backing
        self._image.unopened = False
        self.unopened_backing = ""

    def check_backing(self) -> None:
        """See ``BlockNode.check_backing``."""
        opener = self._backing_opener()
        if opener is not None:
            opener().close()

    def _backing_opener(self) -> Callable[[], BlockNode] | None:
        if self.backing is not None or not self.unopened_backing:
            return None
        return self._open_backing

    def cancel_in_flight(self) -> None:
        """See ``BlockNode.cancel_in_flight``."""
        for node in self._below():
            node.cancel_in_flight()

    def close(self) -> None:
        """See ``BlockNode.close``. What is not in the file yet is written; an error is logged.

        Whoever has to know that it arrived flushes before.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if not self.read_only and not self._image.damage.text:
                self._parts.write_back.finish()
        except BlockIOError as error:
            _log.error("closing %s: what was not flushed may be lost: %s", self.name, error)
        finally:
            for node in self._below():
                node.close()

    # Parts

    def _below(self) -> list[BlockNode]:
        return [node for node in (self.file, self.data_file, self.backing) if node is not None]

    def _set_backing(self, backing: BlockNode | None) -> None:
        self.backing = backing
        self.reads_wait = any(node.reads_wait for node in self._below())
        # To copy what stands around a write, the backing node is read.
        self.writes_wait = self.reads_wait or any(node.writes_wait for node in self._below())

    def _begin_change(self) -> None:
        """Before the first change, take back what the image says and will be true no more."""
        if self._unchanged:
            self._image.damage.check("write", 0, 0)
            bitmaps = self._image.bitmaps
            marked = bitmaps.mark_in_use(self.file)
            kept = Autoclear.DATA_FILE_RAW
            if bitmaps.tables:
                kept |= Autoclear.BITMAPS
            if self._image.bits.keep_autoclear(kept) or marked:
                self.file.flush()
            self._unchanged = False

    def _runs(self, offset: int, end: int, *, cached_only: bool = False) -> list[Run]:
        if offset >= end:
            return []
        with self._image.lock:
            return self._image.tables.runs(offset, end, cached_only=cached_only) or []

    def _prefetch_run(self, run: Run) -> bool:
        if run.kind == Kind.DATA:
            return self._image.store.file.prefetch(run.place, run.length)
        if run.kind in (Kind.UNALLOCATED, Kind.UNALLOCATED_HOST) and self.backing is not None:
            there = min(run.length, self.backing.size - run.offset)
            return there > 0 and self.backing.prefetch(run.offset, there)
        return False

    def _map(self, run: Run) -> list[Mapped]:
        """Return where a run is stored plainly, as the file's own map has it."""
        if run.kind == Kind.DATA:
            file = self._image.store.file
            there = min(run.length, file.size - run.place)
            shift = run.offset - run.place
            found = file.map(run.place, there) if there > 0 else []
            return [replace(each, offset=each.offset + shift) for each in found]
        if run.kind in (Kind.UNALLOCATED, Kind.UNALLOCATED_HOST) and self.backing is not None:
            there = min(run.length, self.backing.size - run.offset)
            return self.backing.map(run.offset, there) if there > 0 else []
        return []

    def _of_guest(
        self, operation: str, offset: int, length: int, error: BlockIOError
    ) -> BlockIOError:
        """Say of an error of a file below which of the guest's bytes it hit."""
        if error.node == self.name and (error.operation, error.offset) == (operation, offset):
            return error
        if isinstance(error, RequestCancelled):
            return RequestCancelled(operation, offset, length, self.name)
        detail = error.detail
        if not detail and error.node != self.name:
            detail = f"in {error.node}"
        return BlockIOError(operation, offset, length, error.errno, self.name, detail=detail)


def _refuse(header: Header, file: BlockNode, field: str, *, read_only: bool) -> None:
    """Refuse an image whose header says that it cannot be used so.

    Raises:
        ImageRefused: with the reason.
    """
    if header.encrypted:
        method = _CRYPT_METHODS.get(header.crypt_method, str(header.crypt_method))
        text = f"its content is encrypted ({method}), which this driver cannot read"
        raise ImageRefused(field, file.name, text)
    if read_only:
        return
    if header.corrupt:
        text = "it is marked corrupt: it can be read only until it was repaired (qemu-img check -r)"
        raise ImageRefused(field, file.name, text)

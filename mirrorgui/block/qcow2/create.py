"""Making new qcow2 images.

Everything but the data has its place from the start, one thing behind the other: header, refcount
table, refcount blocks, L1 table, and with preallocation L2 tables and data. The header is written
last, so that what is cut short by a crash is no image.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mirrorgui.block.create import create_raw, preallocate_file, refused, sync_folder
from mirrorgui.block.file import FileNode
from mirrorgui.block.node import BlockNode
from mirrorgui.block.qcow2.create_options import CreateOptions
from mirrorgui.block.qcow2.header import Header
from mirrorgui.block.qcow2.layout import COPIED, MAX_REFCOUNT_TABLE_SIZE, Words, words_to
from mirrorgui.block.qcow2.refcounts import pack, refcount_dtype
from mirrorgui.errors import BlockIOError, ImageRefused, InvalidInput
from mirrorgui.units import MiB

_ENTRY = 8
_BATCH = 1 * MiB
"""Bytes of tables that are made in memory at a time."""


def create_qcow2(
    target: str | os.PathLike[str] | BlockNode,
    size: int,
    options: CreateOptions | None = None,
    *,
    data_node: BlockNode | None = None,
    field: str = "target",
) -> None:
    """Create an image that reads as zeroes, or as its backing file. It survives a crash at once.

    Args:
        target: a path at which there is nothing yet; or an open node, whose content is lost.
        size: what a guest sees, in bytes; rounded up to 512.
        options: how; by default as qemu-img does it.
        data_node: an open node for the data file that the options name; its content stays. By
            default that file is created as well, and must not exist.
        field: the option that named the target, for refusals.

    Raises:
        InvalidInput: an option is wrong. Nothing was touched.
        ImageRefused: it cannot be created; nothing is left behind where a path was given.
    """
    options = options or CreateOptions()
    plan = _plan(options, size)
    with contextlib.ExitStack() as created:
        if options.data_file and data_node is None:
            data_node = created.enter_context(_new_file(options.data_file, "data_file"))
        if isinstance(target, BlockNode):
            node, name = target, target.name
        else:
            name = os.fspath(target)
            node = created.enter_context(_new_file(name, field))
        try:
            _Writer(node, plan, options.preallocation).write(data_node)
        except BlockIOError as error:
            if isinstance(target, BlockNode):
                text = f"Cannot create an image in {name}: {error.detail or error.strerror}."
                raise ImageRefused(field, name, text) from error
            system = OSError(error.errno, error.strerror)
            raise refused(field, name, plan.file_size, system) from error


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where everything stands; offsets and sizes in bytes.

    Attributes:
        header: with the places of its tables.
        blocks: how many refcount blocks there are, behind the refcount table.
        tables_offset: where L2 tables begin, one for each L1 entry; 0 where none are made.
        data_offset: where data begins: in the data file, if there is one.
        clusters: how many clusters all of it takes, preallocated data included.
    """

    header: Header
    blocks: int
    tables_offset: int
    data_offset: int
    clusters: int

    @property
    def file_size(self) -> int:
        return self.clusters << self.header.cluster_bits


def _plan(options: CreateOptions, size: int) -> _Plan:
    header = options.header(size)
    geometry, bits = header.geometry, header.cluster_bits
    l1 = geometry.clusters(header.l1_entries * _ENTRY)
    l2 = header.l1_entries if options.all_tables else 0
    data = geometry.clusters(header.size) if l2 and not options.data_file else 0
    table = blocks = 1
    while True:
        clusters = 1 + table + blocks + l1 + l2 + data
        needed = -(-clusters // geometry.refcount_block_entries)
        before = table, blocks
        table, blocks = geometry.clusters(needed * _ENTRY), needed
        if before == (table, blocks):
            break
    if table << bits > MAX_REFCOUNT_TABLE_SIZE:
        text = f"too large for clusters of {header.cluster_size} bytes, try larger ones"
        raise InvalidInput("size", size, text)
    first_l1 = 1 + table + blocks
    header = replace(
        header,
        refcount_table_offset=1 << bits,
        refcount_table_clusters=table,
        l1_offset=first_l1 << bits if l1 else 0,
    )
    return _Plan(
        header=header,
        blocks=blocks,
        tables_offset=(first_l1 + l1) << bits if l2 else 0,
        data_offset=0 if options.data_file else (first_l1 + l1 + l2) << bits,
        clusters=clusters,
    )


class _Writer:
    """Writes what a plan says into an open node."""

    def __init__(self, node: BlockNode, plan: _Plan, preallocation: str) -> None:
        self._node = node
        self._plan = plan
        self._preallocation = preallocation
        self._header = plan.header
        self._bits = plan.header.cluster_bits

    def write(self, data_node: BlockNode | None) -> None:
        self._make_room()
        if data_node is not None:
            self._prepare_data(data_node)
        elif self._plan.tables_offset:
            data_length = self._plan.file_size - self._plan.data_offset
            self._preallocate(self._node, self._plan.data_offset, data_length)
        self._write_refcounts()
        self._write_l1()
        self._write_l2_tables()
        self._node.flush()
        self._node.write(0, self._header.encode())
        self._node.flush()

    def _make_room(self) -> None:
        """Let the node be as long as the image, and read as zeroes."""
        node, size = self._node, self._plan.file_size
        try:
            node.resize(0)
            node.resize(size)
        except BlockIOError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            if node.size < size:
                text = f"a new image takes {size} bytes"
                raise BlockIOError(
                    "write", 0, size, errno.ENOSPC, node.name, detail=text
                ) from error
            node.write_zeroes(0, size)  # a device: no old byte may show through
            node.flush()

    def _prepare_data(self, data_node: BlockNode) -> None:
        before, size = data_node.size, self._header.size
        if before < size:  # what it has stays; storage is reserved for what is new
            data_node.resize(size)
            self._preallocate(data_node, before, size - before)
        data_node.flush()

    def _preallocate(self, node: BlockNode, offset: int, length: int) -> None:
        """Reserve storage; the range reads as zeroes already where it matters."""
        if self._preallocation not in ("falloc", "full"):
            return
        if isinstance(node, FileNode):
            try:
                preallocate_file(node.fileno(), offset, length, self._preallocation)
            except OSError as error:
                raise BlockIOError("write", offset, length, error.errno or 0, node.name) from error
            return
        node.write_zeroes(offset, length, may_unmap=False)

    def _write_refcounts(self) -> None:
        plan, header = self._plan, self._header
        first = header.refcount_table_offset + (header.refcount_table_clusters << self._bits)
        self._node.write(
            header.refcount_table_offset, words_to(self._places(first, 0, plan.blocks))
        )
        per_block, order = header.geometry.refcount_block_entries, header.refcount_order
        batch = max(_BATCH >> self._bits, 1)
        for block in range(0, plan.blocks, batch):
            count = min(plan.clusters - block * per_block, batch * per_block)
            refcounts = np.ones(count, refcount_dtype(order))
            self._node.write(first + (block << self._bits), pack(refcounts, order))

    def _write_l1(self) -> None:
        if self._plan.tables_offset:
            places = self._places(self._plan.tables_offset, 0, self._header.l1_entries)
            self._node.write(self._header.l1_offset, words_to(places | np.uint64(COPIED)))

    def _write_l2_tables(self) -> None:
        """Let every cluster have its place; the data, or the lack of it, reads as zeroes."""
        if not self._plan.tables_offset:
            return
        geometry = self._header.geometry
        words, clusters = geometry.l2_entry_size // _ENTRY, geometry.clusters(self._header.size)
        batch = _BATCH // geometry.l2_entry_size
        for first in range(0, clusters, batch):
            count = min(batch, clusters - first)
            entries = np.zeros((count, words), np.uint64)
            entries[:, 0] = self._places(self._plan.data_offset, first, count) | np.uint64(COPIED)
            offset = self._plan.tables_offset + first * geometry.l2_entry_size
            self._node.write(offset, words_to(entries))

    def _places(self, offset: int, first: int, count: int) -> Words:
        """Offsets of ``count`` clusters from number ``first`` of those that begin at ``offset``."""
        numbers = np.arange(first, first + count, dtype=np.uint64)
        return (numbers << np.uint64(self._bits)) + np.uint64(offset)


@contextlib.contextmanager
def _new_file(name: str, field: str) -> Iterator[FileNode]:
    """Create an empty file and open it; it is deleted when what follows fails."""
    create_raw(name, 0, field=field)
    try:
        node = FileNode(name, field=field, resizes=True)
        try:
            yield node
        finally:
            node.close()
        sync_folder(Path(name).parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

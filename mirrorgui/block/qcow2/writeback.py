"""Bringing changed tables to the file, in an order that survives a kill and a power failure.

1. Refcounts, under the lock: they cover everything that the tables of this moment name.
2. New L2 tables. Nothing in the file names them yet.
3. A flush: data, refcounts and new tables are stable before anything names them.
4. Changed entries of other L2 tables, and L1 entries.
5. A flush. Now what the old tables named may be used for something else.

With lazy refcounts the first step is to set the dirty bit, and refcounts are written at the end.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from mirrorgui.block.qcow2.allocator import Allocation
from mirrorgui.block.qcow2.features import Incompatible
from mirrorgui.block.qcow2.image import Image
from mirrorgui.block.qcow2.tables import L2Table
from mirrorgui.errors import BlockIOError

_Writes = list[tuple[int, bytes]]


class Plan(Protocol):
    """Clusters that get their data now."""

    @property
    def table(self) -> L2Table:
        """Which will name them; it is pinned."""

    @property
    def taken(self) -> list[Allocation]:
        """What the allocator has handed out for them."""

    @property
    def claim(self) -> tuple[int, int]:
        """To be released."""


class WriteBack:
    """Writes the tables of one image.

    Args:
        image: open for writing.
        lazy: write refcounts late, under the dirty bit.

    Concurrency: one write-back at a time; requests go on meanwhile, except while refcounts are
    written.
    """

    def __init__(self, image: Image, *, lazy: bool) -> None:
        assert image.allocator is not None
        self._image = image
        self._allocator = image.allocator
        self._lazy = lazy
        self._one = threading.Lock()
        # Something may have been written, and not flushed, that tables written next rely on: their
        # refcounts; or data, with what stood around it, in places that they will name.
        self._unstable = True
        self._stable: list[tuple[int, int]] = []

    @contextmanager
    def naming(self, plan: Plan, name: Callable[[], None]) -> Iterator[None]:
        """Write the data of claimed clusters within the block; then their table names their places.

        When it fails the places are given back, and nothing names them.

        Args:
            plan: the clusters; their claim is released and their table no longer pinned afterwards.
            name: changes the table; called under the image's lock.
        """
        done = False
        try:
            yield
            done = True
        finally:
            with self._image.lock:
                plan.table.pins -= 1
                self._image.requests.release(plan.claim)
                if done:
                    name()
                    self._unstable = True  # what is named need not be stable yet
                else:
                    self._allocator.give_back(plan.taken)

    def flush(self) -> None:
        """Return only when every finished request is stable.

        Raises:
            BlockIOError: what could not be written is tried again with the next flush.
        """
        with self._one:
            if not self._write():
                self._flush_files()
            self._release()

    def relieve(self) -> None:
        """Write what has changed if it is so much that memory would grow beyond its bound.

        Raises:
            BlockIOError: as for ``flush``.
        """
        if self._image.tables.crowded:
            self.flush()

    def finish(self) -> None:
        """Bring everything to the file, refcounts included; no request may be running.

        Raises:
            BlockIOError: as for ``flush``; with lazy refcounts the image stays dirty then.
        """
        image = self._image
        self.flush()
        with self._one:
            # Nothing new is named by what is left: refcounts that have become lower.
            with image.lock:
                self._allocator.close()
            if image.bits.incompatible & Incompatible.DIRTY:
                self._flush_files()
                image.bits.clear(Incompatible.DIRTY)
            self._flush_files()

    def _write(self) -> bool:
        """Write what has changed; return whether there was anything."""
        image = self._image
        with image.lock:
            if not image.tables.dirty:
                return False
            self._write_refcounts()
            tables, writes, l1_indices = image.tables.take_dirty()
            l1_writes = image.tables.l1_writes(l1_indices)
            mark, age = self._allocator.mark_pending(), image.requests.next_age()
        try:
            self._write_tables(tables, writes, l1_writes)
        except BlockIOError:
            with image.lock:
                image.tables.failed(tables, l1_indices)
            raise
        with image.lock:
            image.tables.written(tables, l1_indices)
            self._stable.append((mark, age))
        return True

    def _write_refcounts(self) -> None:
        if not self._lazy:
            self._unstable |= self._allocator.write_dirty()
        elif not self._image.bits.incompatible & Incompatible.DIRTY:
            self._image.bits.set(Incompatible.DIRTY)
            self._unstable = True

    def _write_tables(self, tables: list[L2Table], writes: _Writes, l1_writes: _Writes) -> None:
        image = self._image
        for table, (offset, data) in zip(tables, writes, strict=True):
            if table.new:
                image.file.write(offset, data)
                self._unstable = True
        if self._unstable:
            self._flush_files()
        for table, (offset, data) in zip(tables, writes, strict=True):
            if not table.new:
                image.file.write(offset, data)
        for offset, data in l1_writes:
            image.file.write(offset, data)
        self._flush_files()

    def _flush_files(self) -> None:
        # Before, not after: what a request writes meanwhile is not covered by this flush.
        self._unstable = False
        try:
            self._flush_each()
        except BlockIOError:
            self._unstable = True
            raise

    def _flush_each(self) -> None:
        image = self._image
        if image.store.file is not image.file:
            image.store.file.flush()
        image.file.flush()

    def _release(self) -> None:
        """Let clusters that stable tables no longer name be used again, once nobody reads them."""
        image = self._image
        with image.lock:
            while self._stable and image.requests.all_left(self._stable[0][1]):
                self._allocator.release_pending(self._stable[0][0])
                self._stable.pop(0)

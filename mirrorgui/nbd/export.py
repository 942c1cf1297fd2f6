"""What a server exports: a node under a name, and what it tells of the node's ranges."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from mirrorgui.block.node import BlockNode, ExtentKind, chain_extents
from mirrorgui.nbd.constants import (
    BASE_ALLOCATION,
    DIRTY_BITMAP_PREFIX,
    MAX_PAYLOAD,
    STATE_DIRTY,
    State,
    TransmissionFlag,
)
from mirrorgui.nbd.handshake import BlockSizes
from mirrorgui.units import KiB, MiB

_PREFERRED_BLOCK = 4 * KiB
_MAX_PREFERRED_BLOCK = 64 * KiB

_STATUS_STEP = 64 * MiB
"""Asked of a node at a time: bounds the work for a range that turns out to be in many pieces."""

_MAX_STATUS_RUNS = 512
"""Runs in one answer; the client asks again from where it ends (specification, BLOCK_STATUS)."""

Runs = Iterable[tuple[int, int]]
"""Adjacent runs as (length, flags)."""


class DirtyBitmapView(Protocol):
    """A dirty bitmap that clients may read."""

    @property
    def granularity(self) -> int:
        """Bytes that one bit stands for."""

    def dirty_extents(self, offset: int, length: int) -> Iterable[tuple[int, bool]]:
        """Return adjacent runs that cover the range, as (length in bytes, whether dirty)."""


@dataclass(frozen=True, slots=True)
class Context:
    """A metadata context that a client has selected.

    Attributes:
        id: number that the replies carry.
        name: such as ``base:allocation``.
        runs: tells a range's runs.
    """

    id: int
    name: str
    runs: Callable[[int, int], Runs]

    def status(self, offset: int, length: int, *, only_one: bool) -> list[tuple[int, int]]:
        """Describe a range from its beginning, possibly not to its end.

        Raises:
            BlockIOError: from the node.
        """
        end = offset + length
        most = 1 if only_one else _MAX_STATUS_RUNS
        found: list[tuple[int, int]] = []
        while offset < end:
            step = min(_STATUS_STEP, end - offset)
            for run, flags in self.runs(offset, step):
                if not run:
                    continue
                if found and found[-1][1] == flags:
                    found[-1] = (found[-1][0] + run, flags)
                elif len(found) == most:
                    return found
                else:
                    found.append((run, flags))
            offset += step
        return found


class Export:
    """A node that clients can open by name.

    Args:
        name: what clients ask for; may be empty.
        node: what they read and write.
        description: a text for people.
        read_only: refuse changing requests, also where the node would take them.
        writethrough: what was changed is stable when it is answered, as if each request said so.
        bitmaps: dirty bitmaps by name, offered as ``qemu:dirty-bitmap:NAME``.
    """

    def __init__(
        self,
        name: str,
        node: BlockNode,
        *,
        description: str = "",
        read_only: bool = False,
        writethrough: bool = False,
        bitmaps: Mapping[str, DirtyBitmapView] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.node = node
        self.description = description
        self.read_only = read_only
        self.writethrough = writethrough
        self._bitmaps = dict(bitmaps)

    def set_bitmap(self, name: str, bitmap: DirtyBitmapView | None) -> None:
        """Offer another dirty bitmap to clients that connect from now on, or no longer (None).

        Concurrency: from any thread; a client that has selected a bitmap keeps seeing it.
        """
        bitmaps = dict(self._bitmaps)
        if bitmap is None:
            bitmaps.pop(name, None)
        else:
            bitmaps[name] = bitmap
        self._bitmaps = bitmaps

    @property
    def block_sizes(self) -> BlockSizes:
        """What clients are told about sizes of requests."""
        limits = self.node.limits
        preferred = max(_PREFERRED_BLOCK, limits.request_alignment)
        if preferred < limits.cluster_size <= _MAX_PREFERRED_BLOCK:
            preferred = limits.cluster_size
        return BlockSizes(1, preferred, MAX_PAYLOAD)

    def flags(self, *, structured: bool) -> int:
        """Return the transmission flags for a client that did or did not ask for structure."""
        flags = (
            TransmissionFlag.HAS_FLAGS
            | TransmissionFlag.SEND_FLUSH
            | TransmissionFlag.SEND_FUA
            | TransmissionFlag.SEND_CACHE
            # All connections work on the same node, so a flush on one covers them all.
            | TransmissionFlag.CAN_MULTI_CONN
        )
        if structured:
            flags |= TransmissionFlag.SEND_DF
        if self.read_only or self.node.read_only:
            flags |= TransmissionFlag.READ_ONLY
        else:
            flags |= (
                TransmissionFlag.SEND_TRIM
                | TransmissionFlag.SEND_WRITE_ZEROES
                | TransmissionFlag.SEND_FAST_ZERO
            )
        return int(flags)

    def list_contexts(self, queries: Sequence[str]) -> list[str]:
        """Return the names of the contexts that match any query; of all without a query."""
        if not queries:
            return [context.name for context in self._contexts()]
        return [
            context.name
            for context in self._contexts()
            if any(_matches(query, context.name) for query in queries)
        ]

    def select_contexts(self, queries: Sequence[str]) -> list[Context]:
        """Return the contexts that the queries name in full."""
        return [context for context in self._contexts() if context.name in queries]

    def _contexts(self) -> Iterator[Context]:
        yield Context(0, BASE_ALLOCATION, self._allocation)
        for number, (name, bitmap) in enumerate(sorted(self._bitmaps.items()), start=1):
            yield Context(number, DIRTY_BITMAP_PREFIX + name, _dirty_runs(bitmap))

    def _allocation(self, offset: int, length: int) -> Runs:
        for run in chain_extents(self.node, offset, length):
            hole = run.kind is not ExtentKind.DATA
            yield run.length, int(State.HOLE | State.ZERO) if hole else 0


def _matches(query: str, name: str) -> bool:
    """Apply a query of LIST_META_CONTEXT: ``base:``, ``qemu:`` and the like list what is below."""
    return query == name or (query.endswith(":") and name.startswith(query))


def _dirty_runs(bitmap: DirtyBitmapView) -> Callable[[int, int], Runs]:
    def runs(offset: int, length: int) -> Runs:
        for run, dirty in bitmap.dirty_extents(offset, length):
            yield run, STATE_DIRTY if dirty else 0

    return runs

"""Errors and delays by rule, over any other node: QEMU's blkdebug driver with a clock.

The rules are those of ``BlockdevOptionsBlkdebug``: *inject-error* fails a request, *set-state*
moves a small state machine on, and rules may ask for a state. Here a request raises its events and
is judged by the rules of exactly these events; in QEMU a rule that was triggered once also judges
the requests that follow, until another event takes its place.

Which request raises which events::

    read            read_aio
    write           write_aio, pwritev
    write-zeroes    pwritev_zero
    discard         -
    flush           flush_to_os, flush_to_disk
    block-status    -

Event ``none`` is raised by every request: it is the one for discard and block-status. As in QEMU a
rule without ``iotype`` means all of these but block-status.
"""

import threading
from collections.abc import Iterable
from dataclasses import replace

from mirrorgui.block.blkdebug_rules import EVENTS_OF, InjectError, Rule, SetState
from mirrorgui.block.filter import FilterNode
from mirrorgui.block.node import BlockNode, Buffer, Extent
from mirrorgui.errors import BlockIOError, RequestCancelled

__all__ = ["BlkdebugNode", "InjectError", "Rule", "SetState"]

INITIAL_STATE = 1


class _Hit:
    """A request that is being delayed."""

    def __init__(self, rule: InjectError) -> None:
        self.rule = rule
        self.cancelled = False


class BlkdebugNode(FilterNode):
    """Judge every request by rules, then pass it on.

    Args:
        child: the node below; closed together with this one.
        rules: the first rules.
        name: for messages; the child's by default.
        node_name: its name among nodes.
        align: overrides the child's request alignment, in bytes.
        max_transfer: overrides the child's longest useful request, in bytes.

    Concurrency: rules may be added, removed and released while requests run.
    """

    driver = "blkdebug"

    def __init__(
        self,
        child: BlockNode,
        rules: Iterable[Rule] = (),
        *,
        name: str | None = None,
        node_name: str = "",
        align: int = 0,
        max_transfer: int = 0,
    ) -> None:
        super().__init__(child, name=name, node_name=node_name)
        self._limit(align, max_transfer)
        self._state = INITIAL_STATE
        self._waiting: list[_Hit] = []
        self._changed = threading.Condition()
        self._set_rules(tuple(rules))

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules at this moment, oldest first."""
        return self._rules

    @property
    def state(self) -> int:
        """The state that ``SetState`` rules have reached; 1 at first."""
        return self._state

    @property
    def waiting(self) -> int:
        """How many requests are delayed or hang at this moment."""
        return len(self._waiting)

    def add(self, rule: Rule) -> Rule:
        """Add a rule; requests that begin later are judged by it."""
        with self._changed:
            self._set_rules((*self._rules, rule))
        return rule

    def remove(self, rule: Rule) -> None:
        """Remove a rule, also one that has gone already, and release what it holds."""
        with self._changed:
            self._set_rules(tuple(one for one in self._rules if one is not rule))
            self._waiting = [hit for hit in self._waiting if hit.rule is not rule]
            self._changed.notify_all()

    def clear(self) -> None:
        """Remove all rules and release all requests."""
        with self._changed:
            self._set_rules(())
            self._waiting = []
            self._changed.notify_all()

    def release(self) -> None:
        """Let all requests that are delayed or hang go on; the rules stay."""
        with self._changed:
            self._waiting = []
            self._changed.notify_all()

    def wait_for_waiting(self, count: int, timeout: float) -> bool:
        """Block until at least ``count`` requests are delayed or hang.

        Args:
            count: how many.
            timeout: seconds to wait at most.

        Returns:
            Whether it happened.
        """
        with self._changed:
            return self._changed.wait_for(lambda: len(self._waiting) >= count, timeout)

    def cancel_in_flight(self) -> None:
        """Wake every delayed request with ``RequestCancelled``, and pass it on."""
        with self._changed:
            for hit in self._waiting:
                hit.cancelled = True
            self._waiting = []
            self._changed.notify_all()
        self.child.cancel_in_flight()

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """See ``BlockNode.read_into``."""
        if self._rules:
            self._judge("read", "read", offset, len(buffer))
        self.child.read_into(offset, buffer)

    def try_read_into(self, offset: int, buffer: bytearray | memoryview) -> bool:
        """See ``BlockNode.try_read_into``: with rules at hand anything may wait."""
        return False if self._rules else self.child.try_read_into(offset, buffer)

    def prefetch(self, offset: int, length: int) -> bool:
        """See ``BlockNode.prefetch``."""
        return False if self._rules else self.child.prefetch(offset, length)

    def write(self, offset: int, data: Buffer) -> None:
        """See ``BlockNode.write``."""
        if self._rules:
            self._judge("write", "write", offset, len(data))
        self.child.write(offset, data)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        """See ``BlockNode.write_zeroes``."""
        if self._rules:
            self._judge("write-zeroes", "write_zeroes", offset, length)
        self.child.write_zeroes(offset, length, may_unmap=may_unmap)

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockNode.discard``."""
        if self._rules:
            self._judge("discard", "discard", offset, length)
        self.child.discard(offset, length)

    def flush(self) -> None:
        """See ``BlockNode.flush``."""
        if self._rules:
            self._judge("flush", "flush", 0, 0)
        self.child.flush()

    def extents(self, offset: int, length: int) -> list[Extent]:
        """See ``BlockNode.extents``."""
        if self._rules:
            self._judge("block-status", "extents", offset, length)
        return self.child.extents(offset, length)

    def _limit(self, align: int, max_transfer: int) -> None:
        limits = self.child.limits
        self.limits = replace(
            limits,
            request_alignment=align or limits.request_alignment,
            max_transfer=max_transfer or limits.max_transfer,
        )

    def _set_rules(self, rules: tuple[Rule, ...]) -> None:
        self._rules = rules
        self.reads_wait = self.child.reads_wait or bool(rules)
        self.writes_wait = self.child.writes_wait or bool(rules)

    def _judge(self, iotype: str, operation: str, offset: int, length: int) -> None:
        """Apply the rules to a request.

        Raises:
            BlockIOError: the rule's error.
            RequestCancelled: ``cancel_in_flight`` was called while the request waited.
        """
        with self._changed:
            rule = self._hit(iotype, offset, length)
            if rule is None:
                return
            if (rule.hang or rule.delay) and self._wait(rule):
                raise RequestCancelled(operation, offset, length, self.name)
        if rule.errno:
            raise BlockIOError(operation, offset, length, rule.errno, self.name)

    def _hit(self, iotype: str, offset: int, length: int) -> InjectError | None:
        """Raise the request's events one by one; return the first rule that hits."""
        hit: InjectError | None = None
        for event in EVENTS_OF[iotype]:
            state = self._state  # all rules of one event see the state before it
            for rule in self._rules:
                if rule.event != event or rule.state not in (0, state):
                    continue
                if isinstance(rule, SetState):
                    self._state = rule.new_state
                elif hit is None and rule.matches(iotype, offset, length):
                    hit = rule
        if hit is not None and hit.once:
            self._set_rules(tuple(one for one in self._rules if one is not hit))
        return hit

    def _wait(self, rule: InjectError) -> bool:
        """Wait as the rule says; return whether the request was cancelled meanwhile."""
        hit = _Hit(rule)
        self._waiting.append(hit)
        self._changed.notify_all()
        timeout = None if rule.hang else rule.delay
        # Released and cancelled requests are no longer in the list.
        self._changed.wait_for(lambda: hit not in self._waiting, timeout)
        if hit in self._waiting:
            self._waiting.remove(hit)
        return hit.cancelled

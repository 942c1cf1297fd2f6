"""Failed places, neighbours put together. Free of Qt."""

from collections.abc import Sequence
from dataclasses import dataclass

from mirrorgui.mirror.snapshot import ErrorRecord, JobSnapshot
from mirrorgui.mirror.states import OVER
from mirrorgui.ui.i18n import ntr, tr
from mirrorgui.units import MiB, format_size

NEIGHBOUR = 1 * MiB
"""Places no farther apart than the longest operation usually have one cause."""


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """One or more failed places of the same kind.

    Attributes:
        records: the places, by offset.
    """

    records: tuple[ErrorRecord, ...]

    @property
    def first(self) -> ErrorRecord:
        """The place with the smallest offset."""
        return self.records[0]

    @property
    def offset(self) -> int:
        """First failed byte."""
        return self.first.offset

    @property
    def length(self) -> int:
        """Bytes from the first failed place to the end of the last one."""
        return max(each.offset + each.length for each in self.records) - self.offset

    @property
    def tries(self) -> int:
        """How often any of the places failed."""
        return sum(each.tries for each in self.records)

    @property
    def last_ns(self) -> int:
        """Wall clock of the latest failure, nanoseconds since 1970."""
        return max(each.last_ns for each in self.records)

    @property
    def is_flush(self) -> bool:
        """Whether it was the target's flush that failed."""
        return self.first.operation == "write" and self.first.length == 0

    @property
    def direction(self) -> str:
        """What was being done."""
        if self.is_flush:
            return tr("flush target")
        return tr("read source") if self.first.operation == "read" else tr("write target")

    @property
    def summary(self) -> str:
        """Say it in one sentence: ``37 read errors from 12.0 GiB to 12.3 GiB``."""
        count = len(self.records)
        if self.is_flush:
            return ntr("{n} flush error", "{n} flush errors", self.tries)
        start, end = format_size(self.offset), format_size(self.offset + self.length)
        if self.first.operation == "read":
            words = ntr("{n} read error", "{n} read errors", count)
        else:
            words = ntr("{n} write error", "{n} write errors", count)
        if count == 1:
            return tr("{words} at {start}", words=words, start=start)
        return tr("{words} from {start} to {end}", words=words, start=start, end=end)


def group_errors(records: Sequence[ErrorRecord]) -> tuple[ErrorGroup, ...]:
    """Put neighbouring places of the same kind and state together, by offset."""
    groups: list[list[ErrorRecord]] = []
    for record in sorted(records, key=_kind_and_place):
        if groups and _belong_together(groups[-1][-1], record):
            groups[-1].append(record)
        else:
            groups.append([record])
    return tuple(ErrorGroup(tuple(each)) for each in groups)


def single_errors(records: Sequence[ErrorRecord]) -> tuple[ErrorGroup, ...]:
    """Make a group of each place, in the order given."""
    return tuple(ErrorGroup((record,)) for record in records)


def _kind_and_place(record: ErrorRecord) -> tuple[str, int, str, bool, int]:
    return record.operation, record.errno, record.action, record.solved, record.offset


def _belong_together(before: ErrorRecord, after: ErrorRecord) -> bool:
    if _kind_and_place(before)[:-1] != _kind_and_place(after)[:-1]:
        return False
    if (before.length == 0) != (after.length == 0):
        return False
    return after.offset - (before.offset + before.length) <= NEIGHBOUR


def policy_text(action: str) -> str:
    """Say what the error policy answered."""
    return {
        "report": tr("reported, ended"),
        "ignore": tr("skipped for now"),
        "stop": tr("stopped"),
    }.get(action, action)


def state_text(group: ErrorGroup, snapshot: JobSnapshot | None) -> str:
    """Say what becomes of a failed place: waiting, retrying, solved, or nothing any more."""
    if group.first.solved:
        return tr("solved")
    if snapshot is None or snapshot.status in OVER:
        return tr("not solved")
    if snapshot.paused:
        return tr("waiting")
    if group.first.action == "report":
        return tr("not solved")
    return tr("retrying")

"""What a mirror job is asked to do: the arguments, their defaults and their limits.

Names, ranges and defaults are those of QEMU's ``blockdev-mirror`` (qapi/block-core.json).
"""

import enum
import re
from dataclasses import dataclass
from typing import TypeVar

from mirrorgui.errors import InvalidInput
from mirrorgui.units import KiB, MiB, align_up, is_power_of_two

MIN_GRANULARITY = 512
MAX_GRANULARITY = 64 * MiB
DEFAULT_GRANULARITY = 64 * KiB
MIN_DEFAULT_GRANULARITY = 4 * KiB
"""The default follows the target's cluster size between these two."""

DEFAULT_BUF_SIZE = 16 * MiB
"""16 operations of 1 MiB."""

MAX_IN_FLIGHT = 16
"""Operations that may be claimed at once, as in QEMU."""

MIN_OPERATION_CAP = 1 * MiB
"""No operation is forced to be shorter than this by a small buffer."""

_JOB_ID = re.compile(r"[A-Za-z][A-Za-z0-9\-._]*")
_E = TypeVar("_E", bound=enum.Enum)


class SyncMode(enum.Enum):
    """Which part of the source is copied at the start."""

    FULL = "full"
    TOP = "top"
    NONE = "none"


class CopyMode(enum.Enum):
    """Whether a guest's write waits for the target."""

    BACKGROUND = "background"
    WRITE_BLOCKING = "write-blocking"


class ErrorPolicy(enum.Enum):
    """What happens when a read or write fails."""

    REPORT = "report"
    IGNORE = "ignore"
    ENOSPC = "enospc"
    STOP = "stop"
    AUTO = "auto"
    """As ``enospc``, which is what QEMU does for jobs."""


def choice(kind: type[_E], field: str, value: str) -> _E:
    """Find the member of an enumeration by its value.

    Raises:
        InvalidInput: there is none; the text lists what there is.
    """
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(str(member.value) for member in kind)
        raise InvalidInput(field, value, f"expected one of: {known}") from None


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """The arguments of one job.

    Attributes:
        job_id: a name, unique among jobs; letter first, then letters, digits, ``-``, ``.``, ``_``.
        sync: which part of the source is copied at the start.
        granularity: bytes a dirty bit stands for; 0 chooses by the target's cluster size.
        buf_size: bytes that may be claimed at once; 0 means 16 MiB; rounded up to granularity.
        speed: bytes per second; 0 is unlimited.
        copy_mode: background or write-blocking.
        on_source_error: policy for reads.
        on_target_error: policy for writes, zeroes, discards and flushes.
        unmap: whether zeroes may give the target's storage back.
        target_is_zero: the caller vouches that the whole target reads as zeroes.
        auto_finalize: end by itself; otherwise wait in PENDING for ``finalize``.
        auto_dismiss: forget the job by itself; otherwise stay in CONCLUDED for ``dismiss``.
        copy_threads: threads that move bytes; 0 means one for each core, at most 4.
    """

    job_id: str = "mirror0"
    sync: SyncMode = SyncMode.FULL
    granularity: int = 0
    buf_size: int = 0
    speed: int = 0
    copy_mode: CopyMode = CopyMode.BACKGROUND
    on_source_error: ErrorPolicy = ErrorPolicy.REPORT
    on_target_error: ErrorPolicy = ErrorPolicy.REPORT
    unmap: bool = True
    target_is_zero: bool = False
    auto_finalize: bool = True
    auto_dismiss: bool = True
    copy_threads: int = 0

    def __post_init__(self) -> None:
        """Refuse what no job could be made of.

        Raises:
            InvalidInput: naming the argument, its value and the rule.
        """
        check_job_id(self.job_id)
        check_granularity(self.granularity)
        check_buf_size(self.buf_size)
        check_speed(self.speed)
        if self.copy_threads < 0:
            raise InvalidInput("copy-threads", self.copy_threads, "must not be negative")


def check_job_id(job_id: str) -> None:
    """Raise ``InvalidInput`` unless the name is well-formed."""
    if not _JOB_ID.fullmatch(job_id):
        raise InvalidInput("job-id", job_id, "Invalid job ID")


def check_granularity(granularity: int) -> None:
    """Raise ``InvalidInput`` unless it is 0 or a power of two from 512 B to 64 MiB."""
    if granularity == 0:
        return
    if not MIN_GRANULARITY <= granularity <= MAX_GRANULARITY:
        raise InvalidInput("granularity", granularity, "expects a value in range [512B, 64MB]")
    if not is_power_of_two(granularity):
        raise InvalidInput("granularity", granularity, "expects a power of 2")


def check_buf_size(buf_size: int) -> None:
    """Raise ``InvalidInput`` when it is negative."""
    if buf_size < 0:
        raise InvalidInput("buf-size", buf_size, "must not be negative")


def check_speed(speed: int) -> None:
    """Raise ``InvalidInput`` when it is negative."""
    if speed < 0:
        raise InvalidInput("speed", speed, "expects a non-negative value")


def effective_granularity(granularity: int, target_cluster_size: int) -> int:
    """Return the granularity used for a request of 0 (automatic) or of a fixed value, in bytes."""
    if granularity:
        return granularity
    if not target_cluster_size:
        return DEFAULT_GRANULARITY
    return min(max(target_cluster_size, MIN_DEFAULT_GRANULARITY), DEFAULT_GRANULARITY)


def effective_buf_size(buf_size: int, granularity: int) -> int:
    """Return the buffer's size in bytes: the default for 0, a multiple of granularity always."""
    return align_up(buf_size or DEFAULT_BUF_SIZE, granularity)


def operation_cap(buf_size: int, granularity: int) -> int:
    """Return the longest operation in bytes: max(buf/16, 1 MiB) in whole chunks, at least one."""
    longest = min(max(buf_size // MAX_IN_FLIGHT, MIN_OPERATION_CAP), buf_size)
    return max(longest // granularity * granularity, granularity)

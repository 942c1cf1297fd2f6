"""What an error leads to: a pure decision, by policy and error number."""

import enum
import errno

from mirrorgui.mirror.options import ErrorPolicy


class Action(enum.Enum):
    """QEMU's answers to an error, as BLOCK_JOB_ERROR names them."""

    REPORT = "report"
    """The job fails with this error."""
    IGNORE = "ignore"
    """It goes on; the place stays dirty and is tried again later."""
    STOP = "stop"
    """It pauses until somebody resumes it; the place stays dirty and is tried first of all."""


def decide(policy: ErrorPolicy, error_number: int) -> Action:
    """Return what the policy answers to an error."""
    if policy in (ErrorPolicy.ENOSPC, ErrorPolicy.AUTO):
        return Action.STOP if error_number == errno.ENOSPC else Action.REPORT
    return Action(policy.value)


def io_status(error_number: int) -> str:
    """Return QEMU's io-status for a job that an error has stopped."""
    return "nospace" if error_number == errno.ENOSPC else "failed"

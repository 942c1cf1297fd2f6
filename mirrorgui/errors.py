"""Everything that this application raises on purpose.

The tree, and what a caller may still do::

    MirrorGUIError              base; the text is fit for a person
    +-- InvalidInput            refused before anything was touched: say it, let them choose again
    |   +-- ImageRefused        the same, about an image that would be unsafe or impossible to use
    |       +-- ImageError      what the image's own structures say cannot be true
    +-- BlockIOError            one request failed; the node stays usable, it may be repeated
    |   +-- RequestCancelled    the request was given up on demand (cancel_in_flight)
    +-- StateError              a verb came at the wrong time; nothing has changed
    +-- NodeError               a named node is unknown, busy, or not to be had for that use
    +-- JobFailed               the job ended without a usable target
"""

import errno as errno_module
import os
from collections.abc import Iterable


class MirrorGUIError(Exception):
    """Base of all errors raised on purpose; ``str()`` is one sentence for a person."""


class InvalidInput(MirrorGUIError):
    """A value was refused before anything was touched.

    Attributes:
        field: the name of the option as the person or program gave it, such as ``granularity``.
        value: the refused value, as given.
        reason: what is wrong with it, as a clause or sentence.
    """

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field}: '{value}': {reason}" if field else f"'{value}': {reason}")
        self.field = field
        self.value = value
        self.reason = reason


class ImageRefused(InvalidInput):
    """An image cannot be used, or must not be, for the part that it was given."""


class ImageError(ImageRefused):
    """An image is damaged: its own structures contradict its format. Nothing was written.

    Attributes:
        offset: where in the file the wrong structure stands, in bytes.
    """

    def __init__(self, field: str, path: object, offset: int, reason: str) -> None:
        super().__init__(field, path, f"at offset {offset}: {reason}")
        self.offset = offset


class BlockIOError(MirrorGUIError):
    """One request to an image failed. The node remains usable.

    Attributes:
        operation: ``read``, ``write``, ``write_zeroes``, ``discard``, ``flush``, ``resize`` or
            ``extents``.
        offset: first byte of the failed request (0 for flush).
        length: its length in bytes (0 for flush).
        errno: the system's error number; never 0.
        node: a name for the image, for messages; may be empty.
        detail: more than the error number tells; may be empty.
    """

    def __init__(
        self,
        operation: str,
        offset: int,
        length: int,
        errno: int,
        node: str = "",
        *,
        detail: str = "",
    ) -> None:
        self.operation = operation
        self.offset = offset
        self.length = length
        self.errno = errno or errno_module.EIO
        self.node = node
        self.detail = detail
        where = f" of {node}" if node else ""
        at = "" if operation == "flush" else f" at {offset} (+{length})"
        more = f" ({detail})" if detail else ""
        super().__init__(f"{operation}{where}{at}: {os.strerror(self.errno)}{more}")

    @property
    def is_read(self) -> bool:
        """Whether the job's *source* policy applies (QEMU counts a failed flush as a write)."""
        return self.operation in ("read", "extents")

    @property
    def strerror(self) -> str:
        """The system's text for the error number, such as ``Input/output error``."""
        return os.strerror(self.errno)


class RequestCancelled(BlockIOError):
    """The request was given up because ``cancel_in_flight`` was called on its node."""

    def __init__(self, operation: str, offset: int, length: int, node: str = "") -> None:
        super().__init__(operation, offset, length, errno_module.ECANCELED, node)


class StateError(MirrorGUIError):
    """A verb came in a state that does not accept it. Nothing has changed.

    Attributes:
        job_id: the job.
        verb: the refused verb, such as ``complete``.
        status: the job's status at that moment.
        allowed: the statuses in which the verb is accepted.
    """

    def __init__(
        self, job_id: str, verb: str, status: str, allowed: Iterable[str], text: str | None = None
    ) -> None:
        self.job_id = job_id
        self.verb = verb
        self.status = status
        self.allowed = tuple(allowed)
        super().__init__(
            text or f"Job '{job_id}' in state '{status}' cannot accept command verb '{verb}'"
        )


class NodeError(MirrorGUIError):
    """A named node is unknown, or its users do not allow what was asked. Nothing has changed."""


class JobFailed(MirrorGUIError):
    """The job ended without a usable target; the text is the reason."""

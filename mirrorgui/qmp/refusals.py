"""QEMU's words for what the engine refuses."""

from collections.abc import Iterator
from contextlib import contextmanager

from mirrorgui.block.chain import NO_BACKING
from mirrorgui.block.locks import LockConflict
from mirrorgui.errors import ImageError, ImageRefused, InvalidInput
from mirrorgui.mirror.options import check_job_id
from mirrorgui.nbd.uri import is_nbd_uri, parse_uri
from mirrorgui.qmp.errors import QmpError

_NO_QCOW2 = "is not the magic of qcow2"


@contextmanager
def qemu_words() -> Iterator[None]:
    """Turn refusals of the block into QMP's."""
    try:
        yield
    except InvalidInput as error:
        raise QmpError(text_of(error)) from error


def text_of(error: InvalidInput) -> str:
    """Say why an option or an image was refused, in QEMU's words where it has them."""
    cause = error.__cause__
    if error.reason.startswith(NO_BACKING) and isinstance(cause, InvalidInput):
        return f"{NO_BACKING}: {text_of(cause)}"
    if error.reason.startswith(("Could not create ", "force-share=")):
        return error.reason
    if isinstance(cause, LockConflict):
        how = "shared " if cause.shared else ""
        return f'Failed to get {how}"{cause.permission.label}" lock'
    if isinstance(error, ImageError) and _NO_QCOW2 in error.reason:
        return "Image is not in qcow2 format"
    if isinstance(error, ImageRefused) and isinstance(cause, OSError) and cause.strerror:
        if is_nbd_uri(str(error.value)):
            return f"Failed to connect to '{parse_uri(str(error.value)).place}': {cause.strerror}"
        return f"Could not open '{error.value}': {cause.strerror}"
    if error.reason.startswith("expects "):
        return f"Parameter '{error.field}' {error.reason}"
    if error.field and error.reason[:1].islower() and not isinstance(error, ImageRefused):
        return f"Invalid parameter '{error.field}': {error.reason}"
    return error.reason


def require_job_id(job_id: str) -> None:
    """Raise ``QmpError`` unless a job may be called so."""
    try:
        check_job_id(job_id)
    except InvalidInput as error:
        raise QmpError(f"Invalid job ID '{job_id}'") from error

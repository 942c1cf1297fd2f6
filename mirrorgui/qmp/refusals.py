"""QEMU's words for what the engine refuses."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mirrorgui.block.chain import NO_BACKING
from mirrorgui.block.locks import LockConflict
from mirrorgui.block.open import NO_UNMAP
from mirrorgui.errors import ImageError, ImageRefused, InvalidInput
from mirrorgui.mirror.options import check_job_id
from mirrorgui.nbd.uri import is_nbd_uri, parse_uri
from mirrorgui.qmp.errors import QmpError

_NO_QCOW2 = ("is not the magic of qcow2", "the file of 0 bytes ends in the header")
_UNEXPECTED = re.compile(r"Parameter '(.*)' is unexpected")

_AS_THEY_ARE = ("Could not create ", "Could not resize ", "force-share=", NO_UNMAP)
"""How reasons begin that are QEMU's words already."""


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
    if error.reason.startswith(_AS_THEY_ARE):
        return error.reason
    if unexpected := _UNEXPECTED.fullmatch(error.reason):
        # What QEMU does not know either has been refused by the table of arguments.
        return f"Option '{unexpected[1]}' is not supported"
    if isinstance(cause, LockConflict):
        how = "shared " if cause.shared else ""
        return f'Failed to get {how}"{cause.permission.label}" lock'
    if isinstance(error, ImageError) and any(text in error.reason for text in _NO_QCOW2):
        return "Image is not in qcow2 format"
    if isinstance(error, ImageRefused) and isinstance(cause, OSError) and cause.strerror:
        if is_nbd_uri(str(error.value)):
            return f"Failed to connect to '{parse_uri(str(error.value)).place}': {cause.strerror}"
        return f"Could not open '{error.value}': {cause.strerror}"
    if error.reason.startswith("expects "):
        return f"Parameter '{error.field}' {error.reason}"
    name = error.field.rpartition(".")[2]
    if name and error.reason.startswith(name):
        return error.reason
    if error.field and error.reason[:1].islower() and not isinstance(error, ImageRefused):
        return f"Invalid parameter '{error.field}': {error.reason}"
    return error.reason


def require_job_id(job_id: str) -> None:
    """Raise ``QmpError`` unless a job may be called so."""
    try:
        check_job_id(job_id)
    except InvalidInput as error:
        raise QmpError(f"Invalid job ID '{job_id}'") from error

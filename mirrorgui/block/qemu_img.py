"""Images in formats that only QEMU knows: made by ``qemu-img``, and told of by it."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mirrorgui.block.formats import LABELS
from mirrorgui.errors import ImageRefused

PROGRAM = "qemu-img"
PACKAGE = "qemu-utils"
"""Debian's name of what brings it."""

MAKES = ("vmdk", "vdi", "vhdx", "vpc", "qed", "qcow", "parallels")
"""QEMU's names of the formats that it can make."""

_TIMEOUT_S = 60.0
_SHOWN = 60
"""Characters of what it said that are shown of an answer that makes no sense."""


def create_foreign(path: str, size: int, format: str, *, field: str = "target") -> None:
    """Create an image in a format of QEMU's.

    Args:
        path: a name that does not exist yet.
        size: what a guest sees, in bytes.
        format: QEMU's name of the format.
        field: the option that named it, for refusals.

    Raises:
        ImageRefused: it cannot be created; nothing is left behind.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        label = LABELS.get(format, format)
        text = (
            f"{label} images are made by {PROGRAM}, which is not installed. "
            f"The package {PACKAGE} brings it."
        )
        raise ImageRefused(field, path, text)
    # Its existence is checked here: qemu-img would write over whatever is there.
    try:
        Path(path).open("xb").close()
    except OSError as error:
        text = f"Cannot create {path}: {error.strerror}."
        raise ImageRefused(field, path, text) from error
    whole = Path(path).absolute()  # no path looks like an option or a protocol then
    command = [program, "create", "-q", "-f", format, str(whole), str(size)]
    reason, _ = _run(command)
    if reason:
        Path(path).unlink(missing_ok=True)
        reason = reason.removeprefix(f"{PROGRAM}: ").removeprefix(f"{whole}: ")
        raise ImageRefused(field, path, f"Cannot create it: {reason}")


def describe_foreign(path: str, format: str, *, field: str) -> Mapping[str, object] | None:
    """Return what ``qemu-img info`` says of an image alone, nothing below it included.

    It needs no passphrase for what stands in the open. Nothing is locked.

    Args:
        path: a file or device.
        format: QEMU's name of the format.
        field: the option that named it, for refusals.

    Returns:
        The members of ``--output=json``; None where the program is not installed.

    Raises:
        ImageRefused: QEMU cannot read it, or says what nobody understands.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        return None
    # Names that it tells are made from this one, which must not look like options or a protocol.
    name = f"./{path}" if path.startswith("-") or ":" in path.partition("/")[0] else path
    command = [program, "info", "--force-share", "--output=json", "-f", format, name]
    reason, told = _run(command)
    if not reason:
        try:
            members = json.loads(told)
        except ValueError:
            members = None
        if isinstance(members, dict):
            return members
        reason = f"{PROGRAM} tells {told[:_SHOWN]!r}"
    reason = reason.removeprefix(f"{PROGRAM}: ").removeprefix(f"Could not open '{name}': ")
    raise ImageRefused(field, path, reason)


def _run(command: list[str]) -> tuple[str, str]:
    """Run it; return what it complained about, empty when it did not, and its output."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{PROGRAM} failed: {error}", ""
    if not done.returncode:
        return "", done.stdout
    return done.stderr.strip() or f"{PROGRAM} ended with exit status {done.returncode}", ""

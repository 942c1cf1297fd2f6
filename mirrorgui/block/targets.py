"""Making a target that is not there yet, and taking it away again."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mirrorgui.block.create import create_raw
from mirrorgui.block.creation import TargetCreation
from mirrorgui.block.naming import Named
from mirrorgui.block.qemu_img import MAKES, create_foreign
from mirrorgui.errors import ImageRefused, InvalidInput

if TYPE_CHECKING:
    from mirrorgui.block.qcow2.create_options import CreateOptions


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """What will be made; everything that can be wrong with it has been checked.

    Attributes:
        format: QEMU's name of the format.
        size: what a guest sees, in bytes.
        preallocation: of a raw image.
        qcow2: options of a qcow2 image.
    """

    format: str
    size: int
    preallocation: str = "off"
    qcow2: "CreateOptions | None" = None

    @property
    def reserves(self) -> bool:
        """Whether all the space that it may ever need is taken at once."""
        wanted = self.qcow2.preallocation if self.qcow2 is not None else self.preallocation
        return wanted in ("falloc", "full")

    @property
    def data_file(self) -> str:
        """Name of the external data file that is made as well; empty without."""
        return self.qcow2.data_file if self.qcow2 is not None else ""

    @property
    def backing_file(self) -> str:
        """Name of its backing file; empty without."""
        return self.qcow2.backing_file if self.qcow2 is not None else ""


def plan_target(
    creation: TargetCreation, format: str, size: int, *, below: Named | None = None
) -> TargetPlan:
    """Check what is asked of a new target. Nothing is touched.

    Args:
        creation: what is asked.
        format: QEMU's name of the format.
        size: what a guest shall see, in bytes.
        below: the backing file that it shall have.

    Raises:
        InvalidInput: naming the option, its value and what is wrong.
    """
    if format == "qcow2":
        options = creation.for_qcow2(below)
        options.header(size)  # raises
        return TargetPlan(format, size, qcow2=options)
    if format not in ("raw", *MAKES):
        known = ", ".join(("raw", "qcow2", *MAKES))
        raise InvalidInput("target-format", format, f"cannot be made; known are {known}")
    if below is not None:
        text = (
            f"A {format} image cannot keep the backing file {below.filename} below it. "
            "Choose qcow2, or copy everything (full)."
        )
        raise InvalidInput("target-format", format, text)
    creation.refuse_for(format, known=("preallocation",) if format == "raw" else ())
    return TargetPlan(format, size, preallocation=creation.preallocation or "off")


@dataclass(frozen=True, slots=True)
class Created:
    """Files that were made.

    Attributes:
        files: path, device and inode of each.
        aside: where the file is that was at the first path before; empty without.
    """

    files: tuple[tuple[str, int, int], ...] = ()
    aside: str = ""

    def remove(self) -> bool:
        """Delete the files, and no others that have taken their names; put back what was there.

        Returns:
            Whether the first of them was deleted.
        """
        removed = [_remove(*file) for file in self.files]
        if self.aside and not os.path.lexists(self.files[0][0]):
            with contextlib.suppress(FileNotFoundError):  # it is no more since ``keep``
                Path(self.aside).rename(self.files[0][0])
        return bool(removed) and removed[0]

    def keep(self) -> None:
        """Delete what was there before."""
        if self.aside:
            Path(self.aside).unlink(missing_ok=True)


def create_target(plan: TargetPlan, path: str, *, replace: bool = False) -> Created:
    """Make a target.

    Args:
        plan: what is made.
        path: where; with ``replace`` a file there is put aside, to come back by ``remove``.
        replace: whether anything may be there.

    Raises:
        ImageRefused: it cannot be made. Everything is as it was.
        InvalidInput: an option is wrong. Nothing was touched.
    """
    with _put_aside(path if replace else "") as aside:
        if aside:  # a link stays, and leads to the new file
            path = os.path.realpath(path)
        _create(plan, path)
        names = [path, plan.data_file] if plan.data_file else [path]
        return Created(tuple(_identified(name) for name in names), aside)


def _create(plan: TargetPlan, path: str) -> None:
    if plan.qcow2 is not None:
        from mirrorgui.block.qcow2.create import create_qcow2

        create_qcow2(path, plan.size, plan.qcow2, field="target")
    elif plan.format == "raw":
        create_raw(path, plan.size, preallocation=plan.preallocation, field="target")
    else:
        create_foreign(path, plan.size, plan.format, field="target")


@contextmanager
def _put_aside(path: str) -> Iterator[str]:
    """Rename a file, if there is one, and back when the block of the ``with`` fails."""
    if not path or not os.path.lexists(path):
        yield ""
        return
    real = os.path.realpath(path)
    if not stat.S_ISREG(Path(real).stat().st_mode):
        raise ImageRefused("target", path, "Only files can be made anew.")
    aside = f"{real}.{secrets.token_hex(4)}.old"
    try:
        Path(real).rename(aside)
    except OSError as error:
        text = f"Cannot put {path} aside: {error.strerror}."
        raise ImageRefused("target", path, text) from error
    try:
        yield aside
    except BaseException:
        with contextlib.suppress(OSError):
            Path(aside).rename(real)
        raise


def _identified(name: str) -> tuple[str, int, int]:
    real = os.path.realpath(name)
    status = Path(real).stat()
    return real, status.st_dev, status.st_ino


def _remove(name: str, device: int, inode: int) -> bool:
    try:
        status = Path(name).lstat()
        if (status.st_dev, status.st_ino) != (device, inode):
            return False
        Path(name).unlink()
    except FileNotFoundError:
        return False
    return True

"""What can be said of an image without using it: the fields of ``qemu-img info``."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import How, open_image, probe
from mirrorgui.block.qcow2_header import Qcow2Header, read_header
from mirrorgui.block.spec import Spec, local_path
from mirrorgui.errors import BlockIOError, ImageRefused, MirrorGUIError

_BLOCK = 512
"""Unit of ``st_blocks`` in bytes."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image as ``qemu-img info`` describes it.

    Attributes:
        filename: its path or URI, or its name.
        format: QEMU's name of the format.
        virtual_size: what a guest sees, in bytes; ``None`` where the header cannot be read yet.
        actual_size: what it takes on its file system, in bytes; ``None`` for devices and remote
            images.
        cluster_size: unit of allocation in bytes; ``None`` where there is none.
        backing_filename: the backing file as the image names it; empty without.
        full_backing_filename: the same, found from the image's folder.
        backing: what lies below; ``None`` without a backing file or where it cannot be read.
        backing_error: why the backing file cannot be read; empty when it can.
        dirty_flag: it was not closed properly; ``None`` where the format does not say.
        encrypted: its content is encrypted; ``None`` where the format does not say.
    """

    filename: str
    format: str
    virtual_size: int | None
    actual_size: int | None = None
    cluster_size: int | None = None
    backing_filename: str = ""
    full_backing_filename: str = ""
    backing: "ImageInfo | None" = None
    backing_error: str = ""
    dirty_flag: bool | None = None
    encrypted: bool | None = None

    @property
    def chain(self) -> "list[ImageInfo]":
        """The image and all that lies below it, top first."""
        below = self.backing.chain if self.backing is not None else []
        return [self, *below]

    def as_qemu(self) -> dict[str, object]:
        """Return the fields under the names of ``qemu-img info --output=json``."""
        fields = {
            "filename": self.filename,
            "format": self.format,
            "virtual-size": self.virtual_size,
            "actual-size": self.actual_size,
            "cluster-size": self.cluster_size,
            "backing-filename": self.backing_filename or None,
            "full-backing-filename": self.full_backing_filename or None,
            "dirty-flag": self.dirty_flag,
            "encrypted": self.encrypted or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


def image_info(spec: Spec, *, format: str | None = None, field: str = "filename") -> ImageInfo:
    """Look at an image and what lies below it. Locks nothing and changes nothing.

    Args:
        spec: the image.
        format: QEMU's name of its format; recognised by default.
        field: the option that named it, for refusals.

    Raises:
        ImageRefused: it cannot be read.
        InvalidInput: an option of the spec is wrong.
    """
    return _info(spec, format, field, frozenset())


def node_info(node: BlockNode) -> ImageInfo:
    """Return what can be said of an open node."""
    backing = node_info(node.backing) if node.backing is not None else None
    return ImageInfo(
        filename=node.name,
        format=node.driver,
        virtual_size=node.size,
        actual_size=_actual_size(node.name),
        cluster_size=node.limits.cluster_size or None,
        backing_filename=backing.filename if backing else "",
        full_backing_filename=backing.filename if backing else "",
        backing=backing,
    )


def _info(spec: Spec, name: str | None, field: str, seen: frozenset[str]) -> ImageInfo:
    path = local_path(spec)
    if path is not None:
        name = name or probe(spec, field)
    if path is not None and name not in ("raw", "file", "host_device", "blkdebug"):
        return _header_info(path, name or "raw", field, seen)
    node = open_image(spec, format=name, how=How(field, read_only=True, force_share=True))
    try:
        return node_info(node)
    finally:
        node.close()


def _header_info(path: str, name: str, field: str, seen: frozenset[str]) -> ImageInfo:
    """Describe an image by its header alone."""
    actual = _actual_size(path)
    if name != "qcow2":
        return ImageInfo(path, name, None, actual)
    node = open_image(
        path, format="raw", how=How(field, read_only=True, force_share=True, locking="off")
    )
    try:
        header = read_header(node)
    except BlockIOError as error:
        raise ImageRefused(field, path, f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise ImageRefused(field, path, f"{path} is not a sound qcow2 image: {error}.") from error
    finally:
        node.close()
    return _qcow2_info(path, header, actual, field, seen)


def _qcow2_info(
    path: str, header: Qcow2Header, actual: int | None, field: str, seen: frozenset[str]
) -> ImageInfo:
    backing, problem, full = None, "", ""
    if header.backing_file:
        full = _backing_path(path, header.backing_file)
        own = os.path.realpath(path)
        if own in seen:
            problem = f"{path} lies in its own backing chain"
        else:
            try:
                backing = _info(full, header.backing_format or None, field, seen | {own})
            except MirrorGUIError as error:
                problem = getattr(error, "reason", str(error))
    return ImageInfo(
        filename=path,
        format="qcow2",
        virtual_size=header.size,
        actual_size=actual,
        cluster_size=header.cluster_size,
        backing_filename=header.backing_file,
        full_backing_filename=full,
        backing=backing,
        backing_error=problem,
        dirty_flag=header.dirty,
        encrypted=header.encrypted,
    )


def _backing_path(path: str, name: str) -> str:
    """Resolve a backing file's name as QEMU does: relative to the folder of the image."""
    if name.startswith(("json:", "nbd:", "nbd+", "nbds")) or Path(name).is_absolute():
        return name
    return os.fspath(Path(path).parent / name.removeprefix("file:"))


def _actual_size(path: str) -> int | None:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    blocks: int = getattr(status, "st_blocks", -1)
    return blocks * _BLOCK if blocks >= 0 else status.st_size

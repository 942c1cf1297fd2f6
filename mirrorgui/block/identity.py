"""Which image a name or an open node really is, whatever path leads to it."""

import enum
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mirrorgui.block import locks
from mirrorgui.block.devices import BlockDevice, describe_device
from mirrorgui.block.file import FileNode
from mirrorgui.block.hostfile import check_kind, in_use_text
from mirrorgui.block.info import image_info
from mirrorgui.block.mounts import Mount, mount_of
from mirrorgui.block.node import BlockNode
from mirrorgui.block.spec import Spec, local_path, parse_spec
from mirrorgui.block.storage import Place, place_of
from mirrorgui.errors import ImageRefused, MirrorGUIError

_BLOCK = 512
"""Unit of ``st_blocks`` in bytes."""


class Kind(enum.Enum):
    """What an image is stored in."""

    FILE = "file"
    DEVICE = "device"
    REMOTE = "remote"
    MEMORY = "memory"
    MISSING = "missing"
    """A file that does not exist yet."""


@dataclass(frozen=True, slots=True)
class ImageIdentity:
    """What tells one image from another, and what the safety checks need to know of it.

    Attributes:
        name: as it was given: a path or URI.
        kind: what it is stored in.
        path: the real path of a local image, links followed; else empty.
        place: where its bytes are; ``None`` when it is not local or missing.
        chain: names and places of the images below it in its backing chain, nearest first.
        size: what a guest sees, in bytes; ``None`` where it is not known.
        stored: bytes that a file takes on its file system.
        length: length of a file in bytes.
        modified_ns: when a file was last written, in nanoseconds since 1970.
        mount: the file system that it is on.
        device: the description of a block device.
        in_use: why QEMU's image locks refuse it for its part; empty when they do not.
        claimed: a device refuses an exclusive opening.
        is_open: it is open here, so locks and claims are our own.
    """

    name: str
    kind: Kind
    path: str = ""
    place: Place | None = None
    chain: tuple[tuple[str, Place], ...] = ()
    size: int | None = None
    stored: int = 0
    length: int = 0
    modified_ns: int = 0
    mount: Mount | None = None
    device: BlockDevice | None = None
    in_use: str = ""
    claimed: bool = False
    is_open: bool = False

    @property
    def label(self) -> str:
        """A short name: of a file without its folder."""
        return self.name if self.kind is not Kind.FILE else os.path.basename(self.name)  # noqa: PTH119

    @property
    def is_empty(self) -> bool:
        """Whether a file has no content to lose: it is of no length, or all a hole."""
        return self.length == 0 or (self.stored == 0 and self.size == self.length)

    def same_as(self, other: "ImageIdentity") -> bool:
        """Say whether it is still the same file or device, by what the system calls it."""
        if (self.kind, self.place, self.path) != (other.kind, other.place, other.path):
            return False
        mine, theirs = self.device, other.device
        if mine is None or theirs is None:
            return mine is theirs
        return (mine.serial, mine.size) == (theirs.serial, theirs.size)


def identify_path(
    spec: Spec,
    field: str,
    *,
    format: str | None = None,
    writing: bool = False,
    may_be_missing: bool = False,
) -> ImageIdentity:
    """Look at an image by its name. Opens it only to look, changes nothing, keeps nothing open.

    Args:
        spec: the image.
        field: ``source`` or ``target``, for refusals.
        format: QEMU's name of its format; recognised by default.
        writing: ask the locks for a writer.
        may_be_missing: a local file that does not exist is an answer, not an error.

    Raises:
        ImageRefused: it cannot be used at all: unreadable, a folder, an unknown protocol.
        InvalidInput: the options of the spec are wrong.
    """
    tree = parse_spec(spec, field)
    path = local_path(tree)
    if path is None:
        return _without_path(tree, spec)
    if may_be_missing and not Path(path).exists() and not Path(path).is_symlink():
        return ImageIdentity(path, Kind.MISSING, path=os.path.realpath(path), mount=mount_of(path))
    status = check_kind(path, field)
    info = image_info(spec, format=format, field=field)
    chain = tuple(_chain_of(one.filename for one in info.chain[1:]))
    in_use, claimed = _ask_others(path, field, status, writing=writing)
    return _local(path, path, status, info.virtual_size, chain, in_use, claimed)


def identify_node(node: BlockNode) -> ImageIdentity:
    """Look at an open node through its descriptors, so that no name can be exchanged meanwhile."""
    bottom = bottom_of(node)
    chain = tuple(_chain_of_nodes(node))
    if not isinstance(bottom, FileNode):
        kind = Kind.REMOTE if bottom.driver == "nbd" else Kind.MEMORY
        return ImageIdentity(node.name, kind, chain=chain, size=node.size, is_open=True)
    status = os.fstat(bottom.fileno())
    real = f"/proc/self/fd/{bottom.fileno()}"
    path = real if Path(real).exists() else bottom.path
    return _local(bottom.path, path, status, node.size, chain, is_open=True)


def bottom_of(node: BlockNode) -> BlockNode:
    """Return the protocol node that stores a node's own bytes, below filters and formats."""
    while True:
        lower = getattr(node, "child", None) or getattr(node, "file", None)
        if not isinstance(lower, BlockNode):
            return node
        node = lower


def _chain_of_nodes(node: BlockNode) -> Iterator[tuple[str, Place]]:
    lower = node.backing
    while lower is not None:
        file = bottom_of(lower)
        if isinstance(file, FileNode):
            yield file.path, place_of(os.fstat(file.fileno()))
        lower = lower.backing


def _without_path(tree: dict[str, object], spec: Spec) -> ImageIdentity:
    """An image that has no file: by URI, or a driver that needs none."""
    below = tree
    while isinstance(below, dict):
        uri = below.get("uri")
        if isinstance(uri, str):
            return ImageIdentity(uri, Kind.REMOTE)
        if below.get("driver") == "nbd":
            return ImageIdentity(str(spec), Kind.REMOTE)
        lower = below.get("file", below.get("image"))
        if not isinstance(lower, dict):
            break
        below = lower
    return ImageIdentity(str(spec), Kind.MEMORY)


def _local(
    name: str,
    path: str,
    status: os.stat_result,
    size: int | None,
    chain: tuple[tuple[str, Place], ...],
    in_use: str = "",
    claimed: bool = False,
    is_open: bool = False,
) -> ImageIdentity:
    is_device = stat.S_ISBLK(status.st_mode)
    device = describe_device(status.st_rdev) if is_device else None
    return ImageIdentity(
        name=name,
        kind=Kind.DEVICE if is_device else Kind.FILE,
        path=os.path.realpath(path),
        place=place_of(status),
        chain=chain,
        size=size,
        stored=getattr(status, "st_blocks", 0) * _BLOCK,
        length=status.st_size,
        modified_ns=status.st_mtime_ns,
        mount=None if is_device else mount_of(path),
        device=device,
        in_use=in_use,
        claimed=claimed,
        is_open=is_open,
    )


def _chain_of(names: Iterator[str]) -> Iterator[tuple[str, Place]]:
    for name in names:
        try:
            path = local_path(name)
            if path is not None:
                yield name, place_of(Path(path).stat())
        except (OSError, MirrorGUIError):  # remote, or gone since: it can be no target
            continue


def _ask_others(
    path: str, field: str, status: os.stat_result, *, writing: bool
) -> tuple[str, bool]:
    """Ask the locks and, to write a device, for exclusive use; lock and claim nothing."""
    claimed = False
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)
    if writing and stat.S_ISBLK(status.st_mode):
        try:
            os.close(os.open(path, flags | os.O_EXCL))
        except OSError:
            claimed = True
    try:
        fd = os.open(path, flags)
    except OSError as error:
        raise ImageRefused(field, path, f"Cannot read {path}: {error.strerror}.") from error
    try:
        locks.check_image(fd, *(locks.READ_WRITE if writing else locks.READ_ONLY))
    except locks.LockConflict as conflict:
        return in_use_text(fd, path, field, conflict), claimed
    except locks.LocksUnavailableError:
        return "", claimed
    finally:
        os.close(fd)
    return "", claimed

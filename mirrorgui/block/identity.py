"""Which image a name or an open node really is, whatever path leads to it."""

import enum
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from mirrorgui.block import locks
from mirrorgui.block.devices import BlockDevice, describe_device
from mirrorgui.block.file import FileNode
from mirrorgui.block.hostfile import check_kind, in_use_text
from mirrorgui.block.info import ImageInfo, image_info
from mirrorgui.block.mounts import Mount, mount_of
from mirrorgui.block.node import BlockNode, ExtentKind
from mirrorgui.block.open import How, open_image
from mirrorgui.block.options import Tree
from mirrorgui.block.spec import Spec, local_path, parse_spec
from mirrorgui.block.storage import Place, place_of
from mirrorgui.block.walk import bottom_of, data_file_of, layers_of, window_of
from mirrorgui.errors import BlockIOError, ImageRefused, MirrorGUIError
from mirrorgui.units import GiB

_BLOCK = 512
"""Unit of ``st_blocks`` in bytes."""

_STEP = 1 * GiB
"""How much is asked about at a time."""


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
        window: which bytes of the place: offset, and length or ``None`` to its end.
        chain: names and places of the images below it in its backing chain, nearest first.
        data_files: names and places of the external data files of it and of these images.
        data_file: where its own one is; ``None`` without.
        data_name: the name of that; empty without.
        size: what a guest sees, in bytes; ``None`` where it is not known.
        stored: bytes that a file takes on its file system.
        length: length of a file in bytes.
        modified_ns: when a file was last written, in nanoseconds since 1970.
        mount: the file system that it is on.
        device: the description of a block device.
        in_use: why QEMU's image locks refuse it for its part; empty when they do not.
        claimed: a device refuses an exclusive opening.
        is_open: it is open here, so locks and claims are our own.
        is_blank: its format stores nothing yet for a guest, and its data file nothing at all.
        chain_error: why what lies below it cannot be opened; empty when it can.
    """

    name: str
    kind: Kind
    path: str = ""
    place: Place | None = None
    window: tuple[int, int | None] = (0, None)
    chain: tuple[tuple[str, Place], ...] = ()
    data_files: tuple[tuple[str, Place], ...] = ()
    data_file: Place | None = None
    data_name: str = ""
    size: int | None = None
    stored: int = 0
    length: int = 0
    modified_ns: int = 0
    mount: Mount | None = None
    device: BlockDevice | None = None
    in_use: str = ""
    claimed: bool = False
    is_open: bool = False
    is_blank: bool = False
    chain_error: str = ""

    @property
    def label(self) -> str:
        """A short name: of a file without its folder."""
        return self.name if self.kind is not Kind.FILE else os.path.basename(self.name)  # noqa: PTH119

    @property
    def is_empty(self) -> bool:
        """Whether a file has no content to lose: it is of no length, all a hole, or just made."""
        if self.is_blank or self.length == 0:
            return True
        return self.stored == 0 and self.size == self.length

    @property
    def written(self) -> tuple[Place, ...]:
        """Where its bytes go when it is written."""
        return tuple(place for place in (self.place, self.data_file) if place is not None)

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
    in_use, claimed = _ask_others(path, field, status, writing=writing)
    image = _local(path, path, status, info.virtual_size)
    return replace(
        image,
        chain=tuple(_places(one.filename for one in info.chain[1:])),
        data_files=tuple(_places(one.data_file for one in info.chain)),
        data_file=next((place for _, place in _places([info.data_file])), None),
        data_name=info.data_file,
        in_use=in_use,
        claimed=claimed,
        chain_error=info.chain_error,
        is_blank=writing and info.format == "qcow2" and not in_use and _is_blank(tree, format),
    )


def identify_node(node: BlockNode, *, writing: bool = False) -> ImageIdentity:
    """Look at an open node through its descriptors, so that no name can be exchanged meanwhile.

    What it leaves unopened below it is looked at by name.

    Args:
        node: the image.
        writing: it will be written over, so find out whether anything is in it.
    """
    bottom = bottom_of(node)
    chain, data_files = _below_node(node)
    file = _file_of(bottom)
    if isinstance(bottom, FileNode) and file is not None:
        real = f"/proc/self/fd/{bottom.fileno()}"
        path = real if Path(real).exists() else bottom.path
        image = _local(bottom.path, path, file[1], node.size)
    elif file is not None:
        image = _local(file[0], file[0], file[1], node.size)
    else:
        kind = Kind.REMOTE if bottom.driver == "nbd" else Kind.MEMORY
        image = ImageIdentity(node.name, kind, size=node.size)
    data_name, data_file = _own_data_file(node)
    return replace(
        image,
        window=window_of(node),
        chain=chain,
        data_files=data_files,
        data_file=data_file,
        data_name=data_name,
        is_open=True,
        is_blank=writing and node.driver == "qcow2" and not _may_store_data(node),
    )


def stores_data(node: BlockNode) -> bool:
    """Say whether an image has anything for a guest that would be lost by writing over it.

    What its external data file holds counts as well, also where the image does not say that it is
    used: an image is quickly made that names any file.

    Raises:
        BlockIOError: its tables cannot be read.
    """
    hides = bool(node.unopened_backing) or node.backing is not None
    for offset in range(0, node.size, _STEP):
        for run in node.extents(offset, min(_STEP, node.size - offset)):
            if run.kind is ExtentKind.DATA or (hides and run.kind is ExtentKind.ZERO):
                return True
    data_file = data_file_of(node)
    return data_file is not None and stores_data(data_file)


def _is_blank(tree: Tree, format: str | None) -> bool:
    how = How(read_only=True, force_share=True, without_backing=True)
    try:
        node = open_image(tree, format=format, how=how)
    except MirrorGUIError:  # whoever opens it for good says why it cannot be
        return False
    try:
        return not _may_store_data(node)
    finally:
        node.close()


def _may_store_data(node: BlockNode) -> bool:
    try:
        return stores_data(node)
    except BlockIOError:
        return True


_Places: TypeAlias = tuple[tuple[str, Place], ...]


def _below_node(node: BlockNode) -> tuple[_Places, _Places]:
    """Return names and places of what lies below an open node, and of all data files."""
    chain: list[tuple[str, Place]] = []
    data_files: list[tuple[str, Place]] = []
    for layer in layers_of(node):
        if layer is not node:
            chain += _place_of_node(bottom_of(layer))
        data_file = data_file_of(layer)
        if data_file is not None:
            data_files += _place_of_node(bottom_of(data_file))
        if layer.backing is None and layer.unopened_backing:
            below = _named_below(layer)
            chain += _places(one.filename for one in below)
            data_files += _places(one.data_file for one in below)
    return tuple(chain), tuple(data_files)


def _named_below(layer: BlockNode) -> list[ImageInfo]:
    """Look by name at what a node leaves unopened; what cannot be read is no danger."""
    try:
        return image_info(layer.unopened_backing).chain
    except MirrorGUIError:
        return []


def _own_data_file(node: BlockNode) -> tuple[str, Place | None]:
    data_file = data_file_of(node)
    if data_file is None:
        return "", None
    return next(_place_of_node(bottom_of(data_file)), (data_file.name, None))


def _place_of_node(bottom: BlockNode) -> Iterator[tuple[str, Place]]:
    file = _file_of(bottom)
    if file is not None:
        yield file[0], place_of(file[1])


def _file_of(bottom: BlockNode) -> tuple[str, os.stat_result] | None:
    """Return path and status of the host's file that stores an image; None where none does.

    What others have open for us is looked at by name: its descriptors are theirs.
    """
    if isinstance(bottom, FileNode):
        return bottom.path, os.fstat(bottom.fileno())
    path = getattr(bottom, "path", "")
    if not isinstance(path, str) or not path:
        return None
    try:
        return path, Path(path).stat()
    except OSError:
        return None


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
) -> ImageIdentity:
    is_device = stat.S_ISBLK(status.st_mode)
    device = describe_device(status.st_rdev) if is_device else None
    return ImageIdentity(
        name=name,
        kind=Kind.DEVICE if is_device else Kind.FILE,
        path=os.path.realpath(path),
        place=place_of(status),
        size=size,
        stored=getattr(status, "st_blocks", 0) * _BLOCK,
        length=status.st_size,
        modified_ns=status.st_mtime_ns,
        mount=None if is_device else mount_of(path),
        device=device,
    )


def _places(names: Iterable[str]) -> Iterator[tuple[str, Place]]:
    for name in filter(None, names):
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

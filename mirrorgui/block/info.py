"""What can be said of an image without using it: the fields of ``qemu-img info``."""

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirrorgui.block.chain import MAX_CHAIN, Below, data_file_path
from mirrorgui.block.drivers import PROTOCOLS, as_raw
from mirrorgui.block.formats import LABELS
from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import How, open_tree, with_format
from mirrorgui.block.options import Tree
from mirrorgui.block.probing import probe_node
from mirrorgui.block.qemu_img import describe_foreign
from mirrorgui.block.spec import Spec, local_path, parse_spec
from mirrorgui.block.walk import data_file_of, identity_of, identity_of_status
from mirrorgui.errors import BlockIOError, ImageRefused, MirrorGUIError

_BLOCK = 512
"""Unit of ``st_blocks`` in bytes."""

_FOREIGN = LABELS.keys() - {"raw", "qcow2"}
_HARMLESS = {"driver", "file", "key-file", "read-only"}


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image as ``qemu-img info`` describes it.

    Attributes:
        filename: its path or URI, or its name.
        format: QEMU's name of the format.
        virtual_size: what a guest sees, in bytes; ``None`` where nobody here can read the format.
        actual_size: what it takes on its file system, in bytes; ``None`` for devices and remote
            images.
        cluster_size: unit of allocation in bytes; ``None`` where there is none.
        backing_filename: the backing file as the image names it; empty without.
        full_backing_filename: the same, found from the image's folder.
        backing: what lies below; ``None`` without a backing file or where it cannot be read.
        backing_error: why the backing file cannot be read; empty when it can.
        dirty_flag: it was not closed properly; ``None`` where the format does not say.
        encrypted: its content is encrypted; ``None`` where the format does not say.
        backing_format: QEMU's name of the backing file's format, as the image says it.
        data_file: path of the external data file; empty without.
        snapshots: the internal ones, each as ``qemu-img info`` tells it.
        specific: what only this format has, likewise; empty where there is nothing.
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
    backing_format: str = ""
    data_file: str = ""
    snapshots: tuple[Mapping[str, object], ...] = ()
    specific: Mapping[str, object] = field(default_factory=dict)

    @property
    def chain(self) -> "list[ImageInfo]":
        """The image and all that lies below it, top first."""
        below = self.backing.chain if self.backing is not None else []
        return [self, *below]

    @property
    def chain_error(self) -> str:
        """Why not all that lies below it can be opened, in a sentence; empty when it can."""
        last = self.chain[-1]
        if not last.backing_error:
            return ""
        name = last.full_backing_filename or last.filename
        reason = last.backing_error.removeprefix(f"Cannot read {name}: ").rstrip(".")
        return f"Could not open backing file {name}: {reason}."

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
            "backing-filename-format": self.backing_format or None,
            "snapshots": list(self.snapshots) or None,
            "format-specific": dict(self.specific) or None,
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
    tree = parse_spec(spec, field)
    look = _look(tree if format is None else with_format(tree, format, field), field)
    found, seen = [look.info], {look.identity}
    problem = ""
    while look.below is not None:
        try:
            below = look.below
            look = _look(below.tree(field) if isinstance(below, Below) else below, field)
        except MirrorGUIError as error:
            problem = getattr(error, "reason", str(error))
            break
        if look.identity in seen or len(found) > MAX_CHAIN:
            name = look.info.filename
            problem = f"{name} lies in its own backing chain, which is a loop"
            if look.identity not in seen:
                problem = f"the backing chain goes on below {name}, {MAX_CHAIN} below the top"
            break
        found.append(look.info)
        seen.add(look.identity)
    return _joined(found, problem)


def _joined(layers: list[ImageInfo], problem: str) -> ImageInfo:
    """Put layers that were looked at one by one, the top first, on one another."""
    info = replace(layers[-1], backing_error=problem)
    for layer in reversed(layers[:-1]):
        info = replace(layer, backing=info)
    return info


def node_info(node: BlockNode) -> ImageInfo:
    """Return what can be said of an open node."""
    backing = node_info(node.backing) if node.backing is not None else None
    data_file = data_file_of(node)
    below = backing.filename if backing else node.unopened_backing
    return ImageInfo(
        filename=node.name,
        format=node.driver,
        virtual_size=node.size,
        actual_size=_actual_size(node.name),
        cluster_size=node.limits.cluster_size or None,
        backing_filename=below,
        full_backing_filename=below,
        backing=backing,
        data_file=data_file.name if data_file is not None else "",
    )


# One layer


@dataclass(frozen=True, slots=True)
class _Look:
    """A single image.

    Attributes:
        info: what is said of it, nothing below it included.
        identity: what tells its file from others.
        below: its backing file, by options or as the image names it; ``None`` without.
    """

    info: ImageInfo
    identity: object
    below: Tree | Below | None = None


def _look(tree: Tree, field: str) -> _Look:
    how = How(field, read_only=True, force_share=True, without_backing=True)
    driver, file = tree.get("driver"), tree.get("file", tree)
    if driver not in (None, "qcow2") or not isinstance(file, dict):
        return _look_through_qemu_img(tree, field) or _look_through_driver(tree, how)
    node = open_tree(file, how, is_protocol=True)
    try:
        driver = driver or probe_node(node, field)
        if driver == "qcow2":
            return _look_at_qcow2(node, tree, field)
        if driver == "raw":
            return _look_at_node(as_raw(node))
    finally:
        node.close()
    tree = {**tree, "driver": driver, "file": file}
    return _look_through_qemu_img(tree, field) or _look_through_driver(tree, how)


def _look_through_qemu_img(tree: Tree, field: str) -> _Look | None:
    """Let QEMU tell of a format that nobody here can read; None where it cannot be asked so."""
    format, file, path = tree.get("driver"), tree.get("file"), local_path(tree)
    if not isinstance(format, str) or format not in _FOREIGN or path is None:
        return None
    # A file by its name, and no option that may change what is seen.
    if not isinstance(file, dict) or file.get("filename") != path or set(tree) - _HARMLESS:
        return None
    try:
        identity = identity_of_status(Path(path).stat())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageRefused(field, path, f"Cannot read {path}: {reason}.") from error
    told = describe_foreign(path, format, field=field)
    if told is None:
        return None
    named = Below(path, _word(told, "backing-filename"), _word(told, "backing-filename-format"))
    info = ImageInfo(
        filename=path,
        format=format,
        virtual_size=_number(told, "virtual-size"),
        actual_size=_number(told, "actual-size"),
        cluster_size=_number(told, "cluster-size"),
        backing_filename=named.filename,
        full_backing_filename=named.full_name if named.filename else "",
        dirty_flag=_flag(told, "dirty-flag"),
        encrypted=_flag(told, "encrypted"),
        backing_format=named.format,
        snapshots=tuple(_members(told, "snapshots")),
        specific=next(_members(told, "format-specific"), {}),
    )
    below = named if named.filename else None
    return _Look(info, identity, below)


def _word(told: Mapping[str, object], name: str) -> str:
    value = told.get(name)
    return value if isinstance(value, str) else ""


def _number(told: Mapping[str, object], name: str) -> int | None:
    value = told.get(name)
    return value if isinstance(value, int) else None


def _flag(told: Mapping[str, object], name: str) -> bool | None:
    value = told.get(name)
    return value if isinstance(value, bool) else None


def _members(told: Mapping[str, object], name: str) -> Iterator[Mapping[str, object]]:
    """Yield the objects of a list, or an object that stands alone."""
    value = told.get(name)
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict):
            yield each


def _look_through_driver(tree: Tree, how: How) -> _Look:
    """Let the driver open it; of a format that nobody here can read only say what it is."""
    try:
        node = open_tree(tree, how)
    except ImageRefused:
        path, name = local_path(tree), tree.get("driver")
        if not isinstance(name, str) or name in PROTOCOLS or path is None:
            raise
        if not Path(path).is_file():
            raise
        return _Look(ImageInfo(path, name, None, _actual_size(path)), path)
    try:
        return _look_at_node(node)
    finally:
        node.close()


def _look_at_node(node: BlockNode) -> _Look:
    info = replace(node_info(node), dirty_flag=False if node.driver == "raw" else None)
    return _Look(info, identity_of(node))


def _look_at_qcow2(file: BlockNode, tree: Tree, field: str) -> _Look:
    # Only for those who need it: it brings numpy.
    from mirrorgui.block.qcow2.details import format_specific, snapshots
    from mirrorgui.block.qcow2.header import read_header

    try:
        header = read_header(file, field)
        specific = format_specific(file, header, field)
        told = snapshots(file, header, field)
    except BlockIOError as error:
        text = f"Cannot read {file.name}: {error.strerror}."
        raise ImageRefused(field, file.name, text) from error
    named = Below.of(file, header.backing_file, header.backing_format)
    info = ImageInfo(
        filename=file.name,
        format="qcow2",
        virtual_size=header.size,
        actual_size=_actual_size(file.name),
        cluster_size=header.cluster_size,
        backing_filename=header.backing_file,
        full_backing_filename=named.full_name if header.backing_file else "",
        dirty_flag=header.dirty,
        encrypted=header.encrypted or None,
        backing_format=header.backing_format,
        data_file=data_file_path(header.data_file, file) if header.has_data_file else "",
        snapshots=tuple(told),
        specific=specific,
    )
    below: Tree | Below | None = named if header.backing_file else None
    if "backing" in tree:
        below = tree["backing"] if isinstance(tree["backing"], dict) else None
    return _Look(info, identity_of(file), below)


def _actual_size(path: str) -> int | None:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    blocks: int = getattr(status, "st_blocks", -1)
    return blocks * _BLOCK if blocks >= 0 else status.st_size

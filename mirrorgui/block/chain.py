"""Backing chains: which file an image names as the one below it, and opening that."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mirrorgui.block.file import FileNode
from mirrorgui.block.how import How
from mirrorgui.block.node import BlockNode
from mirrorgui.block.options import Tree
from mirrorgui.block.spec import has_protocol, local_path, parse_spec
from mirrorgui.block.walk import bottom_of, identity_of, identity_of_status
from mirrorgui.errors import ImageError, ImageRefused, InvalidInput

MAX_CHAIN = 100
"""Images below the top in the longest chain that is opened."""

NO_BACKING = "Could not open backing file"
"""QEMU's words, which begin the refusal of an image for one below it."""

_NAME_AT = 8
"""Where a qcow2 header says where the name of its backing file stands."""


@dataclass(frozen=True, slots=True)
class Below:
    """What an image says of the one below it.

    Attributes:
        image: name of the image that says it; relative names start from its folder.
        filename: the backing file as the image names it.
        format: QEMU's name of its format; empty where the image does not say.
        has_folder: the image is a file, so that it has a folder.
    """

    image: str
    filename: str
    format: str = ""
    has_folder: bool = True

    @classmethod
    def of(cls, file: BlockNode, filename: str, format: str) -> "Below":
        """Make one for an image that stands on ``file``."""
        bottom = bottom_of(file)
        name = bottom.path if isinstance(bottom, FileNode) else file.name
        return cls(name, filename, format, isinstance(bottom, FileNode))

    @property
    def is_relative(self) -> bool:
        """Whether the name is one of a file, and starts from the image's folder."""
        return not has_protocol(self.filename) and not Path(self.filename).is_absolute()

    @property
    def full_name(self) -> str:
        """The name as it can be opened from anywhere, as ``qemu-img info`` tells it."""
        if not self.is_relative:
            return self.filename
        return os.path.join(os.path.dirname(self.image), self.filename)  # noqa: PTH118, PTH120

    def tree(self, field: str) -> Tree:
        """Return the options that open it, for reading only, whatever they say themselves.

        Args:
            field: the option that named the image, for refusals.

        Raises:
            ImageRefused: the name leads nowhere.
            InvalidInput: its options or its format make no sense.
        """
        from mirrorgui.block.open import PROTOCOLS, with_format

        if self.is_relative and not self.has_folder:
            text = (
                f"Its backing file '{self.filename}' is named relative to a folder, and the image "
                "has none."
            )
            raise ImageRefused(field, self.image, text)
        name: str | Path = Path(self.full_name) if self.is_relative else self.filename
        tree = parse_spec(name, field)
        if self.format in PROTOCOLS:  # written so by old programs: the protocol is the format
            tree = with_format(tree, "raw", field)
        elif self.format:
            tree = with_format(tree, self.format, field)
        return {**_reading(tree), "read-only": True}


def _reading(tree: Tree) -> Tree:
    """Let nothing in an image's ``json:{...}`` be opened for writing: a dirty one was repaired."""
    return {
        key: True if key == "read-only" else _reading(value) if isinstance(value, dict) else value
        for key, value in tree.items()
    }


def open_below(below: Below, how: How) -> BlockNode:
    """Open the image that another one names as its backing file, and nothing below that.

    Args:
        below: what the upper image says.
        how: the upper image's, its own identity the last one in ``above``.

    Raises:
        ImageError: the chain is a loop, too long, or what lies there is damaged.
        ImageRefused: it cannot be used. Nothing is left open.
    """
    from mirrorgui.block.open import open_tree

    if len(how.above) > MAX_CHAIN:
        text = f"the backing chain goes on below this image, {MAX_CHAIN} below the top"
        raise ImageError(how.field, below.image, _NAME_AT, text)
    with _explained(below, how):
        tree = below.tree(how.field)
    own = _identity(tree)
    if own in how.above:
        text = f"its backing file {below.full_name} lies above it: the chain is a loop"
        raise ImageError(how.field, below.image, _NAME_AT, text)
    if own in how.shared:
        return how.shared[own]()
    with _explained(below, how):
        return open_tree(tree, replace(how, read_only=True, without_backing=True))


@contextmanager
def _explained(below: Below, how: How) -> Iterator[None]:
    """Say of which image it is the backing file that cannot be opened."""
    try:
        yield
    except ImageError:
        raise
    except InvalidInput as error:
        text = f"{NO_BACKING} {below.full_name}: {error.reason}"
        raise ImageRefused(how.field, below.image, text) from error


def open_rest(node: BlockNode) -> None:
    """Open what is left aside below an image, one level after the other.

    Raises:
        ImageRefused: as ``open_below``; what was opened is the node's to close.
    """
    layer: BlockNode | None = node
    # What is open already was named with all that lies below it, or with nothing on purpose.
    while layer is not None and layer.backing is None and layer.unopened_backing:
        layer.open_backing()
        layer = layer.backing


def with_own_link(how: How, file: BlockNode) -> How:
    """Return how the image below one that stands on ``file`` is opened."""
    return replace(how, above=(*how.above, identity_of(file)), nodes={})


def data_file_path(name: str, file: BlockNode) -> str:
    """Return the path of the external data file that an image names.

    QEMU starts a relative name from the working folder, whatever folder the image is in. Where
    nothing is there, the image's folder is tried, in which it was most likely made.

    Args:
        name: as the image has it.
        file: what the image stands on.
    """
    bottom = bottom_of(file)
    if Path(name).is_absolute() or Path(name).exists() or not isinstance(bottom, FileNode):
        return name
    beside = os.path.join(os.path.dirname(bottom.path), name)  # noqa: PTH118, PTH120
    return beside if Path(beside).exists() else name


def _identity(tree: Tree) -> object:
    """Return what tells the file that options lead to from others; None where it is not local.

    An image that lies above already must not be opened again: it would find itself in use.
    """
    path = local_path(tree)
    if path is None:
        return None
    try:
        return identity_of_status(Path(path).stat())
    except (OSError, ValueError):
        return None  # its opening says why

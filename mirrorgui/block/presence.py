"""What others do to the files of an open image: nobody keeps them from removing one."""

import os
from collections.abc import Iterator
from pathlib import Path

from mirrorgui.block.file import FileNode
from mirrorgui.block.node import BlockNode
from mirrorgui.block.walk import bottom_of, data_file_of


class Presence:
    """Tells whether an image that is written through descriptors is still there for others.

    Args:
        node: the image, with its external data file; anything but a regular file of this host is
            always taken to be there.

    Concurrency: from any thread, while the node is open.
    """

    def __init__(self, node: BlockNode) -> None:
        # A format's file grows; what stands in it is all needed.
        self._files = list(_watched(node, None if _is_formatted(node) else _end_of(node)))
        data_file = data_file_of(node)
        if data_file is not None:
            self._files += _watched(data_file, None)

    def sample(self) -> None:
        """Notice a file that is too short at this moment; takes microseconds."""
        for file in self._files:
            file.sample()

    def loss(self) -> str:
        """Say what has happened to a file; empty when nothing has.

        A file that was too short once has lost data, even when writes have made it longer since.
        """
        return next(filter(None, (file.loss() for file in self._files)), "")


class _Watched:
    """A regular file; ``needed`` bytes of it must be there, or as many as we know of."""

    def __init__(self, file: FileNode, needed: int | None) -> None:
        self._file = file
        self._needed = needed
        self._cut = False

    def sample(self) -> None:
        if not self._cut:
            needed = self._file.size if self._needed is None else self._needed
            self._cut = os.fstat(self._file.fileno()).st_size < needed

    def loss(self) -> str:
        self.sample()
        path = self._file.path
        status = os.fstat(self._file.fileno())
        if not status.st_nlink:
            return f"{path} was removed by another program"
        if self._cut:
            return f"{path} was cut short by another program"
        return "" if _leads_to(path, status) else f"{path} was renamed or replaced"


def _watched(node: BlockNode, needed: int | None) -> Iterator[_Watched]:
    file = bottom_of(node)
    if isinstance(file, FileNode) and not file.is_device:
        yield _Watched(file, needed)


def _is_formatted(node: BlockNode) -> bool:
    while isinstance(lower := getattr(node, "child", None), BlockNode):
        node = lower
    return isinstance(getattr(node, "file", None), BlockNode)


def _end_of(node: BlockNode) -> int:
    """Return how long the file must be for an image to be whole, in bytes."""
    end = node.size
    while isinstance(lower := getattr(node, "child", None), BlockNode):
        offset = getattr(node, "offset", 0)
        end += offset if isinstance(offset, int) else 0
        node = lower
    return end


def _leads_to(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(Path(path).stat(), status)
    except FileNotFoundError:
        return False
    except OSError:  # a folder on the way may not be ours to enter any more
        return True

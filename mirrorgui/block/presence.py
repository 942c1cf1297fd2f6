"""What others do to the file of an open image: nobody keeps them from removing it."""

import os
from pathlib import Path

from mirrorgui.block.file import FileNode
from mirrorgui.block.identity import bottom_of
from mirrorgui.block.node import BlockNode


class Presence:
    """Tells whether an image that is written through a descriptor is still there for others.

    Args:
        node: the image; anything but a regular file of this host is always taken to be there.

    Concurrency: from any thread, while the node is open.
    """

    def __init__(self, node: BlockNode) -> None:
        file = bottom_of(node)
        self._file = file if isinstance(file, FileNode) and not file.is_device else None
        self._needed = _end_of(node)
        self._cut = False

    def sample(self) -> None:
        """Notice a file that is too short at this moment; takes microseconds."""
        if self._file is not None and not self._cut:
            self._cut = os.fstat(self._file.fileno()).st_size < self._needed

    def loss(self) -> str:
        """Say what has happened to the file; empty when nothing has.

        A file that was too short once has lost data, even when writes have made it longer since.
        """
        if self._file is None:
            return ""
        self.sample()
        path = self._file.path
        status = os.fstat(self._file.fileno())
        if not status.st_nlink:
            return f"{path} was removed by another program"
        if self._cut:
            return f"{path} was cut short by another program"
        return "" if _leads_to(path, status) else f"{path} was renamed or replaced"


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

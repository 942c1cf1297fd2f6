"""What every driver asks of a request before it touches anything."""

import errno

from mirrorgui.block.node import BlockNode
from mirrorgui.errors import BlockIOError


def check_range(node: BlockNode, operation: str, offset: int, length: int) -> None:
    """Refuse a request that is not wholly inside the image.

    Raises:
        BlockIOError: EINVAL; nothing was done.
    """
    if offset < 0 or length < 0 or offset + length > node.size:
        raise BlockIOError(operation, offset, length, errno.EINVAL, node.name)


def check_change(node: BlockNode, operation: str, offset: int, length: int) -> None:
    """Refuse a changing request that is outside the image, or any to a read-only node.

    Raises:
        BlockIOError: EPERM or EINVAL; nothing was done.
    """
    if node.read_only:
        raise BlockIOError(operation, offset, length, errno.EPERM, node.name)
    check_range(node, operation, offset, length)

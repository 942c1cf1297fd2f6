"""One open image in two hands: it is closed when the last one lets go of it."""

import threading

from mirrorgui.block.filter import FilterNode
from mirrorgui.block.node import BlockNode


class Lease:
    """Hands out handles on an open image.

    Args:
        node: the image; it is the handles' to close from the first one on.

    Concurrency: from any thread.
    """

    def __init__(self, node: BlockNode) -> None:
        self.node = node
        self._lock = threading.Lock()
        self._held = 0

    def handle(self) -> BlockNode:
        """Return one more handle: a node that does what the image does."""
        with self._lock:
            self._held += 1
        return LeasedNode(self)

    def let_go(self) -> None:
        """Take a handle back."""
        with self._lock:
            self._held -= 1
            last = not self._held
        if last:
            self.node.close()


class LeasedNode(FilterNode):
    """A handle on an image that others hold as well."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(lease.node, node_name=lease.node.node_name)
        self.driver = lease.node.driver
        self._lease: Lease | None = lease

    def close(self) -> None:
        """See ``BlockNode.close``: the image stays open while somebody else holds it."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.let_go()

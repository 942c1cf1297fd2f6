"""Opening the nodes that a node stands on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from mirrorgui.block.filter import FilterNode
from mirrorgui.block.how import How
from mirrorgui.block.node import BlockNode, Mapped, Range
from mirrorgui.block.options import Options
from mirrorgui.errors import InvalidInput

MAX_DEPTH = 32
"""Options may be nested so deep. What they ask for is opened by calls that are nested as well."""


@contextmanager
def opened_child(
    options: Options, key: str, how: How, *, is_protocol: bool = True
) -> Iterator[BlockNode]:
    """Open a child node for the block of a ``with``, which takes it over unless it fails.

    Args:
        options: the parent's.
        key: the child's name there, such as ``file``.
        how: the parent's.
        is_protocol: a child that is given by its file name alone is a file, whatever it holds;
            otherwise its format is recognised.

    Raises:
        InvalidInput: it is missing, or not a node; or from its opening.
    """
    node = _open_child(options, key, how, is_protocol=is_protocol)
    try:
        yield node
    except BaseException:
        node.close()
        raise


def _open_child(options: Options, key: str, how: How, *, is_protocol: bool) -> BlockNode:
    # Opening is recursive: who opens drivers' nodes needs the drivers, and they need this.
    from mirrorgui.block.open import open_tree

    child = options.take_child(key)
    if isinstance(child, BlockNode):
        return child
    if not isinstance(child, str):
        if how.depth >= MAX_DEPTH:
            text = f"options are nested more than {MAX_DEPTH} levels deep"
            raise InvalidInput(options.name_of(key), "...", text)
        return open_tree(child, replace(how, depth=how.depth + 1), is_protocol=is_protocol)
    if child not in how.nodes:
        raise InvalidInput(
            options.name_of(key), child, f"Cannot find device='' nor node-name='{child}'"
        )
    return SharedNode(how.nodes[child])


class SharedNode(FilterNode):
    """Somebody else's node as a child: closing the parent leaves it open."""

    def __init__(self, child: BlockNode) -> None:
        super().__init__(child, node_name=child.node_name)
        self.driver = child.driver

    def read_ranges(self, ranges: Sequence[Range], buffer: memoryview) -> None:
        """See ``BlockNode.read_ranges``."""
        self.child.read_ranges(ranges, buffer)

    def write_ranges(self, ranges: Sequence[Range], data: memoryview) -> None:
        """See ``BlockNode.write_ranges``."""
        self.child.write_ranges(ranges, data)

    def map(self, offset: int, length: int) -> list[Mapped]:
        """See ``BlockNode.map``."""
        return self.child.map(offset, length)

    def close(self) -> None:
        """Do nothing: it is not ours."""

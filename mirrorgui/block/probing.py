"""Finding out the format that an image is in."""

from mirrorgui.block.children import opened_child
from mirrorgui.block.drivers import DRIVERS, as_raw
from mirrorgui.block.formats import HEAD_SIZE, TAIL_SIZE, recognise
from mirrorgui.block.how import How
from mirrorgui.block.node import BlockNode
from mirrorgui.block.options import Options
from mirrorgui.block.raw import ProbedRawGuard
from mirrorgui.errors import BlockIOError, ImageRefused


def open_probed(options: Options, how: How) -> BlockNode:
    """Open a format node whose format nobody named: recognise it. A driver.

    What is taken for raw keeps its first sector guarded while it can be written.
    """
    with opened_child(options, "file", how) as child:
        name = probe_node(child, how.field)
        if name != "raw":
            options.put("file", child)
            return DRIVERS[name](options, how)
        raw = as_raw(child)
        return raw if raw.read_only else ProbedRawGuard(raw)


def probe_node(node: BlockNode, field: str) -> str:
    """Recognise the format that an open protocol node holds.

    Raises:
        ImageRefused: it cannot be read.
    """
    head = bytearray(min(HEAD_SIZE, node.size))
    tail = bytearray(min(TAIL_SIZE, node.size))
    try:
        node.read_into(0, head)
        node.read_into(node.size - len(tail), tail)
    except BlockIOError as error:
        text = f"Cannot read {node.name}: {error.strerror}."
        raise ImageRefused(field, node.name, text) from error
    return recognise(bytes(head), bytes(tail))

"""The driver of qcow2: from the options of ``blockdev-add`` to an open node and its children."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mirrorgui.block.chain import Below, data_file_path, open_below, open_rest, with_own_link
from mirrorgui.block.children import opened_child
from mirrorgui.block.file import FileNode
from mirrorgui.block.how import How
from mirrorgui.block.node import BlockNode
from mirrorgui.block.options import Options, Tree
from mirrorgui.block.qcow2.header import Header, read_header
from mirrorgui.block.qcow2.node import Qcow2Node
from mirrorgui.block.qcow2.options import take_options
from mirrorgui.block.walk import bottom_of
from mirrorgui.errors import BlockIOError, ImageRefused, InvalidInput


def open_qcow2(options: Options, how: How) -> BlockNode:
    """Open a qcow2 image, and what it stands on. A driver.

    The backing file is that of option ``backing``, or the one that the image names. It is left
    for ``open_backing`` with ``how.without_backing``; with ``null`` for ever.

    Raises:
        ImageError: the image is damaged.
        ImageRefused: it, or what it stands on, cannot be used.
        InvalidInput: an option is wrong. Nothing is left open.
    """
    own = replace(how, without_backing=False)
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(opened_child(options, "file", own))
        header = _read_header(file, how.field)
        below = with_own_link(own, file)
        never = options.take_null("backing")
        backing = None
        if "backing" in options:
            given = replace(below, nodes=how.nodes)
            backing = opened.enter_context(_opened_backing(options, given))
        data_file = opened.enter_context(_opened_data_file(options, header, file, own))
        _lock_resizing(file, how.field)
        if data_file is not None:
            _lock_resizing(data_file, how.field)
        named = Below.of(file, header.backing_file, header.backing_format)
        chosen = take_options(options, header)
        options.finish()  # before anything is repaired
        with _readable(file, how.field):
            node = Qcow2Node(
                file,
                header=header,
                backing=backing,
                data_file=data_file,
                read_only=how.read_only,
                field=how.field,
                unopened_backing=named.full_name if named.filename and not backing else "",
                open_backing=None if never else _backing_opener(named, below, how),
                **dataclasses.asdict(chosen),
            )
        try:
            if not how.without_backing:
                node.open_backing()
        except BaseException:
            node.close()
            raise
    return node


def _lock_resizing(node: BlockNode, field: str) -> None:
    """Lock the file below as QEMU's formats do, which let theirs grow."""
    bottom = bottom_of(node)
    if isinstance(bottom, FileNode):
        bottom.lock_resizing(field)


@contextmanager
def _readable(file: BlockNode, field: str) -> Iterator[None]:
    """Refuse an image whose structures cannot be read."""
    try:
        yield
    except BlockIOError as error:
        text = f"Cannot read {file.name}: {error.strerror}."
        raise ImageRefused(field, file.name, text) from error


def _read_header(file: BlockNode, field: str) -> Header:
    with _readable(file, field):
        header = read_header(file, field)
    if header.encrypted:
        text = "It is encrypted. Encrypted qcow2 images are not opened."
        raise ImageRefused(field, file.name, text)
    return header


# What lies below


def _backing_opener(named: Below, how: How, own: How) -> Callable[[], BlockNode]:
    """Return what opens the backing file that the image names, and all below that.

    Only for an image that is a backing file itself it is what comes next and no more: who opened
    that one goes on from there, so that nothing is as deep as the chain is long.
    """

    def open_next() -> BlockNode:
        return open_below(named, how)

    def open_all() -> BlockNode:
        node = open_below(named, how)
        try:
            open_rest(node)
        except BaseException:
            node.close()
            raise
        return node

    return open_next if own.without_backing and own.above else open_all


@contextmanager
def _opened_backing(options: Options, how: How) -> Iterator[BlockNode]:
    """Open the backing file that the options give, and all below it."""
    child_how = replace(how, read_only=True)
    with opened_child(options, "backing", child_how, is_protocol=False) as node:
        yield node


# The external data file


@contextmanager
def _opened_data_file(
    options: Options, header: Header, file: BlockNode, how: How
) -> Iterator[BlockNode | None]:
    name = options.name_of("data-file")
    if not header.has_data_file:
        if "data-file" in options:
            text = "'data-file' can only be set for images with an external data file"
            raise InvalidInput(name, "", text)
        yield None
        return
    if "data-file" not in options:
        if not header.data_file:
            raise InvalidInput(name, "", "'data-file' is required for this image")
        options = Options({"data-file": _data_file_tree(header, file)}, options.field)
    with opened_child(options, "data-file", how) as node:
        yield node


def _data_file_tree(header: Header, file: BlockNode) -> Tree:
    """Return the options of the data file that an image names.

    The name is a path, whatever it looks like: what an image says must not lead to a server.
    """
    path = data_file_path(header.data_file, file)
    return {"driver": "host_device" if Path(path).is_block_device() else "file", "filename": path}

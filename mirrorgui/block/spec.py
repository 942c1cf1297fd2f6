"""How an image is named: a path, a URI, ``json:{...}``, or the options of ``blockdev-add``."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from mirrorgui.block.options import Tree, crumple, parse_json
from mirrorgui.errors import ImageRefused, InvalidInput

Spec: TypeAlias = str | os.PathLike[str] | Mapping[str, object]
"""An image as it is named."""

FOREIGN_PROTOCOLS = frozenset(
    ("ftp", "ftps", "gluster", "http", "https", "iscsi", "nfs", "rbd", "ssh")
)
"""Drivers, and URI schemes, of what is reached through a ``qemu-nbd`` of our own."""

URI_DRIVERS = {
    **{scheme: scheme for scheme in FOREIGN_PROTOCOLS},
    "gluster+tcp": "gluster",
    "gluster+unix": "gluster",
    "gluster+rdma": "gluster",
    "nbd": "nbd",
    "nbds": "nbd",
    "nbd+tcp": "nbd",
    "nbd+unix": "nbd",
    "nbds+tcp": "nbd",
    "nbds+unix": "nbd",
}
"""URI scheme -> driver; the driver gets the whole text as its option ``uri``."""

_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def parse_spec(spec: Spec, field: str) -> Tree:
    """Turn any way of naming an image into options.

    A path or URI becomes ``{"file": {...}}``: the protocol is known, the format is not.

    Args:
        spec: the image.
        field: the option that named it, for refusals.

    Raises:
        InvalidInput: ``json:`` holds no options.
        ImageRefused: the protocol is unknown, the name is empty.
    """
    text = "" if isinstance(spec, Mapping) else os.fspath(spec)
    try:
        if isinstance(spec, Mapping):
            return crumple(spec, field)
        if isinstance(spec, str) and text.startswith("json:"):
            return parse_json(text.removeprefix("json:"), field)
    except RecursionError as error:
        raise InvalidInput(field, text[:20] or "...", "options are nested too deeply") from error
    return {"file": protocol_of(text, field, is_path=not isinstance(spec, str))}


def protocol_of(text: str, field: str, *, is_path: bool = False) -> Tree:
    """Return the options of the protocol node for a path or URI.

    Args:
        text: the path or URI.
        field: the option that named it.
        is_path: it is a path, whatever it looks like.

    Raises:
        ImageRefused: the protocol is unknown, the name is empty.
    """
    prefix = _PREFIX.match(text)
    if prefix is not None and not is_path:
        scheme, rest = prefix.group(1), text[prefix.end() :]
        if scheme in URI_DRIVERS:
            return {"driver": URI_DRIVERS[scheme], "uri": text}
        if scheme != "file":
            raise ImageRefused(
                field, text, f"Unknown protocol '{scheme}'. For a file of that name write ./{text}"
            )
        text = rest[2:] if rest.startswith("///") else rest
    if not text:
        raise ImageRefused(field, text, "The name of the image is empty.")
    return {"driver": "host_device" if _is_block_device(text) else "file", "filename": text}


def has_protocol(text: str) -> bool:
    """Say whether a name begins with a protocol, such as ``json:``, ``file:`` or ``nbd:``."""
    return _PREFIX.match(text) is not None


def local_path(spec: Spec) -> str | None:
    """Return the host path that a spec leads to at its bottom, ``None`` where it is not local.

    Raises:
        InvalidInput: as ``parse_spec``.
    """
    tree: object = parse_spec(spec, "filename")
    while isinstance(tree, Mapping):
        filename = tree.get("filename")
        if isinstance(filename, str):
            return filename
        tree = tree.get("file", tree.get("image"))
    return None


def _is_block_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(Path(path).stat().st_mode)
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return False

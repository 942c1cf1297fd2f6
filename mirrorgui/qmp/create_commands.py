"""The QMP command that makes images."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

from mirrorgui.block import locks
from mirrorgui.block.create import preallocate_file, sync_folder
from mirrorgui.block.node import BlockNode
from mirrorgui.blocking import in_thread
from mirrorgui.errors import ImageRefused, InvalidInput, MirrorGUIError
from mirrorgui.graph.creating import CreateJob
from mirrorgui.graph.nodes import GraphNode, from_outside, shares_all
from mirrorgui.graph.permissions import ALL, Access, Permission
from mirrorgui.house import House
from mirrorgui.qmp.dispatch import Arguments, command
from mirrorgui.qmp.errors import QmpError
from mirrorgui.qmp.refusals import require_job_id, text_of

Options = Mapping[str, Any]

_NEEDS_3 = "compatibility level 1.1 {} above (use version=v3 or greater)"
_TEXTS: dict[str, tuple[str, str]] = {
    "cluster_size": ("Cluster size must be a power of two between 512 and 2048k", ""),
    "refcount_bits": (
        "Refcount width must be a power of two and may not exceed 64 bits",
        f"Different refcount widths than 16 bits require {_NEEDS_3.format('or')}",
    ),
    "lazy_refcounts": ("", f"Lazy refcounts only supported with {_NEEDS_3.format('and')}"),
    "extended_l2": (
        "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes",
        f"Extended L2 entries are only supported with {_NEEDS_3.format('and')}",
    ),
    "compression_type": (
        "",
        f"Non-zlib compression type is only supported with {_NEEDS_3.format('and')}",
    ),
    "data_file": ("", f"External data files are only supported with {_NEEDS_3.format('and')}"),
    "preallocation": (
        "Backing file and preallocation can only be used at the same time if extended_l2 is on",
        "",
    ),
    "backing_file": ("A backing file needs backing-fmt: what is guessed can be wrong", ""),
    "backing_format": ("Backing format cannot be used without backing file", ""),
}
"""An option of a new qcow2 image -> QEMU's text for a wrong value, and for one of version 3."""


@command("blockdev-create")
async def blockdev_create(house: House, args: Arguments) -> None:
    """Begin a job that makes an image."""
    job_id, options = args["job-id"], args["options"]
    makers = {"file": _create_file, "qcow2": _create_qcow2}
    maker = makers.get(options["driver"])
    if maker is None:
        raise QmpError("Driver does not support blockdev-create")
    require_job_id(job_id)
    if house.job(job_id) is not None:
        raise QmpError(f"Job ID '{job_id}' already in use")
    job = CreateJob(job_id, lambda: maker(house, options), _text_of)
    house.add_job(job)
    job.start()


def _text_of(error: MirrorGUIError) -> str:
    """Put a refusal into QEMU's words."""
    if not isinstance(error, InvalidInput):
        return str(error)
    if error.field == "data_file_raw":
        return (
            "data-file-raw requires data-file"
            if "needs" in error.reason
            else "Backing file and data-file-raw cannot be used at the same time"
        )
    plain, version = _TEXTS.get(error.field, ("", ""))
    if version and "version 3" in error.reason:
        return version
    return plain or text_of(error)


# Files


async def _create_file(house: House, options: Options) -> None:
    await house.settle()
    await in_thread(lambda: _make_file(options))


def _make_file(options: Options) -> None:
    """Make a file of a length, of what is there already too, unless somebody uses it."""
    name, size = str(options["filename"]), int(options["size"])
    preallocation = str(options.get("preallocation", "off"))
    if preallocation == "metadata":
        raise ImageRefused("filename", name, "Unsupported preallocation mode: metadata")
    if options.get("nocow") or options.get("extent-size-hint"):
        option = "nocow" if options.get("nocow") else "extent-size-hint"
        raise ImageRefused(option, options[option], f"Option '{option}' is not supported")
    with _system_errors(name):
        fd = os.open(name, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        with contextlib.suppress(locks.LocksUnavailableError):
            locks.lock_image(fd, *locks.RESIZE)
        with _system_errors(name, "Could not resize file"):
            os.ftruncate(fd, 0)
            os.ftruncate(fd, size)
        with _system_errors(name):
            preallocate_file(fd, 0, size, preallocation)
            os.fsync(fd)
    except locks.LockConflict as conflict:
        raise ImageRefused(
            "filename", name, f'Failed to get "{conflict.permission.label}" lock'
        ) from conflict
    finally:
        os.close(fd)
    sync_folder(Path(name).parent)


@contextlib.contextmanager
def _system_errors(name: str, what: str = "") -> Iterator[None]:
    try:
        yield
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "File too large"
        what = what or f"Could not create '{name}'"
        raise ImageRefused("filename", name, f"{what}: {reason}") from error


# qcow2


async def _create_qcow2(house: House, options: Options) -> None:
    from mirrorgui.block.qcow2.create import create_qcow2
    from mirrorgui.block.qcow2.create_options import CreateOptions

    if "encrypt" in options:
        raise ImageRefused("encrypt", options["encrypt"], "Encrypted images are not made")
    if options["size"] % 512:
        raise ImageRefused("size", options["size"], "Image size must be a multiple of 512 bytes")
    names = ("cluster-size", "lazy-refcounts", "refcount-bits", "preallocation", "extended-l2")
    chosen = {
        name.replace("-", "_"): options[name]
        for name in (*names, "backing-file", "data-file-raw", "compression-type")
        if name in options
    }
    chosen["version"] = {"v2": 2, "v3": 3}[options.get("version", "v3")]
    if "backing-fmt" in options:
        chosen["backing_format"] = options["backing-fmt"]
    async with contextlib.AsyncExitStack() as used:
        data: BlockNode | None = None
        if "data-file" in options:
            node = await used.enter_async_context(_writing(house, options["data-file"]))
            data, chosen["data_file"] = node.node, node.node.name
        file = await used.enter_async_context(_writing(house, options["file"]))
        made = CreateOptions(**chosen)
        await in_thread(
            lambda: create_qcow2(file.node, options["size"], made, data_node=data, field="file")
        )


@contextlib.asynccontextmanager
async def _writing(house: House, child: str | Options) -> AsyncIterator[GraphNode]:
    """Use a node, by name or opened for this, to write into and change its length."""
    opened = not isinstance(child, str)
    node: GraphNode
    if isinstance(child, str):
        node = house.graph.find_device(child)
    else:
        node = await house.add_node(child, by_monitor=False)
    need = Permission.WRITE | Permission.RESIZE  # alone: whoever wrote meanwhile would be in it
    user = None
    try:
        user = house.graph.attach(from_outside(node, shares_all(need)))
        user.access = Access(need, ALL & ~need)
        house.graph.check(node)
        yield node
    finally:
        if user is not None:
            house.graph.detach(user)
        elif opened:
            house.graph.remove(node)
        await house.settle()

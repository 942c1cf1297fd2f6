"""All commands and their arguments: name, whether it must be given, type, range, default.

The one table that arguments are held against, that ``query-commands`` and ``query-qmp-schema``
answer from, and that a handler's name must be in.
"""

from mirrorgui.qmp.schema_nodes import (
    BLOCKDEV_CREATE_OPTIONS,
    BLOCKDEV_OPTIONS,
    SOCKET_ADDRESS_LEGACY,
)
from mirrorgui.qmp.types import (
    BOOLEAN,
    INT,
    STRING,
    UINT32,
    Alternate,
    Integer,
    ListOf,
    Member,
    Object,
    Words,
    needed,
    optional,
)

MAX_CELLS = 1 << 16
"""Of ``x-mirror-snapshot``; the answer has three numbers for each, half a megabyte in all, which
keeps the loop, and with it the window, for some 50 ms."""

SYNC_MODES = Words(("top", "full", "none", "incremental", "bitmap"))
ON_ERROR = Words(("report", "ignore", "enospc", "stop", "auto"))
COPY_MODES = Words(("background", "write-blocking"))
EXPORT_TYPES = Words(("nbd", "vhost-user-blk", "fuse", "vduse-blk"))
REMOVE_MODES = Words(("safe", "hard"))

_DEVICE = needed("device", STRING)
_ID = needed("id", STRING)

_MIRROR_FIRST = (
    optional("job-id", STRING),
    needed("device", STRING),
    needed("target", STRING),
)
_MIRROR_LIMITS = (
    optional("speed", INT, 0),
    optional("granularity", UINT32, 0),
    optional("buf-size", INT, 0),
    optional("on-source-error", ON_ERROR, "report"),
    optional("on-target-error", ON_ERROR, "report"),
)
_MIRROR_LAST = (
    optional("copy-mode", COPY_MODES, "background"),
    optional("auto-finalize", BOOLEAN, default=True),
    optional("auto-dismiss", BOOLEAN, default=True),
)

_BITMAP = Alternate(
    "BlockDirtyBitmapOrStr",
    lambda: (STRING, Object((needed("node", STRING), needed("name", STRING)))),
)

_EXPORT = Object(
    (
        needed("type", EXPORT_TYPES),
        needed("id", STRING),
        optional("fixed-iothread", BOOLEAN),
        optional("iothread", STRING),
        needed("node-name", STRING),
        optional("writable", BOOLEAN, default=False),
        optional("writethrough", BOOLEAN, default=False),
    ),
    "type",
    {
        "nbd": (
            optional("name", STRING),
            optional("description", STRING),
            optional("bitmaps", ListOf(_BITMAP)),
            optional("allocation-depth", BOOLEAN, default=False),
        )
    },
)


def _takes(*members: Member) -> Object:
    return Object(members)


COMMANDS: dict[str, Object] = {
    "qmp_capabilities": _takes(optional("enable", ListOf(Words(("oob",))), [])),
    "query-version": _takes(),
    "query-commands": _takes(),
    "query-qmp-schema": _takes(),
    "quit": _takes(),
    # Nodes.
    "blockdev-add": BLOCKDEV_OPTIONS,
    "blockdev-del": _takes(needed("node-name", STRING)),
    "blockdev-create": _takes(needed("job-id", STRING), needed("options", BLOCKDEV_CREATE_OPTIONS)),
    "query-named-block-nodes": _takes(optional("flat", BOOLEAN, default=False)),
    # Jobs.
    "blockdev-mirror": _takes(
        *_MIRROR_FIRST,
        optional("replaces", STRING),
        needed("sync", SYNC_MODES),
        *_MIRROR_LIMITS,
        optional("filter-node-name", STRING),
        *_MIRROR_LAST,
        optional("target-is-zero", BOOLEAN, default=False),  # since QEMU 10.1
    ),
    "drive-mirror": _takes(
        *_MIRROR_FIRST,
        optional("format", STRING),
        optional("node-name", STRING),
        optional("replaces", STRING),
        needed("sync", SYNC_MODES),
        optional("mode", Words(("existing", "absolute-paths")), "absolute-paths"),
        *_MIRROR_LIMITS,
        optional("unmap", BOOLEAN, default=True),
        *_MIRROR_LAST,
    ),
    "block-job-set-speed": _takes(_DEVICE, needed("speed", INT)),
    "block-job-cancel": _takes(_DEVICE, optional("force", BOOLEAN, default=False)),
    "block-job-pause": _takes(_DEVICE),
    "block-job-resume": _takes(_DEVICE),
    "block-job-complete": _takes(_DEVICE),
    "block-job-finalize": _takes(_ID),
    "block-job-dismiss": _takes(_ID),
    "block-job-change": Object(  # since QEMU 8.2
        (_ID, needed("type", Words(("mirror",)))),
        "type",
        {"mirror": (needed("copy-mode", COPY_MODES),)},
    ),
    "job-cancel": _takes(_ID),
    "job-pause": _takes(_ID),
    "job-resume": _takes(_ID),
    "job-complete": _takes(_ID),
    "job-finalize": _takes(_ID),
    "job-dismiss": _takes(_ID),
    "query-block-jobs": _takes(),
    "query-jobs": _takes(),
    # Exports.
    "nbd-server-start": _takes(
        needed("addr", SOCKET_ADDRESS_LEGACY),
        optional("tls-creds", STRING),
        optional("tls-authz", STRING),
        optional("max-connections", UINT32),
    ),
    "nbd-server-stop": _takes(),
    "block-export-add": _EXPORT,
    "block-export-del": _takes(needed("id", STRING), optional("mode", REMOVE_MODES, "safe")),
    "query-block-exports": _takes(),
    # Our own.
    "x-mirror-snapshot": _takes(_ID, optional("cells", Integer(32, signed=False), 256)),
}
"""The arguments of each command."""

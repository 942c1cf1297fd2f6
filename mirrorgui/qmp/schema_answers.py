"""What commands return and events hold: the one table that ``query-qmp-schema`` tells it from.

Members that QEMU has and this engine never sends are left out.
"""

import dataclasses
import enum
import types
import typing

from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.mirror.states import JobStatus
from mirrorgui.qmp.types import (
    ANYTHING,
    BOOLEAN,
    INT,
    NULL,
    STRING,
    Alternate,
    Deferred,
    Kind,
    ListOf,
    Member,
    Object,
    Words,
    needed,
    optional,
)

STATUS = Words(tuple(status.value for status in JobStatus))
JOB_TYPES = Words(("mirror", "create"))
IO_STATUS = Words(("ok", "failed", "nospace"))
EXPORT_TYPES = Words(("nbd",))
DETECT_ZEROES = Words(("off", "on", "unmap"))

NOTHING = Object()


def _all(kind: Kind, names: str) -> tuple[Member, ...]:
    return tuple(needed(name, kind) for name in names.split())


def _some(kind: Kind, names: str) -> tuple[Member, ...]:
    return tuple(optional(name, kind) for name in names.split())


# Nodes


def _image() -> Kind:
    return IMAGE


_SNAPSHOT = Object(
    (
        *_all(STRING, "id name"),
        *_all(INT, "vm-state-size date-sec date-nsec vm-clock-sec vm-clock-nsec"),
        optional("icount", INT),
    )
)

_BITMAP = Object(
    (
        needed("name", STRING),
        needed("granularity", INT),
        needed("flags", ListOf(Words(("in-use", "auto")))),
    )
)

_QCOW2 = Object(
    (
        needed("compat", STRING),
        needed("compression-type", Words(("zlib", "zstd"))),
        needed("refcount-bits", INT),
        *_some(BOOLEAN, "lazy-refcounts corrupt extended-l2 data-file-raw"),
        optional("data-file", STRING),
        optional("bitmaps", ListOf(_BITMAP)),
    )
)

_SPECIFIC = Object(
    (needed("type", Words(("qcow2",))),), "type", {"qcow2": (needed("data", _QCOW2),)}
)

IMAGE = Object(
    (
        *_all(STRING, "filename format"),
        needed("virtual-size", INT),
        *_some(INT, "actual-size cluster-size"),
        optional("dirty-flag", BOOLEAN),
        *_some(STRING, "backing-filename full-backing-filename backing-filename-format"),
        optional("snapshots", ListOf(_SNAPSHOT)),
        optional("format-specific", _SPECIFIC),
        optional("backing-image", Deferred(_image)),
    )
)

_NODE = Object(
    (
        *_all(STRING, "node-name drv file"),
        *_all(BOOLEAN, "ro encrypted"),
        needed("detect_zeroes", DETECT_ZEROES),
        needed("cache", Object(_all(BOOLEAN, "writeback direct no-flush"))),
        needed("backing_file_depth", INT),
        needed("image", IMAGE),
        *_all(INT, "write_threshold iops iops_rd iops_wr bps bps_rd bps_wr"),
        optional("backing_file", STRING),
    )
)

# Jobs, exports

_BLOCK_JOB = Object(
    (
        *_all(STRING, "type device"),
        *_all(INT, "len offset speed"),
        *_all(BOOLEAN, "busy paused ready auto-finalize auto-dismiss"),
        needed("io-status", IO_STATUS),
        needed("status", STATUS),
        needed("actively-synced", BOOLEAN),
        optional("error", STRING),
    )
)

_JOB = Object(
    (
        needed("id", STRING),
        needed("type", JOB_TYPES),
        needed("status", STATUS),
        *_all(INT, "current-progress total-progress"),
        optional("error", STRING),
    )
)

_EXPORT = Object(
    (
        *_all(STRING, "id node-name"),
        needed("type", EXPORT_TYPES),
        needed("shutting-down", BOOLEAN),
    )
)

# Our own


def kind_of(hint: object) -> Kind:
    """Return the type that a value of a snapshot has as JSON, by what Python calls its type.

    Raises:
        TypeError: nothing of JSON is like that.
    """
    plain: dict[object, Kind] = {bool: BOOLEAN, int: INT, str: STRING, types.NoneType: NULL}
    if hint in plain:
        return plain[hint]
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return ListOf(kind_of(arguments[0]))
    if arguments:
        kinds = tuple(kind_of(each) for each in arguments)
        return Alternate("StrOrNull", lambda: kinds)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return Words(tuple(one.value for one in hint))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return Object(_fields(hint))
    raise TypeError(hint)


def _fields(looked_at: type) -> tuple[Member, ...]:
    hints = typing.get_type_hints(looked_at)
    return tuple(needed(name.replace("_", "-"), kind_of(hints[name])) for name in hints)


_MAP = Object(
    (
        *_all(INT, "chunks granularity cells"),
        *_all(ListOf(INT), "dirty copied failed"),
    )
)

# Introspection

_META_TYPES = Words(("builtin", "enum", "array", "object", "alternate", "command", "event"))
_JSON_TYPES = Words.of("string number int boolean null object array value")
_MEMBER = Object((*_all(STRING, "name type"), optional("default", ANYTHING)))

_ENTITY = Object(
    (needed("name", STRING), needed("meta-type", _META_TYPES)),
    "meta-type",
    {
        "builtin": (needed("json-type", _JSON_TYPES),),
        "enum": (
            needed("members", ListOf(Object((needed("name", STRING),)))),
            needed("values", ListOf(STRING)),
        ),
        "array": (needed("element-type", STRING),),
        "object": (
            needed("members", ListOf(_MEMBER)),
            optional("tag", STRING),
            optional("variants", ListOf(Object(_all(STRING, "case type")))),
        ),
        "alternate": (needed("members", ListOf(Object((needed("type", STRING),)))),),
        "command": _all(STRING, "arg-type ret-type"),
        "event": (needed("arg-type", STRING),),
    },
)

_VERSION = Object(
    (needed("qemu", Object(_all(INT, "major minor micro"))), needed("package", STRING))
)

RETURNS: dict[str, Kind] = {
    "query-version": _VERSION,
    "query-commands": ListOf(Object((needed("name", STRING),))),
    "query-qmp-schema": ListOf(_ENTITY),
    "query-named-block-nodes": ListOf(_NODE),
    "query-block-jobs": ListOf(_BLOCK_JOB),
    "query-jobs": ListOf(_JOB),
    "query-block-exports": ListOf(_EXPORT),
    "x-mirror-snapshot": Object((*_fields(JobSnapshot), needed("map", _MAP))),
}
"""What a command returns; what is not here returns ``NOTHING``."""

_OF_BLOCK_JOB = (
    needed("type", JOB_TYPES),
    needed("device", STRING),
    *_all(INT, "len offset speed"),
)

EVENTS: dict[str, Object] = {
    "JOB_STATUS_CHANGE": Object((needed("id", STRING), needed("status", STATUS))),
    "JOB_COMPLETE_REFUSED": Object(_all(STRING, "id error")),  # our own
    "BLOCK_JOB_READY": Object(_OF_BLOCK_JOB),
    "BLOCK_JOB_COMPLETED": Object((*_OF_BLOCK_JOB, optional("error", STRING))),
    "BLOCK_JOB_CANCELLED": Object(_OF_BLOCK_JOB),
    "BLOCK_JOB_ERROR": Object(
        (
            needed("device", STRING),
            needed("operation", Words(("read", "write"))),
            needed("action", Words(("ignore", "report", "stop"))),
        )
    ),
    "BLOCK_JOB_PENDING": Object((needed("type", JOB_TYPES), needed("id", STRING))),
    "BLOCK_EXPORT_DELETED": Object((needed("id", STRING),)),
}
"""What clients are told without asking, and what such an event holds."""

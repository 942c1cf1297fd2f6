"""The trees of options that ``blockdev-add`` and ``blockdev-create`` take.

Everything that QEMU has for these drivers is known by name and type. What this engine cannot do is
refused by the driver that it is meant for, in words that say so, not as an unknown member.
"""

from mirrorgui.qmp.types import (
    BOOLEAN,
    INT,
    INT32,
    NULL,
    SIZE,
    STRING,
    UINT16,
    UINT32,
    Alternate,
    ListOf,
    Member,
    Object,
    Words,
    needed,
    optional,
)

DRIVERS = ("blkdebug", "file", "host_device", "nbd", "null-co", "qcow2", "raw")

BLKDEBUG_EVENTS = Words.of(
    """
    l1_update l1_grow_alloc_table l1_grow_write_table l1_grow_activate_table l2_load l2_update
    l2_update_compressed l2_alloc_cow_read l2_alloc_write read_aio read_backing_aio read_compressed
    write_aio write_compressed vmstate_load vmstate_save cow_read cow_write reftable_load
    reftable_grow reftable_update refblock_load refblock_update refblock_update_part refblock_alloc
    refblock_alloc_hookup refblock_alloc_write refblock_alloc_write_blocks
    refblock_alloc_write_table refblock_alloc_switch_table cluster_alloc cluster_alloc_bytes
    cluster_free flush_to_os flush_to_disk pwritev_rmw_head pwritev_rmw_after_head
    pwritev_rmw_tail pwritev_rmw_after_tail pwritev pwritev_zero pwritev_done
    empty_image_prepare l1_shrink_write_table l1_shrink_free_l2_clusters cor_write
    cluster_alloc_space none
    """
)

IO_TYPES = Words(("read", "write", "write-zeroes", "discard", "flush", "block-status"))
PREALLOCATION = Words(("off", "metadata", "falloc", "full"))


def _options() -> Object:
    return BLOCKDEV_OPTIONS


BLOCKDEV_REF = Alternate("BlockdevRef", lambda: (_options(), STRING))
BLOCKDEV_REF_OR_NULL = Alternate("BlockdevRefOrNull", lambda: (_options(), STRING, NULL))

INET_MEMBERS = (
    needed("host", STRING),
    needed("port", STRING),
    optional("numeric", BOOLEAN),
    optional("to", UINT16),
    optional("ipv4", BOOLEAN),
    optional("ipv6", BOOLEAN),
    optional("keep-alive", BOOLEAN),
    optional("mptcp", BOOLEAN),
)
UNIX_MEMBERS = (
    needed("path", STRING),
    optional("abstract", BOOLEAN),
    optional("tight", BOOLEAN),
)
VSOCK_MEMBERS = (needed("cid", STRING), needed("port", STRING))
FD_MEMBERS = (needed("str", STRING),)

_SOCKETS = {
    "inet": INET_MEMBERS,
    "unix": UNIX_MEMBERS,
    "vsock": VSOCK_MEMBERS,
    "fd": FD_MEMBERS,
}
SOCKET_ADDRESS = Object((needed("type", Words(tuple(_SOCKETS))),), "type", _SOCKETS)

SOCKET_ADDRESS_LEGACY = Object(
    (needed("type", Words(tuple(_SOCKETS))),),
    "type",
    {name: (needed("data", Object(members)),) for name, members in _SOCKETS.items()},
)

_CACHE = Object((optional("direct", BOOLEAN), optional("no-flush", BOOLEAN)))

_OVERLAP_CHECKED = Words.of(
    """
    main-header active-l1 active-l2 refcount-table refcount-block snapshot-table inactive-l1
    inactive-l2 bitmap-directory
    """
)
_OVERLAP_TEMPLATES = Words(("none", "constant", "cached", "all"))
_OVERLAP_CHECKS = Object(
    (
        optional("template", _OVERLAP_TEMPLATES),
        *(optional(name, BOOLEAN) for name in _OVERLAP_CHECKED.words),
    )
)

_ENCRYPT = Object(
    (needed("format", Words(("aes", "luks"))),),
    "format",
    {"aes": (optional("key-secret", STRING),), "luks": (optional("key-secret", STRING),)},
)

_INJECT_ERROR = Object(
    (
        needed("event", BLKDEBUG_EVENTS),
        optional("state", INT),
        optional("iotype", IO_TYPES),
        optional("errno", INT),
        optional("sector", INT),
        optional("once", BOOLEAN),
        optional("immediately", BOOLEAN),
    )
)
_SET_STATE = Object(
    (
        needed("event", BLKDEBUG_EVENTS),
        optional("state", INT),
        needed("new_state", INT),
    )
)
_PERMISSIONS = ListOf(Words(("consistent-read", "write", "write-unchanged", "resize")))

_FILE_MEMBERS = (
    needed("filename", STRING),
    optional("pr-manager", STRING),
    optional("locking", Words(("auto", "on", "off"))),
    optional("aio", Words(("threads", "native", "io_uring"))),
    optional("aio-max-batch", INT),
    optional("drop-cache", BOOLEAN),
    optional("x-check-cache-dropped", BOOLEAN),
)

_DRIVER_MEMBERS: dict[str, tuple[Member, ...]] = {
    "file": _FILE_MEMBERS,
    "host_device": _FILE_MEMBERS,
    "raw": (needed("file", BLOCKDEV_REF), optional("offset", INT), optional("size", INT)),
    "qcow2": (
        needed("file", BLOCKDEV_REF),
        optional("backing", BLOCKDEV_REF_OR_NULL),
        optional("lazy-refcounts", BOOLEAN),
        optional("pass-discard-request", BOOLEAN),
        optional("pass-discard-snapshot", BOOLEAN),
        optional("pass-discard-other", BOOLEAN),
        optional(
            "overlap-check",
            Alternate("Qcow2OverlapChecks", lambda: (_OVERLAP_CHECKS, _OVERLAP_TEMPLATES)),
        ),
        optional("cache-size", INT),
        optional("l2-cache-size", INT),
        optional("l2-cache-entry-size", INT),
        optional("refcount-cache-size", INT),
        optional("cache-clean-interval", INT),
        optional("encrypt", _ENCRYPT),
        optional("data-file", BLOCKDEV_REF),
    ),
    "nbd": (
        needed("server", SOCKET_ADDRESS),
        optional("export", STRING),
        optional("tls-creds", STRING),
        optional("tls-hostname", STRING),
        optional("x-dirty-bitmap", STRING),
        optional("reconnect-delay", UINT32),
        optional("open-timeout", UINT32),
    ),
    "blkdebug": (
        needed("image", BLOCKDEV_REF),
        optional("config", STRING),
        optional("align", INT),
        optional("max-transfer", INT32),
        optional("opt-write-zero", INT32),
        optional("max-write-zero", INT32),
        optional("opt-discard", INT32),
        optional("max-discard", INT32),
        optional("inject-error", ListOf(_INJECT_ERROR)),
        optional("set-state", ListOf(_SET_STATE)),
        optional("take-child-perms", _PERMISSIONS),
        optional("unshare-child-perms", _PERMISSIONS),
    ),
    "null-co": (
        optional("size", INT),
        optional("latency-ns", SIZE),
        optional("read-zeroes", BOOLEAN),
    ),
}

BLOCKDEV_OPTIONS: Object = Object(
    (
        needed("driver", Words(DRIVERS)),
        optional("node-name", STRING),
        optional("discard", Words(("ignore", "unmap"))),
        optional("cache", _CACHE),
        optional("read-only", BOOLEAN),
        optional("auto-read-only", BOOLEAN),
        optional("force-share", BOOLEAN),
        optional("detect-zeroes", Words(("off", "on", "unmap"))),
    ),
    "driver",
    _DRIVER_MEMBERS,
)
"""The arguments of ``blockdev-add``."""

_HASHES = Words.of("md5 sha1 sha224 sha256 sha384 sha512 ripemd160")
_CREATE_ENCRYPT = Object(
    (needed("format", Words(("qcow", "luks"))),),
    "format",
    {
        "qcow": (optional("key-secret", STRING),),
        "luks": (
            optional("key-secret", STRING),
            optional(
                "cipher-alg",
                Words.of(
                    """
                    aes-128 aes-192 aes-256 des 3des cast5-128 serpent-128 serpent-192 serpent-256
                    twofish-128 twofish-192 twofish-256
                    """
                ),
            ),
            optional("cipher-mode", Words.of("ecb cbc xts ctr")),
            optional("ivgen-alg", Words.of("plain plain64 essiv")),
            optional("ivgen-hash-alg", _HASHES),
            optional("hash-alg", _HASHES),
            optional("iter-time", INT),
        ),
    },
)

_CREATE_MEMBERS: dict[str, tuple[Member, ...]] = {
    "file": (
        needed("filename", STRING),
        needed("size", SIZE),
        optional("preallocation", PREALLOCATION),
        optional("nocow", BOOLEAN),
        optional("extent-size-hint", SIZE),
    ),
    "qcow2": (
        needed("file", BLOCKDEV_REF),
        optional("data-file", BLOCKDEV_REF),
        optional("data-file-raw", BOOLEAN),
        optional("extended-l2", BOOLEAN),
        needed("size", SIZE),
        optional("version", Words(("v2", "v3"))),
        optional("backing-file", STRING),
        optional("backing-fmt", Words(DRIVERS)),
        optional("encrypt", _CREATE_ENCRYPT),
        optional("cluster-size", SIZE),
        optional("preallocation", PREALLOCATION),
        optional("lazy-refcounts", BOOLEAN),
        optional("refcount-bits", INT),
        optional("compression-type", Words(("zlib", "zstd"))),
    ),
}

BLOCKDEV_CREATE_OPTIONS = Object((needed("driver", Words(DRIVERS)),), "driver", _CREATE_MEMBERS)
"""The argument ``options`` of ``blockdev-create``; drivers without members cannot create."""

"""The values of the NBD protocol, under the specification's names without their ``NBD_`` prefix.

See https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md#values
"""

import enum

from mirrorgui.units import MiB

DEFAULT_PORT = 10809
"""The port that IANA reserved for newstyle negotiation."""

MAX_STRING = 4096
"""Longest export name, context name or message, in bytes of UTF-8 (specification, Conventions)."""

MAX_PAYLOAD = 32 * MiB
"""Longest payload of one request or reply. Any less is below what the specification calls portable
(2^25), and more would only cost memory: larger requests gain nothing."""

OPTION_MAGIC = 0x49484156454F5054  # "IHAVEOPT"
INIT_MAGIC = 0x4E42444D41474943  # "NBDMAGIC"
OLDSTYLE_MAGIC = 0x00420281861253
OPTION_REPLY_MAGIC = 0x0003E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
CHUNK_MAGIC = 0x668E33EF

DIRTY_BITMAP_PREFIX = "qemu:dirty-bitmap:"
BASE_ALLOCATION = "base:allocation"
ALLOCATION_DEPTH = "qemu:allocation-depth"
"""QEMU's: which layer of a backing chain holds a range, 1 the top one; 0 where none does."""


class HandshakeFlag(enum.IntFlag):
    """What the server says of the negotiation itself (NBD_FLAG_*)."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1


class ClientFlag(enum.IntFlag):
    """What the client answers to them (NBD_FLAG_C_*)."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1


class TransmissionFlag(enum.IntFlag):
    """What an export can do (NBD_FLAG_*)."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    ROTATIONAL = 1 << 4
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8
    SEND_RESIZE = 1 << 9
    SEND_CACHE = 1 << 10
    SEND_FAST_ZERO = 1 << 11


class Option(enum.IntEnum):
    """What a client may ask during the handshake (NBD_OPT_*)."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10
    EXTENDED_HEADERS = 11


class Reply(enum.IntEnum):
    """What a server may answer to an option (NBD_REP_*); errors have bit 31 set."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = 0x80000001
    ERR_POLICY = 0x80000002
    ERR_INVALID = 0x80000003
    ERR_PLATFORM = 0x80000004
    ERR_TLS_REQD = 0x80000005
    ERR_UNKNOWN = 0x80000006
    ERR_SHUTDOWN = 0x80000007
    ERR_BLOCK_SIZE_REQD = 0x80000008
    ERR_TOO_BIG = 0x80000009
    ERR_EXT_HEADER_REQD = 0x8000000A


class Info(enum.IntEnum):
    """One kind of information about an export (NBD_INFO_*)."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class Command(enum.IntEnum):
    """What a client may ask during transmission (NBD_CMD_*)."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(enum.IntFlag):
    """How a command is meant (NBD_CMD_FLAG_*)."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    REQ_ONE = 1 << 3
    FAST_ZERO = 1 << 4


class ChunkFlag(enum.IntFlag):
    """Flags of a structured reply chunk (NBD_REPLY_FLAG_*)."""

    DONE = 1 << 0


class ChunkType(enum.IntEnum):
    """Kinds of structured reply chunks (NBD_REPLY_TYPE_*); errors have bit 15 set."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = 0x8001
    ERROR_OFFSET = 0x8002


class State(enum.IntFlag):
    """Flags of a ``base:allocation`` extent (NBD_STATE_*)."""

    HOLE = 1 << 0
    ZERO = 1 << 1


STATE_DIRTY = 1
"""The one flag of a ``qemu:dirty-bitmap:NAME`` extent."""


class Error(enum.IntEnum):
    """The error numbers that may cross the wire (NBD_E*)."""

    EPERM = 1
    EIO = 5
    ENOMEM = 12
    EINVAL = 22
    ENOSPC = 28
    EOVERFLOW = 75
    ENOTSUP = 95
    ESHUTDOWN = 108

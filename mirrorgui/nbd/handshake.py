"""The handshake phase of NBD as bytes: greeting, options and their answers, for both ends.

Layouts are given in the specification's words; all numbers are big endian. Whatever the other side
sends, a ``parse_`` function returns a value or raises ``ProtocolError`` and nothing else.

See https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md#handshake-phase
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from mirrorgui.nbd.constants import (
    INIT_MAGIC,
    OLDSTYLE_MAGIC,
    OPTION_MAGIC,
    OPTION_REPLY_MAGIC,
    Info,
    Option,
    Reply,
)
from mirrorgui.nbd.wire import (
    Buffer,
    ProtocolError,
    exact,
    expect,
    pack_string,
    parse_string,
    take,
    take_string,
)
from mirrorgui.units import is_power_of_two

GREETING = struct.Struct(">QQH")
"""64 bits NBDMAGIC, 64 bits IHAVEOPT, 16 bits handshake flags."""
CLIENT_FLAGS = struct.Struct(">I")
EXPORT_REPLY = struct.Struct(">QH")
"""Answer to EXPORT_NAME: 64 bits size, 16 bits transmission flags."""
EXPORT_REPLY_ZEROES = 124
OPTION_HEADER = struct.Struct(">QII")
"""64 bits magic, 32 bits option, 32 bits length of the data that follows."""
OPTION_REPLY_HEADER = struct.Struct(">QIII")
"""64 bits magic, 32 bits option, 32 bits reply type, 32 bits length of the data that follows."""

_LENGTH = struct.Struct(">I")
_SHORT = struct.Struct(">H")
_INFO_EXPORT = struct.Struct(">HQH")
_INFO_BLOCK_SIZE = struct.Struct(">HIII")

_MAX_MINIMUM_BLOCK = 65536  # specification, Block size constraints
_UNLIMITED = 0xFFFFFFFF


def pack_greeting(flags: int) -> bytes:
    """Return the server's first words (fixed newstyle)."""
    return GREETING.pack(INIT_MAGIC, OPTION_MAGIC, flags)


def parse_greeting(data: Buffer) -> int:
    """Read the server's first ``GREETING.size`` bytes.

    Returns:
        The handshake flags.

    Raises:
        ProtocolError: no NBD server, or one that speaks oldstyle only.
    """
    init, magic, flags = exact(GREETING, data, "the greeting")
    expect(init == INIT_MAGIC, "the other side is not an NBD server")
    expect(magic != OLDSTYLE_MAGIC, "the server speaks the oldstyle protocol, which has no exports")
    expect(magic == OPTION_MAGIC, f"the server greets with an unknown magic {magic:#x}")
    return flags


@dataclass(frozen=True, slots=True)
class OptionHeader:
    """An option as a client begins it; ``length`` bytes of data follow."""

    option: int
    length: int


def pack_option(option: int, data: bytes = b"") -> bytes:
    """Return a whole option request."""
    return OPTION_HEADER.pack(OPTION_MAGIC, option, len(data)) + data


def parse_option_header(data: Buffer) -> OptionHeader:
    """Read the ``OPTION_HEADER.size`` bytes that begin an option.

    Raises:
        ProtocolError: wrong magic or size.
    """
    magic, option, length = exact(OPTION_HEADER, data, "an option")
    expect(magic == OPTION_MAGIC, f"an option begins with {magic:#x}")
    return OptionHeader(option, length)


@dataclass(frozen=True, slots=True)
class OptionReplyHeader:
    """An answer to ``option``; ``length`` bytes of data follow."""

    option: int
    reply: int
    length: int

    @property
    def is_error(self) -> bool:
        """Whether it refuses the option; the data then is a message for people."""
        return bool(self.reply & 0x80000000)


def pack_option_reply(option: int, reply: int, data: bytes = b"") -> bytes:
    """Return a whole answer to an option."""
    return OPTION_REPLY_HEADER.pack(OPTION_REPLY_MAGIC, option, reply, len(data)) + data


def parse_option_reply_header(data: Buffer, option: int) -> OptionReplyHeader:
    """Read the ``OPTION_REPLY_HEADER.size`` bytes that begin an answer to ``option``.

    Raises:
        ProtocolError: wrong magic or size, or an answer to something else.
    """
    magic, answered, reply, length = exact(OPTION_REPLY_HEADER, data, "an option reply")
    expect(magic == OPTION_REPLY_MAGIC, f"an option reply begins with {magic:#x}")
    expect(answered == option, f"the server answered option {answered} instead of {option}")
    return OptionReplyHeader(answered, reply, length)


def reply_name(reply: int) -> str:
    """Return a reply type's name for messages, such as ``NBD_REP_ERR_UNKNOWN``."""
    return f"NBD_REP_{Reply(reply).name}" if reply in Reply._value2member_map_ else f"{reply:#x}"


def option_name(option: int) -> str:
    """Return an option's name for messages, such as ``NBD_OPT_GO``."""
    return f"NBD_OPT_{Option(option).name}" if option in Option._value2member_map_ else f"{option}"


# INFO and GO


@dataclass(frozen=True, slots=True)
class InfoRequest:
    """Data of INFO and GO: the export and the kinds of information asked for."""

    export: str
    infos: tuple[int, ...] = ()


def pack_info_request(request: InfoRequest) -> bytes:
    """Return the data: 32 bits length of name, name, 16 bits count, 16 bits each information."""
    count = len(request.infos)
    return pack_string(request.export) + struct.pack(f">H{count}H", count, *request.infos)


def parse_info_request(data: Buffer) -> InfoRequest:
    """Read the data of INFO or GO.

    Raises:
        ProtocolError: it is malformed.
    """
    name, position = take_string(data, 0, "the export name")
    (count,) = take(_SHORT, data, position, "the list of information requests")
    position += _SHORT.size
    expect(len(data) - position == 2 * count, "the list of information requests has a wrong size")
    return InfoRequest(name, struct.unpack_from(f">{count}H", data, position))


@dataclass(frozen=True, slots=True)
class BlockSizes:
    """What sizes of requests an export accepts, in bytes; ``maximum`` 2^32 - 1 means no limit."""

    minimum: int = 1
    preferred: int = 4096
    maximum: int = _UNLIMITED


@dataclass(frozen=True, slots=True)
class ExportInfo:
    """What a server told of an export.

    Attributes:
        size: in bytes.
        flags: transmission flags.
        name: the canonical name, or None where the server did not say.
        description: a text for people, or None.
        block_sizes: constraints, or None.
    """

    size: int
    flags: int
    name: str | None = None
    description: str | None = None
    block_sizes: BlockSizes | None = None


def pack_info_export(size: int, flags: int) -> bytes:
    """Return NBD_INFO_EXPORT: 16 bits type, 64 bits size, 16 bits transmission flags."""
    return _INFO_EXPORT.pack(Info.EXPORT, size, flags)


def pack_info_text(info: int, text: str) -> bytes:
    """Return NBD_INFO_NAME or NBD_INFO_DESCRIPTION: 16 bits type and the string."""
    return _SHORT.pack(info) + text.encode()


def pack_info_block_size(sizes: BlockSizes) -> bytes:
    """Return NBD_INFO_BLOCK_SIZE: 16 bits type, 32 bits minimum, preferred and maximum each."""
    return _INFO_BLOCK_SIZE.pack(Info.BLOCK_SIZE, sizes.minimum, sizes.preferred, sizes.maximum)


def parse_infos(payloads: Iterable[Buffer]) -> ExportInfo:
    """Read the NBD_REP_INFO replies that preceded an ACK; unknown kinds are ignored.

    Raises:
        ProtocolError: one is malformed, or NBD_INFO_EXPORT is missing.
    """
    export: tuple[int, int] | None = None
    name = description = None
    sizes = None
    for payload in payloads:
        (kind,) = take(_SHORT, payload, 0, "information about an export")
        if kind == Info.EXPORT:
            _, size, flags = exact(_INFO_EXPORT, payload, "NBD_INFO_EXPORT")
            export = size, flags
        elif kind == Info.NAME:
            name = parse_string(payload[2:], "NBD_INFO_NAME")
        elif kind == Info.DESCRIPTION:
            description = parse_string(payload[2:], "NBD_INFO_DESCRIPTION")
        elif kind == Info.BLOCK_SIZE:
            sizes = _parse_block_sizes(payload)
    if export is None:
        raise ProtocolError("the server did not tell the export's size")
    return ExportInfo(*export, name, description, sizes)


def _parse_block_sizes(payload: Buffer) -> BlockSizes:
    _, minimum, preferred, maximum = exact(_INFO_BLOCK_SIZE, payload, "NBD_INFO_BLOCK_SIZE")
    expect(
        is_power_of_two(minimum) and minimum <= _MAX_MINIMUM_BLOCK,
        f"the server's minimum block size is {minimum}",
    )
    expect(
        is_power_of_two(preferred) and preferred >= minimum,
        f"the server's preferred block size is {preferred}",
    )
    expect(
        maximum >= minimum,
        f"the server's maximum block size is {maximum}",
    )
    return BlockSizes(minimum, preferred, maximum)


# LIST


def pack_server(name: str, description: str = "") -> bytes:
    """Return the data of NBD_REP_SERVER: 32 bits length of name, name, text for people."""
    return pack_string(name) + description.encode()


def parse_server(data: Buffer) -> tuple[str, str]:
    """Read NBD_REP_SERVER.

    Returns:
        The export's name and its description, which may be empty.

    Raises:
        ProtocolError: it is malformed.
    """
    name, position = take_string(data, 0, "the export name")
    return name, parse_string(data[position:], "the description")


# Metadata contexts


@dataclass(frozen=True, slots=True)
class MetaRequest:
    """Data of LIST_META_CONTEXT and SET_META_CONTEXT."""

    export: str
    queries: tuple[str, ...] = ()


def pack_meta_request(request: MetaRequest) -> bytes:
    """Return the data: name, 32 bits number of queries, each query with its 32 bits length."""
    parts = [pack_string(request.export), _LENGTH.pack(len(request.queries))]
    return b"".join([*parts, *map(pack_string, request.queries)])


def parse_meta_request(data: Buffer) -> MetaRequest:
    """Read the data of LIST_META_CONTEXT or SET_META_CONTEXT.

    Raises:
        ProtocolError: it is malformed.
    """
    name, position = take_string(data, 0, "the export name")
    (count,) = take(_LENGTH, data, position, "the number of queries")
    position += _LENGTH.size
    expect(count <= (len(data) - position) // _LENGTH.size, f"there are not {count} queries")
    queries = []
    for _ in range(count):
        query, position = take_string(data, position, "a query")
        queries.append(query)
    expect(position == len(data), "data follows the last query")
    return MetaRequest(name, tuple(queries))


def pack_meta_context(context_id: int, name: str) -> bytes:
    """Return the data of NBD_REP_META_CONTEXT: 32 bits id and the name."""
    return _LENGTH.pack(context_id) + name.encode()


def parse_meta_context(data: Buffer) -> tuple[int, str]:
    """Read NBD_REP_META_CONTEXT.

    Returns:
        The id that replies will carry, and the context's name.

    Raises:
        ProtocolError: it is malformed.
    """
    (context_id,) = take(_LENGTH, data, 0, "a metadata context")
    return context_id, parse_string(data[_LENGTH.size :], "the name of a metadata context")

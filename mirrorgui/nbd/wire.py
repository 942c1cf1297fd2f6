"""The transmission phase of NBD as bytes: packing and parsing for both ends, no input or output.

The handshake phase is in ``mirrorgui.nbd.handshake``.

Layouts are given in the specification's words; all numbers are big endian. Whatever the other side
sends, a ``parse_`` function returns a value or raises ``ProtocolError`` and nothing else.

See https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md#transmission
"""

import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mirrorgui.errors import MirrorGUIError
from mirrorgui.nbd.constants import (
    CHUNK_MAGIC,
    MAX_STRING,
    REQUEST_MAGIC,
    SIMPLE_REPLY_MAGIC,
    ChunkFlag,
    ChunkType,
    Error,
)

Buffer: TypeAlias = bytes | bytearray | memoryview

REQUEST = struct.Struct(">IHHQQI")
"""32 bits magic, 16 bits flags, 16 bits type, 64 bits cookie, 64 bits offset, 32 bits length."""
SIMPLE_REPLY = struct.Struct(">IIQ")
"""32 bits magic, 32 bits error, 64 bits cookie."""
CHUNK = struct.Struct(">IHHQI")
"""32 bits magic, 16 bits flags, 16 bits type, 64 bits cookie, 32 bits length of the payload."""
DATA_CHUNK = struct.Struct(">IHHQIQ")
"""A chunk header of OFFSET_DATA with the 64 bits offset its payload begins with."""

_LENGTH = struct.Struct(">I")
_HOLE = struct.Struct(">QI")
_ERROR = struct.Struct(">IH")
_OFFSET = struct.Struct(">Q")

_TO_WIRE = {
    errno.EPERM: Error.EPERM,
    errno.EACCES: Error.EPERM,
    errno.EROFS: Error.EPERM,
    errno.ENOMEM: Error.ENOMEM,
    errno.EINVAL: Error.EINVAL,
    errno.ENOSPC: Error.ENOSPC,
    errno.EDQUOT: Error.ENOSPC,
    errno.EFBIG: Error.ENOSPC,
    errno.EOPNOTSUPP: Error.ENOTSUP,
    errno.ESHUTDOWN: Error.ESHUTDOWN,
}
_FROM_WIRE: dict[int, int] = {
    Error.EPERM: errno.EPERM,
    Error.EIO: errno.EIO,
    Error.ENOMEM: errno.ENOMEM,
    Error.EINVAL: errno.EINVAL,
    Error.ENOSPC: errno.ENOSPC,
    Error.EOVERFLOW: errno.EOVERFLOW,
    Error.ENOTSUP: errno.EOPNOTSUPP,
    Error.ESHUTDOWN: errno.ESHUTDOWN,
}


class ProtocolError(MirrorGUIError):
    """The other side broke the protocol; the connection must be ended, nothing else is lost."""


def wire_error(number: int) -> int:
    """Return the protocol's value for a system error number (EIO for what it has no value for)."""
    return int(_TO_WIRE.get(number, Error.EIO))


def system_error(code: int) -> int:
    """Return the system's number for a protocol's error; unexpected ones count as EINVAL."""
    return _FROM_WIRE.get(code, errno.EINVAL)


# Strings


def pack_string(text: str) -> bytes:
    """Return 32 bits length and the UTF-8 of ``text``."""
    data = text.encode()
    return _LENGTH.pack(len(data)) + data


def parse_string(data: Buffer, what: str) -> str:
    """Read a whole buffer as a string of the protocol: UTF-8, no NUL, 4096 bytes at most.

    Raises:
        ProtocolError: it is none; ``what`` names it in the text.
    """
    if len(data) > MAX_STRING:
        raise ProtocolError(f"{what} is {len(data)} bytes long, more than {MAX_STRING}")
    try:
        text = bytes(data).decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"{what} is not UTF-8") from error
    if "\0" in text:
        raise ProtocolError(f"{what} contains a NUL character")
    return text


def take_string(data: Buffer, position: int, what: str) -> tuple[str, int]:
    """Read 32 bits length and a string; return it and the position behind it.

    Raises:
        ProtocolError: it is cut short or no string; ``what`` names it in the text.
    """
    (length,) = take(_LENGTH, data, position, what)
    start = position + _LENGTH.size
    if length > len(data) - start:
        raise ProtocolError(f"{what} would reach beyond its message")
    return parse_string(data[start : start + length], what), start + length


# Pieces that both phases parse with


def take(layout: struct.Struct, data: Buffer, position: int, what: str) -> tuple[int, ...]:
    """Unpack ``layout`` from ``position``.

    Raises:
        ProtocolError: the data ends before; ``what`` names it in the text.
    """
    if len(data) - position < layout.size:
        raise ProtocolError(f"{what} is cut short")
    return layout.unpack_from(data, position)


def exact(layout: struct.Struct, data: Buffer, what: str) -> tuple[int, ...]:
    """Unpack a whole buffer.

    Raises:
        ProtocolError: it is shorter or longer than ``layout``; ``what`` names it in the text.
    """
    if len(data) != layout.size:
        raise ProtocolError(f"{what} has {len(data)} bytes instead of {layout.size}")
    return layout.unpack(data)


def expect(condition: bool, text: str) -> None:
    """Insist on a rule of the protocol.

    Raises:
        ProtocolError: it does not hold.
    """
    if not condition:
        raise ProtocolError(text)


# Transmission: requests


@dataclass(frozen=True, slots=True)
class Request:
    """A request header. ``length`` bytes of payload follow a WRITE."""

    flags: int
    command: int
    cookie: int
    offset: int
    length: int


def pack_request(request: Request) -> bytes:
    """Return the header of a request."""
    return REQUEST.pack(
        REQUEST_MAGIC,
        request.flags,
        request.command,
        request.cookie,
        request.offset,
        request.length,
    )


def parse_request(data: Buffer) -> Request:
    """Read the ``REQUEST.size`` bytes that begin a request.

    Raises:
        ProtocolError: wrong magic or size.
    """
    magic, flags, command, cookie, offset, length = exact(REQUEST, data, "a request")
    expect(magic == REQUEST_MAGIC, f"a request begins with {magic:#x}")
    return Request(flags, command, cookie, offset, length)


# Transmission: replies


@dataclass(frozen=True, slots=True)
class SimpleReply:
    """A simple reply; the data of a successful READ follows it."""

    error: int
    cookie: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """The header of a structured reply chunk; ``length`` bytes of payload follow."""

    flags: int
    type: int
    cookie: int
    length: int

    @property
    def is_last(self) -> bool:
        """Whether the reply ends with it."""
        return bool(self.flags & ChunkFlag.DONE)

    @property
    def is_error(self) -> bool:
        """Whether it says that the request failed, known type or not."""
        return bool(self.type & 0x8000)


def pack_simple_reply(error: int, cookie: int) -> bytes:
    """Return a simple reply without data."""
    return SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, error, cookie)


def pack_chunk(flags: int, chunk_type: int, cookie: int, payload: bytes = b"") -> bytes:
    """Return a whole structured reply chunk."""
    return CHUNK.pack(CHUNK_MAGIC, flags, chunk_type, cookie, len(payload)) + payload


def pack_data_header(flags: int, cookie: int, offset: int, length: int) -> bytes:
    """Return what precedes the ``length`` bytes of data in an OFFSET_DATA chunk."""
    return DATA_CHUNK.pack(
        CHUNK_MAGIC, flags, ChunkType.OFFSET_DATA, cookie, length + _OFFSET.size, offset
    )


def parse_simple_reply(data: Buffer) -> SimpleReply:
    """Read a simple reply's header.

    Raises:
        ProtocolError: wrong magic or size.
    """
    magic, error, cookie = exact(SIMPLE_REPLY, data, "a simple reply")
    expect(magic == SIMPLE_REPLY_MAGIC, f"a simple reply begins with {magic:#x}")
    return SimpleReply(error, cookie)


def parse_chunk(data: Buffer) -> Chunk:
    """Read a structured reply chunk's header.

    Raises:
        ProtocolError: wrong magic or size.
    """
    magic, flags, chunk_type, cookie, length = exact(CHUNK, data, "a structured reply chunk")
    expect(magic == CHUNK_MAGIC, f"a structured reply chunk begins with {magic:#x}")
    return Chunk(flags, chunk_type, cookie, length)


def parse_data_offset(data: Buffer) -> int:
    """Read the 64 bits offset that begins the payload of OFFSET_DATA.

    Raises:
        ProtocolError: there are not 8 bytes.
    """
    (offset,) = exact(_OFFSET, data, "the offset of a data chunk")
    return offset


def pack_hole(offset: int, length: int) -> bytes:
    """Return the payload of OFFSET_HOLE: 64 bits offset, 32 bits size."""
    return _HOLE.pack(offset, length)


def parse_hole(data: Buffer) -> tuple[int, int]:
    """Read the payload of OFFSET_HOLE: offset and length.

    Raises:
        ProtocolError: it is malformed or empty.
    """
    offset, length = exact(_HOLE, data, "a hole chunk")
    expect(length > 0, "a hole chunk is empty")
    return offset, length


@dataclass(frozen=True, slots=True)
class ErrorChunk:
    """Why a request failed: the protocol's error, a text for people, and where, if it was told."""

    error: int
    message: str = ""
    offset: int | None = None


def pack_error(chunk: ErrorChunk) -> bytes:
    """Return the payload: 32 bits error, 16 bits message length, message, 64 bits offset if any."""
    message = chunk.message.encode()[:MAX_STRING].decode(errors="ignore").encode()
    data = _ERROR.pack(chunk.error, len(message)) + message
    return data if chunk.offset is None else data + _OFFSET.pack(chunk.offset)


def parse_error(chunk_type: int, data: Buffer) -> ErrorChunk:
    """Read the payload of any error chunk; of unknown types only the common fields.

    Raises:
        ProtocolError: it is malformed.
    """
    error, length = take(_ERROR, data, 0, "an error chunk")
    expect(error != 0, "an error chunk says that there is no error")
    end = _ERROR.size + length
    expect(end <= len(data), "the message of an error chunk would reach beyond it")
    message = parse_string(data[_ERROR.size : end], "the message of an error chunk")
    if chunk_type == ChunkType.ERROR_OFFSET:
        (offset,) = exact(_OFFSET, data[end:], "the offset of an error chunk")
        return ErrorChunk(error, message, offset)
    return ErrorChunk(error, message)


def pack_block_status(context_id: int, extents: Sequence[tuple[int, int]]) -> bytes:
    """Return the payload of BLOCK_STATUS: 32 bits id, then 32 bits length and flags each."""
    numbers = [number for extent in extents for number in extent]
    return struct.pack(f">I{len(numbers)}I", context_id, *numbers)


def parse_block_status(data: Buffer) -> tuple[int, list[tuple[int, int]]]:
    """Read the payload of BLOCK_STATUS.

    Returns:
        The context's id and its runs as (length, flags), none of them empty.

    Raises:
        ProtocolError: it is malformed.
    """
    expect(len(data) >= 12 and len(data) % 8 == 4, f"a block status of {len(data)} bytes")
    numbers = struct.unpack(f">{len(data) // 4}I", data)
    extents = list(zip(numbers[1::2], numbers[2::2], strict=True))
    expect(all(length for length, _ in extents), "a block status has an empty run")
    return numbers[0], extents

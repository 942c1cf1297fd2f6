"""D-Bus messages as bytes: as much of the protocol as calls with plain values need. Free of Qt.

Values are packed little-endian and aligned to their own size, counted from the begin of the
message; see "Marshaling" in the D-Bus specification. Sizes and serials are 32 bits.
"""

import enum
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_MESSAGE = 1 << 20
"""Bytes; nobody who answers us needs more, and the bus itself would allow 128 MiB."""

FIXED_HEADER = 16
"""Bytes from which the length of a message is known."""


class Kind(enum.IntEnum):
    """What a message is."""

    CALL = 1
    RETURN = 2
    ERROR = 3
    SIGNAL = 4


class Field(enum.IntEnum):
    """Fields of a header that are read or written here."""

    PATH = 1
    INTERFACE = 2
    MEMBER = 3
    ERROR_NAME = 4
    REPLY_SERIAL = 5
    DESTINATION = 6
    SENDER = 7
    SIGNATURE = 8


@dataclass(frozen=True, slots=True)
class Variant:
    """A value with its type, as the values of dictionaries are."""

    signature: str
    value: object


@dataclass(frozen=True, slots=True)
class Message:
    """A message that has arrived.

    Attributes:
        kind: what it is.
        fields: its header.
        body: its values; empty where they have types that are not read here.
    """

    kind: int
    fields: Mapping[int, object]
    body: tuple[object, ...]

    @property
    def reply_to(self) -> int:
        """Serial of the call that it answers, or 0."""
        serial = self.fields.get(Field.REPLY_SERIAL, 0)
        return serial if isinstance(serial, int) else 0


class WireError(ValueError):
    """What has arrived is no message."""


_ALIGNMENT = {"y": 1, "b": 4, "i": 4, "u": 4, "s": 4, "o": 4, "g": 1, "a": 4, "v": 1, "{": 8}
_NUMBERS = {"y": "B", "b": "I", "i": "i", "u": "I"}


def call(
    serial: int,
    destination: str,
    path: str,
    member: str,
    signature: str = "",
    *values: object,
    interface: str = "",
) -> bytes:
    """Write a call of a method; the interface is called as the destination by default."""
    body = _Writer()
    body.values(signature, values)
    fields = [
        (Field.PATH, Variant("o", path)),
        (Field.DESTINATION, Variant("s", destination)),
        (Field.INTERFACE, Variant("s", interface or destination)),
        (Field.MEMBER, Variant("s", member)),
    ]
    if signature:
        fields.append((Field.SIGNATURE, Variant("g", signature)))
    head = _Writer()
    head.data += struct.pack("<cBBBII", b"l", Kind.CALL, 0, 1, len(body.data), serial)
    head.fields(fields)
    head.align(8)
    return bytes(head.data + body.data)


def message_length(head: bytes) -> int:
    """Return the length of the message that begins with ``FIXED_HEADER`` bytes.

    Raises:
        WireError: these are no message's, or it is longer than ``MAX_MESSAGE``.
    """
    order = _order(head)
    body, _serial, fields = struct.unpack_from(f"{order}III", head, 4)
    length = FIXED_HEADER + (fields + 7) // 8 * 8 + body
    if length > MAX_MESSAGE:
        raise WireError(f"a message of {length} bytes")
    return int(length)


def parse(data: bytes) -> Message:
    """Read a whole message.

    Raises:
        WireError: it is broken.
    """
    order = _order(data)
    reader = _Reader(data, order, 12)
    try:
        end = reader.number("u") + FIXED_HEADER
        fields: dict[int, object] = {}
        while reader.at < end:
            reader.align(8)
            name = reader.number("y")
            fields[name] = reader.value("v")
        reader.align(8)
        signature = fields.get(Field.SIGNATURE, "")
        return Message(data[1], fields, _body(reader, str(signature)))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise WireError(f"a broken message: {error}") from error


def _body(reader: "_Reader", signature: str) -> tuple[object, ...]:
    if any(letter not in "ybiusog" for letter in signature):
        return ()
    return tuple(reader.value(letter) for letter in signature)


def _order(head: bytes) -> str:
    order = {b"l": "<", b"B": ">"}.get(head[:1])
    if order is None or len(head) < FIXED_HEADER or head[3] != 1:
        raise WireError(f"no message of version 1: {head[:4]!r}")
    return order


class _Writer:
    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)

    def values(self, signature: str, values: Sequence[object]) -> None:
        for each, value in zip(split(signature), values, strict=True):
            self.value(each, value)

    def value(self, signature: str, value: object) -> None:
        letter = signature[0]
        self.align(_ALIGNMENT[letter])
        if letter in _NUMBERS:
            self.data += struct.pack(f"<{_NUMBERS[letter]}", value)
        elif letter in "so":
            text = str(value).encode()
            self.data += struct.pack("<I", len(text)) + text + b"\0"
        elif letter == "g":
            self.data += bytes([len(str(value))]) + str(value).encode() + b"\0"
        elif letter == "v":
            assert isinstance(value, Variant)
            self.value("g", value.signature)
            self.value(value.signature, value.value)
        elif signature == "a{sv}":
            assert isinstance(value, Mapping)
            self._array(8, [("sv", pair) for pair in value.items()])
        else:
            assert isinstance(value, Sequence)
            self._array(_ALIGNMENT[signature[1]], [(signature[1:], (each,)) for each in value])

    def fields(self, fields: Sequence[tuple[int, Variant]]) -> None:
        self._array(8, [("yv", pair) for pair in fields])

    def _array(self, alignment: int, items: Sequence[tuple[str, Sequence[object]]]) -> None:
        place = len(self.data)
        self.data += bytes(4)
        self.align(alignment)
        begin = len(self.data)
        for signature, values in items:
            self.align(alignment)
            self.values(signature, values)
        struct.pack_into("<I", self.data, place, len(self.data) - begin)


class _Reader:
    def __init__(self, data: bytes, order: str, at: int) -> None:
        self._data = data
        self._order = order
        self.at = at

    def align(self, size: int) -> None:
        self.at += -self.at % size

    def number(self, letter: str) -> int:
        self.align(_ALIGNMENT[letter])
        (number,) = struct.unpack_from(self._order + _NUMBERS[letter], self._data, self.at)
        self.at += _ALIGNMENT[letter]
        return int(number)

    def value(self, letter: str) -> object:
        if letter in _NUMBERS:
            return self.number(letter)
        if letter == "v":
            signature = str(self.value("g"))
            if signature not in set("ybiusog"):
                raise IndexError(f"a value of type {signature}")
            return self.value(signature)
        length = self.number("y" if letter == "g" else "u")
        begin, self.at = self.at, self.at + length + 1
        if self.at > len(self._data):
            raise IndexError("a text beyond the end")
        return self._data[begin : begin + length].decode()


def split(signature: str) -> list[str]:
    """Cut a signature into those of its values: ``sa{sv}i`` into ``s``, ``a{sv}`` and ``i``."""
    found, at = [], 0
    while at < len(signature):
        end = at + 1
        if signature[at] == "a":
            end = signature.index("}", at) + 1 if signature[at + 1] == "{" else at + 2
        found.append(signature[at:end])
        at = end
    return found

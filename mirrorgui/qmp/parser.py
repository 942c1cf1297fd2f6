"""Tokens to values: a value is complete when its brackets are, and is parsed then.

Texts of errors are QEMU's. Nothing ends the stream: after an error the next token begins a value.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mirrorgui.qmp.errors import QmpError
from mirrorgui.qmp.lexer import Lexer, Token, TokenKind

MAX_SIZE = 1 << 20
"""Bytes of one value's tokens together."""

MAX_TOKENS = 1 << 17
"""Tokens of one value; a token takes about 100 bytes of memory. QEMU would take 2 Mi."""

MAX_NESTING = 128
"""Brackets in one another. QEMU would take 1024; trees of nodes are walked by recursion here."""

_HEX = re.compile(rb"[0-9a-fA-F]{4}")
_ESCAPED = {
    b'\\"': b'"',
    b"\\'": b"'",
    b"\\\\": b"\\",
    b"\\/": b"/",
    b"\\b": b"\b",
    b"\\f": b"\f",
    b"\\n": b"\n",
    b"\\r": b"\r",
    b"\\t": b"\t",
}
_KEYWORDS: Final[dict[bytes, bool | None]] = {b"true": True, b"false": False, b"null": None}

_MAX_INT, _MIN_INT = 1 << 64, -(1 << 63)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A value, or what was wrong with its text."""

    value: object = None
    error: QmpError | None = None


class JsonStream:
    """Takes bytes as they arrive and gives values as they are complete."""

    def __init__(self) -> None:
        self._lexer = Lexer()
        self._forget()

    def feed(self, data: bytes) -> Iterator[Parsed]:
        """Return what is complete now; take all of it before the next call."""
        for token in self._lexer.feed(data):
            parsed = self._take(token)
            if parsed is not None:
                yield parsed

    def _forget(self) -> None:
        self._tokens: list[Token] = []
        self._braces = self._brackets = self._size = 0

    def _take(self, token: Token) -> Parsed | None:
        self._count(token)
        problem = self._problem(token)
        if problem:
            self._forget()
            return Parsed(error=QmpError(problem))
        self._tokens.append(token)
        self._size += len(token.text)
        nested = self._braces > 0 or self._brackets > 0
        if nested and self._braces >= 0 and self._brackets >= 0:
            return None
        tokens = self._tokens
        self._forget()
        try:
            return Parsed(_Reader(tokens).value())
        except _Unparsable as error:
            return Parsed(error=QmpError(f"JSON parse error, {error}"))

    def _count(self, token: Token) -> None:
        if token.kind is TokenKind.STRUCTURE:
            self._braces += (token.text == b"{") - (token.text == b"}")
            self._brackets += (token.text == b"[") - (token.text == b"]")

    def _problem(self, token: Token) -> str:
        if token.kind is TokenKind.STRAY:
            return f"JSON parse error, stray '{_shown(token.text)}'"
        if token.kind is TokenKind.TOO_LONG or self._size + len(token.text) > MAX_SIZE:
            return "JSON token size limit exceeded"
        if len(self._tokens) >= MAX_TOKENS:
            return "JSON token count limit exceeded"
        if self._braces + self._brackets > MAX_NESTING:
            return "JSON nesting depth limit exceeded"
        return ""


class _Unparsable(Exception):
    """The text is what comes behind ``JSON parse error,``."""


class _Reader:
    """Reads the value that a list of tokens is.

    They are never exhausted: a bracket is missing only where another one stands in its place.
    """

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = iter(tokens)

    def value(self) -> object:
        return self._value_of(next(self._tokens))

    def _value_of(self, token: Token) -> object:
        match token.kind:
            case TokenKind.STRING:
                return _string(token.text)
            case TokenKind.NUMBER:
                return _number(token.text)
            case TokenKind.KEYWORD:
                return _keyword(token.text)
        if token.text == b"{":
            return self._object()
        if token.text == b"[":
            return self._array()
        raise _Unparsable("expecting value")

    def _object(self) -> dict[str, object]:
        members: dict[str, object] = {}
        token = next(self._tokens)
        if token.text == b"}":
            return members
        while True:
            self._member(token, members)
            token = next(self._tokens)
            if token.text == b"}":
                return members
            if token.text != b",":
                raise _Unparsable("expected separator in dict")
            token = next(self._tokens)

    def _member(self, token: Token, members: dict[str, object]) -> None:
        key = self._value_of(token)
        if not isinstance(key, str):
            raise _Unparsable("key is not a string in object")
        if next(self._tokens).text != b":":
            raise _Unparsable("missing : in object pair")
        value = self.value()
        if key in members:
            raise _Unparsable("duplicate key")
        members[key] = value

    def _array(self) -> list[object]:
        elements: list[object] = []
        token = next(self._tokens)
        if token.text == b"]":
            return elements
        while True:
            elements.append(self._value_of(token))
            token = next(self._tokens)
            if token.text == b"]":
                return elements
            if token.text != b",":
                raise _Unparsable("expected separator in list")
            token = next(self._tokens)


def _keyword(text: bytes) -> bool | None:
    if text not in _KEYWORDS:
        raise _Unparsable(f"invalid keyword '{_shown(text)}'")
    return _KEYWORDS[text]


def _number(text: bytes) -> int | float:
    """Return an integer where 64 bits, signed or not, hold it, and a float otherwise."""
    is_whole = text.lstrip(b"-").isdigit()
    if is_whole and len(text) <= len(str(_MAX_INT)) and _MIN_INT <= int(text) < _MAX_INT:
        return int(text)
    number = float(text)
    if number in (float("inf"), float("-inf")):  # no JSON could answer with it
        raise _Unparsable(f"number out of range '{_shown(text)}'")
    return number


def _string(text: bytes) -> str:
    inside = text[1:-1]
    if b"\\" not in inside:
        return _decode(inside)
    parts: list[str] = []
    position = 0
    while (backslash := inside.find(b"\\", position)) >= 0:
        parts.append(_decode(inside[position:backslash]))
        character, position = _escape(text, inside, backslash)
        parts.append(character)
    parts.append(_decode(inside[position:]))
    return "".join(parts)


def _escape(text: bytes, inside: bytes, position: int) -> tuple[str, int]:
    """Return the character of an escape sequence, and where it ends."""
    escape = inside[position : position + 2]
    if escape in _ESCAPED:
        return _ESCAPED[escape].decode(), position + 2
    if escape != b"\\u":
        raise _Unparsable("invalid escape sequence in string")
    code = _hex(inside, position)
    end = position + 6
    if code is not None and 0xD800 <= code < 0xDC00:
        low = _hex(inside, end) if inside[end : end + 2] == b"\\u" else None
        if low is None or not 0xDC00 <= low < 0xE000:
            code = None
        else:
            code = 0x10000 + ((code & 0x3FF) << 10 | low & 0x3FF)
            end += 6
    if code is None or not _is_character(code):
        # The quotes count as well when an escape sequence is cut short by them.
        shown = _shown(text[position + 1 : end + 1])
        raise _Unparsable(f"{shown} is not a valid Unicode character")
    return chr(code), end


def _hex(inside: bytes, position: int) -> int | None:
    digits = inside[position + 2 : position + 6]
    return int(digits, 16) if _HEX.fullmatch(digits) else None


def _is_character(code: int) -> bool:
    """Say whether Unicode has a character of that number, or might get one."""
    is_surrogate = 0xD800 <= code < 0xE000
    is_none = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
    return not is_surrogate and not is_none


def _decode(raw: bytes) -> str:
    try:
        # QEMU writes the character 0 in two bytes, and so may its clients.
        text = raw.replace(b"\xc0\x80", b"\0").decode()
    except UnicodeDecodeError:
        raise _Unparsable("invalid UTF-8 sequence in string") from None
    if not all(_is_character(ord(each)) for each in text if each > "\ufdcf"):
        raise _Unparsable("invalid UTF-8 sequence in string")
    return text


def _shown(raw: bytes) -> str:
    """Return bytes as a text for people, up to the first 0."""
    text = raw.partition(b"\0")[0].replace(b"\xc0\x80", b"\0").decode(errors="replace")
    return "".join(each if _is_character(ord(each)) else "\ufffd" for each in text)

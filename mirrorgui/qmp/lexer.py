"""JSON text to tokens, a piece at a time, with QEMU's idea of where to go on after a mistake.

Beside JSON's own grammar, strings may stand in single quotes. A byte that cannot go on where it
stands makes an error of everything since the token's beginning; what follows is then skipped up to
a structural character, a control character other than a tab, or one of the bytes FE and FF, which
no text contains: any of these makes it listen again.
"""

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_TOKEN = 1 << 20
"""Longest token in bytes. No command has a string that long; QEMU would take 64 MiB."""

MAX_SCALAR = 1024
"""Longest number or keyword: they are looked at again from their beginning for each packet."""

_SPACE = re.compile(rb"[ \t\r\n]*")
_STRUCTURE = b"{}[],:"
_DIGITS = b"0123456789"
_KEYWORD = re.compile(rb"[a-z]+")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBER_BEGUN = re.compile(
    rb"-?(?:(?:0|[1-9][0-9]*)(?:\.(?:[0-9]+(?:[eE][+-]?[0-9]*)?)?|[eE][+-]?[0-9]*)?)?"
)
_IN_STRING = {
    quote: re.compile(rb"(?:[^%c\\\x00-\x1f\xfe\xff]|\\[^\x00-\x1f\xfe\xff])*" % quote)
    for quote in b"\"'"
}
_SKIPPED = re.compile(rb"[^\x00-\x08\x0a-\x1f\xfe\xff{}\[\],:]*")


class TokenKind(enum.Enum):
    """What a token is; structural ones are told apart by their text."""

    STRUCTURE = enum.auto()
    STRING = enum.auto()
    NUMBER = enum.auto()
    KEYWORD = enum.auto()
    STRAY = enum.auto()
    """Cannot be JSON; the text is what was wrong, up to the byte that shows it."""
    TOO_LONG = enum.auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A token and the bytes that it stood in, quotes included."""

    kind: TokenKind
    text: bytes


class Lexer:
    """Takes bytes as they arrive. Numbers and keywords end with the byte behind them."""

    def __init__(self) -> None:
        self._buffer = b""
        self._scanned = 0
        """How far the string at the buffer's beginning has been looked through."""
        self._skipping = False

    def feed(self, data: bytes) -> Iterator[Token]:
        """Return the tokens that are complete now.

        What is not taken from the iterator is lost: go on to its end, or never feed again.
        """
        buffer = self._buffer + data
        position = 0
        while True:
            position = self._start(buffer, position)
            if position == len(buffer):
                break
            found = self._token(buffer, position)
            if found is None:
                break
            yield found
            position += len(found.text)
            self._scanned = 0
            self._skipping = found.kind in (TokenKind.STRAY, TokenKind.TOO_LONG)
        self._buffer = buffer[position:]

    def _start(self, buffer: bytes, position: int) -> int:
        """Return where the next token begins, or the end of what there is."""
        if self._skipping:
            position = _end(_SKIPPED, buffer, position)
            self._skipping = position == len(buffer)
        return _end(_SPACE, buffer, position)

    def _token(self, buffer: bytes, start: int) -> Token | None:
        first = buffer[start]
        if first in _STRUCTURE:
            return Token(TokenKind.STRUCTURE, buffer[start : start + 1])
        if first in _IN_STRING:
            return self._string(buffer, start)
        if first in b"-" or first in _DIGITS:
            return _number(buffer, start)
        end = _end(_KEYWORD, buffer, start) if _KEYWORD.match(buffer, start) else start
        if end == start:
            return Token(TokenKind.STRAY, buffer[start : start + 1])
        if end == len(buffer):
            return _unless_too_long(buffer[start:], MAX_SCALAR)
        return Token(TokenKind.KEYWORD, buffer[start:end])

    def _string(self, buffer: bytes, start: int) -> Token | None:
        quote = buffer[start]
        end = _end(_IN_STRING[quote], buffer, start + max(1, self._scanned))
        if end - start > MAX_TOKEN:
            return Token(TokenKind.TOO_LONG, buffer[start:end])
        if end == len(buffer) or (end + 1 == len(buffer) and buffer[end : end + 1] == b"\\"):
            self._scanned = end - start
            return None
        if buffer[end] == quote:
            return Token(TokenKind.STRING, buffer[start : end + 1])
        behind = end + 2 if buffer[end : end + 1] == b"\\" else end + 1
        return Token(TokenKind.STRAY, buffer[start:behind])


def _end(pattern: re.Pattern[bytes], buffer: bytes, position: int) -> int:
    found = pattern.match(buffer, position)
    return found.end() if found else position


def _number(buffer: bytes, start: int) -> Token | None:
    end = _end(_NUMBER_BEGUN, buffer, start)
    if end == len(buffer):
        return _unless_too_long(buffer[start:], MAX_SCALAR)
    begun = buffer[start:end]
    behind = buffer[end : end + 1]
    is_octal = begun in (b"0", b"-0") and behind in (b"%c" % digit for digit in _DIGITS)
    if is_octal or not _NUMBER.fullmatch(begun):
        return Token(TokenKind.STRAY, begun + behind)
    return Token(TokenKind.NUMBER, begun)


def _unless_too_long(begun: bytes, limit: int) -> Token | None:
    return Token(TokenKind.TOO_LONG, begun) if len(begun) > limit else None

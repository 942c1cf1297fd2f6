"""How the safety checks say sizes and times."""

import time

from mirrorgui.units import KiB, format_size

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")

_DAY_S = 86400


def exact_size(size: int) -> str:
    """Write a size so that nothing of it is lost: ``4.0 KiB``, ``4.9 KiB (5,000 bytes)``."""
    text = format_size(size)
    return text if _is_exact(text, size) else f"{text} ({size:,} bytes)"


def two_sizes(one: int, other: int) -> tuple[str, str]:
    """Write two sizes with as many digits as it takes to tell them apart.

    ``64.0 GiB`` and ``63.99 GiB``; in bytes where seven digits are not enough.
    """
    for digits in range(1, 8):
        texts = _with_digits(one, digits), _with_digits(other, digits)
        if texts[0] != texts[1] or one == other:
            # The rounder one needs no more digits than usual, unless that makes them look alike.
            short = format_size(one), format_size(other)
            return (
                short[0] if _is_exact(short[0], one) else texts[0],
                short[1] if _is_exact(short[1], other) else texts[1],
            )
    return f"{one:,} bytes", f"{other:,} bytes"


def when(seconds: float, now: float | None = None) -> str:
    """Write a time of day for people: ``today 18:12``, ``yesterday 18:12``, ``2024-05-01 18:12``.

    Args:
        seconds: since 1970.
        now: likewise; the clock's by default.
    """
    now = time.time() if now is None else now
    then, clock = time.localtime(seconds), time.strftime("%H:%M", time.localtime(seconds))
    for days, word in ((0, "today"), (1, "yesterday")):
        if then[:3] == time.localtime(now - days * _DAY_S)[:3]:
            return f"{word} {clock}"
    return f"{time.strftime('%Y-%m-%d', then)} {clock}"


def _is_exact(text: str, size: int) -> bool:
    number, unit = text.split()
    factor = KiB ** (_UNITS.index(unit) + 1) if unit in _UNITS else 1
    whole, _, tenths = number.partition(".")
    return (int(whole) * 10 + int(tenths or 0)) * factor == size * 10


def _with_digits(size: int, digits: int) -> str:
    value, unit = float(size), "B"
    for name in _UNITS:
        if value < KiB:
            break
        value, unit = value / KiB, name
    return f"{size} B" if unit == "B" else f"{value:.{digits}f} {unit}"

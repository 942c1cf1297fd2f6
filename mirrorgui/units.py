"""Sizes: their names, their parsing and their alignment. Everything is a whole number of bytes."""

import re

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB
TiB = 1024 * GiB
PiB = 1024 * TiB

_SUFFIXES = {"": 1, "K": KiB, "M": MiB, "G": GiB, "T": TiB, "P": PiB}
_SIZE = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?\s*", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Read a size with an optional suffix, as qemu-img does: ``64K``, ``1.5G``, ``10 MiB``.

    Args:
        text: digits, and one of K, M, G, T, P (powers of 1024), upper or lower case; ``iB`` and
            ``B`` may follow.

    Returns:
        The size in bytes. A minus sign is kept, so that the caller can refuse it by name.

    Raises:
        ValueError: it is not a size, or not a whole number of bytes.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not a size (examples: 65536, 64K, 10M, 1G)")
    number, suffix = match.groups()
    unit = _SUFFIXES[suffix.upper()]
    if "." not in number:
        return int(number) * unit
    whole, _, fraction = number.partition(".")
    scaled = int(whole + fraction) * unit
    size, rest = divmod(abs(scaled), int(10 ** len(fraction)))
    if rest and unit == 1:
        raise ValueError(f"'{text}' is not a whole number of bytes")
    return -size if scaled < 0 else size


def format_size(size: int | float) -> str:
    """Write a size for people: ``0 B``, ``512 B``, ``64.0 KiB``, ``1.2 GiB``."""
    sign, value = ("-" if size < 0 else ""), abs(float(size))
    if value < KiB:
        return f"{sign}{value:.0f} B"
    for name in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1023.95:
            return f"{sign}{value:.1f} {name}"
    return f"{sign}{value / 1024:.1f} PiB"


def format_rate(bytes_per_second: int | float) -> str:
    """Write a rate for people: ``51.8 MiB/s``."""
    return f"{format_size(bytes_per_second)}/s"


def align_down(value: int, alignment: int) -> int:
    """Return the largest multiple of ``alignment`` that is not above ``value``."""
    return value - value % alignment


def align_up(value: int, alignment: int) -> int:
    """Return the smallest multiple of ``alignment`` that is not below ``value``."""
    return -(-value // alignment) * alignment


def is_power_of_two(value: int) -> bool:
    """Say whether ``value`` is 1, 2, 4, 8, ..."""
    return value > 0 and value & (value - 1) == 0

"""Texts for people pass through here, so that they can be translated. Free of Qt.

``pyside6-lupdate`` finds the calls of ``tr``; the application installs Qt's lookup at its start.
"""

from collections.abc import Callable


def _as_written(text: str) -> str:
    return text


_lookup: Callable[[str], str] = _as_written


def install(lookup: Callable[[str], str] | None) -> None:
    """Translate with ``lookup`` from now on; None goes back to the texts as written."""
    global _lookup
    _lookup = lookup or _as_written


def tr(text: str, /, **fields: object) -> str:
    """Translate ``text``, then fill in its ``{named}`` fields."""
    found = _lookup(text)
    return found.format(**fields) if fields else found


def ntr(one: str, many: str, count: int, /, **fields: object) -> str:
    """Translate the form that fits ``count``; ``{n}`` stands for the count itself."""
    return _lookup(one if count == 1 else many).format(n=f"{count:,}".replace(",", " "), **fields)

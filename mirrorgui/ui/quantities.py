"""Sizes, speeds and policies as people read and type them. Free of Qt."""

from collections.abc import Sequence

from mirrorgui.mirror.options import ErrorPolicy
from mirrorgui.ui.i18n import tr
from mirrorgui.units import GiB, MiB, TiB, format_rate, format_size, parse_size

QUICK_SPEEDS = (10 * MiB, 50 * MiB, 100 * MiB)


def plain_size(size: int) -> str:
    """Write a size without a fraction where it has none: ``64 KiB``, ``1.5 MiB``."""
    return format_size(size).replace(".0 ", " ")


def place_text(offset: int) -> str:
    """Write an offset so that neighbours can be told apart: ``29.120 GiB``."""
    for name, unit in (("TiB", TiB), ("GiB", GiB), ("MiB", MiB)):
        if offset >= unit:
            digits = 6 if unit is TiB else 3
            return f"{offset / unit:.{digits}f} {name}"
    return format_size(offset)


def plain_rate(speed: int) -> str:
    """Write a speed limit: ``Unlimited``, ``10 MiB/s``."""
    return format_rate(speed).replace(".0 ", " ") if speed else tr("Unlimited")


def read_speed(text: str) -> int:
    """Read a speed limit as a person types it; a number alone means MiB/s.

    Returns:
        Bytes per second, 0 for unlimited.

    Raises:
        ValueError: it is not a speed; the text says what would be.
    """
    cleaned = text.strip()
    if cleaned.casefold() in ("", tr("Unlimited").casefold()):
        return 0
    cleaned = cleaned.removesuffix("/s").strip()
    try:
        speed = parse_size(f"{cleaned}M" if _is_number(cleaned) else cleaned)
    except ValueError:
        raise ValueError(
            tr("'{text}' is not a speed (examples: 25, 800K, 1.5G)", text=text)
        ) from None
    if speed < 0:
        raise ValueError(tr("A speed limit is not negative (0 means unlimited)"))
    return speed


def read_size(text: str, automatic: Sequence[str] = ()) -> int:
    """Read a size as a person types it; a number alone means bytes.

    Args:
        text: what was typed.
        automatic: texts that stand for 0, which means automatic.

    Raises:
        ValueError: it is not a size, or negative.
    """
    if not text.strip() or text in automatic:
        return 0
    size = parse_size(text)
    if size < 0:
        raise ValueError(tr("A size is not negative"))
    return size


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdigit()


def policy_label(policy: ErrorPolicy) -> str:
    """Name an error policy by what it does."""
    return {
        ErrorPolicy.STOP: tr("Stop and ask"),
        ErrorPolicy.REPORT: tr("Report and end"),
        ErrorPolicy.IGNORE: tr("Skip and try later (ignore)"),
        ErrorPolicy.ENOSPC: tr("Stop only when the target is full (enospc)"),
        ErrorPolicy.AUTO: tr("Stop only when the target is full (auto)"),
    }[policy]


def policy_explanation(policy: ErrorPolicy) -> str:
    """Say in one line what an error policy means."""
    return {
        ErrorPolicy.STOP: tr("The mirror pauses until you resume. Clients are not affected."),
        ErrorPolicy.REPORT: tr("The first error ends the mirror; the target is not usable then."),
        ErrorPolicy.IGNORE: tr(
            "Goes on. The place stays marked and is tried again; the mirror cannot become "
            "complete while it fails."
        ),
        ErrorPolicy.ENOSPC: tr(
            "Pauses when there is no space left; every other error ends the mirror."
        ),
        ErrorPolicy.AUTO: tr(
            "Pauses when there is no space left; every other error ends the mirror."
        ),
    }[policy]


SOURCE_POLICIES = (ErrorPolicy.STOP, ErrorPolicy.REPORT, ErrorPolicy.IGNORE)
TARGET_POLICIES = (*SOURCE_POLICIES, ErrorPolicy.ENOSPC)

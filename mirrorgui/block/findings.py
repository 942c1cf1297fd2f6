"""What the safety checks say, and what it asks of the caller."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from mirrorgui.errors import ImageRefused


class Severity(enum.Enum):
    """What a finding asks of the caller."""

    REFUSE = "refuse"
    """Do not start."""
    CONFIRM = "confirm"
    """Start only when a person, or an option such as ``--overwrite``, has agreed."""
    WARN = "warn"
    """Say it, and start."""
    HINT = "hint"
    """Worth knowing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        severity: what it asks for.
        code: a stable name for programs, such as ``same-image``.
        field: the option that is concerned: ``source`` or ``target``.
        text: a sentence for people.
    """

    severity: Severity
    code: str
    field: str
    text: str


def refuse_if_unsafe(
    findings: Iterable[Finding], values: dict[str, str], *, overwrite: bool = False
) -> None:
    """Raise for the first finding that forbids a start.

    Args:
        findings: from ``check_pair`` or ``check_unchanged``.
        values: what was given for each field, for the refusal.
        overwrite: everything that needs agreement has it.

    Raises:
        ImageRefused: with the finding's text.
    """
    for finding in findings:
        needs_agreement = finding.severity is Severity.CONFIRM and not overwrite
        if finding.severity is Severity.REFUSE or needs_agreement:
            raise ImageRefused(finding.field, values.get(finding.field, ""), finding.text)


def refuse(code: str, text: str, field: str = "target") -> Finding:
    """Make a finding that forbids a start."""
    return Finding(Severity.REFUSE, code, field, text)

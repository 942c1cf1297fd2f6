"""What the command line asks of the window; free of Qt, so that it is made before Qt is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirrorgui.qmp.address import Address


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """The window command as it was given.

    Attributes:
        sources: none, a source, or a source and a target, each as typed (path, NBD URI, ``json:``);
            they fill the New mirror dialog and start nothing.
        demo: open on the demonstration.
        demo_picture: run the demonstration to its end without a person, print the job's progress
            and save a picture of the window here; implies ``demo``.
        qmp: where QMP clients can work with the same mirrors; None lets nobody.
    """

    sources: tuple[str, ...] = ()
    demo: bool = False
    demo_picture: Path | None = None
    qmp: "Address | None" = None

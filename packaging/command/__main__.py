"""Write manual page and completions: ``python packaging/command FOLDER`` fills a ``share`` folder.

``SOURCE_DATE_EPOCH`` sets the date in the manual page; without it, it is that of the release.
"""

import calendar
import gzip
import os
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).parents[1]))

from command import manual, shells
from command.parsed import ROOT, VERSION


def released() -> int:
    """Return the date of the newest release, in seconds since 1970."""
    (metainfo,) = (ROOT / "resources").glob("*.metainfo.xml")
    release = ElementTree.parse(metainfo).find("releases/release")
    if release is None:
        raise ValueError(f"{metainfo} names no release")
    return calendar.timegm(time.strptime(release.get("date", ""), "%Y-%m-%d"))


def write(share: Path) -> None:
    """Write every file below ``share``, where the system's programs look for it."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or released())
    page = manual.manual(VERSION, epoch).encode()
    files = {
        "man/man1/mirrorgui.1.gz": gzip.compress(page, 9, mtime=0),
        "bash-completion/completions/mirrorgui": shells.bash().encode(),
        "zsh/vendor-completions/_mirrorgui": shells.zsh().encode(),
        "fish/vendor_completions.d/mirrorgui.fish": shells.fish().encode(),
    }
    for place, content in files.items():
        (share / place).parent.mkdir(parents=True, exist_ok=True)
        (share / place).write_bytes(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]))

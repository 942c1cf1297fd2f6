"""Hatchling's build hook: what a desktop and a shell look for goes into the wheel, too.

pip puts it below ``share`` of the prefix that it installs into: of ``~/.local`` or ``/usr/local`` a
desktop finds it there.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

APP_ID = "io.github.mirrorgui.mirrorgui"


class SharedFiles(BuildHookInterface):
    """Adds desktop file, metainfo, MIME package, icons, manual page and completions."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the files, and tell hatchling of them."""
        if version == "editable":
            return
        root = Path(self.root)
        self._made = tempfile.TemporaryDirectory()
        folder = Path(self._made.name)
        subprocess.run([sys.executable, root / "packaging" / "command", folder], check=True)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            build_data["shared_data"][str(path)] = f"share/{path.relative_to(folder)}"
        resources = root / "resources"
        for place, path in {
            f"applications/{APP_ID}.desktop": resources / f"{APP_ID}.desktop",
            f"metainfo/{APP_ID}.metainfo.xml": resources / f"{APP_ID}.metainfo.xml",
            f"mime/packages/{APP_ID}.xml": resources / f"{APP_ID}.mime.xml",
            "icons/hicolor": resources / "icons" / "hicolor",
        }.items():
            build_data["shared_data"][str(path)] = f"share/{place}"

    def finalize(self, version: str, _build_data: dict[str, Any], _artifact_path: str) -> None:
        """Remove what was made."""
        if version != "editable":
            self._made.cleanup()

"""Name, pictures and kinds of files, in the forms that Windows and macOS want them.

``python identity.py FOLDER`` writes ``icon.ico``, for the installer of Windows.
"""

import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PyInstaller.utils.win32.versioninfo import VSVersionInfo

APPLICATION_ID = "io.github.mirrorgui.mirrorgui"
NAME = "MirrorGUI"
SUMMARY = "Mirror a disk image while it stays in use"
COPYRIGHT = "The MirrorGUI authors, LGPL-2.1-or-later"

DOCUMENTS = (
    ("QEMU disk image", "application/x-qemu-disk", ("qcow2", "qcow")),
    ("Raw disk image", "application/x-raw-disk-image", ("img",)),
    ("VMware disk image", "application/x-vmdk-disk", ("vmdk",)),
    ("VirtualBox disk image", "application/x-vdi-disk", ("vdi",)),
    ("Hyper-V disk image", "application/x-vhdx-disk", ("vhdx",)),
    ("Virtual PC disk image", "application/x-vhd-disk", ("vhd",)),
)
"""What a double click may open: a description, the MIME type, and the endings of names.

Not ``raw``: that ending belongs to the pictures of cameras.
"""

_ICO_SIZES = (16, 24, 32, 48, 64, 128, 256)

# The names that icns files give to PNG pictures of these many pixels.
_ICNS_NAMES = {16: b"icp4", 32: b"icp5", 64: b"icp6", 128: b"ic07", 256: b"ic08"}


def icon(resources: Path, folder: Path, platform: str) -> str | None:
    """Write the icon file of Windows or macOS; Linux takes the pictures as they are.

    Returns:
        The path of what was written into ``folder``, or None.
    """
    if platform == "win32":
        content, name = ico({size: _picture(resources, size) for size in _ICO_SIZES}), "icon.ico"
    elif platform == "darwin":
        content, name = icns({size: _picture(resources, size) for size in _ICNS_NAMES}), "icon.icns"
    else:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return str(folder / name)


def _picture(resources: Path, size: int) -> bytes:
    place = resources / "icons" / "hicolor" / f"{size}x{size}" / "apps" / f"{APPLICATION_ID}.png"
    return place.read_bytes()


def ico(pictures: dict[int, bytes]) -> bytes:
    """Put PNG pictures into an icon file of Windows, by their size in pixels."""
    entries, bodies = b"", b""
    offset = 6 + 16 * len(pictures)
    for size, picture in sorted(pictures.items()):
        side = size % 256  # 0 means 256
        entries += struct.pack(
            "<BBBBHHII", side, side, 0, 0, 1, 32, len(picture), offset + len(bodies)
        )
        bodies += picture
    return struct.pack("<HHH", 0, 1, len(pictures)) + entries + bodies


def icns(pictures: dict[int, bytes]) -> bytes:
    """Put PNG pictures into an icon file of macOS, by their size in pixels."""
    body = b"".join(
        struct.pack(">4sI", _ICNS_NAMES[size], 8 + len(picture)) + picture
        for size, picture in sorted(pictures.items())
    )
    return struct.pack(">4sI", b"icns", 8 + len(body)) + body


def information_for_macos(version: str) -> dict[str, object]:
    """Return the Info.plist: what Finder shows, and what a double click may open."""
    return {
        "CFBundleName": NAME,
        "CFBundleDisplayName": NAME,
        "CFBundleShortVersionString": version,
        "CFBundleVersion": version,
        "LSApplicationCategoryType": "public.app-category.utilities",
        "LSMinimumSystemVersion": "13.0",
        "NSHighResolutionCapable": True,
        "NSHumanReadableCopyright": COPYRIGHT,
        "CFBundleDocumentTypes": [
            {
                "CFBundleTypeName": description,
                "CFBundleTypeRole": "Editor",
                # It opens them when asked to; others may stay what opens them by default.
                "LSHandlerRank": "Alternate",
                "LSItemContentTypes": [_uniform_type(endings[0])],
            }
            for description, _, endings in DOCUMENTS
        ],
        "UTImportedTypeDeclarations": [
            {
                "UTTypeIdentifier": _uniform_type(endings[0]),
                "UTTypeDescription": description,
                "UTTypeConformsTo": ["public.disk-image"],
                "UTTypeTagSpecification": {
                    "public.filename-extension": list(endings),
                    "public.mime-type": [mime],
                },
            }
            for description, mime, endings in DOCUMENTS
        ],
    }


def _uniform_type(ending: str) -> str:
    return f"{APPLICATION_ID}.{ending}"


def version_for_windows(version: str) -> "VSVersionInfo":
    """Return what the properties of the program show. Runs on Windows alone."""
    from PyInstaller.utils.win32 import versioninfo as info

    numbers = (*(int(part) for part in version.split(".")[:3]), 0)
    shown = {
        "CompanyName": "The MirrorGUI authors",
        "FileDescription": f"{NAME}: {SUMMARY[0].lower()}{SUMMARY[1:]}",
        "FileVersion": version,
        "InternalName": "mirrorgui",
        "LegalCopyright": COPYRIGHT,
        "OriginalFilename": "mirrorgui.exe",
        "ProductName": NAME,
        "ProductVersion": version,
    }
    return info.VSVersionInfo(
        ffi=info.FixedFileInfo(filevers=numbers, prodvers=numbers),
        kids=[
            info.StringFileInfo(
                [
                    info.StringTable(
                        "040904B0", [info.StringStruct(name, text) for name, text in shown.items()]
                    )
                ]
            ),
            info.VarFileInfo([info.VarStruct("Translation", [0x0409, 1200])]),
        ],
    )


if __name__ == "__main__":
    icon(Path(__file__).parents[2] / "resources", Path(sys.argv[1]), "win32")

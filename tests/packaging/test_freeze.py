"""What goes into the folder, and in which form other systems get it."""

import plistlib
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import APP_ID, ROOT, module, packaging, run

contents = module("contents")
identity = module("identity")
small_icu = module("small_icu")


# --- What is in it --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "PySide6/Qt/plugins/platforms/libqxcb.so",
        "PySide6/Qt/plugins/platforms/libqwayland.so",
        "PySide6/Qt/plugins/platforms/libqoffscreen.so",
        "PySide6\\plugins\\platforms\\qwindows.dll",
        "PySide6/Qt/plugins/iconengines/libqsvgicon.so",
        "PySide6/Qt/lib/libQt6Gui.so.6",
        "libpython3.11.so.1.0",
        "libxcb-cursor.so.0",
        "libssl.so.3",
    ],
)
def test_what_the_window_needs_is_taken_along(name: str) -> None:
    assert contents.is_wanted(name)


@pytest.mark.parametrize(
    "name",
    [
        "PySide6/Qt/plugins/platforms/libqvnc.so",
        "PySide6/Qt/plugins/platformthemes/libqgtk3.so",
        "PySide6/Qt/plugins/tls/libqopensslbackend.so",
        "PySide6/Qt/translations/qtbase_de.qm",
        "PySide6/Qt/lib/libQt6Quick.so.6",
        "PySide6/Qt/lib/libQt6Network.so.6",
        "libGL.so.1",
        "libc.so.6",
        "libX11.so.6",
        "libfontconfig.so.1",
        "numpy/__init__.pyi",
    ],
)
def test_what_the_window_never_uses_stays_out(name: str) -> None:
    assert not contents.is_wanted(name)


def test_every_part_of_a_bundle_has_its_version_written_down() -> None:
    text = (ROOT / "packaging" / "freeze" / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    named = {_plain(line.partition("==")[0]) for line in lines}
    wanted = run(sys.executable, ROOT / "packaging" / "requirements.py", "--window").splitlines()
    assert {_plain(re.split(r"[^\w.-]", line)[0]) for line in wanted} <= named


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


# --- ICU ------------------------------------------------------------------------------------------

HEADER = struct.pack("<HBB", 32, 0xDA, 0x27) + struct.pack("<HHBBBB", 20, 0, 0, 0, 2, 0) + b"CmnD"
ITEMS = {
    "icudt73l/coll/root.res": b"order of letters",
    "icudt73l/coll/sv.res": b"another order",
    "icudt73l/curr/de.res": b"names of currencies" * 100,
    "icudt73l/de.res": b"how numbers are written",
    "icudt73l/gb18030.cnv": b"a character set" * 100,
    "icudt73l/root.res": b"what all have",
    "icudt73l/zoneinfo64.res": b"time zones",
}


def test_data_of_icu_is_read_as_it_was_written() -> None:
    data = small_icu.write_items(HEADER.ljust(32, b"\0"), ITEMS)
    found = small_icu.read_items(data)
    assert {name: item.rstrip(b"\0") for name, item in found.items()} == ITEMS
    assert list(found) == sorted(found)


def test_the_order_of_letters_and_time_zones_stay_and_the_rest_goes() -> None:
    data = small_icu.write_items(HEADER.ljust(32, b"\0"), ITEMS)
    assert set(small_icu.read_items(small_icu.smaller(data))) == {
        "icudt73l/coll/root.res",
        "icudt73l/coll/sv.res",
        "icudt73l/root.res",
        "icudt73l/zoneinfo64.res",
    }


@pytest.mark.parametrize("data", [b"", b"\x20\0\xda\x27" + bytes(60), HEADER[:8].ljust(64, b"\1")])
def test_what_is_no_data_of_icu_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, struct.error)):
        small_icu.read_items(data)


COMPARE = """
import ctypes, sys
from PySide6.QtCore import QCollator, QLocale
for name in ("en_US", "sv_SE", "de_DE"):
    words = ["zebra", "\\xf6l", "apfel", "Apfel10", "Apfel9", "\\xe4rger", "oase"]
    collator = QCollator(QLocale(name))
    collator.setNumericMode(True)
    print(name, sorted(words, key=collator.sortKey))
"""


def test_qt_sorts_as_before_with_the_smaller_data(tmp_path: Path) -> None:
    import PySide6

    (library,) = (Path(PySide6.__path__[0]) / "Qt" / "lib").glob("libicudata.so.*")
    smaller = tmp_path / library.name
    smaller.write_bytes(library.read_bytes())
    small_icu.main(smaller)
    assert smaller.stat().st_size < library.stat().st_size / 4
    before = run(sys.executable, "-c", COMPARE)
    after = run(sys.executable, "-c", COMPARE, env={"LD_PRELOAD": str(smaller)})
    assert after == before
    assert len({line.partition(" ")[2] for line in before.splitlines()}) > 1


# --- Windows and macOS ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures() -> dict[int, bytes]:
    folder = ROOT / "resources" / "icons" / "hicolor"
    return {
        size: (folder / f"{size}x{size}" / "apps" / f"{APP_ID}.png").read_bytes()
        for size in (16, 32, 256)
    }


def test_an_icon_of_windows_holds_each_picture(pictures: dict[int, bytes]) -> None:
    content = identity.ico(pictures)
    kind, count = struct.unpack_from("<HH", content, 2)
    assert (kind, count) == (1, 3)
    for turn, (size, picture) in enumerate(sorted(pictures.items())):
        side, length, offset = struct.unpack_from("<B7xII", content, 6 + 16 * turn)
        assert side == size % 256
        assert content[offset : offset + length] == picture


def test_an_icon_of_macos_holds_each_picture(pictures: dict[int, bytes]) -> None:
    content = identity.icns(pictures)
    assert content[:4] == b"icns"
    assert struct.unpack_from(">I", content, 4) == (len(content),)
    offset, found = 8, []
    while offset < len(content):
        _, length = struct.unpack_from(">4sI", content, offset)
        found.append(content[offset + 8 : offset + length])
        offset += length
    assert found == [picture for _, picture in sorted(pictures.items())]


def test_macos_learns_which_documents_can_be_opened() -> None:
    information = plistlib.loads(plistlib.dumps(identity.information_for_macos("1.2.3")))
    declared = {kind["UTTypeIdentifier"] for kind in information["UTImportedTypeDeclarations"]}
    opened = {
        name for kind in information["CFBundleDocumentTypes"] for name in kind["LSItemContentTypes"]
    }
    assert opened == declared
    endings = [
        ending
        for kind in information["UTImportedTypeDeclarations"]
        for ending in kind["UTTypeTagSpecification"]["public.filename-extension"]
    ]
    assert {"qcow2", "img", "vmdk", "vdi", "vhdx", "vhd"} <= set(endings)
    assert "raw" not in endings


def test_the_installer_for_windows_compiles_around_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "mirrorgui"
    (folder / "_internal").mkdir(parents=True)
    for name in ("mirrorgui.exe", "mirrorgui-window.exe", "_internal/python311.dll"):
        (folder / name).write_bytes(b"a stand-in")
    packaging("windows", folder, tmp_path / "out")
    (installer,) = (tmp_path / "out").glob("*-setup.exe")
    assert installer.read_bytes()[:2] == b"MZ"
    assert b"Nullsoft" in installer.read_bytes()


def test_the_installer_for_windows_is_not_made_around_another_systems_folder(
    tmp_path: Path,
) -> None:
    command = ["bash", ROOT / "packaging" / "windows", tmp_path, tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "has no mirrorgui.exe" in ended.stderr


def test_the_installer_offers_itself_for_what_the_application_opens() -> None:
    script = (ROOT / "packaging" / "installer" / "mirrorgui.nsi").read_text(encoding="utf-8")
    offered = set(re.findall(r'!insertmacro \$\{MACRO\} "(\w+)"', script))
    assert offered == {ending for _, _, endings in identity.DOCUMENTS for ending in endings}

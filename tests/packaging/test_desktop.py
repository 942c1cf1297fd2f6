"""What a desktop makes of the kinds of images that it finds, and of the window."""

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import APP_ID, ROOT, run

RESOURCES = ROOT / "resources"

DESCRIPTOR = b"# Disk DescriptorFile\nversion=1\nCID=123a681b\n"

PATIENCE_S = 30


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of a user's data in which the application is installed."""
    data = tmp_path_factory.mktemp("data")
    (data / "mime" / "packages").mkdir(parents=True)
    (data / "applications").mkdir()
    package = RESOURCES / f"{APP_ID}.mime.xml"
    (data / "mime" / "packages" / f"{APP_ID}.xml").write_bytes(package.read_bytes())
    entry = RESOURCES / f"{APP_ID}.desktop"
    (data / "applications" / entry.name).write_bytes(entry.read_bytes())
    told = {**os.environ, "XDG_DATA_HOME": str(data)}
    assert run("update-mime-database", data / "mime", env=told) == ""
    run("update-desktop-database", data / "applications")
    return data


def _claimed() -> set[str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(RESOURCES / f"{APP_ID}.desktop", encoding="utf-8")
    return set(parser["Desktop Entry"]["MimeType"].rstrip(";").split(";"))


def _kind(home: Path, path: Path) -> str:
    told = {**os.environ, "XDG_DATA_HOME": str(home), "XDG_CURRENT_DESKTOP": "GNOME"}
    return run("xdg-mime", "query", "filetype", path, env=told).strip()


# What qemu-img calls formats whose images end otherwise.
ENDINGS = {"vpc": "vhd"}


def _made(format: str, path: Path) -> Path:
    run("qemu-img", "create", "-q", "-f", format, path, "1M")
    return path


@pytest.mark.parametrize(
    ("format", "kind"),
    [
        ("qcow2", {"application/x-qemu-disk"}),
        ("vmdk", {"application/x-vmdk-disk", "application/x-virtualbox-vmdk"}),
        ("vdi", {"application/x-vdi-disk", "application/x-virtualbox-vdi"}),
        ("vhdx", {"application/x-vhdx-disk", "application/x-virtualbox-vhdx"}),
        ("vpc", {"application/x-vhd-disk", "application/x-virtualbox-vhd"}),
        ("qed", {"application/x-qed-disk"}),
    ],
)
@pytest.mark.parametrize("named", [True, False], ids=["by its name", "by its content"])
def test_an_image_is_of_a_kind_that_the_application_opens(
    format: str, kind: set[str], named: bool, home: Path, tmp_path: Path
) -> None:
    image = _made(format, tmp_path / (f"disk.{ENDINGS.get(format, format)}" if named else "disk"))
    found = _kind(home, image)
    assert found in kind
    assert found in _claimed()


def test_a_raw_image_is_of_a_kind_that_the_application_opens(home: Path, tmp_path: Path) -> None:
    found = _kind(home, _made("raw", tmp_path / "disk.img"))
    assert found in {"application/x-raw-disk-image", "application/vnd.efi.img"}
    assert found in _claimed()


def test_a_descriptor_of_vmdk_is_known_by_its_text(home: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(DESCRIPTOR)
    assert _kind(home, tmp_path / "disk") == "application/x-vmdk-disk"


def test_the_pictures_of_cameras_are_left_alone(home: Path) -> None:
    globs = (home / "mime" / "globs2").read_text(encoding="utf-8")
    assert "*.raw" not in globs
    assert not any("raw" in kind for kind in _claimed() - {"application/x-raw-disk-image"})


@pytest.mark.parametrize("kind", sorted(_claimed()))
def test_open_with_offers_the_application_for_each_kind(
    kind: str, home: Path, tmp_path: Path
) -> None:
    # Desktops hide an application whose program is not there.
    program = tmp_path / "mirrorgui"
    program.symlink_to("/bin/true")
    told = {**os.environ, "XDG_DATA_HOME": str(home), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert f"{APP_ID}.desktop" in run("gio", "mime", kind, env=told)


@pytest.mark.skipif(not os.environ.get("DISPLAY"), reason="needs an X server")
def test_the_window_carries_the_applications_id(tmp_path: Path) -> None:
    told = {**os.environ, "QT_QPA_PLATFORM": "xcb", "PYTHONPATH": str(ROOT)}
    told |= {name: str(tmp_path) for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME")}
    program = subprocess.Popen([sys.executable, "-m", "mirrorgui"], env=told)
    try:
        search = ["xdotool", "search", "--sync", "--onlyvisible", "--pid", str(program.pid)]
        window = run(*search, timeout=PATIENCE_S).split()[0]
        properties = run("xprop", "-id", window)
    finally:
        program.terminate()
        program.wait(PATIENCE_S)
    assert f'WM_CLASS(STRING) = "{APP_ID}", "{APP_ID}"' in properties
    assert f'_KDE_NET_WM_DESKTOP_FILE(UTF8_STRING) = "{APP_ID}"' in properties

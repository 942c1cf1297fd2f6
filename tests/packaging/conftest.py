"""What the tests of the packages share: tools, and the packages themselves, each made once."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
APP_ID = "io.github.mirrorgui.mirrorgui"

BUILD_S = 500
"""How long making a package may take, on a machine that has other things to do."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless it was asked for."""
    asked = os.environ.get("MIRRORGUI_PACKAGES")
    if asked == "all":
        return
    marker = "packages_again" if asked else "packages"
    left_out = [item for item in items if item.get_closest_marker(marker)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def run(*command: object, timeout: float = 100, **options: object) -> str:
    """Run a command that must succeed, and return what it printed on both streams."""
    ended = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}"
    return str(ended.stdout)


def module(name: str) -> ModuleType:
    """Load one of the modules that make packages."""
    spec = importlib.util.spec_from_file_location(
        name, ROOT / "packaging" / "freeze" / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def packaging(name: str, *arguments: object, tree: Path = ROOT, **environment: str) -> str:
    """Run one of the commands that make packages."""
    told: Mapping[str, str] = {**os.environ, **environment}
    return run("bash", tree / "packaging" / name, *arguments, timeout=BUILD_S, env=told)


@pytest.fixture(scope="session")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a share folder with manual page and completions."""
    folder = tmp_path_factory.mktemp("share")
    run(sys.executable, ROOT / "packaging" / "command", folder)
    return folder


@pytest.fixture(scope="session")
def epoch() -> str:
    """Return the time that all packages of this run carry, in seconds since 1970."""
    return run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip()


@pytest.fixture(scope="session")
def copied_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return another source tree with the same files, whose path has other letters."""
    tree = tmp_path_factory.mktemp("copied") / "a copy of the source tree"
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    return tree


@pytest.fixture(scope="session")
def bundle(copied_tree: Path, epoch: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the portable archive and the AppDir."""
    folder = tmp_path_factory.mktemp("bundle")
    packaging("bundle", folder, MIRRORGUI_ARCHIVE_LEVEL="1", SOURCE_DATE_EPOCH=epoch)
    return folder


@pytest.fixture(scope="session")
def unpacked(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the portable archive unpacks to."""
    folder = tmp_path_factory.mktemp("any where")
    (archive,) = bundle.glob("*.tar.zst")
    run("tar", "-C", folder, "-xf", archive)
    (top,) = folder.iterdir()
    return top


def frozen_of(unpacked: Path, folder: Path) -> Path:
    """Return what PyInstaller made, without what the archive puts beside it."""
    frozen = folder / "mirrorgui"
    shutil.copytree(unpacked, frozen, symlinks=True)
    for beside in ("share", "licences"):
        shutil.rmtree(frozen / beside)
    return frozen


@pytest.fixture(scope="session")
def deb(unpacked: Path, epoch: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Debian package, made of the folder that the portable archive carries."""
    folder = tmp_path_factory.mktemp("deb")
    frozen = frozen_of(unpacked, tmp_path_factory.mktemp("frozen"))
    told = {"MIRRORGUI_FROZEN": str(frozen), "SOURCE_DATE_EPOCH": epoch}
    packaging("deb", folder, MIRRORGUI_DEB_LEVEL="0", **told)
    (package,) = folder.glob("*.deb")
    return package

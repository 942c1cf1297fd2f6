"""What is shipped beside the code: judged by the desktop's tools, and found in a built wheel."""

import ast
import configparser
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PySide6.QtCore import QByteArray
from PySide6.QtGui import QImage
from PySide6.QtSvg import QSvgRenderer

import mirrorgui

ROOT = Path(__file__).parents[1]
RESOURCES = ROOT / "resources"
APP_ID = "io.github.mirrorgui.mirrorgui"
SVG = "{http://www.w3.org/2000/svg}"

ACTIONS = {
    "new", "pause", "play", "switch", "finish", "cancel", "map", "chart", "error", "log",
    "settings", "copy", "folder", "warning", "info", "done",
}  # fmt: skip


def _run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command that must succeed, and return what it printed."""
    outcome = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout + outcome.stderr


# --- The desktop ----------------------------------------------------------------------------------


def _desktop_entry() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(RESOURCES / f"{APP_ID}.desktop", encoding="utf-8")
    return parser


def test_the_desktop_file_is_valid_without_a_remark() -> None:
    assert _run("desktop-file-validate", RESOURCES / f"{APP_ID}.desktop") == ""


def test_the_desktop_file_starts_the_command_with_one_image() -> None:
    entry = _desktop_entry()["Desktop Entry"]
    # %F would make the second of two selected files the target of the first.
    assert entry["Exec"] == "mirrorgui %f"
    assert entry["StartupWMClass"] == entry["Icon"] == APP_ID
    assert _desktop_entry()["Desktop Action demonstration"]["Exec"] == "mirrorgui --demo"


def test_the_metainfo_is_valid() -> None:
    validator = subprocess.run(
        ["appstreamcli", "validate", "--no-net", RESOURCES / f"{APP_ID}.metainfo.xml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "alidation" in validator.stdout, validator.stderr
    serious = [line for line in validator.stdout.splitlines() if line.startswith(("E:", "W:"))]
    assert serious == []


def test_the_metainfo_speaks_of_this_program() -> None:
    root = ElementTree.parse(RESOURCES / f"{APP_ID}.metainfo.xml").getroot()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert root.findtext("id") == APP_ID
    assert root.findtext("launchable") == f"{APP_ID}.desktop"
    assert root.findtext("project_license") == project["license"]
    assert root.findtext("provides/binary") in project["scripts"]
    releases = [release.get("version") for release in root.iter("release")]
    assert releases[0] == mirrorgui.__version__


def test_desktop_file_and_metainfo_claim_the_same_kinds_of_images() -> None:
    root = ElementTree.parse(RESOURCES / f"{APP_ID}.metainfo.xml").getroot()
    provided = {element.text for element in root.iter("mediatype")}
    claimed = _desktop_entry()["Desktop Entry"]["MimeType"].rstrip(";").split(";")
    assert set(claimed) == provided


# --- Icons ----------------------------------------------------------------------------------------


def _actions() -> list[Path]:
    return sorted((RESOURCES / "icons" / "actions").glob("*.svg"))


def test_there_is_an_icon_for_every_action() -> None:
    assert {path.stem for path in _actions()} >= ACTIONS


def _named_icons(source: str) -> set[str]:
    """Collect the words that a module passes where an icon's name belongs."""
    place = {"give": 1, "Shown": 1, "icon": 0, "pixmap": 0}
    named = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        candidates: list[ast.expr] = [word.value for word in node.keywords if word.arg == "icon"]
        if called in place and len(node.args) > place[called]:
            candidates.append(node.args[place[called]])
        named |= {
            word.value
            for word in candidates
            if isinstance(word, ast.Constant) and isinstance(word.value, str)
        }
    return named


def test_every_icon_that_the_window_names_exists() -> None:
    modules = (ROOT / "mirrorgui" / "ui").rglob("*.py")
    named = {name for path in modules for name in _named_icons(path.read_text(encoding="utf-8"))}
    assert "pause" in named
    assert named <= {path.stem for path in _actions()}


@pytest.mark.parametrize("path", _actions(), ids=lambda path: path.stem)
def test_an_action_icon_is_a_template_in_one_colour(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    assert root.get("viewBox") == "0 0 24 24"
    colours = {
        value
        for element in root.iter()
        for name, value in element.items()
        if name in ("fill", "stroke", "color", "stop-color", "style")
    }
    assert colours <= {"currentColor", "none"}
    assert "currentColor" in colours


@pytest.mark.parametrize("path", _actions(), ids=lambda path: path.stem)
def test_an_action_icon_is_drawn_by_qt(path: Path) -> None:
    recoloured = path.read_bytes().replace(b"currentColor", b"#123456")
    assert QSvgRenderer(QByteArray(recoloured)).isValid()


@pytest.mark.parametrize("size", [16, 22, 24, 32, 48, 64, 128, 256])
def test_the_applications_icon_comes_in_the_sizes_of_desktops(size: int) -> None:
    path = RESOURCES / "icons" / "hicolor" / f"{size}x{size}" / "apps" / f"{APP_ID}.png"
    picture = QImage(str(path))
    assert (picture.width(), picture.height()) == (size, size)
    assert picture.hasAlphaChannel()
    assert picture.pixelColor(0, 0).alpha() == 0
    assert picture.pixelColor(size // 2, size // 2).alpha() == 255


@pytest.mark.parametrize("name", [f"scalable/apps/{APP_ID}", f"symbolic/apps/{APP_ID}-symbolic"])
def test_the_applications_icon_comes_as_a_drawing(name: str) -> None:
    assert QSvgRenderer(str(RESOURCES / "icons" / "hicolor" / f"{name}.svg")).isValid()


# --- The wheel ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


READ_BY_THE_WINDOW = (
    "icons/actions/*.svg",
    "icons/controls/*.svg",
    "icons/hicolor/scalable/apps/*",
)


def test_the_wheel_carries_what_the_window_reads(unpacked: Path) -> None:
    shipped = unpacked / "mirrorgui" / "_resources"
    wanted = {
        path.relative_to(RESOURCES)
        for pattern in READ_BY_THE_WINDOW
        for path in RESOURCES.glob(pattern)
    }
    found = {path.relative_to(shipped) for path in shipped.rglob("*") if path.is_file()}
    assert len(wanted) > len(ACTIONS)
    assert found == wanted
    for file in wanted:
        assert (shipped / file).read_bytes() == (RESOURCES / file).read_bytes()


def test_the_wheel_puts_what_a_desktop_and_a_shell_look_for_into_share(unpacked: Path) -> None:
    share = unpacked / f"mirrorgui-{mirrorgui.__version__}.data" / "data" / "share"
    for place in (
        f"applications/{APP_ID}.desktop",
        f"metainfo/{APP_ID}.metainfo.xml",
        f"mime/packages/{APP_ID}.xml",
        f"icons/hicolor/16x16/apps/{APP_ID}.png",
        "man/man1/mirrorgui.1.gz",
        "bash-completion/completions/mirrorgui",
        "zsh/vendor-completions/_mirrorgui",
        "fish/vendor_completions.d/mirrorgui.fish",
    ):
        assert (share / place).stat().st_size > 0


def test_the_wheel_carries_every_module_and_nothing_of_the_tests(unpacked: Path) -> None:
    modules = {
        path.relative_to(ROOT) for path in (ROOT / "mirrorgui").rglob("*.py") if path.is_file()
    }
    assert {path for path in modules if not (unpacked / path).is_file()} == set()
    name = f"mirrorgui-{mirrorgui.__version__}"
    beside = {path.name for path in unpacked.iterdir()}
    assert beside == {"mirrorgui", f"{name}.data", f"{name}.dist-info"}


def test_the_wheel_has_both_commands_and_the_licence(unpacked: Path) -> None:
    (information,) = unpacked.glob("*.dist-info")
    commands = configparser.ConfigParser()
    commands.read(information / "entry_points.txt", encoding="utf-8")
    assert dict(commands["console_scripts"]) == {"mirrorgui": "mirrorgui.__main__:main"}
    assert dict(commands["gui_scripts"]) == {"mirrorgui-window": "mirrorgui.__main__:main"}
    assert (information / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("place", ["wheel", "checkout"])
def test_the_window_finds_its_resources(place: str, unpacked: Path, tmp_path: Path) -> None:
    tree, beside = {
        "wheel": (unpacked, unpacked / "mirrorgui" / "_resources"),
        "checkout": (ROOT, RESOURCES),
    }[place]
    look = (
        f"import sys; sys.path.insert(0, {str(tree)!r}); from mirrorgui.ui import assets;"
        "print(assets.resource('icons/actions/new.svg'))"
    )
    found = _run(sys.executable, "-P", "-c", look, cwd=tmp_path)
    assert Path(found.strip()) == beside / "icons" / "actions" / "new.svg"


# --- The two commands -----------------------------------------------------------------------------


COMMANDS = [f"packaging/{name}" for name in ("run", "test", "deb", "bundle", "wheel", "windows")]


SOURCED = [f"packaging/{name}.sh" for name in ("setup", "runs", "freeze/freeze")]


@pytest.mark.parametrize("name", [*COMMANDS, *SOURCED])
def test_the_shell_code_parses(name: str) -> None:
    _run("bash", "-n", ROOT / name)


@pytest.mark.parametrize("name", [*COMMANDS, ".ci/run"])
def test_the_commands_can_be_executed(name: str) -> None:
    assert (ROOT / name).stat().st_mode & 0o111 == 0o111


def test_the_engines_environment_is_free_of_qt() -> None:
    wanted = _run(sys.executable, ROOT / "packaging" / "requirements.py").lower()
    assert "numpy" in wanted
    assert "hypothesis" in wanted
    for barred in ("pyside", "shiboken", "pyqtgraph", "qasync", "pytest-qt"):
        assert barred not in wanted


def test_both_lists_of_tests_that_need_qt_agree() -> None:
    shell = (ROOT / "packaging" / "test").read_text(encoding="utf-8")
    listed = re.search(r"^window_tests=\(([^)]*)\)$", shell, re.MULTILINE | re.DOTALL)
    assert listed is not None
    conftest = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    ignored = re.search(
        r"^collect_ignore = .*?else \[([^]]*)\]$", conftest, re.MULTILINE | re.DOTALL
    )
    assert ignored is not None
    names = {f"tests/{name}" for name in re.findall(r'"([^"]+)"', ignored.group(1))}
    assert set(listed.group(1).split()) == names

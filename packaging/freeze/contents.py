"""What goes into the folder that PyInstaller makes, and what stays out of it."""

import re
from pathlib import Path

NAMED_IN_ABOUT = (
    "PySide6-Essentials",
    "pyqtgraph",
    "qasync",
    "jeepney",
    "numpy",
    "bitarray",
    "zstandard",
)
"""Packages whose versions the window shows."""

UNUSED_MODULES = [
    # Other ways to do what is done here with Qt's three modules.
    "tkinter",
    "PySide6.QtDBus",
    "PySide6.QtNetwork",
    "PySide6.QtOpenGL",
    "PySide6.QtOpenGLWidgets",
    "PySide6.QtQml",
    "PySide6.QtQuick",
    "PySide6.QtTest",
    "OpenGL",
    "matplotlib",
    "h5py",
    "scipy",
    "cupy",
    "numba",
    "colorcet",
    "IPython",
    # Parts of the libraries that only tests, examples and builders use.
    "numpy.f2py",
    "numpy.random",
    "numpy.testing",
    "pyqtgraph.canvas",
    "pyqtgraph.console",
    "pyqtgraph.dockarea",
    "pyqtgraph.examples",
    "pyqtgraph.flowchart",
    "pyqtgraph.jupyter",
    "pyqtgraph.opengl",
    "zstandard._cffi",
    "zstandard.backend_cffi",
    "cffi",
    "distutils",
    "lib2to3",
    "pip",
    "pkg_resources",
    "bitarray.test_bitarray",
    "bitarray.test_util",
    "pdb",
    "pydoc_data",
    "pytest",
    "readline",
    "rlcompleter",
    "setuptools",
    "sqlite3",
    "test",
]

# Qt's plugins for screens, and what they need. The window is drawn by the processor: none of the
# ways through OpenGL is used.
_PLUGINS = re.compile(
    r"/plugins/("
    r"platforms/(lib)?q(xcb|wayland|offscreen|windows|cocoa)\b"
    r"|platformthemes/libqxdgdesktopportal\b"
    r"|platforminputcontexts/lib(compose|ibus)platforminputcontextplugin\b"
    r"|styles/"
    r"|iconengines/(lib)?qsvgicon\b"
    r"|wayland-decoration-client/"
    r"|wayland-shell-integration/libxdg-shell\b"
    r")"
)

# On Linux a name without a folder is one of the system's libraries. Those stay out that belong to
# the machine's own screen, fonts and C library, and those that no Linux with a screen is without;
# what is left is Python's needs, and Qt's that many systems do not have.
_OF_THE_SYSTEM = re.compile(r"^lib[^/]*\.so(\.|$)")
_CARRIED = re.compile(
    r"^lib(python3|bz2|crypto|ffi|lzma|ssl|zstd"
    r"|xcb-(cursor|icccm|image|keysyms|render-util|util|xkb)|xkbcommon(-x11)?)[.\d]*\.so"
)

_UNWANTED = re.compile(
    r"/translations/"  # the window has no texts but its own, in one language
    r"|opengl32sw\.dll$"  # draws OpenGL by the processor, on Windows
    r"|Qt6?(EglF[Ss]|Network|OpenGL|Pdf|Qml|Quick|ShaderTools|Sql|Test|VirtualKeyboard)"
    r"|^pyqtgraph/(icons|colors/maps)/"
    r"|\.(pyi|h|a|pxd)$"
    r"|/direct_url\.json$|/RECORD$|/REQUESTED$|/INSTALLER$"
)


def is_wanted(name: str) -> bool:
    """Say whether a file that PyInstaller found belongs into the folder.

    Args:
        name: the place of the file inside the folder.
    """
    path = name.replace("\\", "/")
    if _OF_THE_SYSTEM.match(path):
        return _CARRIED.match(path) is not None
    if "/plugins/" in path:
        return _PLUGINS.search(path) is not None
    return _UNWANTED.search(path) is None


_READ = ("icons/actions/*.svg", "icons/controls/*.svg", "icons/hicolor/scalable/apps/*.svg")


def resources(folder: Path) -> list[tuple[str, str]]:
    """List the files that the window reads, each with the folder it goes to."""
    wanted = sorted(path for pattern in _READ for path in folder.glob(pattern))
    return [
        (str(path), str(Path("mirrorgui/_resources") / path.relative_to(folder).parent))
        for path in wanted
    ]

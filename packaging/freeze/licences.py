"""Write down whose work a frozen folder carries, and on what terms.

``python licences.py FOLDER VERSION [PREFIX]`` prints the text, in Debian's machine-readable format.
It fails when the folder has a file that it cannot account for. The Python that runs it is the one
of the folder's environment.
"""

import fnmatch
import importlib.metadata
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMMON = "On Debian systems the full text is in /usr/share/common-licenses/{}."

QT_CARRIES = """\
Qt's libraries contain further work: HarfBuzz, FreeType, libpng, PCRE2, double-conversion, MD4C,
TinyCBOR, Unicode's character data and CLDR, SipHash and BLAKE2, emoji-segmenter, icc and others,
under MIT, BSD, FreeType, libpng, Unicode, CC0 and Apache-2.0 licences. Qt lists them all, with
their texts, at https://doc.qt.io/qt-6/licenses-used-in-qt.html. The libraries are as Qt's makers
distribute them, and lie in files of their own: they can be replaced."""

ICU_TEXT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of data files and any
associated documentation (the "Data Files") or software and any associated documentation (the
"Software") to deal in the Data Files or Software without restriction, including without limitation
the rights to use, copy, modify, merge, publish, distribute, and/or sell copies of the Data Files or
Software, and to permit persons to whom the Data Files or Software are furnished to do so, provided
that either (a) this copyright and permission notice appear with all copies of the Data Files or
Software, or (b) this copyright and permission notice appear in associated Documentation.

THE DATA FILES AND SOFTWARE ARE PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED,
INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT OF THIRD PARTY RIGHTS. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR HOLDERS INCLUDED IN
THIS NOTICE BE LIABLE FOR ANY CLAIM, OR ANY SPECIAL INDIRECT OR CONSEQUENTIAL DAMAGES, OR ANY
DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT,
NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THE DATA FILES OR SOFTWARE.

Except as contained in this notice, the name of a copyright holder shall not be used in advertising
or otherwise to promote the sale, use or other dealings in these Data Files or Software without
prior written authorization of the copyright holder."""


@dataclass(frozen=True, slots=True)
class Work:
    """Somebody's work inside the folder.

    Attributes:
        files: patterns of paths inside the folder; for modules that lie inside the program, a name.
        copyright: who holds it.
        licence: its short name.
        text: the terms.
        comment: what else is to be said.
    """

    files: tuple[str, ...]
    copyright: str
    licence: str
    text: str
    comment: str = ""


def works(folder: Path) -> Iterator[Work]:
    """List all the works that a folder may carry."""
    yield Work(
        ("mirrorgui", "LICENCES", "_internal/mirrorgui/*"),
        "The MirrorGUI authors",
        "LGPL-2.1-or-later",
        COMMON.format("LGPL-2.1"),
    )
    yield Work(
        ("_internal/libpython*", "_internal/python*/*", "_internal/base_library.zip"),
        "2001-2023 Python Software Foundation, and others named below",
        "PSF-2.0",
        (Path(sysconfig.get_path("stdlib")) / "LICENSE.txt").read_text(encoding="utf-8"),
    )
    yield Work(
        ("_internal/PySide6/*.so*", "_internal/shiboken6/*", "_internal/pyside6_essentials-*"),
        "The Qt Company Ltd.",
        "LGPL-3.0-only",
        COMMON.format("LGPL-3"),
        "PySide6 and Shiboken, as their makers distribute them.",
    )
    yield Work(
        ("_internal/PySide6/Qt/lib/libicu*",),
        "1995-2023 International Business Machines Corporation and others; 1991-2023 Unicode, Inc.",
        "Unicode-DFS-2016",
        ICU_TEXT,
        "libicudata has been made smaller: it lacks the data that Qt does not ask for.",
    )
    yield Work(
        ("_internal/PySide6/Qt/*",),
        "The Qt Company Ltd. and other contributors",
        "LGPL-3.0-only",
        COMMON.format("LGPL-3"),
        QT_CARRIES,
    )
    yield Work(
        ("_internal/numpy/*", "_internal/numpy.libs/*", "_internal/numpy-*"),
        "2005-2025 NumPy Developers, and others named below",
        "BSD-3-Clause-and-others",
        _without_gpl(_texts("numpy")),
        "numpy carries OpenBLAS and the run-time libraries of GCC.",
    )
    for name, holder, licence in (
        ("bitarray", "2008-2026 Ilan Schnell", "PSF-2.0-bitarray"),
        ("pyqtgraph", "2012 University of North Carolina at Chapel Hill, Luke Campagnola", "MIT"),
        ("qasync", "2014-2018 Mark Harviston, Arve Knudsen; 2019 Sam McCormack", "BSD-2-Clause"),
        ("jeepney", "2017 Thomas Kluyver", "MIT-jeepney"),
        ("zstandard", "2016 Gregory Szorc", "BSD-3-Clause-zstandard"),
        ("colorama", "2010 Jonathan Hartley", "BSD-3-Clause-colorama"),
    ):
        if not _is_installed(name):
            continue
        places = (f"_internal/{name}/*", f"_internal/{name}-*")
        yield Work(places, holder, licence, _texts(name))
    for path in sorted((folder / "_internal").glob("lib*.so*")):
        if not path.name.startswith("libpython"):
            yield _of_the_system(path.name)


def inside_the_program() -> Iterator[Work]:
    """List the works that lie inside the program alone, where no pattern finds them."""
    terms = _texts("pyinstaller").split("Bootloader and Related Files")[0]
    yield Work(
        ("mirrorgui",),
        "2010-2023 PyInstaller Development Team; 2005-2009 Giovanni Bajo",
        "GPL-2.0-or-later-with-Bootloader-exception",
        f"{terms}\n{COMMON.format('GPL-2')}",
        "The program's start is PyInstaller's; its run-time hooks are under Apache-2.0. The "
        "modules of all the Python packages below lie inside it.",
    )


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _texts(name: str) -> str:
    """Return every licence text that a Python package brings."""
    files = importlib.metadata.files(name) or []
    paths = sorted(str(file.locate()) for file in files if "/licenses/" in str(file))
    if not paths:
        raise ValueError(f"{name} brings no licence")
    return "\n\n".join(Path(path).read_text(encoding="utf-8").strip() for path in paths)


def _without_gpl(text: str) -> str:
    """Take out the text of the GPL, which every system has."""
    pattern = r"\n *GNU GENERAL PUBLIC LICENSE\n *Version 3.*?why-not-lgpl\.html>\.\n"
    short, count = re.subn(pattern, f"\n{COMMON.format('GPL-3')}\n", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError("numpy's licence has changed: look at it")
    apache = r"\n *Apache License\n *Version 2\.0.*?limitations under the License\.\n"
    return re.sub(apache, f"\n{COMMON.format('Apache-2.0')}\n", short, flags=re.DOTALL)


def _of_the_system(name: str) -> Work:
    """Quote what Debian's package of a library says of it."""
    found = subprocess.run(
        ["dpkg-query", "--search", f"*/{name}*"], capture_output=True, text=True, check=True
    )
    package = found.stdout.partition(":")[0]
    text = Path(f"/usr/share/doc/{package}/copyright").read_text(encoding="utf-8")
    return Work(
        (f"_internal/{name}",),
        "see below",
        f"as-{package}",
        text,
        f"From Debian's package {package}.",
    )


def unaccounted(folder: Path, known: list[Work]) -> list[str]:
    """Return the files that belong to none of the works."""
    patterns = [pattern for work in known for pattern in work.files]
    return [
        name
        for name in sorted(
            str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()
        )
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]


def _is_there(folder: Path, work: Work) -> bool:
    is_module = not any("/" not in pattern for pattern in work.files)
    return not is_module or any(
        fnmatch.fnmatchcase(str(path.relative_to(folder)), pattern)
        for path in folder.rglob("*")
        for pattern in work.files
    )


def written(known: list[Work], version: str, prefix: str) -> str:
    """Return the text about a folder that is installed below ``prefix``."""
    paragraphs = [
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        "Upstream-Name: MirrorGUI\n"
        f"Comment: MirrorGUI {version} with the Python and the libraries that it runs on.\n"
        " Where several paragraphs name a file, it carries the work of all of them."
    ]
    terms: dict[str, str] = {}
    for work in known:
        files = "\n ".join(prefix + pattern for pattern in work.files)
        paragraph = f"Files: {files}\nCopyright: {work.copyright}\nLicense: {work.licence}"
        if work.comment:
            paragraph += f"\nComment:\n{_indented(work.comment)}"
        paragraphs.append(paragraph)
        terms.setdefault(work.licence, work.text)
    paragraphs += [f"License: {name}\n{_indented(text)}" for name, text in terms.items()]
    return "\n\n".join(paragraphs) + "\n"


def _indented(text: str) -> str:
    lines = [line.rstrip() for line in text.replace("\f", "").strip("\n").splitlines()]
    return "\n".join(f" {line}" if line.strip() else " ." for line in lines)


def main() -> None:
    """Print the text about the folder that the arguments name."""
    folder = Path(sys.argv[1])
    version, prefix = sys.argv[2], "".join(sys.argv[3:])
    known = [work for work in works(folder) if _is_there(folder, work)]
    first, *others = known
    known = [first, *inside_the_program(), *others]
    missing = unaccounted(folder, known)
    if missing:
        sys.exit(f"nothing says whose work these are: {', '.join(missing)}")
    sys.stdout.write(written(known, version, prefix))


if __name__ == "__main__":
    main()

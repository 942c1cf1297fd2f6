"""Print requirements of pyproject.toml, one a line.

Without an argument those of the engine and of its tests; with ``--window`` those of the whole
application, and none of its tests.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

# What is of no use without Qt, or to the engine's tests.
LEFT_OUT = {"pytest-qt", "coverage", "hatchling"}


def requirements_without_qt() -> list[str]:
    """Return the requirements of the application without its window, and of its tests."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["test"]
    return [line for line in wanted if _name(line) not in LEFT_OUT]


def requirements_with_window() -> list[str]:
    """Return the requirements of the application and of its window."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    wanted: list[str] = project["dependencies"] + project["optional-dependencies"]["gui"]
    return wanted


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


if __name__ == "__main__":
    with_window = sys.argv[1:] == ["--window"]
    lines = requirements_with_window() if with_window else requirements_without_qt()
    sys.stdout.write("\n".join(lines) + "\n")

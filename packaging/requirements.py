"""Print what the engine and its tests need of pyproject.toml, one requirement a line."""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

# What is Qt, brings it, or is of no use without it; and what no test run here needs.
LEFT_OUT = {"pyside6-essentials", "pyqtgraph", "qasync", "pytest-qt", "coverage", "hatchling"}


def requirements_without_qt() -> list[str]:
    """Return the requirements of the application and of its tests, less what is about Qt."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["test"]
    return [line for line in wanted if _name(line) not in LEFT_OUT]


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements_without_qt()) + "\n")

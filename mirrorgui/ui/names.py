"""What an image is called in front of people. Free of Qt."""

import json
from dataclasses import dataclass
from pathlib import PurePath
from urllib.parse import parse_qs, unquote, urlsplit

_LONGEST = 48


def short_name(specification: str) -> str:
    """Return the part of a path, URI or ``json:`` specification that a person recognises it by."""
    if specification.startswith("json:"):
        return _cut(_json_name(specification))
    scheme = specification.split(":", 1)[0]
    if scheme.startswith("nbd") and "://" in specification:
        return _cut(_uri_name(specification))
    return _cut(PurePath(specification).name or specification)


def _cut(name: str) -> str:
    if len(name) <= _LONGEST:
        return name
    half = _LONGEST // 2
    return f"{name[: half - 1]}…{name[-half:]}"


def _uri_name(uri: str) -> str:
    parts = urlsplit(uri)
    export = unquote(parts.path.lstrip("/"))
    if export:
        return export
    socket = parse_qs(parts.query).get("socket", [""])[0]
    return PurePath(socket).name or parts.netloc or uri


def _json_name(specification: str) -> str:
    try:
        options = json.loads(specification.removeprefix("json:"))
    except ValueError:
        return specification
    return _option_name(options) or specification


def _option_name(options: object) -> str:
    if not isinstance(options, dict):
        return ""
    for key in ("filename", "file.filename", "export", "path"):
        if isinstance(options.get(key), str):
            return PurePath(options[key]).name
    for key in ("file", "image", "server"):
        found = _option_name(options.get(key))
        if found:
            return found
    return str(options.get("driver", ""))


@dataclass(frozen=True, slots=True)
class Names:
    """Both ends of a mirror as people call them.

    Attributes:
        source, target: short names.
        source_full, target_full: as the person gave them.
    """

    source: str
    target: str
    source_full: str
    target_full: str

    @classmethod
    def of(cls, source: str, target: str) -> "Names":
        """Make them from two specifications; the folder is added where short names are equal."""
        short_source, short_target = short_name(source), short_name(target)
        if short_source == short_target and "/" in source and "/" in target:
            short_source = _with_folder(source)
            short_target = _with_folder(target)
        return cls(short_source, short_target, source, target)


def _with_folder(path: str) -> str:
    return "/".join(PurePath(path).parts[-2:]).replace("//", "/")

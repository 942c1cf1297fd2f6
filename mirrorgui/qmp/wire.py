"""Requests and replies of QMP: what a value of JSON must have to be a command, and how answers are.

Pure; the order of members is that of qemu-storage-daemon.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import mirrorgui
from mirrorgui.mirror.events import JobEvent
from mirrorgui.qmp.errors import QmpError

NO_ID: Final = object()
"""Stands for the ``id`` of a request that has none; null is an id."""

QEMU_VERSION = {"major": 7, "minor": 2, "micro": 0}
"""The version whose commands, texts and events these are; clients choose by it."""


@dataclass(frozen=True, slots=True)
class Request:
    """A command as a client sent it.

    Attributes:
        name: of the command; nothing is known of it yet.
        arguments: an object.
        is_oob: it was sent with ``exec-oob``.
    """

    name: str
    arguments: Mapping[str, Any]
    is_oob: bool = False


def read_request(value: object, *, oob: bool) -> Request:
    """Make a request of a value.

    Args:
        value: what the client sent.
        oob: the client has negotiated out-of-band execution.

    Raises:
        QmpError: naming the member that is wrong, unexpected or missing.
    """
    if not isinstance(value, dict):
        raise QmpError("QMP input must be a JSON object")
    name = ""
    arguments: Mapping[str, Any] = {}
    found = ""
    for key, member in value.items():
        if key == "execute" or (key == "exec-oob" and oob):
            if not isinstance(member, str):
                raise QmpError(f"QMP input member '{key}' must be a string")
            if found:
                raise QmpError("QMP input member 'execute' clashes with 'exec-oob'")
            name, found = member, key
        elif key == "arguments":
            if not isinstance(member, dict):
                raise QmpError("QMP input member 'arguments' must be an object")
            arguments = member
        elif key != "id":
            raise QmpError(f"QMP input member '{key}' is unexpected")
    if not found:
        raise QmpError("QMP input lacks member 'execute'")
    return Request(name, arguments, is_oob=found == "exec-oob")


def id_of(value: object) -> object:
    """Return a request's ``id``, also when the request makes no sense; ``NO_ID`` without one."""
    return value.get("id", NO_ID) if isinstance(value, dict) else NO_ID


def encode(message: Mapping[str, object]) -> bytes:
    """Return a message as one line."""
    return json.dumps(message).encode() + b"\r\n"


def version() -> dict[str, object]:
    """Return what ``query-version`` and the greeting tell."""
    return {"qemu": dict(QEMU_VERSION), "package": f"MirrorGUI {mirrorgui.__version__}"}


def greeting() -> bytes:
    """Return what a client sees first."""
    return encode({"QMP": {"version": version(), "capabilities": ["oob"]}})


def reply(result: object, request_id: object) -> bytes:
    """Return the answer to a command that was carried out."""
    message: dict[str, object] = {"return": result}
    if request_id is not NO_ID:
        message["id"] = request_id
    return encode(message)


def refusal(error: QmpError, request_id: object) -> bytes:
    """Return the answer to a command that was not carried out, or failed."""
    message: dict[str, object] = {} if request_id is NO_ID else {"id": request_id}
    return encode(message | {"error": error.as_qmp()})


def event_line(event: JobEvent) -> bytes:
    """Return an event."""
    message = event.as_qmp()
    return encode({name: message[name] for name in ("timestamp", "event", "data")})

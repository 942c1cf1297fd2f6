"""The same bytes to qemu-storage-daemon and to ours: the same answers."""

import random
import re
from typing import Any

import pytest

from tests.qmp.peers import Peer

pytestmark = pytest.mark.interop

# Ends whatever has been begun, and shows that all before it has been answered.
SENTINEL = b'\xff{"execute":"sentinel"}'

REQUESTS = [
    b'{"execute":"nope"}',
    b'{"execute":5}',
    b'{"exec-oob":"query-version"}',
    b'{"execute":"query-version","arguments":[]}',
    b'{"execute":"query-version","arguments":null}',
    b'{"execute":"query-version","arguments":{}}',
    b'{"execute":"query-version","arguments":{"a":1}}',
    b'{"execute":"query-version","foo":1}',
    b'{"execute":"query-version","execute":"quit"}',
    b'{"execute":"","id":""}',
    b'{"":1}',
    b"{}",
    b'{"id":7}',
    b'{"id":7,"execute":"nope"}',
    b"[]5 null true ",
    b'"x"',
    b"{'execute':'query-version'}",
    b'{"execute":"query-version"}{"execute":"nope"}\r\n',
    b'{"execute":"query-version"\n}',
    b'{"execute":"query-version"}\x00',
    b"{bad json}",
    b'{"execute":"query-version",}',
    b'{"execute" "query-version"}',
    b'{"execute":"query-version","id":01}',
    b'{"execute":"query-version","id":0x10}',
    b'{"execute":"query-version","id":NaN}',
    b'{"execute":"query-ver\xffsion"}',
    b'{"execute":"a\nb"}',
    b'{"execute":"query-version","id":"\\ud800"}',
    b'{"execute":"query-version","id":"\xc3\xa9\\n\\u0000\x7f\xf0\x9f\x98\x80"}',
    b'{"execute":"query-version","id":{"a":[1,2.5,null,"x",{}]}}',
    b'{"execute":"query-version","id":null}',
    b'{"execute":"query-version","id":1.0}',
    b'{"execute":"query-version","id":-0}',
    b'{"execute":"query-version","id":18446744073709551615}',
    b'{"execute":"query-version","id":18446744073709551616}',
    b'{"execute":"query-version","id":-9223372036854775809}',
    b'{"execute":"qmp_capabilities","id":1}',
    b'{"execute":"qmp_capabilities","arguments":{"enable":["x"]}}',
    b'{"execute":"qmp_capabilities","arguments":{"enable":[5]}}',
    b'{"execute":"qmp_capabilities","arguments":{"zz":5}}',
    b'{"execute":"quit","arguments":{"x":1}}',
    b'{"execute":"block-job-pause","arguments":{"device":"\xf0\x9f\x98\x80 \'"},"id":[]}',
]

FRAGMENTS = [
    *(bytes([each]) for each in b"{}[],:\"'\\01-.eE+/bnf \n\t\r\0\x1f\x7f\x80\xff\xfe"),
    b'"a"',
    b"'b'",
    b"\\u",
    b"u12",
    b"\\ud83d",
    b"\\ude00",
    b"\\udbff\\udfff",
    b"\\ufffe",
    b'\\"',
    b"true",
    b"null",
    b"tru",
    b"%d",
    b'"execute":"x"',
    b'{"execute":"nope","id":',
    b'"id":',
    b"12345678901234567890123",
    b"\xc3\xa9",
    b"\xf0\x9f\x98\x80",
    b"\xef\xbf\xbf",
    b"\xef\xb7\x90",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xe0\x80\x80",
    b"\xf4\x90\x80\x80",
    b"\xf0\x9f\xbf\xbf",
]


def answers(peer: Peer, data: bytes) -> list[Any]:
    """Send bytes, and return what is answered up to the sentinel's answer."""
    peer.send(data + SENTINEL)
    found = []
    while True:
        message = peer.receive()
        assert message is not None, f"{peer.name} is silent behind {data!r}: {found}"
        found.append(normalised(message))
        if "sentinel" in message.get("error", {}).get("desc", ""):
            return found


def normalised(message: dict[str, Any]) -> dict[str, Any]:
    if "return" in message:
        message = {**message, "return": "..."}
    if "error" in message:
        # How many bytes make one replacement character is nobody's promise.
        desc = re.sub("\ufffd+", "\ufffd", message["error"]["desc"])
        message = {**message, "error": {**message["error"], "desc": desc}}
    return message


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: repr(each)[2:50])
def test_requests_are_answered_alike(both: tuple[Peer, Peer], request_: bytes) -> None:
    daemon, ours = both
    assert answers(ours, request_) == answers(daemon, request_)


def mixture(source: random.Random) -> bytes:
    return b"".join(source.choice(FRAGMENTS) for _ in range(source.randrange(1, 14)))


def is_told_apart(data: bytes) -> bool:
    """Say whether a mixture meets one of the deliberate differences in numbers."""
    return re.search(rb"0[eE]|[eE][+]?[0-9]{3}", data) is not None


def test_random_mixtures_are_answered_alike(both: tuple[Peer, Peer]) -> None:
    daemon, ours = both
    source = random.Random(2026)
    for _ in range(600):
        data = mixture(source)
        if not is_told_apart(data):
            assert answers(ours, data) == answers(daemon, data), data


def test_the_greeting_and_what_comes_before_negotiation_are_alike(
    both: tuple[Peer, Peer],
) -> None:
    for peer in both:
        assert peer.greeting is not None
        assert set(peer.greeting["QMP"]) == {"version", "capabilities"}
        assert peer.greeting["QMP"]["capabilities"] == ["oob"]
    theirs, own = (peer.ok("query-version") for peer in both)
    assert own["qemu"]["major"] == theirs["qemu"]["major"]
    assert own["qemu"]["minor"] == theirs["qemu"]["minor"]


def test_every_command_of_ours_that_qemu_has_takes_the_same_arguments(
    both: tuple[Peer, Peer],
) -> None:
    """Held against one another by ``query-qmp-schema``; what QEMU got later is known."""
    theirs, own = (Schema(peer.ok("query-qmp-schema")) for peer in both)
    later = {
        ("blockdev-mirror", "target-is-zero"),  # 10.1
        ("block-job-change", ""),  # 8.2
        ("x-mirror-snapshot", ""),
    }
    for name in own.commands():
        if (name, "") in later:
            continue
        known = theirs.arguments(name)
        for argument, described in own.arguments(name).items():
            if (name, argument) not in later:
                assert described == known.pop(argument), (name, argument)
        assert not known, f"{name} lacks {sorted(known)}"


class Schema:
    """What ``query-qmp-schema`` tells, read for its arguments."""

    # Where ours knows fewer words than QEMU: drivers, and formats of encryption.
    FEWER = 20

    def __init__(self, entities: list[dict[str, Any]]) -> None:
        self._entities = {entity["name"]: entity for entity in entities}

    def commands(self) -> list[str]:
        return [name for name, entity in self._entities.items() if entity["meta-type"] == "command"]

    def arguments(self, name: str) -> dict[str, Any]:
        return self._members(self._entities[self._entities[name]["arg-type"]])

    def _members(self, entity: dict[str, Any]) -> dict[str, Any]:
        return {
            member["name"]: (self._form(member["type"]), "default" in member)
            for member in entity["members"]
        }

    def _form(self, name: str) -> object:
        """Return a type's form: whole for words and flat types, by name alone for trees."""
        entity = self._entities[name]
        match entity["meta-type"]:
            case "enum":
                words = sorted(member["name"] for member in entity["members"])
                return words if len(words) < 6 else "many words"
            case "array":
                return [self._form(entity["element-type"])]
            case "builtin":
                return name
        return entity["meta-type"]

"""Arguments that are missing, unknown, of another type or out of range: refused alike."""

from typing import Any

import pytest

from tests.qmp.peers import Peer

pytestmark = pytest.mark.interop

MIRROR = {"device": "a", "target": "b", "sync": "full"}
EXPORT = {"type": "nbd", "id": "x", "node-name": "x"}
BLKDEBUG = {"driver": "blkdebug", "image": "x"}
QCOW2 = {"driver": "qcow2", "file": "x"}
UNIX = {"type": "unix", "path": "/x"}

JOB_COMMANDS = ["cancel", "pause", "resume", "complete", "finalize", "dismiss"]

REFUSED: list[tuple[str, dict[str, Any]]] = [
    *(
        ("blockdev-mirror", {**MIRROR, "granularity": value})
        for value in (-1, 1 << 32, 1 << 64, 1.5, 1.0, "5", True, None, [], {}, 65536, 256, 1536)
    ),
    *(("blockdev-mirror", {**MIRROR, "speed": value}) for value in (1 << 63, 1.5, "1", -1)),
    *(("blockdev-mirror", {**MIRROR, "buf-size": value}) for value in (1 << 63, None, -1)),
    ("blockdev-mirror", {}),
    ("blockdev-mirror", {"sync": 5, "zz": 1}),
    ("blockdev-mirror", {**MIRROR, "sync": "bogus"}),
    ("blockdev-mirror", {**MIRROR, "sync": 5}),
    ("blockdev-mirror", {**MIRROR, "on-source-error": "x"}),
    ("blockdev-mirror", {**MIRROR, "on-target-error": "x"}),
    ("blockdev-mirror", {**MIRROR, "copy-mode": "x"}),
    ("blockdev-mirror", {**MIRROR, "auto-dismiss": 1}),
    ("blockdev-mirror", {**MIRROR, "auto-finalize": "on"}),
    ("blockdev-mirror", {**MIRROR, "job-id": 5}),
    ("blockdev-mirror", {**MIRROR, "format": "raw"}),
    ("drive-mirror", {**MIRROR, "mode": "x"}),
    ("drive-mirror", {**MIRROR, "unmap": 1}),
    ("drive-mirror", {**MIRROR, "filter-node-name": "f"}),
    ("drive-mirror", MIRROR),
    ("blockdev-add", {}),
    ("blockdev-add", {"driver": "nope"}),
    ("blockdev-add", {"driver": "file"}),
    ("blockdev-add", {"driver": "file", "filename": 5}),
    ("blockdev-add", {"driver": "file", "filename": "x", "foo": 1}),
    ("blockdev-add", {"driver": "file", "filename": "x", "cache": {"foo": 1}}),
    ("blockdev-add", {"driver": "file", "filename": "x", "discard": "x"}),
    ("blockdev-add", {"driver": "file", "filename": "x"}),
    ("blockdev-add", {"driver": "file", "filename": "x", "node-name": "n"}),
    ("blockdev-add", {"driver": "file", "filename": "x", "node-name": "#n"}),
    ("blockdev-add", {"driver": "file", "filename": "x", "node-name": "x" * 40}),
    ("blockdev-add", {"driver": "raw", "file": 5}),
    ("blockdev-add", {"driver": "raw", "file": None}),
    ("blockdev-add", {"driver": "raw", "file": {}}),
    ("blockdev-add", {"driver": "raw", "file": {"driver": "file"}}),
    ("blockdev-add", {"driver": "raw", "file": {"driver": "file", "filename": "x", "foo": 1}}),
    ("blockdev-add", {"driver": "raw", "file": "missing", "node-name": "n"}),
    ("blockdev-add", {**QCOW2, "backing": 5}),
    ("blockdev-add", {**QCOW2, "overlap-check": "foo"}),
    ("blockdev-add", {**QCOW2, "overlap-check": 5}),
    ("blockdev-add", {**QCOW2, "overlap-check": {"foo": 5}}),
    ("blockdev-add", {**QCOW2, "overlap-check": {"template": 5}}),
    ("blockdev-add", {**QCOW2, "backing": {"driver": "qcow2", "file": {"driver": "zz"}}}),
    ("blockdev-add", {**QCOW2, "backing.driver": "file"}),
    ("blockdev-add", {**BLKDEBUG, "inject-error": 5}),
    ("blockdev-add", {**BLKDEBUG, "inject-error": [5]}),
    ("blockdev-add", {**BLKDEBUG, "inject-error": [{}]}),
    ("blockdev-add", {**BLKDEBUG, "inject-error": [{"event": "foo"}]}),
    ("blockdev-add", {**BLKDEBUG, "inject-error": [{"event": "none", "iotype": "x"}]}),
    ("blockdev-add", {**BLKDEBUG, "inject-error": [{"event": "none"}, {"event": "none", "z": 1}]}),
    ("blockdev-add", {**BLKDEBUG, "set-state": [{"event": "none"}]}),
    ("blockdev-add", {**BLKDEBUG, "take-child-perms": ["foo"]}),
    ("blockdev-add", {**BLKDEBUG, "max-transfer": 1 << 32}),
    ("blockdev-add", {"driver": "nbd"}),
    ("blockdev-add", {"driver": "nbd", "server": "x"}),
    ("blockdev-add", {"driver": "nbd", "server": {"type": "x"}}),
    ("blockdev-add", {"driver": "nbd", "server": {"type": "unix"}}),
    ("blockdev-add", {"driver": "nbd", "server": {**UNIX, "foo": 1}}),
    ("blockdev-add", {"driver": "nbd", "server": {"type": "inet", "host": "h", "port": 1}}),
    ("blockdev-add", {"driver": "nbd", "server": UNIX, "reconnect-delay": -1}),
    ("blockdev-add", {"driver": "null-co", "size": 1 << 64}),
    ("blockdev-add", {"driver": "null-co", "node-name": "n", "size": 1.0}),
    ("blockdev-del", {}),
    ("blockdev-del", {"node-name": "missing"}),
    ("blockdev-create", {}),
    ("blockdev-create", {"job-id": "j", "options": 5}),
    ("blockdev-create", {"job-id": "j", "options": {}}),
    ("blockdev-create", {"job-id": "j", "options": {"driver": "file", "filename": "x"}}),
    ("blockdev-create", {"job-id": "j", "options": {"driver": "qcow2", "size": 5}}),
    ("blockdev-create", {"job-id": "j", "options": {"driver": "raw", "size": 5}}),
    ("blockdev-create", {"job-id": "j", "options": {"driver": "raw"}}),
    ("query-named-block-nodes", {"flat": "x"}),
    ("query-block-jobs", {"x": 1}),
    ("block-job-set-speed", {"device": "x"}),
    ("block-job-set-speed", {"device": "x", "speed": "x"}),
    ("block-job-set-speed", {"device": "x", "speed": 1}),
    ("block-job-cancel", {"device": "x", "force": 1}),
    *((f"job-{name}", {"id": "x"}) for name in JOB_COMMANDS),
    *((f"job-{name}", {"device": "x"}) for name in JOB_COMMANDS),
    *((f"block-job-{name}", {"device": "x"}) for name in JOB_COMMANDS),
    *((f"block-job-{name}", {"id": "x"}) for name in ("finalize", "dismiss")),
    ("nbd-server-start", {}),
    ("nbd-server-start", {"addr": {"type": "unix", "path": "/x"}}),
    ("nbd-server-start", {"addr": {"type": "unix", "data": {"path": 5}}}),
    ("nbd-server-start", {"addr": {"type": "unix", "data": {"path": "/x", "foo": 1}}}),
    ("nbd-server-start", {"addr": {"type": "unix", "data": {"path": "x"}}, "max-connections": -1}),
    ("nbd-server-stop", {}),
    ("block-export-add", {}),
    ("block-export-add", {"type": "zz"}),
    ("block-export-add", {"type": "nbd"}),
    ("block-export-add", {**EXPORT, "bitmaps": [5]}),
    ("block-export-add", {**EXPORT, "bitmaps": [{}]}),
    ("block-export-add", {**EXPORT, "bitmaps": ["x", {"node": "x", "name": "z", "q": 1}]}),
    ("block-export-add", EXPORT),
    ("block-export-del", {"id": "x"}),
    ("block-export-del", {"id": "x", "mode": "soft"}),
]


@pytest.mark.parametrize(
    ("name", "arguments"), REFUSED, ids=[f"{name} {given}"[:70] for name, given in REFUSED]
)
def test_arguments_are_refused_alike(
    both: tuple[Peer, Peer], name: str, arguments: dict[str, Any]
) -> None:
    theirs, own = (peer.execute(name, arguments) for peer in both)
    assert "error" in theirs, f"qemu takes it: {theirs}"
    assert own == theirs

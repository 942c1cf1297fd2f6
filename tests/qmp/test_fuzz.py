"""Random bytes, random JSON, random commands: it goes on answering, and nothing is left behind."""

import contextlib
import json
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import open_image
from mirrorgui.errors import MirrorGUIError
from tests.qmp.peers import Connection, Peer, running, start_ours
from tests.qmp.scripts import KiB, MiB, img, pattern

pytestmark = pytest.mark.soak

SECONDS = 60.0 if os.environ.get("MIRRORGUI_SOAK") else 4.0
"""For each kind of rubbish."""

SEED = int(os.environ.get("MIRRORGUI_SEED", "0")) or 20261123


def resources(peer: Peer) -> tuple[int, int]:
    """Return the numbers of open descriptors and of threads."""
    process = Path(f"/proc/{peer.process.pid}")
    return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))


def require_unharmed(peer: Peer, before: tuple[int, int]) -> None:
    """See that everything can be taken away, and that nothing is held afterwards."""
    peer.clear()
    assert peer.ok("query-named-block-nodes") == []
    assert peer.ok("query-jobs") == peer.ok("query-block-exports") == []
    # Threads that wait for more work may stay; they are few and bounded.
    peer.until(lambda: resources(peer)[0] <= before[0])
    assert resources(peer)[1] <= before[1] + 4


@pytest.fixture
def victim(tmp_path: Path):
    with running(start_ours, tmp_path) as peer:
        yield peer


def test_random_bytes(victim: Peer) -> None:
    source = random.Random(SEED)
    before = resources(victim)
    alphabet = b"{}[]:,\"\\'0123456789.eE+-truefalsn \n\t\0\xff\xfe\xc3\xa9"
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        other = victim.another(negotiate=source.random() < 0.5)
        for _ in range(source.randrange(20)):
            some = source.randrange(200)
            other.send(
                source.randbytes(some)
                if source.random() < 0.3
                else bytes(source.choice(alphabet) for _ in range(some))
            )
        if source.random() < 0.5:
            other.receive(0.01)
        other.close()
    assert victim.ok("query-version")
    require_unharmed(victim, before)


def random_json(source: random.Random, depth: int = 0) -> Any:
    kinds = [
        lambda: source.choice([None, True, False, 0, -1, 1 << 63, 1.5, "", "x", "é😀\0"]),
        lambda: source.choice(["execute", "arguments", "id", "blockdev-add", "quit-not"]),
        lambda: [random_json(source, depth + 1) for _ in range(source.randrange(4))],
        lambda: {
            str(random_json(source, 9)): random_json(source, depth + 1)
            for _ in range(source.randrange(4))
        },
    ]
    return source.choice(kinds if depth < 4 else kinds[:2])()


def test_random_json_is_always_answered(victim: Peer) -> None:
    source = random.Random(SEED)
    before = resources(victim)
    commands = [each["name"] for each in victim.ok("query-commands")]
    commands.remove("quit")
    ends = time.monotonic() + SECONDS
    number = 0
    while time.monotonic() < ends:
        number += 1
        request: Any = {"execute": source.choice(commands), "id": number}
        request["arguments"] = random_json(source)
        if source.random() < 0.2:
            request[str(random_json(source, 9))] = random_json(source)
        request["id"] = number
        victim.send(json.dumps(request).encode())
        answer = victim.reply(number)
        assert ("return" in answer) != ("error" in answer)
        assert "Internal error" not in json.dumps(answer), (request, answer)
        victim.start_over()
    require_unharmed(victim, before)


NODES = ["a", "b", "c", "d", "e", "f"]
JOBS = ["j1", "j2"]
RARE = 0.04

Arguments = dict[str, Any]


class Commands:
    """Commands whose arguments make sense, at any time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self) -> tuple[str, Arguments]:
        """Return a command and its arguments."""
        pick, node, job = self.random.choice, self.node(), self.random.choice(JOBS)
        kinds: list[Callable[[], tuple[str, Arguments]]] = [
            lambda: ("blockdev-add", self.added()),
            lambda: ("blockdev-add", self.added()),
            lambda: ("blockdev-add", self.added()),
            lambda: ("blockdev-del", {"node-name": pick([*NODES, "t", "filter"])}),
            lambda: ("blockdev-mirror", self.blockdev_mirror()),
            lambda: ("blockdev-mirror", self.blockdev_mirror()),
            lambda: ("drive-mirror", self.drive_mirror()),
            lambda: ("blockdev-mirror", self.blockdev_mirror()),
            self.creation,
            self.verb,
            self.verb,
            self.verb,
            lambda: ("block-job-set-speed", {"device": job, "speed": pick([-1, 0, 1, MiB])}),
            lambda: ("block-job-change", self.changed()),
            lambda: ("nbd-server-start", self.server()),
            lambda: ("nbd-server-stop", {}) if self.often(0.2) else ("query-jobs", {}),
            lambda: ("block-export-add", self.exported()),
            lambda: ("block-export-add", self.exported()),
            lambda: ("block-export-del", {"id": f"e{node}", "mode": pick(["safe", "hard"])}),
            lambda: ("query-named-block-nodes", {"flat": self.often(0.5)}),
            lambda: (pick(["query-block-jobs", "query-jobs", "query-block-exports"]), {}),
            lambda: (pick(["query-version", "query-commands", "query-qmp-schema"]), {}),
            lambda: ("x-mirror-snapshot", {"id": job, "cells": pick([0, 1, 16, 4096, 1 << 20])}),
        ]
        return pick(kinds)()

    def node(self) -> str:
        return self.random.choice(NODES)

    def often(self, share: float) -> bool:
        return self.random.random() < share

    def some(self, share: float = 0.3, **choices: list[Any]) -> Arguments:
        """Return some of these arguments, each with one of its values."""
        return {
            name.replace("_", "-"): self.random.choice(values)
            for name, values in choices.items()
            if self.often(share)
        }

    # Nodes.

    def file(self) -> Arguments:
        more = self.some(locking=["on", "off", "auto"], read_only=[True, False])
        return {"driver": "file", "filename": f"{self.node()}.raw", **more}

    def added(self) -> Arguments:
        pick, other = self.random.choice, self.node()
        iotype = pick(["read", "write", "flush"])
        fail = {"event": "none", "iotype": iotype, "once": self.often(0.7)}
        qcow2 = {**self.file(), "filename": pick(["q.qcow2", "top.qcow2", "new.qcow2", "t.img"])}
        below = pick([None, other, self.file()])
        options = [
            self.file(),
            self.file(),
            {"driver": "raw", "file": pick([other, self.file()])},
            {"driver": "raw", "file": pick([other, self.file()]), **self.window()},
            {"driver": "blkdebug", "image": pick([other, self.file()]), "inject-error": [fail]},
            {"driver": "qcow2", "file": pick([other, qcow2, qcow2])},
            {"driver": "qcow2", "file": qcow2, "backing": below},
            {"driver": "null-co", "size": MiB, **self.some(latency_ns=[0, 1000000])},
            self.client(),
        ]
        return {**pick(options), "node-name": self.node(), **self.some(read_only=[True, False])}

    def window(self) -> Arguments:
        return self.some(offset=[0, 64 * KiB, 512], size=[MiB // 2, MiB - 64 * KiB, 512, 1000])

    def client(self) -> Arguments:
        """Of our own server."""
        server = {"type": "unix", "path": "nbd.sock"}
        return {"driver": "nbd", "server": server, "export": self.node(), "reconnect-delay": 0}

    def creation(self) -> tuple[str, Arguments]:
        if self.often(0.5):
            return "job-dismiss", {"id": "made"}
        return "blockdev-create", {"job-id": "made", "options": self.created()}

    def created(self) -> Arguments:
        pick, node = self.random.choice, self.node()
        file = {"driver": "file", "filename": pick(["new.raw", "new.qcow2", f"{node}.raw"])}
        if self.often(0.5):
            preallocation = self.some(preallocation=["off", "falloc", "full", "metadata"])
            return {**file, "size": pick([0, 1000, MiB]), **preallocation}
        more = self.some(
            version=["v2", "v3"],
            cluster_size=[512, 4096, 65536],
            preallocation=["off", "metadata", "falloc"],
            lazy_refcounts=[True],
            refcount_bits=[1, 16, 64],
            extended_l2=[True],
            compression_type=["zlib", "zstd"],
            backing_file=["a.raw"],
            backing_fmt=["raw"],
            data_file=[self.node()],
            data_file_raw=[True],
        )
        return {"driver": "qcow2", "file": pick([node, file]), "size": pick([MiB, 512]), **more}

    # Jobs.

    def mirror(self) -> Arguments:
        policies = ["report", "stop", "ignore", "enospc", "auto"]
        return {
            "device": self.node(),
            "sync": self.random.choice(["full", "full", "top", "none"]),
            "job-id": self.random.choice(JOBS),
            **self.some(
                speed=[0, 1, MiB],
                buf_size=[0, 512, 64 * KiB],
                granularity=[0, 512, 4096, MiB],
                on_source_error=policies,
                on_target_error=policies,
                copy_mode=["background", "write-blocking"],
                auto_finalize=[True, False],
                auto_dismiss=[True, False],
            ),
            **self.some(RARE, replaces=NODES, granularity=[5], speed=[-1], buf_size=[-1]),
        }

    def blockdev_mirror(self) -> Arguments:
        more = self.some(filter_node_name=["filter"], target_is_zero=[True, False])
        return {**self.mirror(), "target": self.node(), **more}

    def drive_mirror(self) -> Arguments:
        more = self.some(
            mode=["existing", "absolute-paths"],
            format=["raw", "qcow2"],
            node_name=["t"],
            unmap=[True, False],
        )
        names = ["d2.raw", "t.img", "q.qcow2", "top.qcow2", f"{self.node()}.raw", "no/where"]
        return {**self.mirror(), "target": self.random.choice(names), **more}

    def verb(self) -> tuple[str, Arguments]:
        job = self.random.choice(JOBS)
        verb = self.random.choice(["cancel", "pause", "resume", "complete", "finalize", "dismiss"])
        if self.often(0.5):
            return f"job-{verb}", {"id": job}
        if verb in ("finalize", "dismiss"):
            return f"block-job-{verb}", {"id": job}
        force = self.some(force=[True, False]) if verb == "cancel" else {}
        return f"block-job-{verb}", {"device": job, **force}

    def changed(self) -> Arguments:
        mode = self.random.choice(["background", "write-blocking"])
        return {"id": self.random.choice(JOBS), "type": "mirror", "copy-mode": mode}

    # Exports.

    def server(self) -> Arguments:
        addr = {"type": "unix", "data": {"path": "nbd.sock"}}
        return {"addr": addr, **self.some(max_connections=[0, 1, 100])}

    def exported(self) -> Arguments:
        node = self.node()
        more = self.some(
            name=NODES,
            description=["", "for people"],
            writable=[True],
            writethrough=[True, False],
            allocation_depth=[True, False],
            fixed_iothread=[True],
        )
        more |= self.some(RARE, description=["x" * 5000], bitmaps=[[], ["b"]], iothread=["t"])
        return {"type": "nbd", "id": f"e{node}", "node-name": node, **more}


class Guest(threading.Thread):
    """Reads and writes whatever is exported, while it is."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(name="guest")
        self._socket = folder / "nbd.sock"
        self._random = random.Random(seed)
        self._over = threading.Event()
        self.requests = 0

    def run(self) -> None:
        while not self._over.wait(0.02):
            name = self._random.choice(NODES)
            server = {"type": "unix", "path": str(self._socket)}
            options = {"driver": "nbd", "server": server, "export": name, "reconnect-delay": 0}
            with contextlib.suppress(MirrorGUIError), closing(open_image(options)) as disk:
                self._use(disk)

    def _use(self, disk: BlockNode) -> None:
        for _ in range(self._random.randrange(200)):
            offset = self._random.randrange(max(1, disk.size - 4096))
            length = min(self._random.choice([1, 512, 4096]), disk.size - offset)
            kind = self._random.randrange(4)
            if self._over.is_set():
                return
            if kind == 0 or disk.read_only:
                disk.read_into(offset, bytearray(length))
            elif kind == 1:
                disk.write_zeroes(offset, length)
            elif kind == 2:
                disk.flush()
            else:
                disk.write(offset, b"g" * length)
            self.requests += 1

    def end(self) -> None:
        """Return when it has ended; nothing that it asks may hang."""
        self._over.set()
        self.join(60)
        assert not self.is_alive(), "a guest's request hangs"


def work_at_random(
    commands: Commands, clients: list[Connection], seconds: float = SECONDS
) -> dict[str, int]:
    """Send commands for a while; returns how many of each were carried out."""
    carried_out = dict.fromkeys(clients[0].told.commands if clients[0].told else (), 0)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        name, arguments = commands.one()
        client = commands.random.choice(clients)
        answer = client.execute(name, arguments)
        said = json.dumps(answer)
        assert "Internal error" not in said, (name, arguments, answer)
        carried_out[name] += "return" in answer
        client.start_over()
    return carried_out


def test_random_commands_in_random_order(victim: Peer) -> None:
    for name in NODES:
        victim.image(f"{name}.raw", MiB, pattern(MiB))
    for name, *more in (("q.qcow2",), ("t.img",), ("top.qcow2", "-b", "a.raw", "-F", "raw")):
        img(victim, "create", "-q", "-f", "qcow2", *more, name, MiB)
    before = resources(victim)
    guest = Guest(victim.folder, SEED)
    guest.start()
    try:
        with closing(victim.another()) as other:
            carried_out = work_at_random(Commands(SEED), [victim, other])
    finally:
        guest.end()
    print(f"seed={SEED} guest's requests={guest.requests} carried out={carried_out}")
    assert sum(carried_out.values()) > 100
    require_unharmed(victim, before)

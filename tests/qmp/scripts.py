"""Scripts of commands that both programs play, and the comparison of what they said.

A script drives a ``Peer`` and waits for events where the order would otherwise be left to chance.
What is compared: all replies in their order, all events in theirs. Timestamps and ids are left out.
"""

import copy
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.qmp.peers import PATIENCE_S, Message, Peer

KiB, MiB = 1 << 10, 1 << 20

Script = Callable[[Peer], None]


@dataclass
class Transcript:
    """What a program said while it played a script."""

    replies: list[Message] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


Change = Callable[[Transcript], None]


def play(peer: Peer, script: Script) -> Transcript:
    """Play a script, and return what was said in a form that can be compared."""
    peer.start_over()
    script(peer)
    transcript = Transcript()
    for message in copy.deepcopy(peer.messages):
        if "event" in message:
            transcript.events.append((message["event"], message["data"]))
        else:
            message.pop("id", None)
            transcript.replies.append(message)
    return transcript


def play_on_both(peers: tuple[Peer, Peer], script: Script, *changes: Change) -> None:
    """Play a script on both and compare; ``changes`` take out what is known to be different."""
    theirs, own = (play(peer, script) for peer in peers)
    for change in (*changes, without("actively-synced")):  # since QEMU 8.2
        change(theirs)
        change(own)
    require_same("event", own.events, theirs.events)
    require_same("reply", own.replies, theirs.replies)


def require_same(what: str, own: list[Any], theirs: list[Any]) -> None:
    for number, (one, other) in enumerate(zip(own, theirs, strict=False)):
        assert one == other, f"{what} {number}:\nours {one}\nqemu {other}"
    rest = own[len(theirs) :], theirs[len(own) :]
    assert rest == ([], []), f"{what}s behind number {min(len(own), len(theirs))}"


def without(*names: str) -> Change:
    """Return a change that takes fields out wherever they stand."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(each) for key, each in value.items() if key not in names}
        return [strip(each) for each in value] if isinstance(value, list) else value

    def change(transcript: Transcript) -> None:
        transcript.events = [(name, strip(data)) for name, data in transcript.events]
        transcript.replies = [strip(reply) for reply in transcript.replies]

    return change


def without_refused_jobs(transcript: Transcript) -> None:
    """Take out the events of jobs that QEMU makes and drops again to refuse them."""
    events = transcript.events
    for n in range(len(events) - 2, -1, -1):
        if [data.get("status") for _, data in events[n : n + 2]] == ["created", "null"]:
            del events[n : n + 2]


def pattern(size: int, seed: int = 1, block: int = 512) -> bytes:
    """Return bytes that say where they belong: each block has its own number all over."""
    numbers = (b"%08x%08x" % (seed, number) for number in range(-(-size // block)))
    return b"".join(number * (block // 16) for number in numbers)[:size]


def images(peer: Peer, size: int = MiB, *, target_size: int | None = None) -> None:
    """Make a source full of a pattern and an empty target, and add both as ``s`` and ``t``."""
    peer.image("s.raw", size, pattern(size))
    peer.image("t.raw", size if target_size is None else target_size)
    peer.add("s", "s.raw")
    peer.add("t", "t.raw")


def mirror(peer: Peer, **arguments: Any) -> Any:
    """Begin a mirror from ``s`` to ``t`` called ``job``; returns the reply."""
    wanted: dict[str, Any] = {"job_id": "job", "device": "s", "target": "t", "sync": "full"}
    return peer.execute("blockdev-mirror", **(wanted | arguments))


def complete(peer: Peer, job: str = "job") -> None:
    peer.ok("job-complete", id=job)
    peer.wait_for_status("null", job)


def finish(peer: Peer, job: str = "job") -> None:
    """End a job that is READY without switching."""
    peer.ok("block-job-cancel", device=job)
    peer.wait_for_status("null", job)


def export(peer: Peer, node: str, *, name: str = "disk", writable: bool = True) -> str:
    """Offer a node to guests; returns its URI."""
    if not (peer.folder / "nbd.sock").exists():
        addr = {"type": "unix", "data": {"path": "nbd.sock"}}
        peer.ok("nbd-server-start", addr=addr)
    peer.ok("block-export-add", type="nbd", id=name, name=name, node_name=node, writable=writable)
    return f"nbd+unix:///{name}?socket={peer.folder / 'nbd.sock'}"


def guest(uri: str, *commands: str, may_fail: bool = False, image_format: str = "raw") -> str:
    """Do what a guest does, with qemu-io; returns what it says."""
    arguments = [part for command in commands for part in ("-c", command)]
    done = subprocess.run(
        ["qemu-io", "-f", image_format, *arguments, uri],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    said = done.stdout + done.stderr
    assert may_fail or (done.returncode == 0 and "error" not in said.lower()), said
    return said


def compare(peer: Peer, a: str, b: str, *formats: str) -> None:
    """Let qemu-img say that two images are identical, or see it where both are raw."""
    paths = [peer.folder / name for name in (a, b)]
    if not formats:
        # A target that is being written cannot be opened by others, but its bytes can be read.
        first, second = (path.read_bytes() for path in paths)
        assert first == second, f"{peer.name}: {a} and {b} are different"
        return
    command = ["qemu-img", "compare", "-U", "-f", formats[0], "-F", formats[-1]]
    done = subprocess.run(
        command + [str(path) for path in paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{peer.name}: {done.stdout}{done.stderr}"


def img(peer: Peer, *arguments: object) -> str:
    """Run qemu-img in the program's folder."""
    done = subprocess.run(
        ["qemu-img", *map(str, arguments)],
        cwd=peer.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def statuses(events: Iterable[tuple[str, dict[str, Any]]]) -> list[str]:
    """Return the statuses that a job went through, and the other events by name."""
    return [data["status"] if name == "JOB_STATUS_CHANGE" else name for name, data in events]

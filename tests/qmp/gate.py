"""A gate before an NBD server: requests pass, are kept back, or fail, as a test wants it.

A real server works behind it. What a test needs to meet a race is here: to see that a request is on
its way, to keep it or its reply back, and to let it go later. Who is kept back does not hold up
others; who is slow does, like a disk with one arm.
"""

import errno
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.interop.live import qemu_nbd
from tests.qmp.peers import PATIENCE_S, Peer

COMMANDS = ("read", "write", "disconnect", "flush", "trim", "cache", "write-zeroes", "block-status")
CHANGES = ("write", "trim", "write-zeroes")

_OPTION = b"IHAVEOPT"
_OPTION_REPLY = bytes.fromhex("0003e889")
_SIMPLE_REPLY = bytes.fromhex("67446698")
_STRUCTURED_REPLY = bytes.fromhex("668e33ef")
_STRUCTURED_REPLIES = 8


@dataclass(eq=False)
class Request:
    """What a client asked for.

    Attributes:
        began: when it came, on the monotonic clock.
        ended: when its reply was let out; None as long as it is under way.
    """

    command: str
    offset: int
    length: int
    cookie: int
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    kept: "Rule | None" = None

    def overlaps(self, other: "Request") -> bool:
        end, other_end = self.offset + self.length, other.offset + other.length
        return self.offset < other_end and other.offset < end


class Rule:
    """What happens to requests of a kind; ``offset`` is a byte that they hold, None for any."""

    def __init__(self, gate: "Gate", command: str, offset: int | None, *, once: bool) -> None:
        self._gate = gate
        self.command = command
        self.offset = offset
        self.once = once
        self.hits = 0

    def takes(self, request: Request) -> bool:
        """Whether a request is one of those; counts it if so."""
        at = self.offset
        inside = at is None or request.offset <= at < request.offset + request.length
        if request.command != self.command or not inside or (self.once and self.hits):
            return False
        self.hits += 1
        return True

    def wait(self, hits: int = 1) -> None:
        """Wait until so many requests have met this rule."""
        self._gate.until(lambda: self.hits >= hits, f"{self.command} {self.offset}")

    def lift(self) -> None:
        """Let go what is kept, and take no more."""
        self._gate.lift(self)

    def fail(self) -> None:
        """Answer what is kept with an I/O error, and take no more."""
        self._gate.lift(self, fails=True)


class Gate:
    """Listens on a socket for clients of the server that listens on another."""

    def __init__(self, path: Path, behind: Path) -> None:
        self._behind = behind
        self._changed = threading.Condition()
        self._keep_requests: list[Rule] = []
        self._keep_replies: list[Rule] = []
        self._fail: list[Rule] = []
        self._links: list[_Link] = []
        self.slow: dict[str, float] = defaultdict(float)
        """Seconds that every request of a command takes on its way."""
        self.requests: list[Request] = []
        self.overlaps: list[tuple[Request, Request]] = []
        """Changes that were under way together, of the same bytes."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._listen, name="gate")]
        self._threads[0].start()

    # What tests do.

    def keep(
        self,
        command: str,
        offset: int | None = None,
        *,
        replies: bool = False,
        once: bool = False,
    ) -> Rule:
        """Keep back requests before the server sees them, or replies that it has given."""
        return self._add(
            self._keep_replies if replies else self._keep_requests, command, offset, once=once
        )

    def fail(self, command: str, offset: int | None = None, *, once: bool = False) -> Rule:
        """Answer requests with an I/O error; the server does not see them."""
        return self._add(self._fail, command, offset, once=once)

    def _add(self, rules: list[Rule], command: str, offset: int | None, *, once: bool) -> Rule:
        assert command in COMMANDS
        rule = Rule(self, command, offset, once=once)
        with self._changed:
            rules.append(rule)
        return rule

    def lift(self, rule: Rule, *, fails: bool = False) -> None:
        """Take a rule away and let go, or fail, the requests that it keeps."""
        with self._changed:
            for rules in (self._keep_requests, self._keep_replies, self._fail):
                if rule in rules:
                    rules.remove(rule)
        for link in list(self._links):
            link.let_go(rule, fails=fails)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(holds, PATIENCE_S), f"{what}: {self.requests[-20:]}"

    def of(self, *commands: str) -> list[Request]:
        """Return the requests of some commands so far."""
        with self._changed:
            return [request for request in self.requests if request.command in commands]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for link in self._links:
            link.shut()
        for thread in self._threads:
            thread.join()
        for link in self._links:
            link.close()

    # What the threads do.

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._behind))
            link = _Link(self, client, server)
            self._links.append(link)
            for work in (link.carry_requests, link.carry_replies):
                thread = threading.Thread(target=work, name="gate")
                self._threads.append(thread)
                thread.start()

    def note(self, request: Request) -> tuple[bool, Rule | None]:
        """Write down a request; returns whether it fails, and who keeps it."""
        with self._changed:
            if request.command in CHANGES:
                self.overlaps += [
                    (other, request)
                    for other in self.requests
                    if other.ended is None and other.command in CHANGES and other.overlaps(request)
                ]
            self.requests.append(request)
            fails = any(rule.takes(request) for rule in self._fail)
            keeper = next((rule for rule in self._keep_requests if rule.takes(request)), None)
            self._changed.notify_all()
            return fails, keeper

    def note_reply(self, request: Request, *, is_last: bool) -> Rule | None:
        """Write down a reply, or a part of one; returns who keeps it."""
        with self._changed:
            if request.kept is None:
                rules = self._keep_replies
                request.kept = next((rule for rule in rules if rule.takes(request)), None)
                self._changed.notify_all()
            keeper = request.kept
            if keeper is not None and keeper not in self._keep_replies:
                keeper = None  # lifted meanwhile
            if is_last and keeper is None:
                request.ended = time.monotonic()
            return keeper


class _Link:
    """A client's connection and ours to the server."""

    def __init__(self, gate: Gate, client: socket.socket, server: socket.socket) -> None:
        self._gate = gate
        self._client = client
        self._server = server
        self._to_client = threading.RLock()
        self._to_server = threading.RLock()
        self._structured = False
        self._under_way: dict[int, Request] = {}
        self._kept_requests: list[tuple[Rule, Request, bytes]] = []
        self._kept_replies: list[tuple[Rule, Request, bytes, bool]] = []

    def shut(self) -> None:
        for each in (self._client, self._server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._client.close()
        self._server.close()

    def let_go(self, rule: Rule, *, fails: bool) -> None:
        """Send what a rule that has been lifted keeps, in the order in which it came."""
        with suppress(OSError), self._to_server:
            kept = [each for each in self._kept_requests if each[0] is rule]
            self._kept_requests = [each for each in self._kept_requests if each[0] is not rule]
            for _, request, data in kept:
                if fails:
                    self._answer_with_error(request)
                else:
                    self._server.sendall(data)
        with suppress(OSError), self._to_client:
            replies = [each for each in self._kept_replies if each[0] is rule]
            self._kept_replies = [each for each in self._kept_replies if each[0] is not rule]
            for _, request, data, is_last in replies:
                if is_last:
                    request.ended = time.monotonic()
                self._client.sendall(data)

    # Requests.

    def carry_requests(self) -> None:
        with suppress(OSError, EOFError):
            self._carry_requests(_reader(self._client))
        self.shut()

    def _carry_requests(self, read: "Reader") -> None:
        self._server.sendall(read(4))
        while True:
            head = read(8)
            if head == _OPTION:
                rest = read(8)
                option, length = struct.unpack(">II", rest)
                self._structured |= option == _STRUCTURED_REPLIES
                self._server.sendall(head + rest + read(length))
                continue
            head += read(20)
            _, _, number, cookie, offset, length = struct.unpack(">IHHQQI", head)
            request = Request(COMMANDS[number], offset, length, cookie)
            self._take(request, head + (read(length) if request.command == "write" else b""))

    def _take(self, request: Request, data: bytes) -> None:
        self._under_way[request.cookie] = request
        with self._to_server:
            fails, keeper = self._gate.note(request)
            if keeper is not None:
                self._kept_requests.append((keeper, request, data))
                return
        time.sleep(self._gate.slow[request.command])
        if fails:
            self._answer_with_error(request)
        else:
            with self._to_server:
                self._server.sendall(data)

    def _answer_with_error(self, request: Request) -> None:
        number = errno.EIO
        if self._structured:
            reply = struct.pack(">HHQIIH", 1, 0x8001, request.cookie, 6, number, 0)
            data = _STRUCTURED_REPLY + reply
        else:
            data = _SIMPLE_REPLY + struct.pack(">IQ", number, request.cookie)
        with self._to_client:
            self._reply(request, data, is_last=True)

    # Replies.

    def carry_replies(self) -> None:
        with suppress(OSError, EOFError):
            self._carry_replies(_reader(self._server))
        self.shut()

    def _carry_replies(self, read: "Reader") -> None:
        self._client.sendall(read(18))
        while True:
            head = read(4)
            if head == _OPTION_REPLY:
                head += read(16)
                self._client.sendall(head + read(int.from_bytes(head[-4:], "big")))
                continue
            if head == _SIMPLE_REPLY:
                head += read(12)
                failed, cookie = struct.unpack(">IQ", head[4:])
                request, is_last = self._under_way[cookie], True
                length = request.length if request.command == "read" and not failed else 0
            else:
                assert head == _STRUCTURED_REPLY, head
                head += read(16)
                flags, _, cookie, length = struct.unpack(">HHQI", head[4:])
                request, is_last = self._under_way[cookie], bool(flags & 1)
            data = head + read(length)
            with self._to_client:
                self._reply(request, data, is_last=is_last)

    def _reply(self, request: Request, data: bytes, *, is_last: bool) -> None:
        if is_last:
            del self._under_way[request.cookie]
        keeper = self._gate.note_reply(request, is_last=is_last)
        if any(request is kept for _, kept, _, _ in self._kept_replies):
            keeper = request.kept  # its first part is being let go just now
        if keeper is None:
            self._client.sendall(data)
        else:
            self._kept_replies.append((keeper, request, data, is_last))


Reader = Callable[[int], bytes]


def _reader(connection: socket.socket) -> Reader:
    file = connection.makefile("rb", buffering=0)

    def read(length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = file.read(length - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    return read


@contextmanager
def gated(peer: Peer, node: str, filename: str, **options: object) -> Iterator[Gate]:
    """Add a node over an image of the peer's that is served behind a gate.

    The node has lost its server afterwards; jobs with it are to be over by then.
    """
    sockets = peer.folder / f"{node}-far.sock", peer.folder / f"{node}.sock"
    with qemu_nbd(peer.folder / filename, sockets[0], "--discard=unmap"):
        gate = Gate(sockets[1], sockets[0])
        try:
            server = {"type": "unix", "path": sockets[1].name}
            given = {"driver": "nbd", "node-name": node, "server": server, "reconnect-delay": 0}
            peer.ok("blockdev-add", {**given, **options})
            yield gate
        finally:
            gate.close()
            for path in sockets:
                path.unlink(missing_ok=True)


@contextmanager
def far(
    peer: Peer, node: str, size: int, content: bytes = b"", **options: object
) -> Iterator[Gate]:
    """Serve one of the images ``s.raw`` and ``t.raw`` behind a gate; the other one is a file."""
    other = {"s": "t", "t": "s"}[node]
    for name in "st":
        peer.image(f"{name}.raw", size, content if name == "s" else b"")
    peer.add(other, f"{other}.raw")
    with gated(peer, node, f"{node}.raw", **options) as gate:
        yield gate

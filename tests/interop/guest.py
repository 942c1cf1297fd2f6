"""A guest on a string: a libnbd client that does what it is told on stdin, as JSON lines.

Runs under Debian's own Python, which has the module ``nbd``; no part of the test suite's packages.

``load`` writes until ``stop``, one request at a time:

* ``counter``: the n-th write puts n, in every eight bytes, at place n modulo the number of places,
  so that what an image holds tells exactly which writes it has seen;
* ``random``: at random places, seeded.
"""

import json
import random
import select
import struct
import sys
import time

import nbd


def main() -> None:
    handle = nbd.NBD()
    for context in sys.argv[2:]:
        handle.add_meta_context(context)
    handle.connect_uri(sys.argv[1])
    say({"size": handle.get_size()})
    load: Load | None = None
    while True:
        if load is not None and not select.select([sys.stdin], [], [], 0)[0]:
            try:
                load.step()
            except nbd.Error as error:
                load.error = str(error)
                time.sleep(0.01)
            continue
        line = sys.stdin.readline()
        if not line:
            break
        command = json.loads(line)
        what = command.pop("do")
        try:
            if what == "load":
                load = Load(handle, **command)
                say({"return": None})
            elif what in ("status", "stop"):
                say({"return": load.look()})
                load = load if what == "status" else None
            else:
                say({"return": ACTIONS[what](handle, **command)})
        except nbd.Error as error:
            say({"error": f"{error.errno}: {error.string}"})
    handle.shutdown()


class Load:
    def __init__(self, handle, kind, offset, length, block=4096, seed=1, pause_s=0.0) -> None:
        self.handle = handle
        self.kind = kind
        self.offset = offset
        self.places = length // block
        self.block = block
        self.pause_s = pause_s
        self.random = random.Random(seed)
        self.done = 0
        self.slowest_s = 0.0
        self.error = None

    def step(self) -> None:
        number = self.done + 1
        place = number if self.kind == "counter" else self.random.randrange(self.places)
        data = struct.pack("<Q", number) * (self.block // 8)
        started = time.monotonic()
        self.handle.pwrite(data, self.offset + place % self.places * self.block)
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        self.done = number
        if self.pause_s:
            time.sleep(self.pause_s)

    def look(self) -> dict:
        return {"done": self.done, "slowest_s": self.slowest_s, "error": self.error}


def status(handle, context, offset, length):
    """The runs of a metadata context, as [length, flags]."""
    runs = []

    def note(name, _offset, entries, _error) -> int:
        if name == context:
            runs.extend(list(pair) for pair in zip(entries[::2], entries[1::2], strict=True))
        return 0

    while length:
        before = sum(run[0] for run in runs)
        handle.block_status(length, offset, note)
        got = sum(run[0] for run in runs) - before
        offset, length = offset + got, length - got
    return runs


ACTIONS = {
    "read": lambda handle, offset, length: handle.pread(length, offset).hex(),
    "write": lambda handle, offset, data: handle.pwrite(bytes.fromhex(data), offset),
    "zero": lambda handle, offset, length: handle.zero(length, offset),
    "trim": lambda handle, offset, length: handle.trim(length, offset),
    "flush": lambda handle: handle.flush(),
    "map": status,
}


def say(message) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()

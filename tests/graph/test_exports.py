"""Exports of nodes: what becomes of a node under a client that hangs in it."""

import asyncio
import threading
from pathlib import Path

import pytest

from mirrorgui.block.blkdebug import BlkdebugNode, InjectError
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.nbd import NbdNode
from mirrorgui.errors import BlockIOError
from mirrorgui.graph.doors import Door
from mirrorgui.graph.exports import Exports
from mirrorgui.graph.nodes import Graph, GraphNode
from mirrorgui.mirror.events import EventLog
from mirrorgui.nbd.uri import NbdAddress
from tests.graph.support import SIZE
from tests.running import PATIENCE_S

pytestmark = pytest.mark.asyncio


async def test_a_forced_removal_waits_for_the_request_that_is_served(tmp_path: Path) -> None:
    graph, events = Graph(), EventLog()
    hanging = InjectError(event="read_aio", hang=True)
    node = BlkdebugNode(MemoryNode(SIZE), [hanging])
    added = graph.add(GraphNode("n", node, "blkdebug", Door(node), by_monitor=True))
    exports = Exports(graph, events)
    address = NbdAddress(socket_path=str(tmp_path / "n.sock"))
    await exports.start(address)
    exports.add("e", "n", writable=True)
    loop = asyncio.get_running_loop()

    def read() -> None:
        client = NbdNode(NbdAddress(socket_path=address.socket_path, export="n"), reconnect_s=0)
        try:
            client.read_into(0, bytearray(512))
        except BlockIOError:
            pass  # it is disconnected
        finally:
            client.close()

    reader = threading.Thread(target=read)
    reader.start()
    assert await loop.run_in_executor(None, node.wait_for_waiting, 1, PATIENCE_S)
    removing = asyncio.create_task(exports.remove("e", hard=True))
    while not exports.all[0].shutting_down:
        await asyncio.sleep(0)
    assert not added.is_unused
    node.release()
    await asyncio.wait_for(removing, PATIENCE_S)
    assert exports.all == ()
    assert added.is_unused
    assert [event.name for event in events.since(0)[0]] == ["BLOCK_EXPORT_DELETED"]
    await loop.run_in_executor(None, reader.join)
    await exports.stop()

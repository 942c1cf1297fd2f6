"""One house for the window, ``run`` and QMP: what each sees of the others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from mirrorgui.block.nbd import NbdNode
from mirrorgui.block.node import BlockNode
from mirrorgui.blocking import in_thread
from mirrorgui.errors import InvalidInput, NodeError
from mirrorgui.house import House
from mirrorgui.mirror.options import MirrorOptions
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.nbd.uri import NbdAddress
from mirrorgui.request import ExportRequest, MirrorRequest
from mirrorgui.session import MirrorSession
from mirrorgui.units import MiB
from tests.block.conftest import open_descriptors, stamped
from tests.running import PATIENCE_S, same

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Callable[[], None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.close()


@pytest.fixture
def request_(tmp_path: Path) -> MirrorRequest:
    (tmp_path / "s.raw").write_bytes(stamped(MiB))
    return MirrorRequest(str(tmp_path / "s.raw"), str(tmp_path / "t.raw"), writable=True)


async def add(house: House, folder: Path, name: str) -> None:
    path = folder / f"{name}.raw"
    if not path.exists():
        path.write_bytes(bytes(MiB))
    file = {"driver": "file", "filename": str(path)}
    await house.add_node({"driver": "raw", "node-name": name, "file": file})


def begin(house: House, source: str = "s", target: str = "t", job: str = "job") -> MirrorSession:
    ends = house.graph.find(source), house.graph.find(target)
    request = MirrorRequest(source, target, options=MirrorOptions(job_id=job))
    return house.begin(request, *ends, found=[])


async def seen(house: House, name: str) -> None:
    """Wait for an event, if it has not been."""
    came = asyncio.Event()
    stop = house.events.listen(lambda event: came.set() if event.name == name else None)
    if not any(event.name == name for event in house.events.since(0)[0]):
        await asyncio.wait_for(came.wait(), PATIENCE_S)
    stop()


async def test_what_is_opened_by_name_is_seen_by_everybody(
    house: House, request_: MirrorRequest
) -> None:
    session = await house.open(request_)
    assert [job.job_id for job in house.jobs] == ["mirror0"]
    assert house.mirrors == (session,)
    assert "mirror_top" in [node.driver for node in house.graph]
    assert {session.source, session.target} <= {node.node for node in house.graph}
    session.start()
    await seen(house, "BLOCK_JOB_READY")
    session.job.complete()
    await session.wait()
    assert (house.jobs, house.mirrors) == ((), ())
    assert "mirror_top" not in [node.driver for node in house.graph]
    await session.close()
    assert list(house.graph) == []


async def test_a_name_is_had_once_among_all_jobs(
    house: House, request_: MirrorRequest, tmp_path: Path
) -> None:
    session = await house.open(request_)
    with pytest.raises(InvalidInput, match="Job ID 'mirror0' already in use"):
        await house.open(request_)
    await add(house, tmp_path, "a")
    await add(house, tmp_path, "b")
    before = list(house.graph)
    with pytest.raises(InvalidInput, match="Job ID 'mirror0' already in use"):
        begin(house, "a", "b", "mirror0")
    assert list(house.graph) == before
    await session.close()


async def test_a_name_is_taken_while_its_images_are_being_opened(
    house: House, request_: MirrorRequest
) -> None:
    opening = asyncio.create_task(house.open(request_))
    await asyncio.sleep(0)
    with pytest.raises(InvalidInput, match="already in use"):
        await house.open(request_)
    await (await opening).close()


async def test_exports_of_a_sessions_image_end_with_it(
    house: House, request_: MirrorRequest, tmp_path: Path
) -> None:
    session = await house.open(request_)
    await house.exports.start(NbdAddress(socket_path=str(tmp_path / "n.sock")))
    source = next(node for node in house.graph if node.node is session.source)
    house.exports.add("e", source.name, writable=True)
    await session.close()
    assert house.exports.all == ()
    assert house.events.since(0)[0][-1].name == "BLOCK_EXPORT_DELETED"


@pytest.fixture
def offered(request_: MirrorRequest, tmp_path: Path) -> MirrorRequest:
    uri = f"nbd+unix:///disk?socket={tmp_path / 'own.sock'}"
    return replace(request_, export=ExportRequest(uri))


def listed(house: House) -> list[tuple[str, BlockNode]]:
    return [(export.id, export.node.node) for export in house.exports.all]


async def test_a_mirrors_own_export_is_listed_and_follows_the_switch(
    house: House, offered: MirrorRequest, tmp_path: Path
) -> None:
    changes: list[int] = []
    stop = house.exports.listen(lambda: changes.append(len(house.exports.all)))
    session = await house.open(offered)
    assert listed(house) == [("mirror0", session.source)]
    session.start()
    await seen(house, "BLOCK_JOB_READY")
    session.job.complete()
    await session.wait()
    assert listed(house) == [("mirror0", session.target)]
    await session.release_unused()
    await house.exports.start(NbdAddress(socket_path=str(tmp_path / "n.sock")))
    await house.exports.stop()  # which is not its server
    assert listed(house) == [("mirror0", session.target)]
    await session.close()
    assert (house.exports.all, changes) == ((), [1, 1, 0])
    assert house.events.since(0)[0][-1].name == "BLOCK_EXPORT_DELETED"
    assert list(house.graph) == []
    stop()


async def test_a_mirrors_own_export_can_be_removed_by_name(
    house: House, offered: MirrorRequest, tmp_path: Path
) -> None:
    session = await house.open(offered)
    address = NbdAddress(socket_path=str(tmp_path / "own.sock"), export="disk")
    client = await in_thread(lambda: NbdNode(address, reconnect_s=0))
    with pytest.raises(NodeError, match="export 'mirror0' still in use"):
        await house.exports.remove("mirror0")
    await house.exports.remove("mirror0", hard=True)
    assert (house.exports.all, session.export_uri, session.clients()) == ((), "", ())
    assert not (tmp_path / "own.sock").exists()
    await in_thread(client.close)
    session.start()
    await seen(house, "BLOCK_JOB_READY")
    session.job.complete()
    assert (await session.wait()).outcome is Outcome.SWITCHED
    await session.close()
    assert [event.name for event in house.events.since(0)[0]].count("BLOCK_EXPORT_DELETED") == 1


async def test_a_mirrors_own_export_takes_no_name_that_is_taken(
    house: House, offered: MirrorRequest, tmp_path: Path
) -> None:
    await add(house, tmp_path, "n")
    await house.exports.start(NbdAddress(socket_path=str(tmp_path / "n.sock")))
    house.exports.add("mirror0", "n", name="disk")
    session = await house.open(offered)
    assert [export.id for export in house.exports.all] == ["mirror0-1", "mirror0"]
    await house.exports.stop()
    assert [export.id for export in house.exports.all] == ["mirror0-1"]
    await session.close()


async def test_a_mirror_that_a_command_begins_is_announced_and_works(
    house: House, request_: MirrorRequest, tmp_path: Path
) -> None:
    await add(house, tmp_path, "s")
    await add(house, tmp_path, "t")
    told: list[MirrorSession] = []
    stop = house.listen(told.append)
    session = begin(house)
    assert told == [session]
    await seen(house, "BLOCK_JOB_READY")
    with pytest.raises(NodeError, match="in use"):
        await house.delete_node("t")
    session.job.complete()
    final = await session.wait()
    assert final.outcome is Outcome.SWITCHED
    assert session.target_loss == ""
    await house.delete_node("s")
    await session.release_unused()
    await session.close()
    assert await session.look_after_target() == ""
    assert same(request_.source, tmp_path / "t.raw")
    stop()
    await add(house, tmp_path, "s")
    begin(house, "t", "s")
    assert len(told) == 1


async def test_the_end_cancels_jobs_and_closes_everything(
    house: House, request_: MirrorRequest, tmp_path: Path
) -> None:
    for name in ("s", "t", "a", "b"):
        await add(house, tmp_path, name)
    await house.exports.start(NbdAddress(socket_path=str(tmp_path / "n.sock")))
    house.exports.add("e", "s")
    begin(house)
    opened = begin(house, "a", "b", "other")
    await seen(house, "BLOCK_JOB_READY")
    await house.close()
    assert opened.closed
    outcomes = [
        (event.name, event.data["device"])
        for event in house.events.since(0)[0]
        if event.name in ("BLOCK_JOB_CANCELLED", "BLOCK_JOB_COMPLETED")
    ]
    assert sorted(outcomes) == [("BLOCK_JOB_CANCELLED", "job"), ("BLOCK_JOB_CANCELLED", "other")]
    assert (house.jobs, house.exports.all, list(house.graph)) == ((), (), [])
    await house.close()


async def test_a_node_that_cannot_be_opened_leaves_nothing(house: House, tmp_path: Path) -> None:
    await add(house, tmp_path, "s")
    before = list(house.graph)
    child = {"driver": "null-co", "node-name": "n"}
    with pytest.raises(InvalidInput):
        await house.add_node({"driver": "raw", "node-name": "x", "file": child, "offset": 1 << 40})
    with pytest.raises(NodeError, match="Duplicate nodes with node-name='s'"):
        await house.add_node({"driver": "raw", "node-name": "s", "file": child})
    assert list(house.graph) == before

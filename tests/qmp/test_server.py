import asyncio
import json
import logging
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mirrorgui.errors import InvalidInput
from mirrorgui.mirror.events import EventLog
from mirrorgui.qmp import client as client_module
from mirrorgui.qmp import dispatch
from mirrorgui.qmp.address import Address, parse_address
from mirrorgui.qmp.server import MAX_CLIENTS, QmpServer

pytestmark = pytest.mark.asyncio


class House:
    """Of which the monitor only wants the events."""

    def __init__(self) -> None:
        self.events = EventLog()
        self.is_closed = False

    async def close(self) -> None:
        self.is_closed = True
        self.events.emit("JOB_STATUS_CHANGE", status="null", id="j")


MAX_LINE = 4 << 20


class Stage:
    def __init__(self, address: Address) -> None:
        self.house = House()
        self.server = QmpServer(self.house, address, quit=self.house.close)

    async def client(self, *, negotiate: bool = True) -> "Client":
        address = self.server.address
        if address.path:
            reader, writer = await asyncio.open_unix_connection(address.path, limit=MAX_LINE)
        else:
            reader, writer = await asyncio.open_connection(
                address.host, address.port, limit=MAX_LINE
            )
        client = Client(reader, writer)
        assert "QMP" in await client.message()
        if negotiate:
            assert await client.ask({"execute": "qmp_capabilities"}) == {"return": {}}
        return client


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def message(self) -> Any:
        line = await self.reader.readline()
        return json.loads(line) if line else None

    async def ask(self, request: object) -> Any:
        self.writer.write(json.dumps(request).encode())
        return await self.message()

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@asynccontextmanager
async def staged(address: Address) -> AsyncIterator[Stage]:
    stage = Stage(address)
    await stage.server.start()
    try:
        yield stage
    finally:
        await stage.server.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "qmp.sock"


@pytest.fixture
def address(path: Path) -> Address:
    return Address(path=str(path))


def handling(
    monkeypatch: pytest.MonkeyPatch, handler: Callable[[Any, Any], Awaitable[object]]
) -> None:
    """Put a handler in the place of ``query-jobs``."""
    monkeypatch.setitem(dispatch.HANDLERS, "query-jobs", handler)


async def test_all_clients_get_all_events_once_they_have_negotiated(address: Address) -> None:
    async with staged(address) as stage:
        first, second, third = [await stage.client(negotiate=n < 2) for n in range(3)]
        for number in range(3):
            stage.house.events.emit("BLOCK_JOB_READY", len=number)
        for client in (first, second):
            events = [await client.message() for _ in range(3)]
            assert [event["data"] for event in events] == [{"len": n} for n in range(3)]
            assert set(events[0]["timestamp"]) == {"seconds", "microseconds"}
            await client.close()
        assert await third.ask({"execute": "qmp_capabilities"}) == {"return": {}}
        await third.close()


async def test_each_client_negotiates_for_itself(address: Address) -> None:
    async with staged(address) as stage:
        one = await stage.client()
        two = await stage.client(negotiate=False)
        assert "return" in await one.ask({"execute": "query-version"})
        answer = await two.ask({"execute": "query-version"})
        assert answer["error"]["class"] == "CommandNotFound"
        with_oob = {"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}
        assert await two.ask(with_oob) == {"return": {}}
        for client, text in (
            (one, "QMP input member 'exec-oob' is unexpected"),
            (two, "The command query-version does not support OOB"),
        ):
            answer = await client.ask({"exec-oob": "query-version"})
            assert answer["error"]["desc"] == text
        answer = await two.ask({"exec-oob": "qmp_capabilities"})
        assert answer["error"]["desc"] == "The command qmp_capabilities does not support OOB"
        for client in (one, two):
            await client.close()


@pytest.mark.parametrize("given", [0, -1.5, "x", None, True, [1, {"a": []}], {"b": None}])
async def test_an_id_may_be_anything(address: Address, given: object) -> None:
    async with staged(address) as stage:
        client = await stage.client()
        for name in ("query-version", "nonsense"):
            assert (await client.ask({"execute": name, "id": given}))["id"] == given
        await client.close()


async def test_one_command_is_carried_out_at_a_time(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = 0

    async def handler(_house: House, _args: object) -> object:
        nonlocal inside
        inside += 1
        for _ in range(3):
            await asyncio.sleep(0)
        inside -= 1
        return inside

    handling(monkeypatch, handler)
    async with staged(address) as stage:
        clients = [await stage.client() for _ in range(3)]
        answers = await asyncio.gather(*(one.ask({"execute": "query-jobs"}) for one in clients))
        assert answers == [{"return": 0}] * 3
        for client in clients:
            await client.close()


async def test_a_command_goes_on_when_its_client_has_gone(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended, released = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(_house: House, _args: object) -> object:
        begun.set()
        await released.wait()
        ended.set()
        return {}

    handling(monkeypatch, handler)
    async with staged(address) as stage:
        client = await stage.client()
        client.writer.write(b'{"execute":"query-jobs"}')
        await begun.wait()
        await client.close()
        released.set()
        await ended.wait()


async def test_a_defect_in_a_command_is_answered_and_logged(
    address: Address, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(_house: House, _args: object) -> object:
        raise ZeroDivisionError("oops")

    handling(monkeypatch, handler)
    async with staged(address) as stage:
        client = await stage.client()
        answer = await client.ask({"execute": "query-jobs"})
        assert answer["error"]["desc"] == "Internal error: ZeroDivisionError: oops"
        assert "return" in await client.ask({"execute": "query-version"})
        await client.close()
    assert "command failed name=query-jobs" in caplog.text


async def test_a_client_that_does_not_read_is_cut_and_the_others_go_on(
    address: Address, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client_module, "MAX_UNREAD", 1 << 16)
    async with staged(address) as stage:
        sleeper, reader = await stage.client(), await stage.client()
        sleeper.writer.transport.pause_reading()  # type: ignore[attr-defined]
        emitted = 0
        while "cut" not in caplog.text:
            stage.house.events.emit("BLOCK_JOB_ERROR", text="x" * 1024)
            emitted += 1
            assert (await reader.message())["event"] == "BLOCK_JOB_ERROR"
        assert emitted < 2000
        assert "return" in await reader.ask({"execute": "query-version"})
        for client in (sleeper, reader):
            client.writer.transport.abort()
    assert "bytes wait for it to read" in caplog.text


async def test_an_answer_may_be_longer_than_what_may_wait(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def long(_house: object, _args: object) -> list[str]:
        return ["x" * 1024] * 1024

    handling(monkeypatch, long)
    monkeypatch.setattr(client_module, "MAX_UNREAD", 1 << 16)
    async with staged(address) as stage:
        client = await stage.client()
        for _ in range(2):
            answer = await client.ask({"execute": "query-jobs"})
            assert len(answer["return"]) == 1024
        await client.close()


async def test_quit_is_answered_behind_the_events_of_the_end(address: Address) -> None:
    async with staged(address) as stage:
        client = await stage.client()
        client.writer.write(b'{"execute":"quit","id":1}')
        assert (await client.message())["event"] == "JOB_STATUS_CHANGE"
        assert await client.message() == {"return": {}, "id": 1}
        assert stage.house.is_closed
        await stage.server.close()
        assert await client.message() is None
        await client.close()


async def test_the_end_waits_for_a_command_and_refuses_the_next(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()

    async def handler(_house: House, _args: object) -> object:
        await released.wait()
        return "done"

    handling(monkeypatch, handler)
    async with staged(address) as stage:
        client, waiting = await stage.client(), await stage.client()
        client.writer.write(b'{"execute":"query-jobs"}')
        await asyncio.sleep(0)
        waiting.writer.write(b'{"execute":"query-jobs"}')
        closing = asyncio.create_task(stage.server.close())
        await asyncio.sleep(0)
        released.set()
        assert await client.message() == {"return": "done"}
        await closing
        assert await client.message() is None
        await client.close()
        await waiting.close()


async def test_the_socket_is_for_its_owner_alone_and_goes_at_the_end(
    address: Address, path: Path
) -> None:
    before = os.umask(0)
    try:
        async with staged(address):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert not path.exists()


async def test_what_somebody_else_has_put_in_its_place_stays(address: Address, path: Path) -> None:
    async with staged(address):
        path.unlink()
        path.write_text("mine")
    assert path.read_text() == "mine"


async def test_a_dead_socket_is_replaced_and_a_living_one_is_not(
    address: Address, path: Path
) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with staged(address):
        with pytest.raises(InvalidInput, match="another program listens there"):
            await Stage(address).server.start()
        client = await Stage.client(Stage(address))
        await client.close()


async def test_a_file_is_not_taken_for_a_socket(address: Address, path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(InvalidInput, match="not a socket"):
        await Stage(address).server.start()
    assert path.read_text() == "precious"


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        await Stage(Address(path=str(tmp_path / "no" / "qmp.sock"))).server.start()


async def test_a_port_of_this_machine_can_be_used(caplog: pytest.LogCaptureFixture) -> None:
    async with staged(parse_address("tcp:127.0.0.1:0")) as stage:
        assert stage.server.address.port
        client = await stage.client()
        assert "return" in await client.ask({"execute": "query-version"})
        await client.close()


async def test_a_browser_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    async with staged(parse_address("tcp:127.0.0.1:0")) as stage:
        client = await stage.client(negotiate=False)
        body = b'{"execute":"qmp_capabilities"}{"execute":"quit"}'
        client.writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n" + body)
        assert await client.message() is None
        assert not stage.house.is_closed
        await client.close()
    assert "it speaks HTTP" in caplog.text


async def test_clients_are_limited_in_number(
    address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    async with staged(address) as stage:
        clients = [await stage.client(negotiate=False) for _ in range(MAX_CLIENTS)]
        reader, writer = await asyncio.open_unix_connection(address.path, limit=MAX_LINE)
        assert await reader.read() == b""
        writer.close()
        for client in clients:
            await client.close()
    assert "refused" in caplog.text


async def test_packets_of_many_commands_are_answered_in_order(address: Address) -> None:
    async with staged(address) as stage:
        client = await stage.client()
        count = 500
        client.writer.write(
            b"".join(b'{"execute":"query-version","id":%d}' % number for number in range(count))
        )
        answers = [await client.message() for _ in range(count)]
        assert [answer["id"] for answer in answers] == list(range(count))
        await client.close()


async def test_what_is_said_is_logged_for_debugging(
    address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mirrorgui.qmp")
    async with staged(address) as stage:
        client = await stage.client()
        await client.ask({"execute": "query-version"})
        await client.close()
    assert "--> query-version" in caplog.text

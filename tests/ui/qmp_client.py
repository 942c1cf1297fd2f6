"""A QMP client on the window's own loop."""

import asyncio
import json


class Client:
    """A QMP client on the window's own loop."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.events = []

    @classmethod
    async def connect(cls, path):
        client = cls(*await asyncio.open_unix_connection(str(path)))
        assert "QMP" in json.loads(await client.reader.readline())
        await client.ask("qmp_capabilities")
        return client

    async def ask(self, name, /, **arguments):
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.writer.write(json.dumps({"execute": name, "arguments": named}).encode())
        while True:
            message = json.loads(await self.reader.readline())
            if "event" not in message:
                assert "return" in message, message
                return message["return"]
            self.events.append(message)

    async def wait_for(self, name, **data):
        while True:
            for event in self.events:
                if event["event"] == name and data.items() <= event["data"].items():
                    return event["data"]
            self.events.append(json.loads(await self.reader.readline()))

    async def close(self):
        self.writer.close()
        await self.writer.wait_closed()

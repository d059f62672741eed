"""`signalbox-gateway admin mcp` with the client of the Model Context Protocol's own SDK, at a cluster of two nodes.

Run as `python3 test_mcp.py` with GATEWAY_BIN, ADMIN_URL, GATEWAY_URLS (two) and ADMIN_TOKEN set; exits with 1 when a test fails.
"""

import os
import queue
import subprocess
import unittest

import jsonschema
import socketio
from mcp import Client, MCPError, StdioServerParameters

from vocabulary import DEADLINE

PROGRAM = os.environ["GATEWAY_BIN"]
URLS = os.environ["GATEWAY_URLS"].split()
LOOKING = {"cluster", "nodes", "node", "namespaces", "rooms", "members", "sockets", "socket", "peers", "peer", "rates"}


def assistant(*flags, token=os.environ["ADMIN_TOKEN"]):
    """A session with the program, as an assistant's host starts it."""
    variables = {"SIGNALBOX_ADMIN_URL": os.environ["ADMIN_URL"], "SIGNALBOX_ADMIN_TOKEN": token}
    return Client(StdioServerParameters(command=PROGRAM, args=["admin", "mcp", *flags], env=variables), read_timeout_seconds=DEADLINE)


class Member:
    """A client in a room, at one of the nodes."""

    def __init__(self, url, room):
        self.events = queue.Queue()
        self.socket = socketio.Client(reconnection=False)
        self.socket.on("*", lambda *event: self.events.put(event))
        self.socket.on("disconnect", lambda *_: self.events.put(("disconnect",)))
        self.socket.connect(url, transports=["websocket"], wait_timeout=DEADLINE)
        self.socket.call("join", (room, {"name": "Ada"}), timeout=DEADLINE)
        self.id = self.socket.get_sid()

    def await_event(self, name):
        while (event := self.events.get(timeout=DEADLINE))[0] != name:
            pass
        return event[1:]


class Mcp(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.members = [Member(url, "assisted") for url in URLS]

    def tearDown(self):
        for member in self.members:
            member.socket.disconnect()

    async def answer(self, client, name, **arguments):
        result = await client.call_tool(name, arguments)
        self.assertFalse(result.is_error, result.content)
        return result.structured_content

    async def refusal(self, client, name, **arguments):
        result = await client.call_tool(name, arguments)
        self.assertTrue(result.is_error, result.content)
        return result.content[0].text

    async def test_without_more_it_may_only_look_at_all_nodes(self):
        async with assistant() as client:
            tools = (await client.list_tools()).tools
            self.assertLessEqual(LOOKING, {tool.name for tool in tools})
            self.assertFalse({"emit", "disconnect", "drain", "join"} & {tool.name for tool in tools})
            for tool in tools:
                jsonschema.Draft202012Validator.check_schema(tool.input_schema)
                self.assertTrue(tool.description and tool.title, tool.name)
                self.assertFalse(tool.annotations.destructive_hint, tool.name)
            self.assertEqual((await self.answer(client, "cluster"))["nodes"], 2)
            members = (await self.answer(client, "members", room="assisted"))["items"]
            self.assertEqual({member["id"] for member in members}, {member.id for member in self.members})
            self.assertEqual(len({member["node"] for member in members}), 2)
            # Page by page, as the instructions say.
            page = await self.answer(client, "members", room="assisted", limit=1)
            rest = await self.answer(client, "members", room="assisted", limit=1, after=page["next"])
            self.assertEqual(page["items"] + rest["items"], members)
            with self.assertRaises(MCPError):
                await client.call_tool("emit", {"to": {"everyone": True}, "event": "never"})

    async def test_mistakes_are_answered_with_what_is_wrong(self):
        async with assistant() as client:
            self.assertIn("no argument rom", await self.refusal(client, "members", rom="x"))
            self.assertIn("limit", await self.refusal(client, "rooms", limit=0))
            self.assertIn("node", await self.refusal(client, "node", node="nobody"))
        async with assistant(token="sba_wrong") as client:
            self.assertIn("SIGNALBOX_ADMIN_TOKEN", await self.refusal(client, "cluster"))

    async def test_what_was_allowed_is_done_to_clients_on_all_nodes(self):
        async with assistant("--allow", "emit") as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            self.assertTrue("emit" in names and "disconnect" not in names, names)
            await self.answer(client, "emit", to={"rooms": ["assisted"]}, event="news", args=["hello"])
            for member in self.members:
                self.assertEqual(member.await_event("news"), ("hello",))
        async with assistant("--allow", "emit,control") as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            self.assertTrue(tools["disconnect"].annotations.destructive_hint)
            done = await self.answer(client, "disconnect", to={"sockets": [self.members[1].id]})
            self.assertEqual((done["matched"], done["done"], done["partial"]), (1, 1, []))
            self.members[1].await_event("disconnect")

    async def test_it_ends_with_its_host_and_says_what_it_is_not_given(self):
        refused = subprocess.run([PROGRAM, "admin", "mcp", "--allow", "read"], capture_output=True, text=True, timeout=DEADLINE, check=False)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("neither emit nor control", refused.stderr)
        closed = subprocess.run([PROGRAM, "admin", "mcp"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, check=False)
        self.assertEqual(closed.stdout, "")


if __name__ == "__main__":
    unittest.main(verbosity=2)

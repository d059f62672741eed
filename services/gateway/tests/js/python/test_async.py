"""The asynchronous client of python-socketio against the gateway's built-in vocabulary.

Run as `python3 test_async.py` with GATEWAY_URL set; exits with 1 when a test fails.
"""

import asyncio
import unittest

import socketio

from vocabulary import BATCH, DEADLINE, GATEWAY_URL, WAYS, room_of


class Client:
    """A connected client whose events are queued per name."""

    def __init__(self, transports, namespaces=None):
        self.socket = socketio.AsyncClient(reconnection=False)
        self.heard = {}
        self.transports = transports
        self.namespaces = namespaces
        self.socket.on("*", self._keep)

    async def _keep(self, event, *args):
        self._queue(event).put_nowait(args)

    def _queue(self, event):
        return self.heard.setdefault(event, asyncio.Queue())

    async def next(self, event):
        """The arguments of the next `event`."""
        return await asyncio.wait_for(self._queue(event).get(), DEADLINE)

    async def ask(self, event, *args):
        """The acknowledgement of an event."""
        return await self.socket.call(event, args, timeout=DEADLINE)

    async def __aenter__(self):
        await self.socket.connect(
            GATEWAY_URL, transports=self.transports, namespaces=self.namespaces, wait_timeout=DEADLINE
        )
        self.id = self.socket.get_sid()
        return self

    async def __aexit__(self, *_):
        await self.socket.disconnect()


class Async(unittest.IsolatedAsyncioTestCase):
    async def each_way(self, test):
        for name, transports in WAYS.items():
            with self.subTest(transports=name):
                await test(name, transports)

    async def test_connects_and_upgrades(self):
        async def connects(name, transports):
            async with Client(transports) as client:
                self.assertRegex(client.id, r"^[A-Za-z0-9_-]{20}$")
                expected = "polling" if name == "polling" else "websocket"
                self.assertEqual(client.socket.transport(), expected)

        await self.each_way(connects)

    async def test_joins_and_tells_the_others(self):
        async def joins(name, transports):
            room = room_of(f"join {name}")
            async with Client(transports) as alice, Client(transports) as bob:
                reply = await alice.ask("join", room, {"name": "Alice"})
                self.assertEqual(reply, {"ok": True, "room": room, "members": []})
                reply = await bob.ask("join", room, {"name": "Bob"})
                self.assertEqual(reply["members"], [{"id": alice.id, "name": "Alice"}])
                self.assertEqual(await alice.next("joined"), ({"id": bob.id, "room": room, "name": "Bob"},))

                members = (await alice.ask("members", room))["members"]
                self.assertEqual(sorted(m["name"] for m in members), ["Alice", "Bob"])

                self.assertTrue((await bob.ask("leave", room))["ok"])
                self.assertEqual(await alice.next("left"), ({"id": bob.id, "room": room, "name": "Bob"},))

        await self.each_way(joins)

    async def test_text_and_binary_both_ways(self):
        async def sends(name, transports):
            room = room_of(f"message {name}")
            async with Client(transports) as alice, Client(transports) as bob:
                for client in (alice, bob):
                    await client.ask("join", room)
                for data in ["hello é 😀", b"\x00\x01\xfe\xff", {"nested": [b"one", {"two": b"two"}]}, [1, None, True], ""]:
                    self.assertTrue((await alice.ask("message", room, data))["ok"])
                    self.assertEqual(await bob.next("message"), (data, {"room": room, "from": alice.id}))
                    self.assertTrue((await bob.ask("signal", alice.id, data))["ok"])
                    self.assertEqual(await alice.next("signal"), (data, {"from": bob.id}))

        await self.each_way(sends)

    async def test_many_acknowledgements_at_once(self):
        async def asks(name, transports):
            room = room_of(f"many {name}")
            async with Client(transports) as alice, Client(transports) as bob:
                for client in (alice, bob):
                    await client.ask("join", room)
                seen = []
                for first in range(0, 200, BATCH):
                    numbers = range(first, first + BATCH)
                    replies = await asyncio.gather(*(alice.ask("message", room, number) for number in numbers))
                    self.assertTrue(all(reply["ok"] for reply in replies))
                    seen += [(await bob.next("message"))[0] for _ in numbers]
                # The client runs a handler per event at the same time: their order is its own affair.
                self.assertEqual(sorted(seen), list(range(200)))

        await self.each_way(asks)

    async def test_refusals(self):
        async def refuses(name, transports):
            async with Client(transports) as client:
                self.assertEqual(await client.ask("make-coffee"), {"ok": False, "error": "unknown-event"})
                self.assertEqual(await client.ask("signal", "A" * 20, 1), {"ok": False, "error": "not-found"})
                self.assertEqual(await client.ask("join", ""), {"ok": False, "error": "bad-room"})

        await self.each_way(refuses)

    async def test_a_namespace_that_does_not_exist(self):
        async def refused(name, transports):
            with self.assertRaises(socketio.exceptions.ConnectionError) as caught:
                async with Client(transports, namespaces=["/nowhere"]):
                    pass
            # Older versions do not name it.
            self.assertRegex(str(caught.exception), "/nowhere|namespaces failed to connect")

        await self.each_way(refused)

    async def test_a_farewell_when_a_client_disconnects(self):
        async def says_goodbye(name, transports):
            room = room_of(f"farewell {name}")
            async with Client(transports) as alice:
                await alice.ask("join", room)
                async with Client(transports) as bob:
                    await bob.ask("join", room, {"name": "Bob"})
                    bob_id = bob.id
                self.assertEqual(await alice.next("left"), ({"id": bob_id, "room": room, "name": "Bob"},))

        await self.each_way(says_goodbye)


if __name__ == "__main__":
    unittest.main(verbosity=2)

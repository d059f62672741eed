"""The synchronous client of python-socketio against the gateway's built-in vocabulary.

Run as `python3 test_sync.py` with GATEWAY_URL set; exits with 1 when a test fails.
"""

import queue
import unittest

import socketio

from vocabulary import BATCH, DEADLINE, GATEWAY_URL, WAYS, room_of


class Client:
    """A connected client whose events are queued per name."""

    def __init__(self, transports, namespaces=None):
        self.socket = socketio.Client(reconnection=False)
        self.heard = {}
        self.socket.on("*", self._keep)
        self.socket.connect(GATEWAY_URL, transports=transports, namespaces=namespaces, wait_timeout=DEADLINE)
        self.id = self.socket.get_sid()

    def _keep(self, event, *args):
        self._queue(event).put(args)

    def _queue(self, event):
        return self.heard.setdefault(event, queue.Queue())

    def next(self, event):
        """The arguments of the next `event`."""
        return self._queue(event).get(timeout=DEADLINE)

    def ask(self, event, *args):
        """The acknowledgement of an event."""
        return self.socket.call(event, args, timeout=DEADLINE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.disconnect()


class Sync(unittest.TestCase):
    def each_way(self, test):
        for name, transports in WAYS.items():
            with self.subTest(transports=name):
                test(name, transports)

    def test_connects_and_upgrades(self):
        def connects(name, transports):
            with Client(transports) as client:
                self.assertRegex(client.id, r"^[A-Za-z0-9_-]{20}$")
                expected = "polling" if name == "polling" else "websocket"
                self.assertEqual(client.socket.transport(), expected)

        self.each_way(connects)

    def test_joins_and_tells_the_others(self):
        def joins(name, transports):
            room = room_of(f"join {name}")
            with Client(transports) as alice, Client(transports) as bob:
                reply = alice.ask("join", room, {"name": "Alice"})
                self.assertEqual(reply, {"ok": True, "room": room, "members": []})
                reply = bob.ask("join", room, {"name": "Bob"})
                self.assertEqual(reply["members"], [{"id": alice.id, "name": "Alice"}])
                self.assertEqual(alice.next("joined"), ({"id": bob.id, "room": room, "name": "Bob"},))

                members = alice.ask("members", room)["members"]
                self.assertEqual(sorted(m["name"] for m in members), ["Alice", "Bob"])

                self.assertTrue(bob.ask("leave", room)["ok"])
                self.assertEqual(alice.next("left"), ({"id": bob.id, "room": room, "name": "Bob"},))

        self.each_way(joins)

    def test_text_and_binary_both_ways(self):
        def sends(name, transports):
            room = room_of(f"message {name}")
            with Client(transports) as alice, Client(transports) as bob:
                for client in (alice, bob):
                    client.ask("join", room)
                for data in ["hello é 😀", b"\x00\x01\xfe\xff", {"nested": [b"one", {"two": b"two"}]}, [1, None, True], ""]:
                    self.assertTrue(alice.ask("message", room, data)["ok"])
                    self.assertEqual(bob.next("message"), (data, {"room": room, "from": alice.id}))
                    self.assertTrue(bob.ask("signal", alice.id, data)["ok"])
                    self.assertEqual(alice.next("signal"), (data, {"from": bob.id}))

        self.each_way(sends)

    def test_order_of_many_messages(self):
        def sends(name, transports):
            room = room_of(f"order {name}")
            with Client(transports) as alice, Client(transports) as bob:
                for client in (alice, bob):
                    client.ask("join", room)
                seen = []
                for first in range(0, 200, BATCH):
                    for number in range(first, first + BATCH):
                        alice.socket.emit("message", (room, number))
                    seen += [bob.next("message")[0] for _ in range(BATCH)]
                self.assertEqual(seen, list(range(200)))

        self.each_way(sends)

    def test_refusals(self):
        def refuses(name, transports):
            with Client(transports) as client:
                self.assertEqual(client.ask("make-coffee"), {"ok": False, "error": "unknown-event"})
                self.assertEqual(client.ask("signal", "A" * 20, 1), {"ok": False, "error": "not-found"})
                self.assertEqual(client.ask("join", ""), {"ok": False, "error": "bad-room"})

        self.each_way(refuses)

    def test_a_namespace_that_does_not_exist(self):
        def refused(name, transports):
            with self.assertRaises(socketio.exceptions.ConnectionError) as caught:
                Client(transports, namespaces=["/nowhere"])
            # Older versions do not name it.
            self.assertRegex(str(caught.exception), "/nowhere|namespaces failed to connect")

        self.each_way(refused)

    def test_a_farewell_when_a_client_disconnects(self):
        def says_goodbye(name, transports):
            if name == "polling":
                # This client drops its last packets there, so the farewell waits for the ping timeout.
                return
            room = room_of(f"farewell {name}")
            with Client(transports) as alice:
                alice.ask("join", room)
                with Client(transports) as bob:
                    bob.ask("join", room, {"name": "Bob"})
                    bob_id = bob.id
                self.assertEqual(alice.next("left"), ({"id": bob_id, "room": room, "name": "Bob"},))

        self.each_way(says_goodbye)


if __name__ == "__main__":
    unittest.main(verbosity=2)

"""What both test files share: where the gateway is, and room names that nobody else uses."""

import os
import sys

GATEWAY_URL = os.environ.get("GATEWAY_URL", "").rstrip("/")
if not GATEWAY_URL:
    sys.exit("GATEWAY_URL is not set (the public address of a running gateway)")

# Deadlines end a hang, they never measure.
DEADLINE = 20

# python-engineio refuses a polling payload of more than 16 packets, so no more are under way at once.
BATCH = 10

WAYS = {
    "polling": ["polling"],
    "websocket": ["websocket"],
    "polling, then websocket": None,
}


def room_of(name):
    """The spaces keep the name from looking like a socket id."""
    return f"python {os.getpid()} {name}"

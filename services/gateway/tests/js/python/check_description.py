"""The admin API does what its description says: `schemathesis` makes requests of all kinds from the description, right and wrong ones, and
holds each answer against it. Clients are there meanwhile, so that lists have entries; whoever is disconnected comes back.

Run as `python3 check_description.py` with ADMIN_URL, GATEWAY_URLS, ADMIN_TOKEN and SECONDS set; ends with schemathesis' exit code. For less
than a minute the requests are the same each time.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request

import socketio
import websocket

URLS = os.environ["GATEWAY_URLS"].split()
ADMIN = os.environ["ADMIN_URL"]
SECONDS = int(os.environ["SECONDS"])
DOCUMENT = f"{ADMIN}/admin/v1/openapi.json"
ROOM, PEER = "described", "described-peer"
# No answer is a failure of the server, or another one than is described; nobody is served without a token.
CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance", "response_schema_conformance",
    "allow_header_conformance", "unsupported_method", "ignored_auth",
]
# In the long run, nothing wrong is taken either.
if SECONDS >= 60:
    CHECKS.append("negative_data_rejection")


def stay(url, stop):
    """A client of Socket.IO in two rooms."""
    while not stop.is_set():
        try:
            with socketio.SimpleClient() as client:
                client.connect(url, transports=["websocket"])
                for room in (ROOM, "other"):
                    client.call("join", (room, {"name": "Ada", "n": 1}))
                while client.connected and not stop.wait(0.2):
                    pass
        except (socketio.exceptions.SocketIOError, OSError):
            stop.wait(0.2)


def stay_peer(url, stop):
    """A client of PeerServer."""
    address = url.replace("http", "ws", 1) + f"/peerjs?key=peerjs&id={PEER}&token=t"
    while not stop.is_set():
        try:
            client = websocket.create_connection(address, timeout=0.2)
            while not stop.is_set():
                try:
                    if not client.recv():
                        break
                except websocket.WebSocketTimeoutException:
                    client.send('{"type":"HEARTBEAT"}')
            client.close()
        except (websocket.WebSocketException, OSError):
            stop.wait(0.2)


def get(path):
    request = urllib.request.Request(f"{ADMIN}/admin/v1/{path}", headers={"Authorization": f"Bearer {os.environ['ADMIN_TOKEN']}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def is_tried(operation):
    """Not what drains a node, nor what does not end, nor what is no JSON."""
    answer = operation.get("responses", {}).get("200", {}).get("content", {})
    asked = operation.get("requestBody", {}).get("content", {"application/json": {}})
    return operation["operationId"] != "drain" and "application/json" in answer and "application/json" in asked


def main():
    stop = threading.Event()
    clients = [threading.Thread(target=stay, args=(url, stop)) for url in URLS]
    clients.append(threading.Thread(target=stay_peer, args=(URLS[0], stop)))
    for client in clients:
        client.start()
    try:
        while not (get(f"rooms/{ROOM}/members")["items"] and get("peers")["items"]):
            pass
        with urllib.request.urlopen(DOCUMENT, timeout=10) as answer:
            paths = json.load(answer)["paths"]
        operations = [operation for item in paths.values() for operation in item.values()]
        left_out = [operation["operationId"] for operation in operations if not is_tried(operation)]
        assert len(operations) - len(left_out) > 15, left_out
        directory = tempfile.mkdtemp()
        with open(f"{directory}/schemathesis.toml", "w", encoding="utf-8") as file:
            # Names that are there, so that answers are more than that nothing is.
            file.write(f'[parameters]\n"path.room" = "{ROOM}"\n"path.node" = "{get("nodes")["items"][0]["id"]}"\n')
            file.write(f'[[operations]]\ninclude-path-regex = "/sockets/"\nparameters = {{ "path.id" = "{get("sockets")["items"][0]["id"]}" }}\n')
            file.write(f'[[operations]]\ninclude-path-regex = "/peers/"\nparameters = {{ "path.id" = "{PEER}" }}\n')
        command = [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "--config-file", f"{directory}/schemathesis.toml", "run", DOCUMENT]
        command += ["--header", f"Authorization: Bearer {os.environ['ADMIN_TOKEN']}", "--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing"]
        command += ["--max-examples", "10", "--max-time", str(SECONDS), "--workers", "2", "--generation-database", "none", "--no-color"]
        command += [word for name in left_out for word in ("--exclude-operation-id", name)]
        command += [] if SECONDS >= 60 else ["--seed", "1"]
        # An acknowledgement may be waited for half a minute.
        command += ["--request-timeout", "40", "--warnings", "off"]
        return subprocess.run(command, cwd=directory, check=False, timeout=SECONDS + 90).returncode
    finally:
        stop.set()
        for client in clients:
            client.join()


if __name__ == "__main__":
    sys.exit(main())

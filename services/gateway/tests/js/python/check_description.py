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
ROOM, PEER, SOCKET = "described", "described-peer", ""
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


def ask(method, path):
    request = urllib.request.Request(f"{ADMIN}/admin/v1/{path}", method=method, headers={"Authorization": f"Bearer {os.environ['ADMIN_TOKEN']}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def described():
    """The names of all operations: those that are asked as they are, and those that are asked apart, since they do not end (`events`), change
    what the clients here rely on (`put`, which puts rules), or end a node."""
    with urllib.request.urlopen(DOCUMENT, timeout=10) as answer:
        paths = json.load(answer)["paths"]
    names = {operation["operationId"] for item in paths.values() for operation in item.values()}
    apart = {"events", "put", "drain"}
    assert apart < names and len(names - apart) > 20, names
    return names - apart


def run(names, seconds, node, settings="", options=()):
    """Runs schemathesis with these operations, for so long at most; its exit code."""
    directory = tempfile.mkdtemp()
    with open(f"{directory}/schemathesis.toml", "w", encoding="utf-8") as file:
        # Names that are there, so that answers are more than that nothing is.
        file.write(f'{settings}\n[parameters]\n"path.room" = "{ROOM}"\n"path.node" = "{node}"\n')
        file.write(f'[[operations]]\ninclude-path-regex = "/sockets/"\nparameters = {{ "path.id" = "{SOCKET}" }}\n')
        file.write(f'[[operations]]\ninclude-path-regex = "/peers/"\nparameters = {{ "path.id" = "{PEER}" }}\n')
    with open(f"{directory}/serializers.py", "w", encoding="utf-8") as file:
        file.write('import schemathesis\n\nschemathesis.serializer.alias("application/toml", "text/plain")\n')
    command = [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "--config-file", f"{directory}/schemathesis.toml", "run", DOCUMENT]
    command += ["--header", f"Authorization: Bearer {os.environ['ADMIN_TOKEN']}", "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"]
    # One worker: Python's parser counts how deep it is for all threads together, and fails when two are in it at once.
    command += ["--max-examples", "10", "--max-time", str(seconds), "--workers", "1", "--generation-database", "none", "--no-color"]
    command += [word for name in sorted(names) for word in ("--include-operation-id", name)]
    command += [] if SECONDS >= 60 else ["--seed", "1"]
    command += ["--warnings", "off", *options]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "serializers", "PYTHONPATH": directory}
    return subprocess.run(command, cwd=directory, env=environment, check=False, timeout=seconds + 90).returncode


def main():
    global SOCKET
    stop = threading.Event()
    clients = [threading.Thread(target=stay, args=(url, stop)) for url in URLS]
    clients.append(threading.Thread(target=stay_peer, args=(URLS[0], stop)))
    for client in clients:
        client.start()
    # The node that is drained in the end is asked for nothing before.
    nodes = sorted(node["id"] for node in ask("GET", "nodes")["items"])
    first, last = [node for node in nodes if node != ask("GET", "cluster")["answeredBy"]][:2]
    try:
        while not (ask("GET", f"rooms/{ROOM}/members")["items"] and ask("GET", "peers")["items"]):
            pass
        SOCKET = ask("GET", "sockets")["items"][0]["id"]
        # An acknowledgement may be waited for half a minute.
        failed = run(described(), SECONDS, first, options=("--request-timeout", "40"))
        # A stream is read until it has told something, or a moment is over.
        failed |= run({"events"}, SECONDS // 5, first, settings="max-stream-events = 1", options=("--request-timeout", "1"))
    finally:
        stop.set()
        for client in clients:
            client.join()
    failed |= run({"put"}, SECONDS // 5, first)
    # One that is right is among those that were put.
    assert ask("GET", "rules")["source"] == "cluster", ask("GET", "rules")
    ask("DELETE", "rules")
    failed |= run({"drain"}, SECONDS // 5, last)
    drains = ask("GET", f"operations?kind=drain&node={last}")["items"]
    # The first one; another that was begun while the node was about to be gone found it gone.
    assert drains and drains[-1]["status"] in ("running", "done"), drains
    return failed


if __name__ == "__main__":
    sys.exit(main())

"""The image and the compose file's topology, run for real: `cargo xtask test containers`."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

import images
import podman
from topology import Topology, connect, inspect, logs, until

IMAGE = "ghcr.io/signalbox/signalbox-gateway:0.1.0"
JS = podman.ROOT / "services/gateway/tests/js"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module", name="topology")
def started():
    project = Topology(free_port())
    images.provide_all({service["image"] for service in project.services.values()} - {IMAGE})
    images.build(IMAGE)
    project.down()
    try:
        project.up()
        yield project
    finally:
        project.down()


def get(url, timeout=10):
    """Status and body."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError as error:
        return 0, str(error)


def ready(name):
    return podman.run("exec", name, "/usr/bin/signalbox-gateway", "health", "--ready").returncode == 0


def nodes_known(topology):
    """How many nodes each gateway knows, as Prometheus has it of them."""
    query = "http://127.0.0.1:9090/api/v1/query?query=signalbox_cluster_nodes"
    prometheus = topology.containers("prometheus")[0]
    answer = json.loads(podman.succeed("exec", prometheus, "wget", "-q", "-O", "-", query))
    return sorted(int(each["value"][1]) for each in answer["data"]["result"])


def session(url):
    """A polling session, through the load balancer: its sid, once it is connected."""
    return connected(url)[0]


def connected(url):
    """The same, and the id of its socket."""
    path = f"{url}/socket.io/?EIO=4&transport=polling"
    status, body = get(path)
    assert status == 200, body
    sid = json.loads(body[1:])["sid"]
    post(f"{path}&sid={sid}", "40")
    status, body = get(f"{path}&sid={sid}")
    assert status == 200 and body.startswith('40{"sid"'), body
    return sid, json.loads(body[2:])["sid"]


def post(url, body):
    request = urllib.request.Request(url, data=body.encode(), method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


class WebSocket:
    """A Socket.IO client on a WebSocket through the load balancer, which does not come back when it is cut off."""

    def __init__(self, topology):
        self.socket = socket.create_connection(("127.0.0.1", int(topology.url.rsplit(":", 1)[1])), timeout=15)
        lines = ["GET /socket.io/?EIO=4&transport=websocket HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket"]
        lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: c2lnbmFsYm94LXRlc3QhIQ==", "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        self.await_text(b'0{"sid":')

    def connect(self):
        # A text frame with "40", masked with zeros.
        self.socket.sendall(bytes([0x81, 0x82, 0, 0, 0, 0]) + b"40")
        self.await_text(b'40{"sid":')

    def await_text(self, text):
        received = b""
        while text not in received:
            piece = self.socket.recv(65536)
            assert piece, f"closed after {received!r}"
            received += piece

    def is_open(self):
        self.socket.setblocking(False)
        try:
            return self.socket.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True


def test_the_image_is_small_and_has_no_shell(topology):
    assert topology
    image = inspect(IMAGE)
    # Both programs and the bundles.
    assert image["Size"] < 80 * 1024**2, image["Size"]
    assert image["Config"]["User"] == "65532:65532"
    assert image["Config"]["Labels"]["org.opencontainers.image.licenses"] == "MIT OR Apache-2.0"
    assert image["Healthcheck"]["Test"] == ["CMD", "/usr/bin/signalbox-gateway", "health"]
    assert podman.run("run", "--rm", *podman.LIMITS, "--entrypoint", "/bin/sh", IMAGE, "-c", "true").returncode != 0


def test_containers_are_confined(topology):
    for service in topology.services:
        for name in topology.containers(service):
            container = inspect(name)
            assert container["HostConfig"]["ReadonlyRootfs"] is True, name
            allowed = {"CAP_NET_BIND_SERVICE"} if service == "coturn" else set()
            assert set(container.get("EffectiveCaps") or []) <= allowed, name
            assert "no-new-privileges" in container["HostConfig"]["SecurityOpt"], name
            assert container["HostConfig"]["Memory"] > 0, name
            if service in ("gateway", "turn"):
                assert container["Config"]["User"] == "65532:65532"


def test_three_gateways_are_one_cluster_and_prometheus_sees_them(topology):
    assert len(topology.containers("gateway")) == 3
    until(lambda: nodes_known(topology) == [3, 3, 3], 60, lambda: f"nodes: {nodes_known(topology)}")


def test_the_charts_test_command_passes(topology):
    result = connect(topology.url, 3)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "a room of two pods" in result.stdout and "turn:127.0.0.1:3478" in result.stdout


def test_clients_are_told_of_the_turn_server_and_it_takes_their_credentials(topology):
    status, body = get(f"{topology.url}/turn/ice-servers")
    assert status == 200, body
    server = next(each for each in json.loads(body)["iceServers"] if "credential" in each)
    assert server["urls"] == ["turn:127.0.0.1:3478?transport=udp", "turn:127.0.0.1:3478?transport=tcp"]
    coturn = topology.containers("coturn")[0]

    def relay(password):
        client = ["turnutils_uclient", "-u", server["username"], "-w", password, "-n", "5", "-m", "1", "-y", "127.0.0.1"]
        result = podman.run("exec", coturn, *client)
        return result.returncode == 0 and "Cannot complete Allocation" not in result.stdout + result.stderr

    assert relay(server["credential"]), logs(coturn)
    assert not relay("wrong")


def test_the_way_of_a_message_reaches_the_collector(topology):
    sender, receiver = connected(topology.url), connected(topology.url)
    post(f"{topology.url}/socket.io/?EIO=4&transport=polling&sid={sender[0]}", f'42["signal","{receiver[1]}",1]')
    collector = topology.containers("collector")[0]
    until(lambda: "signal deliver" in podman.succeed("logs", collector), 30, lambda: logs(collector))


def test_the_demo_works_in_a_browser_through_the_load_balancer(topology):
    if not (JS / "node_modules").exists() or not shutil.which("chromium"):
        pytest.skip("cargo xtask prepare has not been run here")
    variables = os.environ | {"GATEWAY_URL": topology.url}
    command = ["node", "--test", "--test-name-pattern", "two people", "demo.test.mjs"]
    result = subprocess.run(command, cwd=JS, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0 and "# pass 0" not in result.stdout, result.stdout[-4000:]


def test_a_gateway_that_is_killed_is_missed_by_nobody_else(topology):
    victim = topology.containers("gateway")[0]
    podman.succeed("kill", victim)
    until(lambda: nodes_known(topology) == [2, 2], 40, lambda: f"nodes: {nodes_known(topology)}")
    for _ in range(10):
        session(topology.url)
    podman.succeed("start", victim)
    until(lambda: nodes_known(topology) == [3, 3, 3], 60, lambda: logs(victim))


def test_a_gateway_that_is_paused_comes_back(topology):
    victim = topology.containers("gateway")[1]
    podman.succeed("pause", victim)
    try:
        # HAProxy asks every 2 s, and needs two answers that did not come.
        until(lambda: get(f"{topology.url}/socket.io/?EIO=4&transport=polling", 3)[0] == 200, 30, lambda: "no gateway answers")
        time.sleep(10)
        for _ in range(10):
            session(topology.url)
    finally:
        podman.succeed("unpause", victim)
    until(lambda: ready(victim) and nodes_known(topology) == [3, 3, 3], 60, lambda: logs(victim))


def test_a_gateway_that_loses_its_network_keeps_its_clients_and_recovers(topology):
    victim = topology.containers("gateway")[2]
    network, attached = next(item for item in inspect(victim)["NetworkSettings"]["Networks"].items() if item[0].endswith("back"))
    # The load balancer spreads them: some of them are the victim's.
    clients = [WebSocket(topology) for _ in range(6)]
    podman.succeed("network", "disconnect", network, victim)
    try:
        until(lambda: "degraded" in logs(victim), 30, lambda: logs(victim))
        # Its clients would be no better off elsewhere, and new ones are served too.
        assert ready(victim)
        clients += [WebSocket(topology) for _ in range(6)]
        for client in clients:
            client.connect()
    finally:
        # A node tells the others its address once, when it joins.
        podman.succeed("network", "connect", "--alias", "gateway", "--ip", attached["IPAddress"], network, victim)
    until(lambda: nodes_known(topology) == [3, 3, 3], 90, lambda: logs(victim))
    assert all(client.is_open() for client in clients)
    for _ in range(6):
        session(topology.url)


def test_a_container_that_is_stopped_drains_in_time(topology):
    victim = topology.containers("gateway")[0]
    session(topology.url)
    started = time.monotonic()
    podman.succeed("stop", "--time", "80", victim, timeout=120)
    assert inspect(victim)["State"]["ExitCode"] == 0, logs(victim)
    assert time.monotonic() - started < 80
    podman.succeed("start", victim)
    until(lambda: ready(victim), 60, lambda: logs(victim))


def test_slow_clients_meet_the_budget_and_not_the_limit_of_memory(topology):
    """A node in a small container, whose clients do not read: it closes them, and is not killed."""
    assert topology
    generator = next((path for kind in ("release", "debug") if (path := podman.ROOT / f"target/{kind}/loadtest").exists()), None)
    if not generator:
        pytest.skip("loadtest has not been built here")
    public, metrics = free_port(), free_port()
    confined = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory", "96m", "--memory-swap", "96m", *podman.LIMITS]
    ports = ["--publish", f"127.0.0.1:{public}:9000", "--publish", f"127.0.0.1:{metrics}:9002"]
    settings = ["--env", "SIGNALBOX_MEMORY_BUDGET=33554432", "--env", "SIGNALBOX_METRICS_PORT=9002"]
    name = podman.succeed("run", "--detach", *confined, *ports, *settings, IMAGE)
    try:
        until(lambda: ready(name), 30, lambda: logs(name))
        load = ["fanout", "--target", f"http://127.0.0.1:{public}", "--members", "100", "--stalled", "60", "--payload", "20000", "--rate", "8000"]
        subprocess.run([str(generator), *load, "--seconds", "10", "--sources", "1"], capture_output=True, timeout=180, check=False)
        state = inspect(name)["State"]
        assert state["Running"] and not state["OOMKilled"], logs(name)
        evicted = [float(value) for value in re.findall(r"^signalbox_evictions_total\{.*\} (\S+)$", get(f"http://127.0.0.1:{metrics}/metrics")[1], re.M)]
        assert sum(evicted) > 0
    finally:
        podman.succeed("rm", "--force", name)


def test_nothing_was_killed_for_lack_of_memory(topology):
    for service in topology.services:
        assert not [name for name in topology.containers(service) if inspect(name)["State"]["OOMKilled"]], service

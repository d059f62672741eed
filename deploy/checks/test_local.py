"""`cargo xtask up`: the topology of the compose file as processes, on addresses and ports of this test's own."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from support import CHART, ROOT, connect_variables, our_program, succeed, tool


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def topology(directory, port):
    for name in ("redis-server", "haproxy", "curl"):
        tool(name)
    for name in ("signalbox-gateway", "signalbox-turn"):
        our_program(name)
    variables = os.environ | {"UP_DIRECTORY": str(directory), "UP_NETWORK": f"127.77.{os.getpid() % 250}", "PUBLIC_PORT": str(port)}
    # coturn's port is the same everywhere; another run may have it.
    variables |= {"TURN_ADDRESS": "127.77.0.1", "TURN_LOCAL_ADDRESS": "127.77.0.1"}
    command = [sys.executable, "-B", ROOT / "deploy/local/up.py"]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if line.startswith("up; "):
                    break
            else:
                pytest.fail("".join(said))
            yield "".join(said)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
            assert process.returncode == 0


def test_everything_starts_serves_and_ends(tmp_path):
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with topology(tmp_path / "up", port) as said:
        assert f"{base}/demo/" in said
        said = succeed("sh", "-ceu", (CHART / "files/connect.sh").read_text(), env=connect_variables(base, PODS="3", ICE="true"))
        assert "connected" in said and "a room of two pods" in said and "turn:127.77.0.1:3478" in said
        with urllib.request.urlopen(f"{base}/turn/ice-servers", timeout=10) as answer:
            servers = json.load(answer)["iceServers"]
        assert servers[0]["credential"] and servers[0]["urls"][0] == "turn:127.77.0.1:3478?transport=udp"
        logs = {file.stem for file in (tmp_path / "up").glob("*.log")}
        wanted = {"redis", "turn", "gateway-1", "gateway-2", "gateway-3", "balancer"}
        wanted |= {name for name, program in (("prometheus", "prometheus"), ("coturn", "turnserver")) if shutil.which(program)}
        assert logs == wanted
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()

"""Each proxy accepts its configuration, and serves three gateways with it: polling and WebSockets without sticky sessions, long request
lines, and no query string in any log, since tokens travel there."""

import contextlib
import os
import pathlib
import random
import socket
import subprocess
import time

import pytest

from support import ROOT, gateway_program, run, succeed, tool

DEPLOY = ROOT / "deploy"
# The request line may have 16 KiB.
TOKEN = "SECRET" + "x" * 15000
PROXIES = ("haproxy", "nginx", "caddy", "envoy", "traefik")
FILES = {"haproxy": "haproxy.cfg", "nginx": "nginx.conf", "caddy": "Caddyfile", "envoy": "envoy.yaml", "traefik": "traefik/traefik.yaml"}
# Those that pass connections on, and what says whose they are.
PASSING = {"haproxy": "haproxy.cfg", "nginx": "nginx.conf", "envoy": "envoy.yaml", "traefik": "traefik.yaml"}
PASSING = {proxy: f"proxy-protocol/{name}" for proxy, name in PASSING.items()}
# What the addresses of the tests are, behind proxies that pass connections on.
CLIENT, PROXY = "127.0.0.77", "127.0.0.1"


class Setup:
    """Where gateways and proxy are in a test: three loopback addresses, and ports that were free a moment ago."""

    def __init__(self, directory):
        self.directory = directory
        self.public, self.metrics, self.listen, self.health = (free_port() for _ in range(4))
        self.hosts = [f"127.0.0.{number}" for number in (11, 12, 13)]

    def command(self, proxy, files=None):
        """Writes the configuration with the addresses of this test, and gives the command that runs it, and the one that checks it."""
        name = (files or FILES)[proxy]
        text = (DEPLOY / name).read_text()
        if proxy == "traefik":
            source = text.split("filename: ")[1].split("\n")[0]
            gateways = self.directory / "gateways.yaml"
            gateways.write_text(self.adapt((ROOT / source).read_text()))
            text = text.replace(source, str(gateways))
        if proxy == "nginx" and files is PASSING:
            text = f"load_module {stream_module()};\n{text}"
        file = self.directory / name.split("/")[-1]
        file.write_text(self.adapt(text))
        program = tool(proxy)
        return {
            "haproxy": ([program, "-db", "-f", file], [program, "-c", "-dW", "-f", DEPLOY / name]),
            "nginx": (
                [program, "-p", self.directory, "-c", file, "-g", "daemon off;"],
                [program, "-t", "-p", self.directory, "-c", file],
            ),
            "caddy": ([program, "run", "--config", file, "--adapter", "caddyfile"], [program, "validate", "--config", file, "--adapter", "caddyfile"]),
            "envoy": (
                [program, "-c", file, "--concurrency", "1", "--base-id", str(os.getpid() % 30000 + 1)],
                [program, "--mode", "validate", "-c", DEPLOY / name],
            ),
            # It has no command that checks; what it does not know ends it.
            "traefik": ([program, f"--configFile={file}"], None),
        }[proxy]

    def adapt(self, text):
        servers = "\n".join(f"    server g{number} {host}:{self.public}" for number, host in enumerate(self.hosts))
        text = text.replace("    server-template gateway 16 gateway:9000", servers)
        text = text.replace(" resolvers system init-addr none", "")
        # A test does not wait as long for a check.
        text = text.replace("inter 2s", "inter 200ms").replace("interval: 2s", "interval: 0.2s")
        for number, host in enumerate(self.hosts, 1):
            text = text.replace(f"gateway-{number}", host)
        for ours, theirs in ((":9000", self.public), (" 9000", self.public), (":9002", self.metrics), (" 9002", self.metrics)):
            text = text.replace(ours, f"{ours[0]}{theirs}")
        for ours, theirs in (("8080", self.listen), ("8081", self.health)):
            text = text.replace(ours, str(theirs))
        return text


def stream_module():
    """nginx' module for connections that are passed on; without it the check is skipped."""
    places = [directory / "ngx_stream_module.so" for directory in map(pathlib.Path, ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"))]
    found = [place for place in places if place.exists()]
    return found[0] if found else pytest.skip("nginx has no stream module here (Debian: libnginx-mod-stream)")


def free_port():
    """One of all addresses; none of those that the kernel gives to clients, who may be faster."""
    for port in random.sample(range(10000, 32000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            return port
    raise AssertionError("no free port")


KINDS = [(proxy, files) for files in (FILES, PASSING) for proxy in files if proxy != "traefik"]


@pytest.mark.parametrize(("proxy", "files"), KINDS, ids=[f"{proxy}-{'passing' if files is PASSING else 'http'}" for proxy, files in KINDS])
def test_the_proxy_accepts_its_configuration(proxy, files, tmp_path):
    result = run(*Setup(tmp_path).command(proxy, files)[1])
    assert result.returncode == 0, result.stderr
    assert "WARN" not in result.stderr.upper().replace("0 WARNINGS", "") or proxy == "caddy", result.stderr


def test_caddys_file_is_formatted():
    succeed(tool("caddy"), "fmt", DEPLOY / "Caddyfile")


@contextlib.contextmanager
def started(command, log, **options):
    with log.open("ab") as output, subprocess.Popen([str(part) for part in command], stdout=output, stderr=output, **options) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def gateways(setup, *flags, drain_delay="0"):
    redis = free_port()
    log = setup.directory / "gateways.txt"
    with contextlib.ExitStack() as stack:
        server = [tool("redis-server"), "--port", redis, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        stack.enter_context(started(server, log, cwd=setup.directory))
        processes = []
        for host in setup.hosts:
            command = [gateway_program(), "--host", host, "--port", setup.public, "--metrics-port", setup.metrics, "--admin-port", "0"]
            command += ["--redis-url", f"redis://127.0.0.1:{redis}", "--drain-delay", drain_delay, "--drain-timeout", "500", "--workers", "1", *flags]
            processes.append(stack.enter_context(started(command, log)))
        for host in setup.hosts:
            await_answer(lambda: request(host, setup.metrics, "GET", "/readyz"), b" 200 ")
        yield processes


def await_answer(ask, wanted, seconds=20):
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            answer = ask()
            if wanted in answer:
                return answer
        assert time.monotonic() < until, "no answer in time"
        time.sleep(0.1)


def request(host, port, method, target, body=b"", headers=(), source=None):
    """One request on a connection of its own, from this address; the answer as it came."""
    with socket.create_connection((host, port), timeout=10, source_address=source and (source, 0)) as connection:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}:{port}", f"Content-Length: {len(body)}", *headers]
        lines += [] if headers else ["Connection: close"]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        answer = b""
        with contextlib.suppress(TimeoutError):
            while chunk := connection.recv(65536):
                answer += chunk
                if headers and b'"sid"' in answer:
                    break
        return answer


def content(answer):
    """The body, which some proxies send in chunks."""
    return answer.split(b"\r\n\r\n", 1)[1]


@pytest.mark.parametrize("proxy", PROXIES)
def test_clients_are_served_and_no_token_is_logged(proxy, tmp_path):
    setup = Setup(tmp_path)
    log = tmp_path / "proxy.txt"
    with gateways(setup) as processes, started(setup.command(proxy)[0], log):
        path = f"/socket.io/?EIO=4&transport=polling&token={TOKEN}"

        def ask(method, target, body=b"", headers=()):
            return request("127.0.0.1", setup.listen, method, target, body, headers)

        sids = set()
        for _ in range(4):
            opened = await_answer(lambda: ask("GET", path), b'0{"sid":"')
            sid = content(opened).split(b'"sid":"')[1].split(b'"')[0].decode()
            sids.add(sid[:6])
            # Each request is a connection of its own, and may reach any gateway.
            assert b"ok" in content(ask("POST", f"{path}&sid={sid}", b"40"))
            assert b'40{"sid":"' in content(ask("GET", f"{path}&sid={sid}"))
        upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: c2lnbmFsYm94LXRlc3QhIQ=="]
        answer = ask("GET", f"/socket.io/?EIO=4&transport=websocket&token={TOKEN}", headers=upgrade)
        assert answer.startswith(b"HTTP/1.1 101 ") and b'0{"sid":"' in answer
        assert b"OPEN" in await_open(setup, f"/peerjs?key=peerjs&id=one&token={TOKEN[:8000]}", upgrade)
        # One gateway goes, and nobody is sent to it any more; then all of them: errors are logged otherwise than answers.
        processes[0].terminate()
        processes[0].wait(15)
        for _ in range(6):
            assert b'0{"sid":"' in ask("GET", path)
        for process in processes[1:]:
            process.kill()
        assert b" 50" in ask("GET", path).split(b"\r\n")[0]
        ask("GET", "/socket.io/?token=SECRET\x01", headers=())
    logged = b"".join(file.read_bytes() for file in tmp_path.glob("*") if file.is_file() and file.suffix in (".txt", ".log"))
    ours = b"".join(file.read_bytes() for file in (log, tmp_path / "access.log") if file.exists())
    assert b"SECRET" not in logged, logged[max(0, logged.find(b"SECRET") - 300) :][:400]
    # There is a log, with the paths, unless its program cannot tell a path from a query string.
    assert (b"/socket.io/" if proxy != "traefik" else b"RequestMethod") in ours


def await_open(setup, target, upgrade):
    with socket.create_connection(("127.0.0.1", setup.listen), timeout=10) as connection:
        connection.sendall("\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *upgrade, "", ""]).encode())
        answer = b""
        while b"OPEN" not in answer:
            chunk = connection.recv(65536)
            assert chunk, answer
            answer += chunk
        return answer


@pytest.mark.parametrize("proxy", PASSING)
def test_connections_are_passed_on_with_the_addresses_of_their_clients(proxy, tmp_path):
    setup = Setup(tmp_path)
    log = tmp_path / "gateways.txt"
    flags = ("--proxy-protocol", "--trusted-proxies", PROXY, "--log", "signalbox_node::client=debug")
    # Proxies notice that a gateway is not ready while it still takes clients: a connection that cannot be passed on is not tried again by all.
    with gateways(setup, *flags, drain_delay="3000") as processes, started(setup.command(proxy, PASSING)[0], tmp_path / "proxy.txt"):
        path = f"/socket.io/?EIO=4&transport=polling&token={TOKEN}"

        def ask(method, target, body=b"", headers=()):
            return request("127.0.0.1", setup.listen, method, target, body, headers, CLIENT)

        for _ in range(4):
            opened = await_answer(lambda: ask("GET", path), b'0{"sid":"')
            sid = content(opened).split(b'"sid":"')[1].split(b'"')[0].decode()
            # Each request is a connection of its own, and may reach any gateway.
            assert b"ok" in content(ask("POST", f"{path}&sid={sid}", b"40"))
            assert b'40{"sid":"' in content(ask("GET", f"{path}&sid={sid}"))
        upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: c2lnbmFsYm94LXRlc3QhIQ=="]
        answer = ask("GET", f"/socket.io/?EIO=4&transport=websocket&token={TOKEN}", headers=upgrade)
        assert answer.startswith(b"HTTP/1.1 101 ") and b'0{"sid":"' in answer
        # One gateway goes, and nobody is turned away before, while and after it does.
        processes[0].terminate()
        while processes[0].poll() is None:
            assert b'0{"sid":"' in ask("GET", path)
            time.sleep(0.2)
        for _ in range(6):
            assert b'0{"sid":"' in ask("GET", path)
    addresses = {line.split("address=")[1].strip() for line in log.read_text().splitlines() if "handshake" in line}
    assert addresses == {CLIENT}
    logged = b"".join(file.read_bytes() for file in tmp_path.glob("*") if file.is_file() and file.suffix in (".txt", ".log"))
    assert b"SECRET" not in logged


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,ssl"])
def test_haproxy_says_whose_a_connection_is(version, tmp_path):
    """HAProxy passes on connections as they are, and says in the PROXY protocol whose they are."""
    setup = Setup(tmp_path)
    log = tmp_path / "gateway.txt"
    client, proxy = "127.0.0.77", "127.0.0.66"
    command = [gateway_program(), "--host", "127.0.0.1", "--port", setup.public, "--metrics-port", setup.metrics, "--admin-port", "0", "--workers", "1"]
    command += ["--proxy-protocol", "--trusted-proxies", proxy, "--log", "signalbox_node::client=debug"]
    file = tmp_path / "haproxy.cfg"
    file.write_text(f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend public
    bind 127.0.0.1:{setup.listen}
    unique-id-format %{{+X}}o\\ %ci:%cp_%rt
    default_backend gateways
backend gateways
    # Its own checks say that they are nobody's.
    option httpchk GET /readyz
    server one 127.0.0.1:{setup.public} source {proxy} {version} check port {setup.metrics} inter 200ms
""")

    def ask(port, source, target="/socket.io/?EIO=4&transport=polling", headers=()):
        with socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0)) as connection:
            lines = [f"GET {target} HTTP/1.1", "Host: localhost", *(headers or ["Connection: close"])]
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            answer = b""
            with contextlib.suppress(OSError):
                while b'"sid"' not in answer and (chunk := connection.recv(65536)):
                    answer += chunk
            return answer

    with started(command, log), started([tool("haproxy"), "-db", "-f", file], tmp_path / "haproxy.txt"):
        await_answer(lambda: ask(setup.listen, client), b'0{"sid":"')
        upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: c2lnbmFsYm94LXRlc3QhIQ=="]
        assert b'0{"sid":"' in ask(setup.listen, client, "/socket.io/?EIO=4&transport=websocket", upgrade)
        # Past the proxy everybody speaks for themselves, and nobody speaks for the proxy.
        assert b'0{"sid":"' in ask(setup.public, "127.0.0.88")
        assert ask(setup.public, proxy) == b""
    addresses = [line.split("address=")[1].strip() for line in log.read_text().splitlines() if "handshake" in line]
    assert set(addresses[:-1]) == {client} and addresses[-1] == "127.0.0.88", addresses

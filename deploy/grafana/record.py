"""Records what the dashboards' expressions return, for their pictures: `cargo xtask pictures --record` starts the topology of
docker-compose.yml (deploy/local/up.py), has the load generator work on it for five minutes, lets Redis hang for a moment and a gateway drain
and come back, and writes one small file for each dashboard to deploy/grafana/recorded.

`record.py URL SECONDS` records the last seconds of a Prometheus that is there already.
"""

import base64
import contextlib
import hmac
import json
import math
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

GRAFANA = pathlib.Path(__file__).parent
# Values of a series, series of a panel, and digits of a value that are kept: as many as a picture shows.
COUNT, SERIES, DIGITS = 61, 12, 4
FILLED = {"$__rate_interval": "20s", "$job": ".+", "$instance": ".+", "$cluster": ".*", "$namespace": ".*"}


def filled(expression):
    for name, value in FILLED.items():
        expression = expression.replace(name, value)
    return expression


def ask(url, expression, start, end, step):
    query = urllib.parse.urlencode({"query": filled(expression), "start": start, "end": end, "step": step})
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{query}", timeout=30) as answer:
        return json.load(answer)["data"]["result"]


def rounded(text):
    value = float(text)
    if not math.isfinite(value):
        return None
    # A time needs all of its digits.
    return round(value) if abs(value) > 1e9 else float(f"{value:.{DIGITS}g}")


def legend(pattern, labels, names):
    """The name of a series. Instances are numbered, so that no address of the machine stands in a picture."""
    if "instance" in labels:
        labels = labels | {"instance": names.setdefault(labels["instance"], f"node-{len(names) + 1}")}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), pattern).strip()


def record(url, dashboard, start, end, names):
    step = (end - start) / (COUNT - 1)
    panels = {}
    for panel in dashboard["panels"]:
        series = []
        for target in panel.get("targets", []):
            for found in ask(url, target["expr"], start, end, step):
                values = [None] * COUNT
                for at, value in found["values"]:
                    values[min(COUNT - 1, round((at - start) / step))] = rounded(value)
                if any(value is not None for value in values):
                    series.append({"legend": legend(target["legendFormat"], found["metric"], names), "values": values})
        # Those that show something come first.
        kept = sorted(series, key=lambda one: -max(value or 0 for value in one["values"]))[:SERIES]
        panels[str(panel["id"])] = [one for one in series if one in kept]
    return {"from": start, "step": step, "count": COUNT, "panels": {number: it for number, it in panels.items() if it}}


# What the load generator does meanwhile, through the load balancer.
LOADS = (
    "fanout --rooms 8 --members 12 --rate 30", "relay --pairs 10 --rate 12", "signal --pairs 10 --rate 20", "connect --rate 3 --stay 20",
    "polling --rooms 3 --members 6 --rate 4 --upgrade", "connect --rate 1 --stay 15 --peerserver", "mesh --groups 3 --members 4 --rate 1",
)
# Between two who ask for credentials, in seconds: one address gets only so many.
ASKED_EVERY = 6
# Those who ask by themselves.
SUBJECTS = ("alice", "bob", "carol", "dave", "erin")
# How long it works, in seconds; when Redis hangs, for how long, and when a gateway drains.
SECONDS, HANGS_AT, HANGS, DRAINS_AT = 300, 110, 4, 190
# How long one round of a load takes.
ROUND = 40


class Credentials:
    """Clients ask for TURN credentials, as pages do, and relay with them for a while: some with tokens of their own, one through the
    gateway. Every fourth is a stranger, who gets none."""

    def __init__(self, public, service, secret, port=3478):
        self.public, self.service, self.secret, self.port = public, service, secret, port
        self.asked, self.at, self.relaying = 0, 0, []

    def step(self):
        if time.monotonic() < self.at:
            return
        self.at = time.monotonic() + ASKED_EVERY
        turn, self.asked = self.asked % 4, self.asked + 1
        url, headers = f"{self.service}/v1/ice-servers", {}
        if turn == 0:
            url = f"{self.public}/turn/ice-servers"
        elif turn < 3:
            headers = {"Authorization": f"Bearer {self.token(SUBJECTS[self.asked % len(SUBJECTS)])}"}
        with contextlib.suppress(urllib.error.HTTPError):
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
                self.relay(json.load(answer))

    def token(self, subject):
        """As an application's server signs it."""
        encoded = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=")
        claims = {"sub": subject, "exp": math.floor(time.time()) + 60}
        signed = b".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        return b".".join((signed, encoded(hmac.digest(self.secret, signed, "sha256")))).decode()

    def relay(self, answer):
        """coturn's own client, with two allocations that send to each other: more of it each time."""
        server = next(server for server in answer["iceServers"] if "credential" in server)
        self.relaying = [process for process in self.relaying if process.poll() is None]
        with contextlib.suppress(FileNotFoundError):
            self.relaying.append(subprocess.Popen(
                ["turnutils_uclient", "-y", "-c", "-n", "600", "-m", "1", "-l", str(100 + 40 * self.asked % 900), "-p", str(self.port),
                 "-u", server["username"], "-w", server["credential"], "127.0.0.1"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ))

    def stop(self):
        for process in self.relaying:
            process.kill()


def run():
    """Starts everything, works on it, and records that."""
    sys.path.insert(0, str(GRAFANA.parent / "local"))
    import up as local

    topology = local.Up()
    topology.settings |= {"GATEWAYS": "3"}
    public = f"http://{topology.settings['BIND_ADDRESS']}:{topology.settings['PUBLIC_PORT']}"
    generator, loads = local.built("loadtest"), []
    credentials = None
    try:
        topology.all()
        secret = (local.SECRETS / "jwt-secret").read_bytes()
        credentials = Credentials(public, f"http://{local.TURN}:9002", secret)
        url = f"http://{local.PROMETHEUS}:9090"
        time.sleep(10)
        began = time.monotonic()
        # In rounds, whose clients are new: those of the generator do not come back when their node drains.
        begin = lambda load: subprocess.Popen(
            [str(generator), *load.split(), "--seconds", str(ROUND), "--target", public],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=local.ROOT,
        )
        loads = [begin(load) for load in LOADS]

        def wait(seconds):
            while (left := began + seconds - time.monotonic()) > 0:
                time.sleep(min(left, 1))
                with contextlib.suppress(OSError):
                    credentials.step()
                for number, load in enumerate(LOADS):
                    if loads[number].poll() is not None:
                        loads[number] = begin(load)

        wait(HANGS_AT)
        subprocess.run(["redis-cli", "-h", local.REDIS, "client", "pause", str(HANGS * 1000), "all"], stdout=subprocess.DEVNULL, check=False)
        wait(DRAINS_AT)
        draining = topology.processes["gateway-2"]
        draining.send_signal(signal.SIGTERM)
        draining.wait(120)
        topology.gateway(2, topology.gateways[1])
        wait(SECONDS)
        record_all(url, SECONDS)
    finally:
        for load in loads:
            load.kill()
        if credentials:
            credentials.stop()
        topology.stop()


def record_all(url, seconds):
    end = math.floor(time.time())
    names = {}
    directory = GRAFANA / "recorded"
    directory.mkdir(exist_ok=True)
    for path in sorted((GRAFANA / "dashboards").glob("*.json")):
        recorded = record(url, json.loads(path.read_text(encoding="utf-8")), end - seconds, end, names)
        text = json.dumps(recorded, separators=(",", ":"), ensure_ascii=False)
        # One line for each panel: then changes can be read.
        text = re.sub(r'\],"(\d+)":', r'],\n"\1":', text).replace('"panels":{', '"panels":{\n')
        (directory / path.name).write_text(text + "\n", encoding="utf-8")
        print(f"{path.stem}: {len(recorded['panels'])} panels, {len(text)} bytes")


if __name__ == "__main__":
    record_all(sys.argv[1].rstrip("/"), float(sys.argv[2])) if len(sys.argv) == 3 else run()

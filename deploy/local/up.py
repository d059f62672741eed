"""`cargo xtask up`: what docker-compose.yml starts, as processes of this machine, from the same files: the compose file's environment of
both programs, haproxy.cfg, prometheus.yml with its rules, turnserver.conf, secrets.sh. Ctrl-C ends all of it.

Names become addresses of the loopback network, which Linux has all of. `.env`'s settings hold here too, and the environment wins.
Grafana, the collector and Jaeger are left out: they are programs that few machines have.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / os.environ.get("UP_DIRECTORY", "target/up")
SECRETS = DIRECTORY / "secrets"
# The first three numbers of all addresses but the public one.
NETWORK = os.environ.get("UP_NETWORK", "127.0.20")
REDIS, TURN, PROMETHEUS = (f"{NETWORK}.{number}" for number in (2, 3, 4))
# What cannot be left out, and what is then said.
NEEDED = {"redis-server": "redis-server", "haproxy": "haproxy"}
HELPFUL = {"turnserver": "coturn", "prometheus": "prometheus"}
# Programs end within this, or are killed. Gateways do not drain here: there is nobody to drain to.
PATIENCE = 15


def settings():
    lines = [line for line in (ROOT / ".env").read_text().splitlines() if line[:1] not in ("", "#")]
    found = dict(line.split("=", 1) for line in lines)
    return found | {name: os.environ[name] for name in found if name in os.environ}


class Up:
    """The processes, in the order in which they were started."""

    def __init__(self):
        self.settings = settings()
        text = re.sub(r"\$\{(\w+)\}", lambda match: self.settings[match[1]], (ROOT / "docker-compose.yml").read_text())
        self.services = yaml.safe_load(text)["services"]
        self.gateways = [f"{NETWORK}.{number + 10}" for number in range(int(self.settings["GATEWAYS"]))]
        self.processes = {}

    def start(self, name, command, **variables):
        """One process, with a log of its own, and none of our signals: Ctrl-C is for this program, which stops the others in order."""
        log = (DIRECTORY / f"{name}.log").open("wb")
        command = [str(word) for word in command]
        environment = {"PATH": os.environ["PATH"], "HOME": str(DIRECTORY), **variables}
        self.processes[name] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=ROOT, start_new_session=True
        )

    def secrets(self):
        SECRETS.mkdir(parents=True, exist_ok=True)
        variables = {"PATH": os.environ["PATH"], "SECRETS": str(SECRETS), "TURNSERVER_CONF": str(ROOT / "deploy/coturn/turnserver.conf")}
        variables |= {name: self.settings[name] for name in ("TURN_ADDRESS", "TURN_LOCAL_ADDRESS")}
        subprocess.run(["sh", "-eu", ROOT / "deploy/compose/secrets.sh"], env=variables, check=True, stdout=subprocess.DEVNULL)

    def redis(self):
        command = self.services["redis"]["command"]
        self.start("redis", [*command, "--bind", REDIS, "--port", "6379", "--dir", DIRECTORY])
        self.wait("redis", ["redis-cli", "-h", REDIS, "ping"])

    def environment(self, service, host):
        """The compose file's, with addresses in place of names."""
        found = {name: str(value) for name, value in self.services[service]["environment"].items()}
        for name, value in found.items():
            value = value.replace("/run/secrets", str(SECRETS)).replace("//redis:", f"//{REDIS}:").replace("//turn:", f"//{TURN}:")
            found[name] = value
        if service == "turn":
            # Here the service reaches the TURN server as clients do, and its statistics.
            found |= {"SIGNALBOX_PROBE": "relay", "SIGNALBOX_COTURN_STATS_URL": f"redis://{REDIS}:6379"}
        if service == "gateway":
            found["SIGNALBOX_TRUSTED_PROXIES"] = "127.0.0.0/8"
            # No collector is started here: one of your own is named in the environment.
            del found["OTEL_EXPORTER_OTLP_ENDPOINT"]
            found |= {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
            vendor = ROOT / "target/vendor"
            found |= {"SIGNALBOX_VENDOR_DIR": str(vendor)} if vendor.is_dir() else {}
        return found | {"SIGNALBOX_HOST": host, "SIGNALBOX_ADMIN_HOST": host}

    def turn(self):
        program = built("signalbox-turn")
        variables = self.environment("turn", TURN)
        self.start("turn", [program], **variables)
        self.wait("turn", [program, "health"], **variables)

    def coturn(self, program):
        database = DIRECTORY / "turn.db"
        statistics = f"--redis-statsdb=ip={REDIS} port=6379 dbname=0 connect_timeout=5"
        arguments = ["-c", SECRETS / "turnserver.conf", "--pidfile", DIRECTORY / "turnserver.pid", "--userdb", database, statistics]
        self.start("coturn", [program, *arguments])

    def gateway(self, number, host):
        program = built("signalbox-gateway")
        variables = self.environment("gateway", host)
        self.start(f"gateway-{number}", [program], **variables)
        self.wait(f"gateway-{number}", [program, "health", "--ready"], **variables)

    def balancer(self, program):
        text = (ROOT / "deploy/haproxy.cfg").read_text()
        servers = "\n".join(f"    server gateway{number} {host}:9000" for number, host in enumerate(self.gateways, 1))
        text = text.replace("    server-template gateway 16 gateway:9000", servers).replace(" resolvers system init-addr none", "")
        text = text.replace("bind :8080", f"bind {self.settings['BIND_ADDRESS']}:{self.settings['PUBLIC_PORT']}")
        file = DIRECTORY / "haproxy.cfg"
        file.write_text(text.replace("bind :8081", f"bind {NETWORK}.1:8081"))
        self.start("balancer", [program, "-db", "-f", file])

    def prometheus(self, program):
        configuration = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
        configuration["rule_files"] = [str(ROOT / "deploy/prometheus" / rules) for rules in configuration["rule_files"]]
        for job in configuration["scrape_configs"]:
            for lookup in job.pop("dns_sd_configs", []):
                hosts = self.gateways if lookup["names"] == ["gateway"] else [TURN]
                job["static_configs"] = [{"targets": [f"{host}:{lookup['port']}" for host in hosts]}]
        file = DIRECTORY / "prometheus.yml"
        file.write_text(yaml.safe_dump(configuration))
        storage = DIRECTORY / "prometheus"
        self.start("prometheus", [
            program, f"--config.file={file}", f"--storage.tsdb.path={storage}", f"--web.listen-address={PROMETHEUS}:9090", "--log.level=warn",
        ])

    def wait(self, name, check, **variables):
        """Until the check succeeds; a process that has ended needs no patience."""
        end = time.monotonic() + 60
        environment = {"PATH": os.environ["PATH"], **variables}
        while subprocess.run(check, env=environment, capture_output=True, check=False).returncode != 0:
            if self.processes[name].poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{name} does not start; {DIRECTORY / name}.log says:\n" + tail(DIRECTORY / f"{name}.log"))
            time.sleep(0.2)

    def all(self):
        """Starts everything, and says what cannot be started here."""
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        programs = {name: program(name) for name in (*NEEDED, *HELPFUL)}
        if missing := [NEEDED[name] for name in NEEDED if not programs[name]]:
            raise SystemExit(f"missing: on Debian, apt-get install --no-install-recommends {' '.join(missing)}")
        self.secrets()
        self.redis()
        self.turn()
        for number, host in enumerate(self.gateways, 1):
            self.gateway(number, host)
        self.balancer(programs["haproxy"])
        for name, begin in (("turnserver", self.coturn), ("prometheus", self.prometheus)):
            begin(programs[name]) if programs[name] else print(f"without {HELPFUL[name]}, which is not installed")

    def stop(self):
        """The last one started is the first to end. A second signal spares a gateway its drain."""
        for name, process in reversed(self.processes.items()):
            process.terminate()
            if name.startswith("gateway"):
                time.sleep(0.1)
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def program(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def built(name):
    """The one that was built last."""
    places = [place for profile in ("release", "debug") if (place := ROOT / f"target/{profile}/{name}").exists()]
    if not places:
        raise SystemExit(f"{name} has not been built: cargo build --package signalbox-gateway --package signalbox-turn-credentials")
    return max(places, key=lambda place: place.stat().st_mtime)


def tail(file):
    return "\n".join(file.read_text(errors="replace").splitlines()[-10:])


def main():
    up = Up()
    asked_to_stop = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_stop.append(True))
    try:
        up.all()
        public = f"http://{up.settings['BIND_ADDRESS']}:{up.settings['PUBLIC_PORT']}"
        print(f"the demo     {public}/demo/  (through HAProxy, to any of {len(up.gateways)} gateways)")
        if "prometheus" in up.processes:
            print(f"Prometheus   http://{PROMETHEUS}:9090/")
        if "coturn" in up.processes:
            print(f"TURN         {up.settings['TURN_ADDRESS']}:3478")
        endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "nowhere; OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 sends them to a collector of yours")
        print(f"traces       {endpoint}")
        print(f"logs         {DIRECTORY}/*.log")
        print("up; Ctrl-C ends it", flush=True)
        while not asked_to_stop:
            ended = [name for name, process in up.processes.items() if process.poll() is not None]
            if ended and not asked_to_stop:
                raise SystemExit(f"{ended[0]} has ended:\n" + tail(DIRECTORY / f"{ended[0]}.log"))
            time.sleep(0.2)
    finally:
        up.stop()


if __name__ == "__main__":
    sys.exit(main())

"""docker-compose.yml, started by podman-compose: the file as it is, but for what podman has no word for.

- Conditions of `depends_on` wait for health checks, which podman runs by systemd's timers; here they are run in a loop.
- Limits of open files and processes are stated for every service, since podman's default is more than root may have on some machines.
- Grafana and Jaeger are left out: no package has them.
"""

import json
import os
import re
import subprocess
import sys
import time

import yaml

import podman

PROJECT = f"signalbox-test-{os.getpid()}"
FILE = podman.HERE / "compose.yml"


class Topology:
    """The containers of one project."""

    def __init__(self, port, without=("grafana", "jaeger"), profile=None, settings=()):
        environment = _variables(podman.ROOT / ".env")
        if profile:
            environment |= _variables(podman.ROOT / f"deploy/compose/{profile}.env")
        environment |= {"PUBLIC_PORT": str(port), "GATEWAY_OPEN_FILES": "4096", "GATEWAY_MEMORY": "256m", "GATEWAY_CPUS": "1", **dict(settings)}
        text = re.sub(r"\$\{(\w+)\}", lambda match: environment[match[1]], (podman.ROOT / "docker-compose.yml").read_text())
        project = yaml.safe_load(text)
        self.url = f"http://127.0.0.1:{port}"
        self.services = {
            name: service for name, service in project["services"].items() if service.get("profiles", [profile]) == [profile] and name not in without
        }
        self.waits = {
            name: {other: wanted for other, wanted in service.pop("depends_on", {}).items() if other in self.services}
            for name, service in self.services.items()
        }
        for service in self.services.values():
            service.pop("build", None)
            service.pop("profiles", None)
            service["ulimits"] = {"nofile": 4096, "nproc": 4096}
            service["volumes"] = [_absolute(volume) for volume in service.get("volumes", [])]
        project["services"] = self.services
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(json.dumps({key: value for key, value in project.items() if not key.startswith("x-")}))

    def compose(self, *arguments, timeout=300):
        words = [sys.executable, "-m", "podman_compose", "--podman-path", podman.wrapper(), "--project-name", PROJECT, "--file", FILE]
        result = subprocess.run([*map(str, words), *arguments], capture_output=True, text=True, timeout=timeout, check=False, env=os.environ)
        assert result.returncode == 0, f"{arguments}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"

    def up(self):
        """Starts everything, each service when what it depends on is as it asks for."""
        started = []
        while len(started) < len(self.services):
            ready = [name for name in self.services if name not in started and all(each in started for each in self.waits[name])]
            assert ready, "services wait for each other"
            for name in ready:
                for other, wanted in self.waits[name].items():
                    self.await_condition(other, wanted["condition"])
                replicas = service_replicas(self.services[name])
                self.compose("up", "--detach", "--no-deps", "--scale", f"{name}={replicas}", name)
                started.append(name)
        for name, service in self.services.items():
            if "test" in service.get("healthcheck", {}):
                self.await_condition(name, "service_healthy")

    def down(self):
        # podman-compose forgets all but the first of a service's containers, and names of what is left behind would be found by DNS.
        left = podman.succeed("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}").split()
        if left:
            podman.succeed("rm", "--force", "--time", "1", "--volumes", *left)
        self.compose("down", "--timeout", "1", "--volumes")

    def containers(self, service):
        """Names, running or not."""
        wanted = ("--filter", f"label=com.docker.compose.service={service}", "--filter", f"label=com.docker.compose.project={PROJECT}")
        return sorted(podman.succeed("ps", "--all", *wanted, "--format", "{{.Names}}").split())

    def await_condition(self, service, condition, seconds=90):
        for name in self.containers(service):
            if condition == "service_completed_successfully":
                assert podman.succeed("wait", name, timeout=seconds) == "0", logs(name)
            elif condition == "service_healthy":
                until(lambda: podman.run("healthcheck", "run", name).returncode == 0, seconds, lambda: f"{name} is not healthy\n{logs(name)}")


def service_replicas(service):
    return int(service["deploy"].get("replicas", 1))


def logs(name):
    result = podman.run("logs", "--tail", "40", name)
    return result.stdout + result.stderr


def connect(url, pods):
    """The chart's test command, through the load balancer: clients of both protocols, and a room of two gateways."""
    script = (podman.ROOT / "helm/signalbox/files/connect.sh").read_text()
    variables = {"BASE": url, "SOCKETIO_PATH": "/socket.io/", "PEERSERVER_PATH": "", "PEERSERVER_KEY": "peerjs", "ORIGIN": "", "AUTH": "off"}
    variables |= {"TRANSPORTS": "polling,websocket", "PODS": str(pods), "ICE": "true", "PATH": os.environ["PATH"]}
    return subprocess.run(["sh", "-ceu", script], env=variables, capture_output=True, text=True, timeout=120, check=False)


def inspect(name):
    return json.loads(podman.succeed("inspect", name))[0]


def until(done, seconds, problem):
    """Waits until it is done; each try may take a while itself."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, problem()
        time.sleep(0.3)


def _variables(file):
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if line[:1] not in ("", "#"))


def _absolute(volume):
    return f"{podman.ROOT}/{volume[2:]}" if volume.startswith("./") else volume

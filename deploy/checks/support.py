"""What the checks share: the checkout, the programs, and Kubernetes objects with their schemas."""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/signalbox"
CI_VALUES = sorted((CHART / "ci").glob("*.yaml"))
# The oldest version that the chart takes, one between, the newest whose schemas are published.
KUBERNETES = ("1.30", "1.34", "1.37")
# Judged by custom.mjs.
CUSTOM_GROUPS = ("gateway.networking.k8s.io/", "monitoring.coreos.com/", "cloud.google.com/")


def tool(name):
    """The program, from what `cargo xtask deploy` installed or from this machine; without it the check is skipped."""
    places = [ROOT / "target/deploy/bin", pathlib.Path(sys.executable).parent, "/usr/sbin"]
    found = shutil.which(name, path=os.pathsep.join(map(str, places))) or shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def our_program(name):
    """One of the project's programs, as it was built last; otherwise the check is skipped."""
    places = [ROOT / f"target/{profile}/{name}" for profile in ("release", "debug")]
    built = sorted((place for place in places if place.exists()), key=lambda place: place.stat().st_mtime)
    return built[-1] if built else pytest.skip(f"{name} has not been built here")


def connect_variables(base, **others):
    """What the chart's test command is told, for a gateway with default settings."""
    found = {"BASE": base, "SOCKETIO_PATH": "/socket.io/", "PEERSERVER_PATH": "", "PEERSERVER_KEY": "peerjs", "ORIGIN": "", "AUTH": "off"}
    return found | {"TRANSPORTS": "polling,websocket", "PODS": "1", "ICE": "false", "PATH": os.environ["PATH"]} | others


def gateway_program():
    return our_program("signalbox-gateway")


def run(*command, **options):
    """The command's result; it is for the caller to judge."""
    command = [str(part) for part in command]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, **options)


def succeed(*command, **options):
    """The command's output; any failure is shown."""
    result = run(*command, **options)
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def helm_template(*arguments, version=KUBERNETES[-1], release="signalbox"):
    return run(tool("helm"), "template", release, CHART, "--namespace", "signal", "--kube-version", version, *arguments)


@functools.lru_cache(maxsize=None)
def render(*arguments, **options):
    """The chart's objects. They are shared: don't change them."""
    result = helm_template(*arguments, **options)
    assert result.returncode == 0, result.stderr
    return objects(result.stdout)


def with_values(path):
    return ("--values", str(path))


def objects(text):
    """Kubernetes objects. A key that stands twice is an error, as in Kubernetes' strict reading; PyYAML takes the last."""
    return [item for item in yaml.load_all(text, Loader=_StrictLoader) if item]


class _StrictLoader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):
    pass


def _mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    repeated = {key for key in keys if keys.count(key) > 1}
    assert not repeated, f"keys that stand twice: {repeated} at {node.start_mark}"
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def one(items, kind, name=None):
    """The one object of this kind (and name)."""
    found = [item for item in items if item["kind"] == kind and name in (None, item["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects of kind {kind}, name {name}"
    return found[0]


def find(items, kind, name=None):
    return [item for item in items if item["kind"] == kind and name in (None, item["metadata"]["name"])]


def container(deployment):
    return deployment["spec"]["template"]["spec"]["containers"][0]


def env(deployment):
    return {item["name"]: item for item in container(deployment)["env"]}


def problems(items, version):
    """What is wrong with the objects by the schemas of this version of Kubernetes. A kind without a schema is wrong too."""
    found = []
    custom = []
    for item in items:
        if item["apiVersion"].startswith(CUSTOM_GROUPS):
            custom.append(item)
            continue
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{item['kind']} {item['metadata']['name']}: {list(error.path)}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(error.message)
    if custom:
        script = ROOT / "deploy/checks/custom.mjs"
        found += succeed(tool("node"), script, input=json.dumps(custom)).splitlines()
    names = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in items]
    found += [f"{name} stands twice" for name in set(names) if names.count(name) > 1]
    return found

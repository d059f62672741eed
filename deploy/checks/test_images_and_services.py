"""The image, the compose file and the systemd unit, and what they share with the chart and with the tests."""

import re
import tomllib

import pytest
import yaml

from support import CHART, ROOT, objects, run, succeed, tool

COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
UNIT = ROOT / "deploy/systemd/signalbox-gateway.service"


def environment():
    lines = [line for line in (ROOT / ".env").read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def compose():
    """The compose file with its variables filled in."""
    text = re.sub(r"\$\{(\w+)\}", lambda match: environment()[match[1]], COMPOSE.read_text())
    return yaml.safe_load(text)


def test_hadolint():
    succeed(tool("hadolint"), DOCKERFILE)


def test_compose_schema():
    succeed(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_every_variable_of_the_compose_file_stands_in_the_env_file_and_none_is_left_over():
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    assert used == environment().keys()


@pytest.mark.parametrize("name", ["balancer", "gateway", "redis", "turn", "prometheus", "grafana"])
def test_services_are_confined(name):
    service = compose()["services"][name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    limits = service["deploy"]["resources"]["limits"]
    assert limits["memory"] and limits["cpus"]
    # The image of our programs has nothing that a health check could run.
    assert ("healthcheck" in service) == (name not in ("gateway", "turn"))


def test_redis_is_reached_by_gateways_only():
    services = compose()["services"]
    assert services["redis"]["networks"] == ["back"] and services["balancer"]["networks"] == ["front"]
    assert compose()["networks"]["back"] == {"internal": True}
    assert [name for name, service in services.items() if "ports" in service] == ["balancer", "grafana"]
    assert services["prometheus"]["networks"] == services["grafana"]["networks"] == ["front"]


def test_three_gateways_are_drained_before_they_are_killed():
    gateway = compose()["services"]["gateway"]
    assert int(gateway["deploy"]["replicas"]) == 3
    assert gateway["stop_grace_period"] == "80s"
    assert "TimeoutStopSec=80s" in UNIT.read_text()


def test_variables_of_the_gateway_are_settings():
    reference = (ROOT / "docs/configuration.md").read_text()
    for variable in compose()["services"]["gateway"]["environment"]:
        assert f"`{variable}`" in reference, variable
    for variable in re.findall(r"^ENV (\w+)", DOCKERFILE.read_text(), re.MULTILINE):
        assert f"`{variable}`" in reference, variable


def test_variables_of_the_turn_service_are_settings():
    reference = (ROOT / "docs/turn-configuration.md").read_text()
    for variable in compose()["services"]["turn"]["environment"]:
        assert f"`{variable}`" in reference, variable


def test_chart_manifests_and_compose_use_one_image():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    base = objects((ROOT / "k8s/base/kustomization.yaml").read_text())[0]
    image = f"{values['gateway']['image']['repository']}:{version}"
    assert environment()["GATEWAY_IMAGE"] == image
    assert f"{base['images'][0]['newName']}:{base['images'][0]['newTag']}" == image
    redis = values["redis"]["builtin"]["image"]
    assert environment()["REDIS_IMAGE"] == f"{redis['repository']}:{redis['tag']}"
    assert f"ARG VERSION={version}\n" in DOCKERFILE.read_text()


def test_the_image_is_built_with_the_pinned_compiler_and_serves_the_bundles_of_the_tests():
    channel = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    text = DOCKERFILE.read_text()
    assert f"FROM rust:{'.'.join(channel.split('.')[:2])}-" in text
    listed = re.findall(r'"([\w.-]+/dist/[\w.-]+)"', (ROOT / "xtask/src/prepare/javascript.rs").read_text())
    assert listed and set(re.findall(r"node_modules/([\w.-]+/dist/[\w.-]+)", text)) == set(listed)


def test_the_image_has_no_shell_and_an_unprivileged_user():
    stages = DOCKERFILE.read_text().split("\nFROM ")
    last = stages[-1]
    assert last.startswith("scratch\n") and "\nUSER 65532:65532\n" in last
    assert 'ENTRYPOINT ["/usr/bin/signalbox-gateway"]' in last and "\nRUN " not in last
    label = "org.opencontainers.image"
    assert all(f"{label}.{name}=" in last for name in ("title", "description", "licenses", "version", "revision"))


def test_what_the_image_is_built_from_is_sent_to_the_builder():
    members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    needed = {member.split("/")[0] for member in members} | {"Cargo.toml", "Cargo.lock", ".cargo", "demo", "LICENSE-MIT", "LICENSE-APACHE"}
    assert needed == sent
    assert all((ROOT / name).exists() for name in sent)


def test_the_unit_is_valid_and_confined(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/bin/signalbox-gateway --config", "/bin/true --config"))
    result = run(tool("systemd-analyze"), "verify", unit)
    assert result.returncode == 0 and not result.stderr, result.stderr
    # In tenths: an exposure of 2.0.
    result = run(tool("systemd-analyze"), "security", "--offline=yes", "--threshold=20", unit)
    assert result.returncode == 0, result.stdout.splitlines()[-1]

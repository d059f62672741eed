"""The image, the compose file and the systemd unit, and what they share with the chart and with the tests."""

import hashlib
import os
import re
import tomllib

import pytest
import yaml

from support import CHART, ROOT, objects, our_program, run, succeed, tool

COMPOSE = ROOT / "docker-compose.yml"
SMALL = ROOT / "deploy/compose-small.yml"
DOCKERFILE = ROOT / "Dockerfile"
PARTS = ROOT / "deploy/compose"
UNIT = ROOT / "deploy/systemd/signalbox-gateway.service"


def environment():
    lines = [line for line in (ROOT / ".env").read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def compose():
    """The compose file with its variables filled in."""
    text = re.sub(r"\$\{(\w+)\}", lambda match: environment()[match[1]], COMPOSE.read_text())
    return yaml.safe_load(text)


def small():
    return yaml.safe_load(SMALL.read_text())


def services(*profiles):
    """Those that start, in that order of the file; without profiles what `docker compose up` starts."""
    return {
        name: service
        for name, service in compose()["services"].items()
        if not service.get("profiles") or set(service["profiles"]) & set(profiles)
    }


def test_hadolint():
    succeed(tool("hadolint"), DOCKERFILE, ROOT / "loadtest/Dockerfile")


@pytest.mark.parametrize("file", [COMPOSE, SMALL], ids=lambda path: path.stem)
def test_compose_schema(file):
    succeed(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", file)


@pytest.mark.parametrize("file", [COMPOSE, SMALL], ids=lambda path: path.stem)
def test_mounted_files_exist_and_networks_and_volumes_are_declared(file):
    project = yaml.safe_load(file.read_text())
    for name, service in project["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            there = (file.parent / source).exists() if source.startswith(".") else source in project["volumes"]
            assert there, f"{name}: {source}"
        assert set(service.get("networks", [])) <= project["networks"].keys(), name
        assert set(service.get("depends_on", {})) <= project["services"].keys(), name


def test_what_starts():
    usual = ["secrets", "balancer", "gateway", "turn", "coturn", "redis", "prometheus", "grafana", "collector", "jaeger"]
    assert list(services()) == usual
    assert [name for name in services("loadtest") if name not in usual] == ["loadtest"]
    assert [name for name in services("sentinel") if name not in usual] == ["redis-replica", "sentinel"]
    cluster = [name for name in services("redis-cluster") if name not in usual]
    assert cluster == [*(f"redis-{number}" for number in range(1, 7)), "redis-cluster"]
    for profile in ("sentinel", "redis-cluster"):
        lines = dict(line.split("=", 1) for line in (PARTS / f"{profile}.env").read_text().splitlines() if line[:1] not in ("", "#"))
        assert lines.keys() == {"COMPOSE_PROFILES", "REDIS_URL"} and lines["COMPOSE_PROFILES"] == profile
        hosts = re.findall(r"[/,]([\w-]+):\d+", lines["REDIS_URL"])
        assert hosts and set(hosts) <= services(profile).keys()


def test_compose_takes_every_profile():
    program = tool("docker-compose")
    for variables in ([], [PARTS / "sentinel.env"], [PARTS / "redis-cluster.env"]):
        files = [argument for file in (ROOT / ".env", *variables) for argument in ("--env-file", file)]
        succeed(program, *files, "--profile", "loadtest", "config", "--quiet")
    succeed(program, "--file", SMALL, "config", "--quiet", env={"DOMAIN": "a.example", "TURN_ADDRESS": "203.0.113.7"})


def secrets(directory, **variables):
    directory.mkdir(exist_ok=True)
    conf = ROOT / "deploy/coturn/turnserver.conf"
    environment = {"PATH": os.environ["PATH"], "SECRETS": str(directory), "TURNSERVER_CONF": str(conf), "TURN_ADDRESS": "127.0.0.1", **variables}
    succeed("sh", "-eu", PARTS / "secrets.sh", env=environment)
    return {file.name: file.read_text() for file in directory.iterdir()}


def test_secrets_are_made_once_and_fit_together(tmp_path):
    first = secrets(tmp_path / "one")
    assert secrets(tmp_path / "one") == first
    other = secrets(tmp_path / "other")
    for name in ("cluster-secret", "jwt-secret", "turn-secret", "turn-key"):
        assert re.fullmatch(r"(sbt_)?[\w-]{43}", first[name]) and first[name] != other[name], name
    digest = hashlib.sha256(first["turn-key"].encode()).hexdigest()
    assert tomllib.loads(first["turn.toml"]) == {"api-key": [f"gateway:issue:{digest}"]}
    lines = first["turnserver.conf"].splitlines()
    assert f"static-auth-secret={first['turn-secret']}" in lines and "use-auth-secret" in lines
    assert "allow-loopback-peers" in lines and "denied-peer-ip=10.0.0.0-10.255.255.255" in lines
    assert not [line for line in lines if line.startswith(("cert=", "tls-listening-port=", "external-ip="))]
    behind = secrets(tmp_path / "nat", TURN_ADDRESS="203.0.113.7", TURN_LOCAL_ADDRESS="10.0.0.7")["turnserver.conf"].splitlines()
    assert "external-ip=203.0.113.7/10.0.0.7" in behind and "listening-ip=10.0.0.7" in behind
    assert "allow-loopback-peers" not in behind


def test_the_programs_take_what_compose_gives_them(tmp_path):
    secrets(tmp_path / "secrets")
    for name, program in (("gateway", our_program("signalbox-gateway")), ("turn", our_program("signalbox-turn"))):
        for project in (compose(), small()):
            given = {key: str(value) for key, value in project["services"][name]["environment"].items()}
            given = {key: value.replace("/run/secrets", str(tmp_path / "secrets")) for key, value in given.items()}
            given = {key: re.sub(r"\$\{AUTH:-(\w+)\}", r"\1", value).replace("${TURN_ADDRESS}", "203.0.113.7") for key, value in given.items()}
            succeed(program, "--print-config", env=given)


def test_caddy_takes_the_configuration_of_the_small_project():
    command = (tool("caddy"), "validate", "--config", PARTS / "Caddyfile", "--adapter", "caddyfile")
    succeed(*command, env={"DOMAIN": "signal.example.org", "HOME": "/nonexistent", "PATH": os.environ["PATH"]})


@pytest.mark.parametrize("script", sorted([*PARTS.glob("*.sh"), ROOT / ".ci/run", ROOT / ".ci/release-notes", CHART / "files/connect.sh"]), ids=lambda path: path.name)
def test_scripts_are_valid(script):
    shell = "bash" if script.read_text().startswith("#!/usr/bin/env bash") else "sh"
    succeed(tool(shell), "-n", script)


def test_every_variable_of_the_compose_file_stands_in_the_env_file_and_none_is_left_over():
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    assert used == environment().keys()


CONFINED = [(COMPOSE, name) for name in compose()["services"]] + [(SMALL, name) for name in small()["services"]]


@pytest.mark.parametrize(("file", "name"), CONFINED, ids=lambda value: getattr(value, "stem", value))
def test_services_are_confined(file, name):
    service = (compose() if file == COMPOSE else small())["services"][name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    # Only programs whose image has it in their file.
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name in ("coturn", "caddy") else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    runs_once = name in ("secrets", "loadtest", "redis-cluster")
    assert service["restart"] == ("no" if runs_once else "unless-stopped")
    limits = service["deploy"]["resources"]["limits"]
    assert limits["memory"] and limits["cpus"]
    # The gateway's image has its own, which the small project uses. The images of those for traces have no program that could ask.
    assert runs_once or "healthcheck" in service or (file, name) == (SMALL, "gateway") or name in ("collector", "jaeger")
    assert "test" in service.get("healthcheck", {"test": None}) or runs_once
    assert service.get("user") != "0:0" or name == "secrets"


def test_no_secret_stands_in_a_compose_file():
    for file in (COMPOSE, SMALL, ROOT / ".env"):
        for line in file.read_text().splitlines():
            named = re.search(r"(SECRET|PASSWORD|KEY)\w*[:=]", line)
            assert not named or "_FILE: /run/secrets/" in line, line


def test_networks_let_through_what_must_pass_and_nothing_else():
    everything = compose()["services"]
    assert everything["redis"]["networks"] == ["back"] and everything["turn"]["networks"] == ["back", "watch"]
    assert compose()["networks"]["watch"] == {"internal": True}
    assert compose()["networks"]["back"] == small()["networks"]["back"] == {"internal": True}
    assert everything["balancer"]["networks"] == ["front"]
    assert everything["prometheus"]["networks"] == ["front", "watch"]
    assert everything["collector"]["networks"] == ["traces"] and compose()["networks"]["traces"] == {"internal": True}
    assert {name for name, service in everything.items() if "traces" in service.get("networks", [])} == {"gateway", "grafana", "collector", "jaeger"}
    assert [name for name, service in everything.items() if "ports" in service] == ["balancer", "grafana", "jaeger"]
    assert [name for name, service in small()["services"].items() if "ports" in service] == ["caddy"]
    for project in (compose(), small()):
        assert {name for name, service in project["services"].items() if service.get("network_mode") == "host"} == {"coturn"}
        assert project["services"]["secrets"]["network_mode"] == "none"
        # Secrets are written by one service, and read by those that need one.
        mounts = {name: volume for name, service in project["services"].items() for volume in service.get("volumes", []) if volume.startswith("secrets:")}
        assert mounts == {"secrets": "secrets:/run/secrets", **{name: "secrets:/run/secrets:ro" for name in ("gateway", "turn", "coturn")}}


def test_traces_go_from_the_gateways_through_the_collector_to_where_grafana_looks():
    """No registry has the collector's program: what its file names must be there, and fit the services around it."""
    collector = yaml.safe_load((ROOT / "deploy/otel/collector.yaml").read_text())
    pipelines = collector["service"]["pipelines"]
    assert pipelines.keys() == {"traces"}
    for kind in ("receivers", "processors", "exporters"):
        assert pipelines["traces"][kind] == list(collector[kind]), kind
    # What may refuse stands first, so that nothing is taken that cannot be kept.
    assert pipelines["traces"]["processors"] == ["memory_limiter", "batch"]
    services = compose()["services"]
    ports = {name: each["endpoint"].rsplit(":", 1)[1] for name, each in collector["receivers"]["otlp"]["protocols"].items()}
    assert sorted(ports.values()) == services["collector"]["expose"]
    assert services["gateway"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://collector:{ports['http']}"
    assert collector["exporters"]["otlp"]["endpoint"] == "jaeger:4317" and "jaeger" in services
    mounted = services["collector"]["volumes"][0].split(":")[1]
    assert services["collector"]["command"] == [f"--config={mounted}"]
    sources = [each for file in (ROOT / "deploy/grafana/provisioning/datasources").iterdir() for each in yaml.safe_load(file.read_text())["datasources"]]
    page = services["jaeger"]["ports"][0].rsplit(":", 1)[1]
    assert {each["type"]: each["url"] for each in sources} == {"prometheus": "http://prometheus:9090", "jaeger": f"http://jaeger:{page}"}


def test_three_gateways_are_drained_before_they_are_killed():
    gateway = compose()["services"]["gateway"]
    assert int(gateway["deploy"]["replicas"]) == 3
    assert gateway["stop_grace_period"] == "80s"
    assert "TimeoutStopSec=80s" in UNIT.read_text()


def test_variables_of_the_gateway_are_settings():
    # Those of traces are a standard's.
    reference = (ROOT / "docs/configuration.md").read_text() + (ROOT / "docs/operations.md").read_text().replace("`, `_ARG`", "`, `OTEL_TRACES_SAMPLER_ARG`")
    for variable in compose()["services"]["gateway"]["environment"] | small()["services"]["gateway"]["environment"]:
        assert f"`{variable}`" in reference, variable
    for variable in re.findall(r"^ENV (\w+)", DOCKERFILE.read_text(), re.MULTILINE):
        assert f"`{variable}`" in reference, variable


def test_variables_of_the_turn_service_are_settings():
    reference = (ROOT / "docs/turn-configuration.md").read_text()
    for variable in compose()["services"]["turn"]["environment"] | small()["services"]["turn"]["environment"]:
        # Where settings are, and none itself.
        if variable == "SIGNALBOX_CONFIG":
            continue
        assert f"`{variable}`" in reference, variable


def test_chart_manifests_and_compose_use_one_image():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    bases = [objects((ROOT / f"k8s/{name}/kustomization.yaml").read_text())[0] for name in ("base", "turn")]
    image = f"{values['gateway']['image']['repository']}:{version}"
    assert environment()["GATEWAY_IMAGE"] == image
    assert {f"{base['images'][0]['newName']}:{base['images'][0]['newTag']}" for base in bases} == {image}
    redis = values["redis"]["builtin"]["image"]
    assert environment()["REDIS_IMAGE"] == f"{redis['repository']}:{redis['tag']}"
    assert f"ARG VERSION={version}\n" in DOCKERFILE.read_text()
    for name in ("gateway", "turn"):
        assert small()["services"][name]["image"] == image
    for name in ("secrets", "coturn"):
        assert small()["services"][name]["image"] == compose()["services"][name]["image"]


def test_the_image_is_built_with_the_pinned_compiler_and_serves_the_bundles_of_the_tests():
    channel = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    text = DOCKERFILE.read_text()
    assert f"FROM rust:{'.'.join(channel.split('.')[:2])}-" in (ROOT / "loadtest/Dockerfile").read_text()
    assert f"FROM rust:{'.'.join(channel.split('.')[:2])}-" in text
    listed = re.findall(r'"([\w.-]+/dist/[\w.-]+)"', (ROOT / "xtask/src/prepare/javascript.rs").read_text())
    assert listed and set(re.findall(r"node_modules/([\w.-]+/dist/[\w.-]+)", text)) == set(listed)


def test_the_image_has_no_shell_and_an_unprivileged_user():
    stages = DOCKERFILE.read_text().split("\nFROM ")
    last = stages[-1]
    assert last.startswith("scratch\n") and "\nUSER 65532:65532\n" in last
    assert 'ENTRYPOINT ["/usr/bin/signalbox-gateway"]' in last and "\nRUN " not in last
    label = "org.opencontainers.image"
    assert all(f"{label}.{name}=" in last for name in ("title", "description", "licenses", "version", "revision", "source", "url"))
    assert 'CMD ["/usr/bin/signalbox-gateway", "health"]\n' in last


def test_what_the_image_is_built_from_is_sent_to_the_builder():
    members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    needed = {member.split("/")[0] for member in members} | {"Cargo.toml", "Cargo.lock", ".cargo", "demo", "LICENSE-MIT", "LICENSE-APACHE"}
    assert needed == sent
    assert all((ROOT / name).exists() for name in sent)


@pytest.mark.parametrize("unit", sorted(UNIT.parent.glob("*.service")), ids=lambda path: path.stem)
def test_units_are_valid_and_confined(unit, tmp_path):
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", unit.read_text()))
    result = run(tool("systemd-analyze"), "verify", copy)
    assert result.returncode == 0 and not result.stderr, result.stderr
    # In tenths: an exposure of 2.0.
    result = run(tool("systemd-analyze"), "security", "--offline=yes", "--threshold=20", copy)
    assert result.returncode == 0, result.stdout.splitlines()[-1]

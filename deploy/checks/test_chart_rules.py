"""What matters in the chart beyond being valid: what may pass, what changes when, and where secrets are."""

import hashlib
import hashlib
import os
import re
import subprocess
import tomllib

import pytest
import yaml

from support import (
    CHART, CI_VALUES, KUBERNETES, ROOT, connect_variables, container, env, find, gateway_program, one, our_program, problems, render, run, succeed, tool, with_values,
)

REDIS = ("--set", "redis.mode=standalone,redis.addresses={redis:6379}")

# Files that `ci/every-setting.yaml` names; the key is that of RFC 8037, appendix A.2.
MOUNTED = {
    "/run/secrets/turn": "a-secret-of-turn-servers",
    "/run/secrets/upstream-key": "a-key",
    "/etc/keys/ca.pem": "",
    "/run/secrets/hooks": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "/run/secrets/webhook": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "/run/secrets/jwt": "a secret that is longer than 32 bytes",
    "/etc/keys/jwt.pem": "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n",
}


def ci(name):
    return render(*with_values(CHART / f"ci/{name}.yaml"))


def deployment(items):
    return next(item for item in find(items, "Deployment") if item["metadata"]["name"].endswith("-gateway"))


def toml(items, program="gateway"):
    config = next(item for item in find(items, "ConfigMap") if item["metadata"]["name"].endswith(f"-{program}"))
    return config["data"]["signalbox.toml"]


def test_a_misspelt_field_and_an_unknown_kind_are_found():
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"prots": []}}
    assert problems([wrong], KUBERNETES[0])
    assert problems([{"apiVersion": "v1", "kind": "Sevrice", "metadata": {"name": "x"}}], KUBERNETES[0])
    assert problems([{"apiVersion": "cloud.google.com/v1", "kind": "Other", "metadata": {"name": "x"}}], KUBERNETES[0])


def test_every_setting_arrives_in_the_file_with_its_type():
    given = yaml.safe_load((CHART / "ci/every-setting.yaml").read_text())["gateway"]["config"]
    known = yaml.safe_load((CHART / "values.yaml").read_text())["gateway"]["config"]
    assert given.keys() == known.keys(), "ci/every-setting.yaml names every setting"
    items = ci("every-setting")
    assert env(deployment(items))["SIGNALBOX_VENDOR_DIR"]["value"] == given.pop("vendor-dir")
    assert tomllib.loads(toml(items)) == given
    assert "SIGNALBOX_CLUSTER_ADDR" not in env(deployment(items))


def test_every_setting_of_the_turn_service_arrives_in_its_file():
    # A provider takes the place of servers, so that no file has both.
    given = [yaml.safe_load((CHART / f"ci/{name}.yaml").read_text())["turn"]["config"] for name in ("every-setting", "turn-provider")]
    known = yaml.safe_load((CHART / "values.yaml").read_text())["turn"]["config"]
    assert given[0].keys() | given[1].keys() == known.keys(), "ci/every-setting.yaml and ci/turn-provider.yaml name every setting"
    assert tomllib.loads(toml(ci("every-setting"), "turn")) == given[0]
    assert given[1].items() <= tomllib.loads(toml(ci("turn-provider"), "turn")).items()


def test_the_turn_service_takes_its_file(tmp_path):
    program = our_program("signalbox-turn")
    for name in ("turn", "turn-provider", "every-setting"):
        text = toml(ci(name), "turn")
        for path, content in MOUNTED.items():
            mounted = tmp_path / path.replace("/", "-")
            mounted.write_text(content)
            text = text.replace(path, str(mounted))
        file = tmp_path / f"{name}.toml"
        file.write_text(text)
        secrets = {"SIGNALBOX_SECRET": "a-secret-of-turn-servers"}
        printed = tomllib.loads(succeed(program, "--config", file, "--print-config", env=secrets))
        assert tomllib.loads(text).items() <= printed.items(), name


def test_the_turn_service_is_reached_and_reaches_what_it_needs():
    items = ci("turn")
    spec = one(items, "NetworkPolicy", "signalbox-turn")["spec"]
    assert rules(spec, "ingress", "public") is None
    assert rules(spec, "ingress", "metrics") == [{"namespaceSelector": {}}]
    # The TURN servers' ports, from their URIs.
    assert all(rules(spec, "egress", port) is None for port in (53, 3478, 3479, 443))
    assert rules(spec, "egress", 5349) == []
    assert selects(rules(spec, "egress", 6379), "redis")
    redis = one(items, "NetworkPolicy", "signalbox-redis")["spec"]
    admitted = [each["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for each in rules(redis, "ingress", "redis")]
    assert admitted == ["gateway", "turn"]
    assert selects(rules(one(items, "NetworkPolicy", "signalbox-gateway")["spec"], "egress", 9002), "turn")
    assert len(find(items, "ServiceMonitor")) == 2
    assert one(items, "PodDisruptionBudget", "signalbox-turn")["spec"]["maxUnavailable"] == 1
    assert not find(ci("turn-provider"), "PodDisruptionBudget", "signalbox-turn")


def test_gateways_ask_the_turn_service_with_a_key_whose_hash_it_has():
    items = ci("turn")
    gateway = env(deployment(items))
    assert gateway["SIGNALBOX_TURN_URL"]["value"] == "http://signalbox-turn:9002"
    reference = gateway["SIGNALBOX_TURN_KEY"]["valueFrom"]["secretKeyRef"]
    key = one(items, "Secret", reference["name"])["stringData"][reference["key"]]
    assert tomllib.loads(toml(items, "turn"))["api-key"] == [f"gateway:issue:{hashlib.sha256(key.encode()).hexdigest()}"]
    turn = container(one(items, "Deployment", "signalbox-turn"))
    assert turn["command"] == ["/usr/bin/signalbox-turn"] and turn["envFrom"] == [{"secretRef": {"name": "signalbox-turn"}}]
    assert "SIGNALBOX_TURN_URL" not in env(deployment(ci("turn-provider")))
    assert not find(ci("default"), "Deployment", "signalbox-turn")


@pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)
def test_the_program_takes_the_file(values, tmp_path):
    file = tmp_path / "signalbox.toml"
    text = toml(render(*with_values(values)))
    # The program reads them at once.
    rules = succeed(gateway_program(), "--print-rules")
    for path, content in (MOUNTED | {"/etc/signalbox/rules.toml": rules}).items():
        mounted = tmp_path / path.replace("/", "-")
        mounted.write_text(content)
        text = text.replace(path, str(mounted))
    text = text.replace("/srv/pages", str(tmp_path))
    file.write_text(text)
    printed = succeed(gateway_program(), "--config", file, "--print-config", env={})
    given, printed = tomllib.loads(file.read_text()), tomllib.loads(printed)
    # What the program shows in another form: cores is a number by then, and a path lacks the slash that may be left out.
    if given.get("workers") == "cores":
        given["workers"] = printed["workers"]
    if given.get("no-trailing-slash"):
        given["socketio-path"] = given["socketio-path"].rstrip("/")
    assert given.items() <= printed.items()


def test_tls_between_gateways_has_the_files_of_its_secret():
    items = ci("redis-cluster-tls")
    gateway, variables = container(deployment(items)), env(deployment(items))
    assert variables["SIGNALBOX_CLUSTER_TLS"]["value"] == "required"
    [mount] = [mount for mount in gateway["volumeMounts"] if mount["name"] == "cluster-tls"]
    for setting, file in {"CA": "ca.crt", "CERT": "tls.crt", "KEY": "tls.key"}.items():
        assert variables[f"SIGNALBOX_CLUSTER_TLS_{setting}"]["value"] == f"{mount['mountPath']}/{file}"
    [volume] = [volume for volume in deployment(items)["spec"]["template"]["spec"]["volumes"] if volume["name"] == "cluster-tls"]
    assert volume["secret"]["secretName"] == "link-tls"
    assert "SIGNALBOX_CLUSTER_TLS" not in env(deployment(ci("builtin")))


def test_ports_follow_the_settings():
    items = ci("every-setting")
    ports = {port["name"]: port["containerPort"] for port in container(deployment(items))["ports"]}
    assert ports == {"public": 9100, "management": 9101, "metrics": 9102, "node-link": 9105}
    policy = one(items, "NetworkPolicy", "signalbox-gateway")["spec"]
    assert {"protocol": "TCP", "port": 9105} in [port for rule in policy["egress"] for port in rule["ports"]]


def test_probes_ask_the_metrics_listener_and_only_readiness_depends_on_redis():
    gateway = container(deployment(ci("builtin")))
    probes = {name: gateway[name]["httpGet"] for name in ("livenessProbe", "readinessProbe", "startupProbe")}
    assert {probe["port"] for probe in probes.values()} == {"metrics"}
    assert [probe["path"] for probe in probes.values()] == ["/livez", "/readyz", "/livez"]
    # Load balancers are to notice within drain-delay, 5 s.
    readiness = gateway["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < 5


def test_twice_the_memory_budget_is_below_the_memory_limit():
    limit = container(deployment(ci("default")))["resources"]["limits"]["memory"]
    assert limit == "1Gi" and 2 * 268435456 < 1024**3


def test_an_upgrade_disturbs_the_clients_of_one_pod_at_a_time():
    spec = deployment(ci("builtin"))["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["minReadySeconds"] == 65
    assert deployment(ci("redis-cluster-tls"))["spec"]["minReadySeconds"] == 320
    assert deployment(ci("redis-cluster-tls"))["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 335


def test_an_authority_of_ones_own_is_mounted_and_named():
    turn = "turn.enabled=true,turn.config.uri={turn:a.example:3478},turn.secretEnv.SIGNALBOX_SECRET=0123456789abcdef"
    tls = "redis.tls=true,redis.ca.existingSecret=redis-authority,redis.ca.existingSecretKey=authority.pem"
    both = render(*REDIS, "--set", f"{turn},{tls}")
    for pods in (deployment(ci("redis-cluster-tls")), deployment(both), one(both, "Deployment", "signalbox-turn")):
        path = env(pods)["SIGNALBOX_REDIS_CA"]["value"]
        mount = next(each for each in container(pods)["volumeMounts"] if each["name"] == "redis-ca")
        volume = next(each for each in pods["spec"]["template"]["spec"]["volumes"] if each["name"] == "redis-ca")
        assert mount["readOnly"] is True and volume["secret"]["secretName"] == "redis-authority"
        assert path == f"{mount['mountPath']}/{volume['secret']['items'][0]['path']}"
        assert volume["secret"]["items"][0]["key"] == "authority.pem"
    alone = one(render(*REDIS, "--set", f"{turn},{tls},turn.useRedis=false"), "Deployment", "signalbox-turn")
    for pods in (deployment(render(*REDIS)), alone):
        assert "SIGNALBOX_REDIS_CA" not in env(pods)
        assert "redis-ca" not in [each["name"] for each in pods["spec"]["template"]["spec"]["volumes"]]


def test_an_admin_token_is_made_and_pods_have_its_hash():
    items = ci("service-monitor")
    token = one(items, "Secret", "signalbox-gateway-admin")["stringData"]["token"]
    assert re.fullmatch(r"sba_[A-Za-z0-9]{43}", token)
    digest = hashlib.sha256(token.encode()).hexdigest()
    assert env(deployment(items))["SIGNALBOX_ADMIN_TOKEN_HASH"]["value"] == f"signalbox:read+emit+control:{digest}"
    without = render(*with_values(CHART / "ci/service-monitor.yaml"), "--set", "gateway.management.token.create=false")
    own = render(*with_values(CHART / "ci/service-monitor.yaml"), "--set", f"gateway.config.admin-token-hash={{me:read:{digest}}}")
    for items in (without, own, ci("default")):
        assert "SIGNALBOX_ADMIN_TOKEN_HASH" not in env(deployment(items)) and not find(items, "Secret", "signalbox-gateway-admin")


def test_the_gateway_takes_the_admin_token(tmp_path):
    items = ci("service-monitor")
    token = one(items, "Secret", "signalbox-gateway-admin")["stringData"]["token"]
    variables = {"SIGNALBOX_ADMIN_TOKEN_HASH": env(deployment(items))["SIGNALBOX_ADMIN_TOKEN_HASH"]["value"]}
    command = [gateway_program(), "--host", "127.0.0.1", "--port", "0", "--admin-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as gateway:
        try:
            base = re.search(r"management=(\S+)", gateway.stdout.readline())[1]
            ask = (tool("curl"), "--silent", "--output", tmp_path / "answer", "--write-out", "%{http_code}", f"{base}/admin/v1/cluster")
            assert succeed(*ask, "--header", f"Authorization: Bearer {token}") == "200"
            assert succeed(*ask) == "401"
        finally:
            gateway.terminate()


def test_pods_are_spread_by_default():
    pod = deployment(ci("builtin"))["spec"]["template"]["spec"]
    keys = [each["topologyKey"] for each in pod["topologySpreadConstraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert pod["affinity"]["podAntiAffinity"]
    extras = deployment(ci("extras"))["spec"]["template"]["spec"]
    assert extras["topologySpreadConstraints"] == [] and "nodeAffinity" in extras["affinity"]


def checksums(*arguments):
    annotations = deployment(render(*arguments))["spec"]["template"]["metadata"]["annotations"]
    return annotations["checksum/config"], annotations["checksum/secret"]


def test_checksums_change_with_what_they_are_for_and_only_then():
    before = checksums(*REDIS)
    assert checksums(*REDIS, "--set", "gateway.config.ping-interval=20000")[0] != before[0]
    assert checksums(*REDIS, "--set", "gateway.config.ping-interval=20000")[1] == before[1]
    assert checksums(*REDIS, "--set", "redis.auth.password=x")[1] != before[1]
    assert checksums(*REDIS, "--set", "redis.auth.password=x")[0] == before[0]
    assert checksums(*REDIS, "--set", "gateway.replicas=5,gateway.service.port=8080") == before


@pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)
def test_secrets_are_in_secrets_only(values):
    given = yaml.safe_load(values.read_text()) or {}
    secrets = [given.get("redis", {}).get("auth", {}).get("password"), given.get("gateway", {}).get("clusterSecret", {}).get("value")]
    turn = given.get("turn", {})
    secrets += [turn.get("gatewayKey"), *turn.get("secretEnv", {}).values()]
    for item in render(*with_values(values)):
        if item["kind"] != "Secret":
            text = yaml.safe_dump(item)
            assert not any(secret in text for secret in secrets if secret)
    if any(secrets):
        assert any(item["kind"] == "Secret" for item in render(*with_values(values)))


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("builtin", "redis://:p%40ss%2Fw%3Ard@signalbox-redis:6379"),
        ("standalone-password", "redis://signal%20box:a%20b%2Bc%40d@redis.data.svc:6380/2"),
        ("sentinel-existing-secrets", "redis+sentinel://:$(REDIS_PASSWORD)@redis-0:26379,redis-1:26379,redis-2:26379/main"),
        ("redis-cluster-tls", "rediss+cluster://signal:$(REDIS_PASSWORD)@a.redis.example.org:6379,b.redis.example.org:6379,[fd00::7]:7000"),
    ],
)
def test_redis_urls(name, url):
    items = ci(name)
    variables = [item["name"] for item in container(deployment(items))["env"]]
    variable = env(deployment(items))["SIGNALBOX_REDIS_URL"]
    if "value" in variable:
        assert variable["value"] == url
        assert variables.index("REDIS_PASSWORD") < variables.index("SIGNALBOX_REDIS_URL"), "a variable is filled in from those before it"
    else:
        reference = variable["valueFrom"]["secretKeyRef"]
        assert one(items, "Secret", reference["name"])["stringData"][reference["key"]] == url


def test_existing_secrets_are_used_and_none_is_made():
    items = ci("url-secret")
    assert env(deployment(items))["SIGNALBOX_REDIS_URL"]["valueFrom"]["secretKeyRef"] == {"name": "redis-url", "key": "redis-url"}
    assert not find(items, "Secret")
    items = ci("sentinel-existing-secrets")
    assert env(deployment(items))["SIGNALBOX_CLUSTER_SECRET"]["valueFrom"]["secretKeyRef"] == {"name": "link", "key": "secret"}
    assert not find(items, "Secret")


def policy(name):
    found = [item for item in find(ci(name), "NetworkPolicy") if item["metadata"]["name"].endswith("-gateway")]
    return found[0]["spec"]


def rules(spec, direction, port):
    """The peers that may use the port: None for everybody, nothing for nobody."""
    peer = "from" if direction == "ingress" else "to"
    found = [rule for rule in spec[direction] if any(each["port"] == port for each in rule.get("ports", []))]
    if any(peer not in rule for rule in found):
        return None
    return [each for rule in found for each in rule[peer]]


def selects(peers, component):
    labels = {"app.kubernetes.io/name": "signalbox", "app.kubernetes.io/instance": "signalbox", "app.kubernetes.io/component": component}
    return peers == [{"podSelector": {"matchLabels": labels}}]


def test_policies_admit_what_must_pass_and_nothing_else():
    spec = policy("builtin")
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert rules(spec, "ingress", "public") is None
    assert rules(spec, "ingress", "metrics") == [{"namespaceSelector": {}}]
    assert rules(spec, "ingress", "management") == []
    assert selects(rules(spec, "ingress", "node-link"), "gateway")
    assert selects(rules(spec, "egress", 9005), "gateway")
    assert selects(rules(spec, "egress", 6379), "redis")
    assert rules(spec, "egress", 53) is None
    assert len(spec["ingress"]) == 3 and len(spec["egress"]) == 3
    redis = one(ci("builtin"), "NetworkPolicy", "signalbox-redis")["spec"]
    assert selects(rules(redis, "ingress", "redis"), "gateway") and len(redis["ingress"]) == 1
    assert redis["egress"] == [] and "Egress" in redis["policyTypes"]


def test_a_gateway_alone_calls_nobody():
    spec = policy("default")
    assert spec["egress"] == [] and "Egress" in spec["policyTypes"]
    assert rules(spec, "ingress", "node-link") == []


def test_policies_let_webhooks_out():
    for url, port in (("https://app.example.org/hooks", 443), ("https://10.0.0.1:8443/hooks", 8443)):
        items = render("--set", f"gateway.config.webhook-url={url}")
        spec = one(items, "NetworkPolicy", "signalbox-gateway")["spec"]
        assert rules(spec, "egress", port) is None and rules(spec, "egress", 53) is None and len(spec["egress"]) == 2, url


def test_policies_know_where_redis_is():
    spec = policy("redis-cluster-tls")
    assert rules(spec, "egress", 7000) is None and rules(spec, "egress", 6379) is None
    spec = policy("sentinel-existing-secrets")
    redis = [{"podSelector": {"matchLabels": {"app": "redis"}}}]
    assert rules(spec, "egress", 26379) == redis and rules(spec, "egress", 6379) == redis
    assert rules(policy("url-secret"), "egress", 6380) == [{"ipBlock": {"cidr": "10.20.0.0/16"}}]


def test_management_and_metrics_are_open_to_those_named():
    spec = policy("service-monitor")
    assert rules(spec, "ingress", "management") == [{"podSelector": {"matchLabels": {"app": "admin"}}}]
    assert rules(spec, "ingress", "metrics") == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    assert tomllib.loads(toml(ci("service-monitor")))["admin-host"] == "0.0.0.0"
    assert "admin-host" not in tomllib.loads(toml(ci("default")))


def test_health_checks_of_load_balancers_pass():
    assert {"ipBlock": {"cidr": "10.0.0.0/16"}} in rules(policy("ingress-alb"), "ingress", "metrics")
    assert {"ipBlock": {"cidr": "35.191.0.0/16"}} in rules(policy("ingress-gke"), "ingress", "metrics")
    annotations = one(ci("ingress-alb"), "Ingress")["metadata"]["annotations"]
    assert annotations["alb.ingress.kubernetes.io/healthcheck-port"] == "9002"
    assert annotations["alb.ingress.kubernetes.io/scheme"] == "internet-facing"
    gke = ci("ingress-gke")
    assert one(gke, "BackendConfig")["spec"]["healthCheck"] == {
        "type": "HTTP", "port": 9002, "requestPath": "/readyz", "checkIntervalSec": 5, "timeoutSec": 2,
    }
    config = one(gke, "Service", "signalbox-gateway")["metadata"]["annotations"]["cloud.google.com/backend-config"]
    assert config == '{"default":"signalbox-gateway"}'


def test_time_outs_on_the_way_are_longer_than_the_time_between_pings():
    annotations = one(ci("ingress-nginx"), "Ingress")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "7200", "a given annotation wins"
    assert annotations["nginx.ingress.kubernetes.io/proxy-send-timeout"] == "3600"
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == "5000000"
    assert one(ci("httproute"), "HTTPRoute")["spec"]["rules"][0]["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    assert one(ci("ingress-gke"), "BackendConfig")["spec"]["timeoutSec"] >= 86400


def test_no_service_asks_for_sticky_sessions():
    for values in CI_VALUES:
        items = render(*with_values(values))
        assert not any("sessionAffinity" in item["spec"] for item in find(items, "Service"))
        text = yaml.safe_dump_all(find(items, "Ingress") + find(items, "Service"))
        assert not re.search("affinity|sticky|stickiness|hash-by", text)


def test_nodes_reach_each_other_by_address_and_are_listed_before_they_are_ready():
    items = ci("builtin")
    assert env(deployment(items))["SIGNALBOX_CLUSTER_ADDR"]["value"] == "$(POD_IP):9005"
    assert env(deployment(ci("ipv6-no-policies")))["SIGNALBOX_CLUSTER_ADDR"]["value"] == "[$(POD_IP)]:9500"
    spec = one(items, "Service", "signalbox-gateway-nodes")["spec"]
    assert spec["clusterIP"] == "None" and spec["publishNotReadyAddresses"] is True


def test_scaling_leaves_the_number_of_pods_to_the_autoscaler():
    items = ci("autoscaling")
    assert "replicas" not in deployment(items)["spec"]
    spec = one(items, "HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"], len(spec["metrics"])) == (4, 40, 4)
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] > spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"]
    assert one(items, "PodDisruptionBudget")["spec"]["maxUnavailable"] == "25%"
    assert not find(ci("default"), "PodDisruptionBudget"), "of one pod, it would keep a node from being emptied"


def test_what_is_common_reaches_every_object():
    for item in ci("extras"):
        if item["metadata"]["name"].startswith("signalbox-more") or item["metadata"]["name"].startswith("signalbox-text"):
            continue
        assert item["metadata"]["labels"]["team"] == "signal"
        assert item["metadata"]["annotations"]["owner"] == "signal@example.org"
    pod = deployment(ci("extras"))["spec"]["template"]
    assert pod["metadata"]["annotations"]["c"] == "d" and pod["metadata"]["labels"]["e"] == "f"
    assert [each["name"] for each in pod["spec"]["containers"]] == ["gateway", "beside"]
    assert container(deployment(ci("extras")))["image"].startswith("registry.example.org/signalbox@sha256:")


def test_labels_of_selectors_do_not_depend_on_versions():
    selector = deployment(ci("default"))["spec"]["selector"]["matchLabels"]
    assert not any("version" in key or "chart" in key for key in selector)


def test_notes_say_what_to_do_next():
    notes = succeed(tool("helm"), "install", "signalbox", CHART, "--dry-run=client", "--namespace", "signal", *REDIS)
    assert "helm --namespace signal test signalbox" in notes
    assert "port-forward service/signalbox-gateway 9000:80" in notes
    warned = succeed(tool("helm"), "install", "signalbox", CHART, "--dry-run=client", *with_values(CHART / "ci/ingress-traefik.yaml"))
    assert "https://a.example.org/demo/" not in warned and "http://a.example.org/demo/" in warned
    assert "gateway.config.proxied=true" in warned


def test_the_images_that_artifacthub_shows_are_those_of_the_values():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    shown = {each["name"]: each["image"] for each in yaml.safe_load(chart["annotations"]["artifacthub.io/images"])}
    redis, test = values["redis"]["builtin"]["image"], values["test"]["image"]
    assert shown == {
        "gateway": f"{values['gateway']['image']['repository']}:{chart['appVersion']}",
        "redis": f"{redis['repository']}:{redis['tag']}",
        "test": f"{test['repository']}:{test['tag']}",
        "coturn": f"{values['coturn']['image']['repository']}:{values['coturn']['image']['tag']}",
    }
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert chart["version"] == chart["appVersion"] == version


def test_the_test_command_is_a_posix_script():
    script = CHART / "files/connect.sh"
    assert run(tool("sh"), "-n", script).returncode == 0
    pod = one(ci("every-setting"), "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    variables = {each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]}
    assert variables == {
        "BASE": "http://signalbox-gateway:80", "SOCKETIO_PATH": "/io/", "PEERSERVER_PATH": "/peer", "PEERSERVER_KEY": "peerjs",
        "TRANSPORTS": "websocket", "ORIGIN": "https://app.example.org:8443", "AUTH": "optional", "PODS": "1", "ICE": "true",
    }
    assert script.read_text().strip() in pod["spec"]["containers"][0]["command"][-1]


@pytest.mark.parametrize("transports", ["polling,websocket", "websocket"])
def test_the_test_command_passes_against_a_gateway(transports):
    command = [gateway_program(), "--host", "127.0.0.1", "--port", "0", "--admin-port", "0", "--transports", transports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gateway:
        try:
            base = re.search(r"public=(\S+)", gateway.stdout.readline())[1]
            variables = connect_variables(base, TRANSPORTS=transports)
            tool("curl")
            script = (CHART / "files/connect.sh").read_text()
            assert "connected" in (out := succeed("sh", "-ceu", script, env=variables)) or "WebSocket opened" in out
            wrong = run("sh", "-ceu", script, env=variables | {"PEERSERVER_KEY": "other"})
            assert wrong.returncode != 0
        finally:
            gateway.terminate()

"""The chart renders for every file in ci/, and what it renders is valid in every version of Kubernetes that it takes."""

import pytest
import yaml

from support import CHART, CI_VALUES, KUBERNETES, one, problems, render, succeed, tool, with_values

pytestmark = pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)


def test_lint(values):
    succeed(tool("helm"), "lint", "--strict", CHART, "--values", values)


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_schemas(values, version):
    assert problems(render(*with_values(values), version=version), version) == []


def test_pods_meet_the_restricted_standard(values):
    for item in render(*with_values(values)):
        spec = item["spec"]["template"]["spec"] if item["kind"] == "Deployment" else item.get("spec")
        if item["kind"] not in ("Deployment", "Pod") or not isinstance(spec, dict):
            continue
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True and pod["seccompProfile"]["type"] == "RuntimeDefault"
        assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
        ours = [each for each in spec["containers"] if each["name"] in ("gateway", "redis", "connect", "turn")]
        assert ours
        for each in ours:
            context = each["securityContext"]
            assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in each["resources"]["limits"] and "cpu" in each["resources"]["requests"]


def test_the_grace_period_is_longer_than_a_drain(values):
    given = yaml.safe_load(values.read_text()) or {}
    config = given.get("gateway", {}).get("config", {})
    has_redis = given.get("redis", {}).get("mode", "none") != "none"
    drain = (config.get("drain-delay", 5000) + config.get("drain-timeout", 60000)) / 1000 if has_redis else 9.5
    spec = one(render(*with_values(values)), "Deployment", _gateway(values))["spec"]
    pod = spec["template"]["spec"]
    sleep = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    # The program allows itself 9.5 s more than the drain before it exits in any case.
    assert pod["terminationGracePeriodSeconds"] > drain + sleep + (9.5 if has_redis else 0)
    assert spec["progressDeadlineSeconds"] > spec["minReadySeconds"]
    assert has_redis or sleep >= 5, "without Redis the program itself does not wait for load balancers"


def test_selectors_and_references_lead_to_what_exists(values):
    items = render(*with_values(values))
    pods = [item["spec"]["template"]["metadata"]["labels"] for item in items if item["kind"] == "Deployment"]
    ports = {
        port["name"]
        for item in items
        if item["kind"] == "Deployment"
        for each in item["spec"]["template"]["spec"]["containers"]
        for port in each.get("ports", [])
    }
    services = {item["metadata"]["name"]: item["spec"] for item in items if item["kind"] == "Service"}
    for name, spec in services.items():
        assert any(spec["selector"].items() <= labels.items() for labels in pods), name
        assert {port["targetPort"] for port in spec["ports"]} <= ports, name
    for item in items:
        if item["kind"] in ("PodDisruptionBudget", "NetworkPolicy"):
            selector = item["spec"].get("selector", item["spec"].get("podSelector"))["matchLabels"]
            assert any(selector.items() <= labels.items() for labels in pods), item["metadata"]["name"]
        if item["kind"] == "HTTPRoute":
            assert all(ref["name"] in services for rule in item["spec"]["rules"] for ref in rule["backendRefs"])
        if item["kind"] == "Ingress":
            paths = [path for rule in item["spec"]["rules"] for path in rule["http"]["paths"]]
            assert paths and all(path["backend"]["service"]["name"] in services for path in paths)
        if item["kind"] == "ServiceMonitor":
            labels = [each["metadata"]["labels"] for each in items if each["kind"] == "Service"]
            wanted = item["spec"]["selector"]["matchLabels"].items()
            assert sum(wanted <= each.items() for each in labels) == 1


def _gateway(values):
    names = [item["metadata"]["name"] for item in render(*with_values(values)) if item["kind"] == "Deployment"]
    return next(name for name in names if name.endswith("-gateway"))

"""The chart's TURN servers: their configuration is the one of deploy/coturn, with what the values say."""

import os
import re

from support import CHART, ROOT, env, one, render, run, succeed, tool, with_values

SHIPPED = ROOT / "deploy/coturn/turnserver.conf"


def items():
    return render(*with_values(CHART / "ci/coturn.yaml"))


def configuration():
    return one(items(), "ConfigMap", "signalbox-coturn")["data"]


def settings(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_configuration_is_the_shipped_one_with_the_values():
    assert (CHART / "files/coturn/turnserver.conf").read_text() == SHIPPED.read_text()
    ours, shipped = settings(configuration()["turnserver.conf"]), settings(SHIPPED.read_text())
    replaced = r"(listening-port|tls-listening-port|min-port|max-port|realm|cert|pkey)=|prometheus$"
    assert [line for line in shipped if not re.match(replaced, line)] == ours[: ours.index("listening-port=3478")]
    assert ours[ours.index("listening-port=3478") :] == [
        "listening-port=3478", "min-port=49152", "max-port=65535", "realm=signalbox", "tls-listening-port=5349",
        "cert=/etc/coturn-tls/tls.crt", "pkey=/etc/coturn-tls/tls.key", "no-tcp-relay", "user-quota=12",
    ]
    assert "denied-peer-ip=10.0.0.0-10.255.255.255" in ours and "use-auth-secret" in ours


def test_it_starts_with_the_addresses_and_secrets_of_its_node(tmp_path):
    script = configuration()["start.sh"]
    assert script.strip() == (CHART / "files/coturn/start.sh").read_text().strip()
    (tmp_path / "conf").write_text("fingerprint\n")
    (tmp_path / "turnserver").write_text("#!/bin/sh\nexec cat \"$2\"\n")
    (tmp_path / "turnserver").chmod(0o755)
    script = script.replace("/etc/coturn/turnserver.conf", str(tmp_path / "conf")).replace("/run/coturn", str(tmp_path))
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TURN_SECRET": "one,two", "HOST_IP": "10.0.0.7"}
    variables["EXTERNAL_IPS"] = env(one(items(), "DaemonSet"))["EXTERNAL_IPS"]["value"]
    assert variables["EXTERNAL_IPS"] == "node-a=203.0.113.7 node-b=203.0.113.8"
    lines = succeed("sh", "-euc", script, env=variables | {"NODE_NAME": "node-b"}).split()
    assert lines == [
        "fingerprint", "static-auth-secret=one", "static-auth-secret=two", "listening-ip=10.0.0.7", "relay-ip=10.0.0.7",
        "allowed-peer-ip=10.0.0.7", "external-ip=203.0.113.8/10.0.0.7", "allowed-peer-ip=203.0.113.8",
    ]
    assert "external-ip" not in succeed("sh", "-euc", script, env=variables | {"NODE_NAME": "node-c"})
    assert (tmp_path / "turnserver.conf").stat().st_mode & 0o077 == 0


def test_it_is_confined_but_for_the_network():
    spec = one(items(), "DaemonSet")["spec"]["template"]["spec"]
    context = spec["containers"][0]["securityContext"]
    assert spec["hostNetwork"] is True and spec["securityContext"]["runAsNonRoot"] is True
    assert context["readOnlyRootFilesystem"] is True and context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    secret = env(one(items(), "DaemonSet"))["TURN_SECRET"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": "signalbox-turn", "key": "SIGNALBOX_SECRET"}
    assert "SIGNALBOX_SECRET" in one(items(), "Secret", "signalbox-turn")["stringData"]
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert volumes["run"]["emptyDir"]["medium"] == "Memory"


def test_coturn_takes_the_configuration(tmp_path):
    # It has no flag that only checks: it is started without a network of its own, and says what it does not know.
    file = tmp_path / "turnserver.conf"
    text = re.sub(r"^(cert|pkey|tls-listening-port)=.*$", "", configuration()["turnserver.conf"], flags=re.MULTILINE)
    file.write_text(f"{text}\nno-tls\nstatic-auth-secret=a\nlistening-ip=127.0.0.77\nrelay-ip=127.0.0.77\nlistening-port=34780\n")
    program = tool("turnserver")
    result = run(tool("timeout"), "2", program, "-c", file, "--pidfile", tmp_path / "pid", "--userdb", tmp_path / "db")
    said = result.stdout + result.stderr
    assert result.returncode == 124 and "Unknown" not in said and "Bad configuration format" not in said, said[-2000:]

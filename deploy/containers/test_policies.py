"""The chart's network policies, on real packets: each pod is a network namespace of its own, with the firewall rules that its policies come
to, and the real programs run there. A controller of Kubernetes does the same with its own tables."""

import contextlib
import functools
import ipaddress
import os
import pathlib
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "checks"))
import support

BRIDGE = f"sb{os.getpid() % 100000}"
NETWORK = "10.213.77"
# Neither a pod nor a node: what comes from outside the cluster.
OUTSIDE = f"{NETWORK}.200"
VALUES = support.CHART / "ci/builtin.yaml"


def sh(*words, check=True):
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert not check or result.returncode == 0, f"{words}: {result.stderr}"
    return result


class Pod:
    """A network namespace with the labels of a pod."""

    def __init__(self, name, number, labels=None, ports=None):
        self.name, self.labels, self.ports = name, labels or {}, ports or {}
        self.address = f"{NETWORK}.{number}"
        self.space = f"{BRIDGE}-{name}"
        self.processes = []

    def create(self):
        cable = f"{BRIDGE[:9]}v{self.address.rsplit('.', 1)[1]}"
        sh("ip", "netns", "add", self.space)
        sh("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        sh("ip", "link", "set", cable, "master", BRIDGE, "up")
        for words in (("addr", "add", f"{self.address}/24", "dev", "eth0"), ("link", "set", "eth0", "up"), ("link", "set", "lo", "up")):
            sh("ip", "-n", self.space, *words)

    def inside(self, *words, check=True):
        return sh("ip", "netns", "exec", self.space, *words, check=check)

    def run(self, *words, **variables):
        command = ["ip", "netns", "exec", self.space, *map(str, words)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], **variables})
        self.processes.append(process)

    def reaches(self, address, port):
        connect = f"import socket; socket.create_connection(('{address}', {port}), 1).close()"
        return self.inside(sys.executable, "-c", connect, check=False).returncode == 0

    def remove(self):
        for process in self.processes:
            process.kill()
            process.wait()
        sh("ip", "netns", "del", self.space, check=False)


@functools.cache
def objects():
    return support.render(*support.with_values(VALUES))


def template(name):
    return support.one(objects(), "Deployment", f"signalbox-{name}")["spec"]["template"]


def pods():
    """The chart's, as many as matter, and two others."""
    found = []
    for name, number, component in (("gateway-1", 11, "gateway"), ("gateway-2", 12, "gateway"), ("redis", 13, "redis")):
        pod = template(component)
        ports = {port["name"]: port["containerPort"] for each in pod["spec"]["containers"] for port in each["ports"]}
        found.append(Pod(name, number, pod["metadata"]["labels"], ports))
    return [*found, Pod("stranger", 21, {"app": "other"}), Pod("outside", int(OUTSIDE.rsplit(".", 1)[1]))]


def matches(selector, labels):
    assert selector.keys() <= {"matchLabels"}, "this test knows no other selectors"
    return selector.get("matchLabels", {}).items() <= labels.items()


def addresses(peers, everybody):
    """Whom the peers of a rule mean; no peers mean everybody."""
    if not peers:
        return ["0.0.0.0/0"]
    found = []
    for peer in peers:
        if "ipBlock" in peer:
            found.append(peer["ipBlock"]["cidr"])
            continue
        # All pods are in one namespace here, so a namespace's selector is true or means all of them.
        inside = [pod for pod in everybody if pod.name != "outside" and matches(peer.get("podSelector", {}), pod.labels)]
        found += [pod.address for pod in inside]
    return [address for address in found if ipaddress.ip_network(address, strict=False).version == 4]


def apply(pod, policies, everybody):
    """The rules that the policies come to for this pod. What no policy selects stays open, as in Kubernetes."""
    for direction, chain, key, peers, flag in (("Ingress", "INPUT", "ingress", "from", "-s"), ("Egress", "OUTPUT", "egress", "to", "-d")):
        chosen = [each["spec"] for each in policies if matches(each["spec"]["podSelector"], pod.labels) and direction in each["spec"]["policyTypes"]]
        if not chosen:
            continue
        accept = functools.partial(pod.inside, "iptables", "-A", chain, "-j", "ACCEPT")
        accept("-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED")
        accept("-i" if chain == "INPUT" else "-o", "lo")
        for rule in (rule for spec in chosen for rule in spec.get(key, [])):
            for address in addresses(rule.get(peers), everybody):
                for port in rule["ports"]:
                    number = pod.ports.get(port["port"], port["port"])
                    accept(flag, address, "-p", port["protocol"].lower(), "--dport", str(number))
        pod.inside("iptables", "-P", chain, "DROP")


@pytest.fixture(scope="module", name="cluster")
def started(tmp_path_factory):
    program = support.gateway_program()
    config = tmp_path_factory.mktemp("config") / "signalbox.toml"
    config.write_text(support.one(objects(), "ConfigMap", "signalbox-gateway")["data"]["signalbox.toml"])
    everybody = pods()
    by_name = {pod.name: pod for pod in everybody}
    policies = support.find(objects(), "NetworkPolicy")
    with contextlib.ExitStack() as stack:
        sh("ip", "link", "add", BRIDGE, "type", "bridge")
        stack.callback(sh, "ip", "link", "del", BRIDGE, check=False)
        sh("ip", "link", "set", BRIDGE, "up")
        for pod in everybody:
            stack.callback(pod.remove)
            pod.create()
        redis = by_name["redis"]
        redis.run("redis-server", "--bind", "0.0.0.0", "--port", redis.ports["redis"], "--save", "", "--protected-mode", "no")
        listens = "import socket,sys; s=socket.create_server(('0.0.0.0', 8080));\nwhile True: s.accept()"
        by_name["stranger"].run(sys.executable, "-c", listens)
        until(lambda: by_name["stranger"].reaches(redis.address, redis.ports["redis"]), "Redis is open before there are policies")
        for pod in everybody:
            apply(pod, policies, everybody)
        for name in ("gateway-1", "gateway-2"):
            pod = by_name[name]
            link = f"{pod.address}:{pod.ports['node-link']}"
            url = f"redis://{redis.address}:{redis.ports['redis']}"
            pod.run(program, SIGNALBOX_CONFIG=str(config), SIGNALBOX_REDIS_URL=url, SIGNALBOX_CLUSTER_ADDR=link, SIGNALBOX_VENDOR_DIR="")
        yield by_name


def until(done, what, seconds=40):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def get(pod, url):
    return pod.inside("curl", "--silent", "--max-time", "5", url, check=False).stdout


def test_what_must_pass_passes(cluster):
    one, two, stranger = cluster["gateway-1"], cluster["gateway-2"], cluster["stranger"]
    metrics = f"http://{one.address}:{one.ports['metrics']}/metrics"
    # Through Redis they know each other.
    until(lambda: "signalbox_cluster_nodes 2" in get(stranger, metrics), "the gateways are one cluster")
    until(lambda: stranger.reaches(two.address, two.ports["public"]), "both listen")
    # A session of one is served at the other, which goes over the node link.
    path = "/socket.io/?EIO=4&transport=polling"
    opened = get(cluster["outside"], f"http://{one.address}:{one.ports['public']}{path}")
    sid = opened.split('"sid":"')[1].split('"')[0]
    at_two = f"http://{two.address}:{two.ports['public']}{path}&sid={sid}"
    posted = stranger.inside("curl", "--silent", "--data-binary", "40", at_two).stdout
    assert posted == "ok"
    assert get(stranger, at_two).startswith('40{"sid"')


def test_nothing_else_passes(cluster):
    one, two, redis, stranger, outside = (cluster[name] for name in ("gateway-1", "gateway-2", "redis", "stranger", "outside"))
    public, metrics, link = (one.ports[name] for name in ("public", "metrics", "node-link"))
    assert stranger.reaches(one.address, public) and outside.reaches(one.address, public)
    # Who is no gateway reaches neither Redis nor the node link, and nobody from outside the metrics.
    for pod in (stranger, outside):
        assert not pod.reaches(redis.address, redis.ports["redis"])
        assert not pod.reaches(one.address, link) and not pod.reaches(one.address, one.ports["management"])
    assert stranger.reaches(one.address, metrics) and not outside.reaches(one.address, metrics)
    assert two.reaches(one.address, link) and two.reaches(redis.address, redis.ports["redis"])
    # A gateway that somebody has taken over reaches nothing else, and Redis nothing at all.
    assert outside.reaches(stranger.address, 8080)
    for pod in (one, redis):
        assert not pod.reaches(stranger.address, 8080)
    assert not redis.reaches(one.address, public)

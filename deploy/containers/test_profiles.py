"""The compose file's other kinds of Redis: gateways are one cluster there, and stay one when a master dies."""

import pytest

import images
import podman
from test_containers import IMAGE, free_port
from topology import Topology, connect, until

MASTER = {"sentinel": "redis", "redis-cluster": "redis-1"}


@pytest.fixture(params=sorted(MASTER), name="started")
def topology(request):
    project = Topology(free_port(), without=("grafana", "prometheus", "collector", "jaeger"), profile=request.param, settings={"GATEWAYS": "2"})
    images.provide_all({service["image"] for service in project.services.values()} - {IMAGE})
    images.build(IMAGE)
    project.down()
    try:
        project.up()
        yield request.param, project
    finally:
        project.down()


def test_gateways_are_one_cluster_also_after_a_master_has_died(started):
    profile, project = started
    result = None

    def connects():
        nonlocal result
        result = connect(project.url, 2)
        return result.returncode == 0 and "a room of two pods" in result.stdout

    until(connects, 60, lambda: result.stdout + result.stderr)
    podman.succeed("kill", project.containers(MASTER[profile])[0])
    # The time-out of 3 s, an election, and some of the tries above.
    until(connects, 90, lambda: result.stdout + result.stderr)

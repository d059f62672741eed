"""Wrong values are refused before anything changes, with a message that names the place (schema) or the remedy (template)."""

import pytest

from support import helm_template

# Values, and what the message must contain: the path of the value, and what is wrong with it.
BY_SCHEMA = [
    ("gateway.replica=3", "at '/gateway': additional properties 'replica' not allowed"),
    ("replicas=3", "additional properties 'replicas' not allowed"),
    ("gateway.replicas=three", "at '/gateway/replicas': got string, want integer"),
    ("gateway.replicas=-1", "at '/gateway/replicas': minimum: got -1, want 0"),
    ("gateway.config.pingInterval=1", "at '/gateway/config': additional properties 'pingInterval' not allowed"),
    ("gateway.config.ping-interval=25s", "at '/gateway/config/ping-interval': got string, want null or integer"),
    ("gateway.config.ping-interval=0", "at '/gateway/config/ping-interval': minimum: got 0, want 1"),
    ("gateway.config.ping-timeout=86400001", "at '/gateway/config/ping-timeout': maximum: got"),
    ("gateway.config.port=80", "at '/gateway/config/port': minimum: got 80, want 1,024"),
    ("gateway.config.port=70000", "at '/gateway/config/port': maximum: got 70,000, want 65,535"),
    ("gateway.config.metrics-port=off", "at '/gateway/config/metrics-port': got string, want integer"),
    ("gateway.config.redis-url=redis://x", "at '/gateway/config': additional properties 'redis-url' not allowed"),
    ("gateway.config.cluster-secret=0123456789abcdef", "at '/gateway/config': additional properties 'cluster-secret' not allowed"),
    ("gateway.config.proxied=maybe", "at '/gateway/config/proxied': got string, want null or boolean"),
    ("gateway.config.trusted-proxies={proxy}", "at '/gateway/config/trusted-proxies/0': 'proxy' does not match pattern"),
    ("gateway.config.cors={a.example}", "at '/gateway/config/cors/0': 'a.example' does not match pattern"),
    ("gateway.config.cors=https://a.example", "at '/gateway/config/cors': got string, want null or array"),
    ("gateway.config.transports={webtransport}", "at '/gateway/config/transports/0': value must be one of 'polling', 'websocket'"),
    ("gateway.config.transports={polling,polling}", "at '/gateway/config/transports': items at 0 and 1 are equal"),
    ("gateway.config.path=peer", "at '/gateway/config/path': 'peer' does not match pattern"),
    ("gateway.config.key={a/b}", "at '/gateway/config/key/0': 'a/b' does not match pattern"),
    ("gateway.config.workers=many", "at '/gateway/config/workers': 'many' does not match pattern '^cores$'"),
    ("gateway.config.workers=300", "at '/gateway/config/workers': maximum: got 300, want 256"),
    ("gateway.config.log-format=xml", "at '/gateway/config/log-format': value must be one of 'text', 'json'"),
    ("gateway.config.redis-prefix=a{b}", "at '/gateway/config/redis-prefix'"),
    ("gateway.config.cluster-addr=10.0.0.1", "at '/gateway/config/cluster-addr': '10.0.0.1' does not match pattern"),
    ("gateway.image.repository=", "at '/gateway/image/repository': minLength: got 0, want 1"),
    ("gateway.image.digest=sha256:short", "at '/gateway/image/digest': 'sha256:short' does not match pattern"),
    ("gateway.image.pullPolicy=Sometimes", "at '/gateway/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
    ("gateway.clusterSecret.value=short", "at '/gateway/clusterSecret/value': 'short' does not match pattern"),
    ("gateway.clusterTls.mode=on", "at '/gateway/clusterTls/mode': value must be one of 'off', 'optional', 'required'"),
    ("gateway.service.type=Loadbalancer", "at '/gateway/service/type': value must be one of"),
    ("gateway.service.port=0", "at '/gateway/service/port': minimum: got 0, want 1"),
    ("gateway.service.sessionAffinity=ClientIP", "at '/gateway/service': additional properties 'sessionAffinity' not allowed"),
    ("gateway.ingress.controller=haproxy", "at '/gateway/ingress/controller': value must be one of"),
    ("gateway.ingress.hosts[0].hostname=a", "at '/gateway/ingress/hosts/0': additional properties 'hostname' not allowed"),
    ("gateway.ingress.hosts[0].paths[0].pathType=Prefix", "missing property 'path'"),
    ("gateway.httpRoute.requestTimeout=5", "at '/gateway/httpRoute/requestTimeout': got number, want null or string"),
    ("gateway.autoscaling.targetConnections=0", "at '/gateway/autoscaling/targetConnections': minimum: got 0, want 1"),
    ("gateway.autoscaling.targetCPU=0", "at '/gateway/autoscaling/targetCPU': minimum: got 0, want 1"),
    ("gateway.podDisruptionBudget.maxUnavailable=some", "at '/gateway/podDisruptionBudget/maxUnavailable': 'some' does not match pattern"),
    ("gateway.management.token.scopes=all", "at '/gateway/management/token/scopes': 'all' does not match pattern"),
    ("gateway.nodeLink.port=22", "at '/gateway/nodeLink/port': minimum"),
    ("redis.mode=single", "at '/redis/mode': value must be one of 'none', 'builtin', 'standalone', 'sentinel', 'cluster'"),
    ("redis.addresses={redis}", "at '/redis/addresses/0': 'redis' does not match pattern"),
    ("redis.addresses={redis://redis:6379}", "at '/redis/addresses/0'"),
    ("redis.tls=required", "at '/redis/tls': got string, want boolean"),
    ("coturn.port=443", "at '/coturn/port': minimum: got 443, want 1,024"),
    ("coturn.externalIPs.node-a=turn.example.org", "at '/coturn/externalIPs/node-a': 'turn.example.org' does not match pattern"),
    ("coturn.hostNetwork=true", "at '/coturn': additional properties 'hostNetwork' not allowed"),
    ("redis.ca=pem", "at '/redis/ca': got string, want object"),
    ("redis.ca.existingSecretKey=", "at '/redis/ca/existingSecretKey': minLength: got 0, want 1"),
    ("redis.url=redis://x", "at '/redis': additional properties 'url' not allowed"),
    ("networkPolicy.healthCheckFrom={10.0.0.1}", "at '/networkPolicy/healthCheckFrom/0': '10.0.0.1' does not match pattern"),
    ("serviceMonitor.interval=15", "at '/serviceMonitor/interval': got number, want string"),
]

BY_TEMPLATE = [
    ("coturn.enabled=true", "coturn needs the secret"),
    ("coturn.enabled=true,coturn.existingSecret=a,coturn.relayPorts.min=50000,coturn.relayPorts.max=40000", "is greater than"),
    ("gateway.replicas=2", "more than one gateway needs Redis"),
    ("gateway.autoscaling.enabled=true", "more than one gateway needs Redis"),
    ("redis.mode=standalone", "one host:port in redis.addresses"),
    ("redis.mode=cluster", "several servers in redis.addresses"),
    ("redis.addresses={redis:6379}", "redis.addresses has no effect with redis.mode=none"),
    ("redis.existingUrlSecret=url", "redis.existingUrlSecret needs redis.mode="),
    ("redis.mode=standalone,redis.existingUrlSecret=url,redis.auth.password=x", "remove redis.addresses and redis.auth"),
    ("redis.mode=builtin,redis.tls=true", "the built-in Redis has no TLS"),
    ("redis.mode=standalone,redis.addresses={a:1},redis.ca.existingSecret=ca", "redis.ca has no effect without TLS"),
    ("redis.mode=cluster,redis.addresses={a:1},redis.database=3", "no other database than 0"),
    ("redis.mode=builtin,redis.auth.password=a,redis.auth.existingSecret=b", "give one of redis.auth.password"),
    ("redis.mode=builtin,redis.auth.username=a", "redis.auth.username needs"),
    ("redis.mode=builtin,gateway.clusterTls.mode=required", "gateway.clusterTls needs existingSecret"),
    ("gateway.clusterTls.mode=required,gateway.clusterTls.existingSecret=link", "gateway.clusterTls has no effect without Redis"),
    ("redis.mode=builtin,gateway.clusterSecret.value=0123456789abcdef,gateway.clusterSecret.existingSecret=b", "give one of gateway.clusterSecret"),
    ("gateway.config.trusted-proxies={10.0.0.0/8}", "no effect without gateway.config.proxied"),
    ("gateway.config.port=9001", "must differ"),
    ("redis.mode=builtin,gateway.terminationGracePeriodSeconds=60", "would kill pods while they drain: 80 or more"),
    ("redis.mode=builtin,gateway.config.drain-timeout=600000,gateway.terminationGracePeriodSeconds=600", "620 or more"),
    ("gateway.minReadySeconds=600,gateway.progressDeadlineSeconds=600", "must be greater than minReadySeconds"),
    ("gateway.strategy.maxSurge=0", "no upgrade could proceed"),
    ("gateway.podDisruptionBudget.minAvailable=1", "give minAvailable with maxUnavailable: null"),
    ("redis.mode=builtin,gateway.autoscaling.enabled=true,gateway.autoscaling.minReplicas=30", "greater than maxReplicas"),
    ("gateway.ingress.enabled=true", "gateway.ingress needs hosts"),
    ("gateway.httpRoute.enabled=true", "gateway.httpRoute needs parentRefs"),
    ("gateway.ingress.enabled=true,gateway.ingress.controller=alb,gateway.ingress.hosts[0].host=a.example", "networkPolicy.healthCheckFrom"),
    ("serviceMonitor.enabled=true,podMonitor.enabled=true", "enable one"),
    ("serviceMonitor.enabled=true,gateway.metrics.enabled=false", "serviceMonitor needs gateway.metrics.enabled"),
    ("turn.enabled=true", "turn needs TURN servers"),
    ("turn.enabled=true,turn.config.uri={turn:a}", "turn needs its secrets"),
    ("turn.enabled=true,turn.config.uri={turn:a},turn.config.upstream=twilio", "give one of turn.config.uri"),
    ("turn.enabled=true,turn.config.uri={turn:a},turn.existingSecret=s,turn.config.proxied=true", "turn.config.proxied needs"),
    ("turn.gatewayKey=sbt_0123456789abcdef", "no effect without turn.enabled"),
]


@pytest.mark.parametrize(("values", "message"), BY_SCHEMA, ids=lambda value: value[:40])
def test_the_schema_refuses(values, message):
    result = helm_template("--set", values)
    assert result.returncode != 0 and message in result.stderr, result.stderr


@pytest.mark.parametrize(("values", "message"), BY_TEMPLATE, ids=lambda value: value[:40])
def test_the_template_refuses(values, message):
    result = helm_template("--set", values)
    assert result.returncode != 0 and message in result.stderr, result.stderr


def test_a_cluster_that_is_too_old_is_refused():
    result = helm_template(version="1.29")
    assert result.returncode != 0 and "1.30" in result.stderr

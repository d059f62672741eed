"""Writes the dashboards: `python3 deploy/grafana/build.py`, which `cargo xtask docs` runs. Each is a list of rows of panels, below; what
all panels have in common (data source, selection, links, sizes) stands here once. `deploy/checks/test_grafana.py` checks the outcome.
"""

import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What every query selects. A label that targets do not have matches `.*`, which is what `All` stands for there.
SELECT = 'job=~"$job", instance=~"$instance", cluster=~"$cluster", namespace=~"$namespace"'
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, RED = "green", "yellow", "red"


def select(text):
    """`{}` behind a metric's name is what is selected; `{a="b"}` has that besides."""
    return text.replace("{}", "{" + SELECT + "}").replace("{+", "{" + SELECT + ", ")


def rate(metric, by="", more=""):
    """The sum of a counter's rate."""
    group = f" by ({by})" if by else ""
    return f"sum{group} (rate({metric}{{{'+' + more if more else ''}}}[$__rate_interval]))"


def quantile(q, histogram, by="", more=""):
    group = f"le, {by}" if by else "le"
    selected = "{+" + more + "}" if more else "{}"
    return f"histogram_quantile({q}, sum by ({group}) (rate({histogram}_bucket{selected}[$__rate_interval])))"


def thresholds(*steps):
    """Green at first, then what is given: (value, colour)."""
    return {"mode": "absolute", "steps": [{"color": GREEN, "value": None}] + [{"color": c, "value": v} for v, c in steps]}


def link(title, **more):
    """A link of a panel or a dashboard, with everything that the schema asks for."""
    return {"title": title, "tags": [], "asDropdown": False, "includeVars": False, "keepTime": False, "targetBlank": False, "icon": "external link",
            "tooltip": "", "url": ""} | more


def panel(title, description, unit, targets, kind="timeseries", limits=(), runbook="metrics", width=8, stack=False):
    """A panel. Targets are (expression, legend)."""
    options = {
        "timeseries": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "stat": {
            "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto", "textMode": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    }[kind]
    custom = {
        "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": 20 if stack else 5, "showPoints": "never",
        "spanNulls": False, "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line+area" if limits else "off"},
    }
    defaults = {"unit": unit, "min": 0, "color": {"mode": "palette-classic" if kind == "timeseries" else "thresholds"},
                "thresholds": thresholds(*limits)}
    if kind == "timeseries":
        defaults["custom"] = custom
    return {
        "type": kind, "title": title, "description": description, "datasource": DATASOURCE, "width": width,
        "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options,
        "links": [link("What to do", type="link", url=f"${{runbooks}}#{runbook}", targetBlank=True)],
        "targets": [
            {"refId": chr(65 + at), "datasource": DATASOURCE, "expr": select(expr), "legendFormat": legend, "range": True,
             "instant": False, "editorMode": "code"}
            for at, (expr, legend) in enumerate(targets)
        ],
    }


def stat(title, description, unit, expr, limits=(), runbook="metrics", width=4):
    return panel(title, description, unit, [(expr, "")], "stat", limits, runbook, width)


def certificate(title, metric, runbook):
    """The days that a certificate has left. Without one, the time of its end is 0, decades ago."""
    shown = stat(title, "Days until it expires. Good: more than 7.", "d", f"min(({metric}{{}} - time()) / 86400)", (), runbook)
    shown["fieldConfig"]["defaults"]["mappings"] = [{"type": "range", "options": {"from": None, "to": -10000, "result": {"text": "no TLS", "index": 0}}}]
    return shown


def keys():
    """The age of the key set. Where none is fetched, the time is 0, decades ago."""
    shown = stat("Key set", "How old that of --jwks is. Good: below ten minutes.", "s", "max(time() - signalbox_key_set_fetched_timestamp_seconds{})", ((3600, RED),), "signalboxkeysetstale")
    shown["fieldConfig"]["defaults"]["mappings"] = [{"type": "range", "options": {"from": 1e9, "to": None, "result": {"text": "none", "color": GREEN, "index": 0}}}]
    return shown


def variable(name, label, query, multi=True, every=".*"):
    return {
        "name": name, "label": label, "type": "query", "datasource": DATASOURCE, "query": {"query": query, "refId": name},
        "refresh": 2, "sort": 1, "multi": multi, "includeAll": True, "allValue": every, "hide": 0,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]}, "options": [], "regex": "", "skipUrlSync": False,
    }


def variables(info):
    """`info` is the metric that every process of this kind has."""
    place = 'cluster=~"$cluster", namespace=~"$namespace"'
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0, "refresh": 1, "regex": "",
         "multi": False, "includeAll": False, "options": [], "skipUrlSync": False},
        variable("cluster", "Cluster", f"label_values({info}, cluster)"),
        variable("namespace", "Namespace", f"label_values({info}, namespace)"),
        variable("job", "Job", f"label_values({info}{{{place}}}, job)", every=".+"),
        variable("instance", "Instance", f'label_values({info}{{job=~"$job", {place}}}, instance)', every=".+"),
        # Where docs/operations.md is to be read: the panels' links lead there.
        {"name": "runbooks", "label": "Runbooks", "type": "textbox", "query": "/docs/operations.md", "hide": 0, "skipUrlSync": False,
         "current": {"text": "/docs/operations.md", "value": "/docs/operations.md"}, "options": []},
    ]


def annotation(name, color, expr, title, text):
    return {"name": name, "datasource": DATASOURCE, "enable": True, "hide": False, "iconColor": color, "expr": select(expr),
            "titleFormat": title, "textFormat": text, "step": "60s", "useValueForTime": False}


def starts(info):
    return [
        {"builtIn": 1, "name": "Annotations & Alerts", "type": "dashboard", "enable": True, "hide": True, "iconColor": "blue",
         "datasource": {"type": "grafana", "uid": "-- Grafana --"}},
        annotation("Starts and deploys", "blue", f"changes(process_start_time_seconds{{}}[$__rate_interval]) > 0 or {info}{{}} unless {info}{{}} offset 1m",
                   "{{instance}} started", "version {{version}}"),
    ]


# What runs, by the metric that each of its processes has.
NODES, TURN = "signalbox_build_info", "signalbox_turn_build_info"
ANNOTATIONS = {
    TURN: starts(TURN),
    NODES: starts(NODES) + [
        annotation("Drains", "yellow", "signalbox_draining{} == 1", "{{instance}} drains", ""),
        annotation("Failovers and outages", "red", 'increase(signalbox_cluster_events_total{+event=~"degraded_.*"}[$__rate_interval]) > 0',
                   "{{instance}} lost Redis", "{{event}}"),
    ],
}


def dashboard(uid, title, description, rows, info=NODES):
    panels, y, number = [], 0, 0
    for heading, members in rows:
        number += 1
        panels.append({"type": "row", "id": number, "title": heading, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y, x, height = y + 1, 0, 0
        for member in members:
            member = dict(member)
            number += 1
            width, tall = member.pop("width"), 4 if member["type"] == "stat" else 8
            if x + width > 24:
                x, y, height = 0, y + height, 0
            panels.append({"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": tall}} | member)
            x, height = x + width, max(height, tall)
        y += height
    return {
        "uid": uid, "title": title, "description": description, "tags": ["signalbox"], "editable": False, "graphTooltip": 1,
        "schemaVersion": 39, "version": 1, "timezone": "browser", "refresh": "30s", "weekStart": "", "fiscalYearStartMonth": 0,
        "liveNow": False, "time": {"from": "now-1h", "to": "now"}, "timepicker": {}, "preload": False,
        "links": [link("Signalbox", type="dashboards", tags=["signalbox"], asDropdown=True, includeVars=True, keepTime=True)],
        "templating": {"list": variables(info)}, "annotations": {"list": ANNOTATIONS[info]}, "panels": panels,
    }


CLIENTS_NOW = panel(
    "Clients", "Connected clients. Good: it follows the day, and no step down is without a deploy or a drain.", "short",
    [("sum by (protocol, transport) (signalbox_connections{})", "{{protocol}} {{transport}}")], stack=True, runbook="signalboxnodedown")
SOCKETS = panel(
    "Sockets by namespace", "Socket.IO clients in each namespace that --metric-namespaces names; the rest is other. Good: in step with the clients.", "short",
    [("sum by (socketio_namespace) (signalbox_sockets{})", "{{socketio_namespace}}")], stack=True)
ROOMS = panel(
    "Rooms and members", "Rooms with members on a node, and members of rooms. Good: in step with the clients.", "short",
    [("sum by (instance) (signalbox_rooms{})", "{{instance}} rooms"), ("sum by (instance) (signalbox_room_members{})", "{{instance}} members")])
JOINS = panel(
    "Joins and leaves", "Of rooms. Good: in step with each other; far more of both than there are clients says that pages join again and again.", "ops",
    [(rate("signalbox_room_joins_total"), "joins"), (rate("signalbox_room_leaves_total"), "leaves"),
     (rate("signalbox_presence_changes_total"), "changes of large rooms, told as counts")])
BUS_LAG = panel(
    "Delivery between nodes", "From publishing to arrival, through Redis. Good: 99 of 100 below 50 ms; above 250 ms a broadcast counts as late.", "s",
    [(quantile(q, "signalbox_bus_lag_seconds"), f"p{int(q * 100)}") for q in (0.5, 0.99)],
    limits=((0.25, RED),), runbook="signalboxbuslatefast")
MESSAGES = panel(
    "Messages", "In: from clients. Out: to clients, a broadcast once for each receiver. Good: in step with each other.", "msg/s",
    [(rate("signalbox_received_messages_total"), "in"), (rate("signalbox_sent_messages_total"), "out")])
BYTES = panel("Bytes", "Of messages, without headers of HTTP and TCP.", "Bps",
              [(rate("signalbox_received_bytes_total"), "in"), (rate("signalbox_sent_bytes_total"), "out")])
HANDSHAKES = panel(
    "Handshakes", "Good: nearly all are accepted. unknown_sid and limit_reached are on our side; the other refusals are the clients'.", "reqps",
    [(rate("signalbox_handshakes_total", "protocol, outcome"), "{{protocol}} {{outcome}}")], runbook="signalboxconnecterrorsfast", stack=True)
DISCONNECTS = panel(
    "Disconnects", "Why clients go. Good: `transport close` (they left). Many `ping timeout` and `transport error` at once: a network, or a proxy that times out.",
    "ops", [(rate("signalbox_disconnects_total", "protocol, reason"), "{{protocol}} {{reason}}")], stack=True)
DEGRADED = panel(
    "Without Redis", "1 for each node that serves without Redis. Good: 0, always.", "short",
    [("signalbox_degraded{}", "{{instance}}")], limits=((1, RED),), runbook="signalboxdegraded")
LEASE = panel(
    "Age of the lease", "Since the last confirmed renewal was sent; it is renewed once a second. Good: below 1.5 s. At 5.5 s the node is degraded.", "s",
    [("signalbox_lease_age_seconds{}", "{{instance}}")], limits=((3, YELLOW), (5.5, RED)), runbook="signalboxleaseatrisk")
REDIS_LATENCY = panel(
    "Redis, one of a hundred", "The slowest hundredth of the commands, by kind. Good: below 10 ms.", "s",
    [(quantile(0.99, "signalbox_redis_command_seconds", "kind"), "{{kind}}")], limits=((0.1, RED),), runbook="signalboxredisslow")
REDIS_COMMANDS = panel("Redis commands", "By kind. Good: in step with what clients do; heartbeats are one a second for each node.", "ops",
                       [(rate("signalbox_redis_command_seconds_count", "kind"), "{{kind}}")], stack=True)
REDIS_TROUBLE = panel(
    "Trouble with Redis", "Errors, and connections that were opened again. Good: 0.", "ops",
    [(rate("signalbox_redis_errors_total", "kind"), "{{kind}}"),
     (rate("signalbox_redis_connections_opened_total", "purpose"), "opened: {{purpose}}")], runbook="signalboxrediserrors")
CLUSTER_EVENTS = panel(
    "Events of the cluster", "What happened to nodes in their cluster. Good: nothing but `online` at their start.", "short",
    [("sum by (event) (increase(signalbox_cluster_events_total{}[$__rate_interval]))", "{{event}}")], runbook="signalboxgaps")
BUSY = panel(
    "Workers", "How much of its time each worker is busy. Good: below 70 %, and all alike.", "percentunit",
    [("rate(signalbox_shard_busy_seconds_total{}[$__rate_interval])", "{{instance}} {{shard}}")], limits=((0.7, YELLOW), (0.9, RED)),
    runbook="signalboxworkersaturated")
LOOP_LAG = panel(
    "Lateness of workers", "How late timers fire, the worst hundredth. Good: below 10 ms.", "s",
    [(quantile(0.99, "signalbox_event_loop_lag_seconds", "instance"), "{{instance}}")], limits=((0.25, RED),), runbook="signalboxeventlooplag")
MAILBOXES = panel("Mailboxes", "Messages that wait for a worker. Good: 0 most of the time; at 4,096 those who fill it are not read on.", "short",
                  [("signalbox_shard_mailbox_messages{}", "{{instance}} {{shard}}")], limits=((4096, YELLOW),), runbook="signalboxoverloaded")
OVERLOAD = panel(
    "Overload", "Reads that were paused are harmless; messages dropped, requests and polls refused are not. Good: 0.", "ops",
    [(rate("signalbox_reads_paused_total"), "reads paused"), (rate("signalbox_mailbox_dropped_total"), "messages dropped"),
     (rate("signalbox_mailbox_refused_total"), "requests refused"), (rate("signalbox_polls_refused_total"), "polls refused")],
    runbook="signalboxoverloaded")
MEMORY = panel(
    "Memory held for clients", "Good: far below the budget. At the budget, the most expensive clients are closed.", "bytes",
    [("signalbox_held_bytes{}", "{{instance}} held"), ("signalbox_outbox_bytes{}", "{{instance}} waits for clients"),
     ("signalbox_memory_budget_bytes{}", "{{instance}} budget")], runbook="signalboxmemorynearbudget")
EVICTIONS = panel("Clients cut off", "Because they did not read, or cost too much. Good: rare.", "ops",
                  [(rate("signalbox_evictions_total", "instance, reason"), "{{instance}} {{reason}}")], runbook="signalboxevictions")
FUNNEL = panel(
    "Calls: offer to answer", "Calls of PeerServer clients, by how far they came. Good: nearly all that are offered are answered; expired: nobody was there.", "ops",
    [(rate("signalbox_calls_total", "step"), "{{step}}")])
DRAINING = panel("Drains", "1 for each node that drains. Good: for a minute at most.", "short", [("signalbox_draining{}", "{{instance}}")],
                 limits=((1, YELLOW),), runbook="signalboxdrainstuck")

DASHBOARDS = [
    dashboard("signalbox-cluster", "Signalbox / Cluster", "Is it well? Traffic, errors, latency, nodes, Redis, saturation.", [
        ("At a glance", [
            stat("Nodes", "Nodes that are scraped. Good: as many as you run.", "short", "count(signalbox_build_info{})", runbook="signalboxnodedown"),
            stat("Clients now", "Connected to all nodes now.", "short", "sum(signalbox_connections{})"),
            stat("Failed handshakes", "The part that failed for a reason on our side. Good: below 0.1 %.", "percentunit",
                 'sum(rate(signalbox_handshakes_total{+outcome=~"unknown_sid|limit_reached"}[$__rate_interval])) / (sum(rate(signalbox_handshakes_total{+outcome=~"accepted|unknown_sid|limit_reached"}[$__rate_interval])) > 0)',
                 ((0.001, YELLOW), (0.0144, RED)), "signalboxconnecterrorsfast"),
            stat("Late between nodes", "The part of the broadcasts that took more than 250 ms. Good: below 1 %.", "percentunit",
                 '1 - sum(rate(signalbox_bus_lag_seconds_bucket{+le="0.25"}[$__rate_interval])) / (sum(rate(signalbox_bus_lag_seconds_count{}[$__rate_interval])) > 0)',
                 ((0.01, YELLOW), (0.144, RED)), "signalboxbuslatefast"),
            stat("Nodes without Redis", "Nodes that serve without Redis. Good: 0.", "short", "sum(signalbox_degraded{})", ((1, RED),), "signalboxdegraded"),
            stat("Busiest worker", "How much of its time the busiest worker is busy. Good: below 70 %.", "percentunit",
                 "max(rate(signalbox_shard_busy_seconds_total{}[$__rate_interval]))", ((0.7, YELLOW), (0.9, RED)), "signalboxworkersaturated"),
        ]),
        ("Traffic", [CLIENTS_NOW, MESSAGES, BYTES, HANDSHAKES, DISCONNECTS, BUS_LAG, SOCKETS, ROOMS, JOINS]),
        ("Nodes", [
            panel("Nodes that each node knows", "Good: one number, the same on all nodes.", "short", [("signalbox_cluster_nodes{}", "{{instance}}")],
                  runbook="signalboxnodesdisagree"),
            DEGRADED, CLUSTER_EVENTS,
            panel("Records of dead nodes removed", "Good: 0. A node that died leaves its ids, members and users behind; the others remove them.", "ops",
                  [(rate("signalbox_reaped_records_total", "instance"), "{{instance}}")], runbook="signalboxghosts"),
            panel("Requests for sessions of other nodes", "Long-polling behind a load balancer without sticky sessions. Good: in step with the polling clients.", "reqps",
                  [(rate("signalbox_relayed_requests_total", "instance"), "{{instance}}")]),
            panel("Messages of nodes that cannot be read", "Good: 0. Otherwise versions run side by side that do not fit together.", "ops",
                  [(rate("signalbox_bus_refused_total", "instance"), "{{instance}}")], runbook="signalboxunreadablemessages"),
        ]),
        ("Redis", [LEASE, REDIS_LATENCY, REDIS_COMMANDS, REDIS_TROUBLE,
                   panel("Time without Redis", "Seconds in each second, of all nodes. Good: 0.", "percentunit",
                         [(rate("signalbox_degraded_seconds_total", "instance"), "{{instance}}")], limits=((0.01, RED),), runbook="signalboxdegraded")]),
        ("Saturation", [BUSY, LOOP_LAG, OVERLOAD, MEMORY, EVICTIONS, MAILBOXES]),
        ("Operators", [
            panel("Requests to the admin API", "By the scope that they need, and their outcome. Good: none refused without a scope: somebody tries tokens.", "reqps",
                  [(rate("signalbox_admin_requests_total", "scope, outcome"), "{{scope}} {{outcome}}")], stack=True),
            panel("Admin API: time", "Good: below 50 ms; up to 2 s while a node does not answer.", "s",
                  [(quantile(q, "signalbox_admin_request_seconds"), f"p{int(q * 100)}") for q in (0.5, 0.99)], limits=((2, YELLOW),))]),
    ]),
    dashboard("signalbox-signaling", "Signalbox / Signaling", "From the handshake to the delivered message: where do clients get stuck?", [
        ("Connecting", [HANDSHAKES,
            panel("Upgrades", "From polling to WebSocket. Good: nearly all completed.", "ops", [(rate("signalbox_upgrades_total", "outcome"), "{{outcome}}")],
                  runbook="signalboxupgradesfail"),
            panel("Sessions that moved", "To the worker or node of their WebSocket. Good: in step with the completed upgrades.", "ops",
                  [(rate("signalbox_session_transfers_total", "instance"), "{{instance}}")], runbook="signalboxupgradesfail"),
            panel("Sessions that did not move", "By reason, as docs/metrics.md explains them. Good: only client_gone.", "ops",
                  [(rate("signalbox_session_transfers_failed_total", "reason"), "{{reason}}")], runbook="signalboxupgradesfail"),
            panel("Connections counted alone", "Of subjects that may have only so many: counted on this node and not in the whole cluster, because Redis did not answer. Good: 0.", "ops",
                  [(rate("signalbox_connections_counted_alone_total", "instance"), "{{instance}}")], runbook="signalboxdegraded"),
            panel("Unreadable requests", "HTTP that could not be read. Good: a trickle (scanners).", "reqps", [(rate("signalbox_http_errors_total", "instance"), "{{instance}}")])]),
        ("Calls", [FUNNEL,
            panel("Answered calls", "The part of the offered calls that was answered. Good: what your users usually reach; a fall says that calls fail.", "percentunit",
                  [('sum(rate(signalbox_calls_total{+step="answered"}[$__rate_interval])) / (sum(rate(signalbox_calls_total{+step="offered"}[$__rate_interval])) > 0)', "answered")]),
            panel("Time to the answer", "From OFFER to ANSWER. Good: below 2 s where pages answer by themselves; where people do, as long as they take.", "s",
                  [(quantile(q, "signalbox_call_seconds"), f"p{int(q * 100)}") for q in (0.5, 0.99)]),
            panel("PeerServer messages", "From clients, by type. Good: an ANSWER for nearly each OFFER.", "msg/s", [(rate("signalbox_peer_messages_total", "type"), "{{type}}")]),
            panel("What became of them", "Good: delivered. queued and delivered_late: the addressee came a moment later; expired: it did not.", "msg/s",
                  [(rate("signalbox_peer_deliveries_total", "outcome"), "{{outcome}}")]),
            panel("Ids taken over", "By a connection with the same token: a page that was loaded again. Good: rare.", "ops",
                  [(rate("signalbox_peer_takeovers_total", "instance"), "{{instance}}")], runbook="signalboxclaimconflicts"),
            panel("PeerServer messages dropped", "Good: 0. docs/metrics.md says what each reason means.", "ops", [(rate("signalbox_peer_dropped_total", "reason"), "{{reason}}")])]),
        ("Delivery", [BUS_LAG,
            panel("Receivers of a broadcast", "On one worker. The larger, the more one message costs.", "short",
                  [(quantile(q, "signalbox_fanout_receivers"), f"p{int(q * 100)}") for q in (0.5, 0.9, 0.99)]),
            panel("Fan-out: time", "From taking a broadcast to having written it to all receivers on a worker. Good: 99 of 100 below 10 ms.", "s",
                  [(quantile(q, "signalbox_fanout_seconds"), f"p{int(q * 100)}") for q in (0.5, 0.99)], limits=((0.25, RED),), runbook="signalboxeventlooplag"),
            panel("Publish to delivery, across nodes", "From publishing on one node to delivery by a worker of another: Redis, and the wait for the worker. Good: 99 of 100 below 50 ms.", "s",
                  [(quantile(q, "signalbox_delivery_lag_seconds"), f"p{int(q * 100)}") for q in (0.5, 0.99)], limits=((0.25, RED),), runbook="signalboxbuslatefast"),
            panel("Acks: time", "The slowest hundredth, by what is answered. Good: a join and a signal below 50 ms.", "s",
                  [(quantile(0.99, "signalbox_ack_seconds", "of"), "{{of}}")], limits=((1, YELLOW),)),
            panel("Acks that did not come", "Of clients, to events of the application. Good: rare.", "ops", [(rate("signalbox_acks_lost_total", "reason"), "{{reason}}")]),
            panel("Refused events", "By code, as docs/vocabulary.md explains them. Good: none of busy, degraded, internal-error.", "ops",
                  [(rate("signalbox_refusals_total", "code"), "{{code}}")], runbook="signalboxrefusals"),
            panel("Changes of large rooms", "Members of rooms beyond --presence-limit are told how many they are, and not of each change. Good: where you have such rooms.", "ops",
                  [(rate("signalbox_presence_changes_total", "instance"), "{{instance}}")], runbook="limits"),
            panel("Volatile messages dropped", "Because their receiver was not ready. Harmless, and a sign of slow clients.", "ops", [(rate("signalbox_volatile_dropped_total", "instance"), "{{instance}}")]),
            panel("Panics of the application", "Only the client that caused one is disconnected. Good: 0.", "ops", [(rate("signalbox_panics_total", "part"), "{{part}}")], runbook="signalboxpanics"),
            panel("Node link: answers", "How long another node takes to answer. Good: 99 of 100 below 50 ms.", "s",
                  [(quantile(q, "signalbox_link_request_seconds"), f"p{int(q * 100)}") for q in (0.5, 0.99)], limits=((0.5, RED),), runbook="signalboxlinkfails"),
            panel("Node link: outcomes", "Good: answered, and nothing else.", "reqps", [(rate("signalbox_link_requests_total", "outcome"), "{{outcome}}")], runbook="signalboxlinkfails")]),
    ]),
    dashboard("signalbox-clients", "Signalbox / Clients", "Who is connected, how well, and why clients go.", [
        ("Connected", [CLIENTS_NOW,
            panel("On WebSocket", "The part of the Socket.IO clients that are not polling. Good: above 95 %.", "percentunit",
                  [('sum(signalbox_connections{+protocol="socketio", transport="websocket"}) / (sum(signalbox_connections{+protocol="socketio"}) > 0)', "on WebSocket")], runbook="signalboxupgradesfail"),
            panel("Round trip", "From a ping to the client's pong. Good: what the internet between them costs, 50 to 200 ms.", "s",
                  [(quantile(q, "signalbox_ping_seconds"), f"p{int(q * 100)}") for q in (0.5, 0.9, 0.99)], limits=((5, YELLOW),))]),
        ("Going", [DISCONNECTS,
            panel("Lost without a word", "The part of the disconnects that nobody asked for. Good: below 5 %.", "percentunit",
                  [('sum(rate(signalbox_disconnects_total{+reason=~"ping timeout|alive timeout|transport error"}[$__rate_interval])) / (sum(rate(signalbox_disconnects_total{}[$__rate_interval])) > 0)', "lost")], limits=((0.2, YELLOW),)),
            EVICTIONS]),
        ("Limits", [panel("Waits for clients", "Bytes that clients have yet to read. Good: near 0; it grows with slow readers.", "bytes", [("signalbox_outbox_bytes{}", "{{instance}}")], runbook="signalboxevictions"), OVERLOAD,
            panel("Above a rate", "Packets and joins above what a client may send in a second, by limit. Good: rare, and only of misbehaving clients.", "ops",
                  [(rate("signalbox_rate_limited_total", "limit"), "{{limit}}")], runbook="signalboxrefusals"),
            panel("Connections closed at a limit", "Because their clients did not do something in time, or did too much. Good: a trickle.", "ops",
                  [(rate("signalbox_connections_dropped_total", "reason"), "{{reason}}")]),
            panel("Who clients are", "Verdicts on tokens: accepted, anonymous, or why they were refused. Good: few refusals but token-expired.", "ops",
                  [(rate("signalbox_authentications_total", "outcome"), "{{outcome}}")], stack=True, runbook="signalboxrefusals"),
            panel("Tokens that ended", "Clients disconnected because theirs expired or was revoked, and clients let in unchecked while nothing was known of revocations. Good: in step with how long tokens last, and none unchecked.", "ops",
                  [(rate("signalbox_tokens_ended_total", "reason"), "{{reason}}"), (rate("signalbox_tokens_unchecked_total"), "unchecked")]),
            panel("Revocations", "That each node knows and keeps. Good: the same number on all nodes.", "short", [("signalbox_revocations{}", "{{instance}}")]),
            panel("Refused handshakes", "By reason. Good: only what misbehaving clients cause.", "reqps",
                  [('sum by (protocol, outcome) (rate(signalbox_handshakes_total{+outcome!="accepted"}[$__rate_interval]))', "{{protocol}} {{outcome}}")], runbook="signalboxfull")]),
    ]),
    dashboard("signalbox-node", "Signalbox / One node", "Everything of one node; choose it as the instance.", [
        ("State", [
            stat("Up since", "When the process started.", "dateTimeFromNow", "max(process_start_time_seconds{}) * 1000"),
            stat("File descriptors", "Sockets included. Good: below 80 % of the limit.", "percentunit", "max(process_open_fds{} / process_max_fds{})", ((0.8, YELLOW), (0.95, RED))),
            certificate("Certificate", "signalbox_certificate_expiry_timestamp_seconds", "signalboxcertificateexpires"),
            keys(),
            stat("Configurations", "Different ones among the selected nodes. Good: 1.", "short", "count(count by (hash) (signalbox_config_info{}))", ((2, YELLOW),), "signalboxconfigdiffers"),
            stat("Versions", "Different ones among the selected nodes. Good: 1.", "short", "count(count by (version) (signalbox_build_info{}))", ((2, YELLOW),), "signalboxversionsmixed"),
            stat("Clients now", "Connected to the selected nodes.", "short", "sum(signalbox_connections{})"),
        ]),
        ("Process", [
            panel("CPU", "Cores in use. Good: below the number of workers.", "short", [("rate(process_cpu_seconds_total{}[$__rate_interval])", "{{instance}}")], runbook="signalboxworkersaturated"),
            panel("Memory", "Of the process. Good: flat for the same number of clients.", "bytes", [("process_resident_memory_bytes{}", "{{instance}}"), ("signalbox_memory_limit_bytes{} > 0", "{{instance}} limit")],
                  runbook="signalboxmemorynearbudget"),
            panel("Full", "1 for each node that takes no new clients, because of memory or connections. Good: 0.", "short",
                  [("signalbox_full{}", "{{instance}}")], limits=((1, YELLOW),), runbook="admission"),
            panel("Clients that are followed", "By the log: --log-client, or the admin API for a time. Good: 0 but while somebody looks for something.", "short",
                  [("signalbox_followed_clients{}", "{{instance}}")]),
            panel("Log lines left out", "Because one place in the code logged more than 100 a second. Good: 0; otherwise clients cause it.", "ops",
                  [(rate("signalbox_log_lines_left_out_total", "instance"), "{{instance}}")]),
            panel("Open files", "Sockets included. Good: in step with the clients.", "short", [("process_open_fds{}", "{{instance}}")])]),
        ("Workers", [BUSY, LOOP_LAG, MAILBOXES, MEMORY, OVERLOAD, MESSAGES]),
        ("Who listens", [
            panel("Listeners", "Who is told what happens in the cluster, at each node. Good: as many as you have.", "short", [("signalbox_event_listeners{}", "{{instance}}")]),
            panel("Events dropped", "That those who listen were not told. Good: 0; slow_listener is one of them, not the node.", "ops",
                  [(rate("signalbox_events_dropped_total", "instance, reason"), "{{instance}} {{reason}}")])]),
        ("Rules and hooks", [
            panel("Version of the rules", "That were put by the admin API; 0: none were. Good: the same on all nodes.", "short", [("signalbox_rules_version{}", "{{instance}}")],
                  runbook="signalboxrulesdiffer"),
            panel("Requests to hooks", "To servers of the application's own, by outcome. Good: answered, and nothing else.", "reqps",
                  [(rate("signalbox_hook_requests_total", "outcome"), "{{outcome}}")], stack=True, runbook="signalboxhooksfailing"),
            panel("Time of a hook", "The wait for its turn included: clients wait as long for their acks. Good: below 100 ms.", "s",
                  [(quantile(0.5, "signalbox_hook_request_seconds"), "median"), (quantile(0.99, "signalbox_hook_request_seconds"), "p99")], limits=((0.1, YELLOW), (1, RED)),
                  runbook="signalboxhooksfailing")]),
        ("Webhooks", [
            panel("Requests", "To the application's server, by outcome. Good: delivered, and nothing else.", "reqps",
                  [(rate("signalbox_webhook_requests_total", "outcome"), "{{outcome}}")], stack=True, runbook="signalboxwebhookslate"),
            panel("Time of a request", "Good: far below --webhook-timeout.", "s",
                  [(quantile(0.5, "signalbox_webhook_request_seconds"), "median"), (quantile(0.99, "signalbox_webhook_request_seconds"), "p99")], runbook="signalboxwebhookslate"),
            panel("Events", "Taken by the server, and dropped because too many waited. Good: nothing is dropped.", "ops",
                  [(rate("signalbox_webhook_events_delivered_total"), "delivered"), (rate("signalbox_webhook_events_dropped_total"), "dropped")], runbook="signalboxwebhooksdropped"),
            panel("Events that wait", "As each node sees it: where they share Redis, of all nodes. Good: near 0.", "short", [("signalbox_webhook_events_waiting{}", "{{instance}}")], runbook="signalboxwebhookslate"),
            panel("Oldest event that waits", "Good: below a few seconds.", "s", [("signalbox_webhook_oldest_seconds{}", "{{instance}}")], limits=((300, RED),), runbook="signalboxwebhookslate"),
            panel("Left alone", "1 while the server has failed five times in a row. Good: 0.", "short", [("signalbox_webhook_breaker_open{}", "{{instance}}")], runbook="signalboxwebhookslate")]),
        ("In the cluster", [LEASE, DEGRADED, CLUSTER_EVENTS, REDIS_LATENCY, REDIS_TROUBLE, BUS_LAG]),
    ]),
    dashboard("signalbox-drains", "Signalbox / Drains and deploys", "Do updates cost clients anything?", [
        ("Drains", [DRAINING,
            panel("Clients yet to go", "Of each node that drains. Good: an even way down to 0.", "short", [("signalbox_drain_clients{}", "{{instance}}")],
                  runbook="signalboxdrainstuck"),
            panel("Clients by node", "Good: those of a node that drains go evenly, and arrive at the others.", "short", [("sum by (instance) (signalbox_connections{})", "{{instance}}")], stack=True, runbook="signalboxdrainstuck"),
            panel("Closed because of a drain", "By a drain or a rebalance. Good: even, without a peak at the end.", "ops",
                  [('sum by (instance) (rate(signalbox_disconnects_total{+reason="server shutting down"}[$__rate_interval]))', "{{instance}}")], runbook="signalboxdrainstuck")]),
        ("Rebalancing", [
            panel("Yet to be sent away", "Clients above the mean, while a rebalance runs. Good: down to 0; level means that they come back to where they were.", "short",
                  [("sum(signalbox_rebalance_left{})", "clients")]),
            panel("Sent away", "Socket.IO clients that nodes have sent away for a rebalance, each second. Good: the rate that was asked for, all nodes together.", "ops",
                  [(rate("signalbox_rebalanced_total", "instance"), "{{instance}}")], stack=True)]),
        ("Coming back", [HANDSHAKES, panel("Sessions not found", "Clients that came to a node that does not know their session. Good: 0.", "reqps",
                  [('sum by (instance) (rate(signalbox_handshakes_total{+outcome="unknown_sid"}[$__rate_interval]))', "{{instance}}")], runbook="signalboxconnecterrorsfast"), CLUSTER_EVENTS]),
        ("What runs", [
            panel("Versions", "Nodes of each version. Good: one version, but for the minutes of an update.", "short", [("count by (version) (signalbox_build_info{})", "{{version}}")], stack=True, runbook="signalboxversionsmixed"),
            panel("Configurations", "Nodes of each configuration. Good: one, but for the minutes of an update.", "short", [("count by (hash) (signalbox_config_info{})", "{{hash}}")], stack=True, runbook="signalboxconfigdiffers"),
            panel("Nodes known", "Good: it follows the number of nodes.", "short", [("signalbox_cluster_nodes{}", "{{instance}}")], runbook="signalboxnodesdisagree")]),
    ]),
    dashboard("signalbox-turn", "Signalbox / TURN", "Do clients get credentials, do the relays relay, and who uses them?", [
        ("At a glance", [
            stat("Instances", "Instances of the credentials service that are scraped. Good: as many as you run.", "short", "count(signalbox_turn_build_info{})", runbook="signalboxturndown"),
            stat("Relays that work", "Ways to reach a TURN server over which the last probe relayed. Good: all of them.", "percentunit",
                 "avg(max by (server, transport) (signalbox_turn_server_up{}))", (), "signalboxturnserverdown"),
            stat("Allocations now", "Open at the TURN servers.", "short", "max(signalbox_turn_allocations{})"),
            stat("Relayed now", "Bytes a second between clients and TURN servers, both ways.", "Bps", rate("signalbox_turn_relayed_bytes_total")),
            stat("Refused", "The part of the requests that got no credential. Good: what strangers cause.", "percentunit",
                 "sum(rate(signalbox_turn_refused_total{}[$__rate_interval])) / (sum(rate(signalbox_turn_refused_total{}[$__rate_interval])) + sum(rate(signalbox_turn_issued_total{}[$__rate_interval])) > 0)",
                 (), "signalboxturnnoserver"),
            certificate("TLS certificate", "signalbox_turn_certificate_expiry_timestamp_seconds", "signalboxturncertificateexpires"),
        ]),
        ("Credentials", [
            panel("Issued", "By who asked. Good: it follows the clients of your nodes.", "reqps", [(rate("signalbox_turn_issued_total", "caller"), "{{caller}}")], stack=True, runbook="signalboxturnnoserver"),
            panel("Refusals", "By code, as docs/turn.md explains them. Good: none of no-server, no-secret, store-unavailable.", "reqps",
                  [(rate("signalbox_turn_refused_total", "reason"), "{{reason}}")], stack=True, runbook="signalboxturnnoserver"),
            panel("Requests to the provider", "Where Cloudflare or Twilio relay. Good: answered, and nothing else.", "reqps",
                  [(rate("signalbox_turn_upstream_requests_total", "outcome"), "{{outcome}}")], runbook="signalboxturnproviderfails")]),
        ("Relays", [
            panel("Servers", "1 where the last probe relayed, for each way to reach a server. Good: 1.", "short",
                  [("max by (server, transport) (signalbox_turn_server_up{})", "{{server}} {{transport}}")], runbook="signalboxturnserverdown"),
            panel("Probes", "By outcome. Good: relayed, and nothing else.", "ops", [(rate("signalbox_turn_probes_total", "outcome"), "{{outcome}}")], stack=True, runbook="signalboxturnserverdown"),
            panel("Round trip through the relay", "Of the last probe that relayed. Good: what the network between them costs.", "s",
                  [("max by (server, transport) (signalbox_turn_probe_seconds{})", "{{server}} {{transport}}")], runbook="signalboxturnserverdown")]),
        ("Use", [
            panel("Allocations", "Open at the TURN servers, as coturn says.", "short", [("max(signalbox_turn_allocations{})", "open")]),
            panel("Relayed", "Bytes between clients and TURN servers: what the relays cost.", "Bps", [(rate("signalbox_turn_relayed_bytes_total", "direction"), "{{direction}}")]),
            panel("Users with the most bytes", "Today (UTC). The names are keyed hashes of subjects; a quota (--quota-bytes) stops one.", "bytes",
                  [("max by (user) (signalbox_turn_top_user_bytes{})", "{{user}}")])]),
        ("Programs", [
            panel("CPU", "Cores in use, of each instance.", "short", [("rate(process_cpu_seconds_total{}[$__rate_interval])", "{{instance}}")]),
            panel("Memory", "Of the process. Good: flat.", "bytes", [("process_resident_memory_bytes{}", "{{instance}}")]),
            panel("Versions", "Instances of each version. Good: one version, but for the minutes of an update.", "short", [("count by (version) (signalbox_turn_build_info{})", "{{version}}")], stack=True)]),
    ], TURN),
]


def files():
    """Each file's name and text."""
    return {f"{item['uid'].removeprefix('signalbox-')}.json": json.dumps(item, indent=1, ensure_ascii=False) + "\n" for item in DASHBOARDS}


def outputs():
    """All files that are written, by their paths. The chart can only read what lies in it: it has copies, of the rules too."""
    written = {}
    for name, text in files().items():
        written[ROOT / "deploy/grafana/dashboards" / name] = text
        written[ROOT / "helm/signalbox/files/grafana" / name] = text
    for rules in sorted((ROOT / "deploy/prometheus/rules").glob("*.yaml")):
        written[ROOT / "helm/signalbox/files/prometheus" / rules.name] = rules.read_text(encoding="utf-8")
    return written


if __name__ == "__main__":
    for path, text in outputs().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

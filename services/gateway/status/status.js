// The status page: asks the admin API of the node that serves it, every two seconds while somebody looks, and listens to what happens.

const EVERY = 2000;
/** How long whoever orders something that is refused may take to read why. */
const READ = 15_000;
/** Rooms are looked at less often: finding the largest costs every node a look at all of them. */
const ROOMS_EVERY = 10_000;
/** Rooms that are shown: those with the most members. */
const ROOMS = 10;
/** The charts show ten minutes. */
const SPAN = 10 * 60 * 1000;
/** Most entries of a page of the API. */
const PAGE = 1000;
const CHARTS = [
  ["connects", "Connects /s", count],
  ["receivedMessages", "Messages of clients /s", count],
  ["sentMessages", "Messages to clients /s", count],
  ["sentBytes", "Bytes to clients /s", bytes],
];

/** Operations that are shown: those that run, and the latest of the others. */
const OPERATIONS = 6;
/** Events that are shown. */
const SHOWN = 200;
/** Kinds of events by what they are about; those that are shown at first. */
const KINDS = [
  ["Clients", ["connect", "disconnect", "claim", "release", "transfer"], true],
  ["Rooms", ["join", "leave"], false],
  ["Refused and cut off", ["refuse", "evict"], true],
  ["Nodes", ["node-up", "node-down", "degraded", "online", "drain"], true],
];
const COLOURS = {
  connect: "good", claim: "good", join: "good", online: "good", "node-up": "good", back: "good",
  evict: "wait", refuse: "wait", drain: "wait",
  degraded: "bad", "node-down": "bad", missing: "bad", dropped: "bad", resync: "bad",
};

const at = (id) => document.getElementById(id);
const history = [];
let roomsAt = -Infinity;
/** Until when a refusal of what was ordered stays, though looking goes well. */
let refusedUntil = -Infinity;
/** What the API says that whoever looks may; nothing until it has. */
let scopes;
let token = sessionStorage.getItem("admin-token");

class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `the node answers ${status}`);
    this.status = status;
    this.code = problem.code;
  }
}

async function ask(path, order, method = order ? "POST" : "GET") {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  if (order) headers["content-type"] = "application/json";
  const request = { method, headers, body: order && JSON.stringify(order), signal: AbortSignal.timeout(10_000) };
  const response = await fetch(`/admin/v1/${path}`, request);
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(response.status, body);
  return body;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

function drawing(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function count(value) {
  return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
}

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const unit = Math.min(Math.floor(Math.log10(Math.max(value, 1)) / 3), units.length - 1);
  return `${count(value / 1000 ** unit)} ${units[unit]}`;
}

function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  for (const [name, length] of [["d", 86_400], ["h", 3600], ["min", 60]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${name}`;
  }
  return `${seconds} s`;
}

function lamp(status) {
  return element("span", { class: "lamp", "data-is": status }, status);
}

function drawNumbers(cluster) {
  const numbers = [["Nodes", cluster.nodes], ["WebSockets", cluster.websocketClients], ["Polling", cluster.pollingClients], ["PeerServer clients", cluster.peers]];
  at("numbers").replaceChildren(...numbers.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, count(value)))));
  at("status").textContent = cluster.status;
  at("status").dataset.is = cluster.status;
  document.title = `${cluster.status === "online" ? "" : `${cluster.status}: `}Signalbox`;
}

function drawCharts(rates) {
  const now = Date.now();
  history.push({ now, ...rates });
  while (history[0].now < now - SPAN) history.shift();
  const charts = CHARTS.map(([key, name, show]) => {
    const most = Math.max(...history.map((point) => point[key]), 1e-9);
    const places = history.map((point) => `${(600 - (now - point.now) / 1000).toFixed(1)},${(60 - (point[key] / most) * 56).toFixed(1)}`);
    const first = (600 - (now - history[0].now) / 1000).toFixed(1);
    const svg = drawing("svg", { viewBox: "0 0 600 64", preserveAspectRatio: "none", role: "img", "aria-label": `${name}: ${show(rates[key])} now, ${show(most < 1e-6 ? 0 : most)} at most` });
    svg.append(
      drawing("path", { class: "area", d: `M${first},64 L${places.join(" ")} L600,64 Z` }),
      drawing("path", { d: `M${places.join(" ")}` }),
    );
    return element("figure", {}, element("figcaption", {}, name, element("b", {}, show(rates[key]))), svg);
  });
  at("charts").replaceChildren(...charts);
}

/** Whether whoever looks may change something: only then there are buttons for it. */
function mayControl() {
  return scopes?.includes("control") ?? false;
}

/** Asks what whoever looks may. */
async function lookAtScopes() {
  // A node of an earlier version does not say: it refuses what is not allowed.
  scopes = (await look("caller"))?.scopes ?? ["read", "emit", "control"];
}

/** How many clients the nodes had before they drained, by their ids. */
const drains = new Map();

/** The button that drains a node, for whoever may, or how far that is. */
function drainOf(node) {
  const clients = node.websocketClients + node.pollingClients + node.peers;
  if (node.status !== "draining" && node.status !== "stopping") {
    drains.set(node.id, clients);
    if (!mayControl()) return undefined;
    const button = element("button", { type: "button", "aria-label": `Drain ${node.name}` }, "Drain");
    button.addEventListener("click", () => {
      const text = `It takes no new clients, disconnects its ${count(clients)} clients one after the other, and ends.`;
      act(`Drain ${node.name}?`, text, () => ask(`nodes/${encodeURIComponent(node.id)}/drain`, {}));
    });
    return button;
  }
  const most = Math.max(drains.get(node.id) ?? 0, clients);
  drains.set(node.id, most);
  const bar = element("progress", { max: Math.max(most, 1), value: most === 0 ? 1 : most - clients, "aria-label": `Drain of ${node.name}` });
  return element("span", {}, bar, ` ${count(clients)} left`);
}

/** Does something, if whoever looks is sure. */
function act(title, text, action) {
  at("sure-title").textContent = title;
  at("sure-text").textContent = text;
  at("sure").returnValue = "no";
  at("sure").onclose = () => {
    if (at("sure").returnValue !== "yes") return;
    refusedUntil = -Infinity;
    action().then(refresh).catch((error) => {
      refusedUntil = performance.now() + READ;
      failed(error);
    });
  };
  at("sure").showModal();
}

/** The button that disconnects a client, for whoever may. */
function disconnects(name, order) {
  if (!mayControl()) return undefined;
  const button = element("button", { type: "button" }, "Disconnect");
  button.addEventListener("click", () => act(`Disconnect ${name}?`, "Its client does not come back by itself.", () => ask("disconnect", order)));
  return element("div", {}, button);
}

function drawNodes({ items, partial }, rates) {
  const sent = new Map(rates.nodes.map(({ node, rates: own }) => [node, own.sentMessages]));
  const rows = items.map((node) => {
    const share = node.heldBytes / node.memoryBudget;
    const memory = element("meter", { min: 0, max: 1, high: 0.8, low: 0.8, optimum: 0, value: share, title: `${bytes(node.heldBytes)} of ${bytes(node.memoryBudget)}` });
    return element("tr", {},
      element("td", { title: node.id }, node.name), element("td", {}, lamp(node.status)),
      element("td", { class: "n" }, count(node.websocketClients)), element("td", { class: "n" }, count(node.pollingClients)),
      element("td", { class: "n" }, count(node.peers)), element("td", { class: "n" }, sent.has(node.id) ? count(sent.get(node.id)) : "–"),
      element("td", {}, memory), element("td", {}, duration(Date.now() - node.startedAt)), element("td", {}, node.version), element("td", {}, drainOf(node)));
  });
  const missing = partial.map(({ node, name, reason }) => element("tr", {},
    element("td", { title: node }, name), element("td", { colspan: 9 }, element("span", { class: "lamp", "data-is": "missing" }, `no answer: ${reason}`))));
  at("nodes").replaceChildren(...rows, ...missing);
}

/** Drains and rebalances, and how far they are. `known`: what the node knows of them, or why it does not. */
function drawOperations(known, nodes) {
  // Those that run stand first.
  const items = (known.items ?? []).toSorted((a, b) => (a.endedAt !== undefined) - (b.endedAt !== undefined));
  const shown = items.filter(({ endedAt }, index) => endedAt === undefined || index < OPERATIONS);
  at("operations-part").hidden = nodes < 2 && shown.length === 0 && !known.trouble;
  at("rebalance").hidden = nodes < 2 || !mayControl();
  at("operations-note").textContent = known.trouble ?? (shown.length === 0 ? "None has begun lately." : "");
  at("operations-table").hidden = shown.length === 0;
  at("operations").replaceChildren(...shown.map(operationRow));
}

function operationRow(operation) {
  const { id, kind, status, done, total, runnerName, nodes, startedBy, startedAt, detail } = operation;
  const name = kind === "drain" ? `drain of ${runnerName}` : `rebalance, ${count(operation.rate ?? 0)}/s`;
  const isOver = operation.endedAt !== undefined;
  const bar = element("progress", { max: Math.max(total, 1), value: total === 0 && isOver ? 1 : done, "aria-label": `Progress of the ${name}` });
  const stop = element("button", { type: "button", "aria-label": `Stop the ${name}` }, "Stop");
  const text = kind === "drain" ? "The node takes clients again." : "Those who were sent away stay where they are.";
  stop.addEventListener("click", () => act(`Stop the ${name}?`, text, () => ask(`operations/${encodeURIComponent(id)}`, undefined, "DELETE")));
  return element("tr", { "data-operation": id, title: nodes.map(({ name, clients }) => `${name}: ${count(clients)}`).join("\n") },
    element("td", {}, name), element("td", {}, lamp(status)),
    element("td", {}, bar, ` ${count(done)} of ${count(total)}`),
    element("td", {}, runnerName), element("td", {}, startedBy), element("td", {}, `${duration(Date.now() - startedAt)} ago`),
    element("td", { class: "long" }, detail), element("td", {}, isOver || !mayControl() ? undefined : stop));
}

/** What is known of operations: the rest of the page does without, when Redis is away. */
async function lookAtOperations() {
  try {
    return await ask(`operations?limit=${PAGE}`);
  } catch (error) {
    if (error.status === 503) return { trouble: error.message };
    throw error;
  }
}

function drawRooms({ items, partial }) {
  const rows = items.map(({ name, namespace, members }) => element("tr", {},
    element("td", {}, name), element("td", {}, namespace), element("td", { class: "n" }, count(members))));
  at("rooms").replaceChildren(...rows);
  const missing = partial.map(({ name }) => name).join(", ");
  at("rooms-note").textContent = missing ? `Without the members on ${missing}.` : rows.length ? "" : "Nobody is in a room.";
}

function facts(rows) {
  const known = rows.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return element("dl", {}, ...known.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

function drawSocket(socket) {
  const { memberships = [], principal } = socket;
  return element("article", {},
    element("h3", { class: "id" }, socket.id),
    facts([
      ["Namespace", socket.namespace], ["Node", socket.node], ["Transport", socket.transport], ["Address", socket.address],
      ["Connected", `${duration(Date.now() - socket.connectedAt)} ago`], ["Waits for it", bytes(socket.waitingBytes)],
      ["Subject", principal?.subject ?? socket.subject], ["Token ends", principal && new Date(principal.expiresAt).toLocaleString()],
      ["Grants", principal && JSON.stringify(principal.grants)],
      ...memberships.map(({ room, profile }) => [`In ${room}`, JSON.stringify(profile)]),
    ]),
    disconnects(socket.id, { to: { namespace: socket.namespace, sockets: [socket.id] } }));
}

function drawPeer(peer) {
  return element("article", {},
    element("h3", { class: "id" }, peer.id),
    facts([
      ["PeerServer key", peer.key], ["Node", peer.node], ["Address", peer.address], ["Subject", peer.subject],
      ["Connected", `${duration(Date.now() - peer.connectedAt)} ago`], ["Waits for it", bytes(peer.waitingBytes)],
    ]),
    disconnects(peer.id, { peers: [{ key: peer.key, id: peer.id }] }));
}

/** What `ask` answers; nothing where there is no such thing. */
async function look(path) {
  try {
    return await ask(path);
  } catch (error) {
    // It may be on a node that does not answer: the table of nodes says which.
    if (error.status === 404 || ["bad-parameter", "incomplete"].includes(error.code)) return undefined;
    throw error;
  }
}

async function search(query) {
  const name = encodeURIComponent(query);
  const [socket, peer, ofSubject] = await Promise.all([look(`sockets/${name}`), look(`peers/${name}`), look(`sockets?subject=${name}&limit=20`)]);
  const found = [socket && drawSocket(socket), peer && drawPeer(peer), ...(ofSubject?.items ?? []).filter(({ id }) => id !== socket?.id).map(drawSocket)].filter(Boolean);
  at("found").replaceChildren(...(found.length ? found : [element("p", { class: "note" }, `There is no socket, PeerServer client or subject “${query}”.`)]));
  at("client").hidden = false;
}

function askForToken(why) {
  at("refused").textContent = why;
  if (!at("ask").open) at("ask").showModal();
}

function failed(error) {
  if (error.status === 401 || (error.status === 403 && token)) {
    askForToken(token || error.code !== "token-missing" ? error.message : "");
    return;
  }
  at("trouble").textContent = error.status ? error.message : "This node does not answer.";
  at("trouble").hidden = false;
  if (!error.status) {
    at("status").textContent = "no answer";
    at("status").dataset.is = "missing";
  }
}

/** Listens to what happens, and comes back when it is cut off. */
const listening = {
  socket: undefined,
  position: undefined,
  waits: undefined,

  start() {
    this.stop();
    const kinds = KINDS.flatMap(([name, of]) => (at("events-filter").elements[name].checked ? of : []));
    if (kinds.length === 0) {
      this.say("Choose what you want to see.");
      return;
    }
    this.say("Connecting.");
    const parameters = new URLSearchParams({ kinds: kinds.join(",") });
    if (this.position) parameters.set("after", this.position);
    const url = new URL(`/admin/v1/events?${parameters}`, location.href.replace(/^http/, "ws"));
    const socket = new WebSocket(url, ["signalbox.events", ...(token ? [`bearer.${base64url(token)}`] : [])]);
    this.socket = socket;
    socket.onopen = () => this.say("Live, of the whole cluster.");
    socket.onmessage = ({ data }) => this.tell(JSON.parse(data));
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.say("Not connected.");
      this.waits = setTimeout(() => this.resume(), EVERY);
    };
  },

  /** Once the page is looked at, and the node takes the token. */
  resume() {
    if (!document.hidden && !at("ask").open) this.start();
    else this.waits = setTimeout(() => this.resume(), EVERY);
  },

  stop() {
    clearTimeout(this.waits);
    const { socket } = this;
    this.socket = undefined;
    socket?.close();
  },

  say(text) {
    at("events-note").textContent = text;
  },

  tell(event) {
    this.position = event.position;
    const list = at("events");
    // Whoever reads further below stays where they are.
    const isAtTop = list.scrollTop < 4;
    list.prepend(eventLine(event));
    while (list.children.length > SHOWN) list.lastChild.remove();
    if (isAtTop) list.scrollTop = 0;
  },
};

function eventLine(event) {
  const time = new Date(event.at);
  const { namespace, room, socket, peer, subject, event: name, address, reason } = event;
  const told = Object.entries({ namespace, room, socket, peer, subject, event: name, address, reason }).filter(([, value]) => value !== undefined);
  const words = [event.room, event.peer ?? event.socket, event.subject, event.event, event.reason, event.count === undefined ? undefined : count(event.count)];
  return element("li", { title: told.map(([key, value]) => `${key}: ${value}`).join("\n") },
    element("time", { datetime: time.toISOString() }, time.toLocaleTimeString()),
    element("span", { class: COLOURS[event.kind] ?? "" }, event.kind),
    element("span", { class: "of" }, event.nodeName),
    element("span", {}, words.filter((word) => word !== undefined).join(" · ")));
}

function base64url(text) {
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

async function refresh() {
  if (document.hidden || at("ask").open) return;
  at("forget").hidden = !token;
  try {
    if (!scopes) await lookAtScopes();
    const isTimeForRooms = performance.now() >= roomsAt + ROOMS_EVERY;
    const looks = [ask("cluster"), ask(`nodes?limit=${PAGE}`), ask("rates"), lookAtOperations(), isTimeForRooms ? ask(`rooms?order=members&limit=${ROOMS}`) : undefined];
    const [cluster, nodes, rates, operations, rooms] = await Promise.all(looks);
    drawNumbers(cluster);
    drawCharts(rates.total);
    drawNodes(nodes, rates);
    drawOperations(operations, cluster.nodes);
    if (rooms) {
      drawRooms(rooms);
      roomsAt = performance.now();
    }
    if (performance.now() >= refusedUntil) at("trouble").hidden = true;
  } catch (error) {
    failed(error);
  }
}

async function loop() {
  await refresh();
  setTimeout(loop, EVERY);
}

at("ask").addEventListener("close", () => {
  const field = at("ask").querySelector("input");
  // Anything else cannot be sent, and is no token.
  token = /^[!-~]+$/.test(field.value.trim()) ? field.value.trim() : token;
  scopes = undefined;
  listening.start();
  field.value = "";
  if (token) sessionStorage.setItem("admin-token", token);
  refresh();
});
at("forget").addEventListener("click", () => {
  token = null;
  scopes = undefined;
  listening.stop();
  sessionStorage.removeItem("admin-token");
  at("forget").hidden = true;
  refresh();
});
at("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = new FormData(at("search")).get("query").trim();
  if (query) search(query).catch(failed);
});
at("rebalance").addEventListener("submit", (event) => {
  event.preventDefault();
  const rate = Number(new FormData(at("rebalance")).get("rate"));
  const text = `The nodes with the most Socket.IO clients close the transports of ${count(rate)} clients a second, until all have equally many. Those connect again, through the load balancer.`;
  act("Rebalance the cluster?", text, () => ask("rebalance", { rate }));
});
at("close").addEventListener("click", () => { at("client").hidden = true; });
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input")) {
    event.preventDefault();
    at("search").elements.query.focus();
  }
  if (event.key === "Escape" && !at("ask").open) at("client").hidden = true;
});
document.addEventListener("visibilitychange", refresh);
at("events-filter").append(...KINDS.map(([name, , isShown]) => {
  const box = element("input", { type: "checkbox", name });
  box.checked = isShown;
  return element("label", {}, box, name);
}));
at("events-filter").addEventListener("change", () => listening.start());
listening.start();
loop();

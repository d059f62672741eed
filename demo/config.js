// Where the gateway is and what this browser may do.

const { peerPath = "/", peerKey = "peerjs", socketioPath = "/socket.io/", transports = "polling,websocket" } = document.documentElement.dataset;
const secure = location.protocol === "https:";

/** The token in the address, for a gateway that asks for one. It leaves the address at once, so that a copied link does not carry it. */
const address = new URL(location.href);
const token = address.searchParams.get("token") ?? undefined;
if (token) {
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
}

export const config = {
  // Each namespace and each peer shows it; PeerJS makes one up where there is none.
  auth: token && { token },
  socketioPath,
  // Those that the gateway offers: a client that begins with another never gets in.
  transports: transports.split(","),
  peer: {
    host: location.hostname,
    port: Number(location.port) || (secure ? 443 : 80),
    path: peerPath,
    key: peerKey,
    secure,
    ...(token && { token }),
    // Until the gateway has told of others; PeerJS would ask somebody else's.
    config: { iceServers: [] },
  },
  /** Browsers hand out cameras and microphones to secure contexts only. */
  mediaAllowed: window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia),
  screenAllowed: window.isSecureContext && Boolean(navigator.mediaDevices?.getDisplayMedia),
};

// Where the gateway is and what this browser may do.

const { peerPath = "/", peerKey = "peerjs", socketioPath = "/socket.io/", transports = "polling,websocket" } = document.documentElement.dataset;
const secure = location.protocol === "https:";

export const config = {
  socketioPath,
  // Those that the gateway offers: a client that begins with another never gets in.
  transports: transports.split(","),
  peer: {
    host: location.hostname,
    port: Number(location.port) || (secure ? 443 : 80),
    path: peerPath,
    key: peerKey,
    secure,
    // Until the gateway has told of others; PeerJS would ask somebody else's.
    config: { iceServers: [] },
  },
  /** Browsers hand out cameras and microphones to secure contexts only. */
  mediaAllowed: window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia),
  screenAllowed: window.isSecureContext && Boolean(navigator.mediaDevices?.getDisplayMedia),
};

// Where the gateway is and what this browser may do.

const { peerPath = "/", peerKey = "peerjs", socketioPath = "/socket.io/", transports = "polling,websocket", iceServers = "[]" } = document.documentElement.dataset;
const secure = location.protocol === "https:";
const loopback = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);

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
    // On a loopback address everybody is on this machine: no STUN server needs to hear of it.
    config: { iceServers: loopback ? [] : JSON.parse(iceServers) },
  },
  /** Browsers hand out cameras and microphones to secure contexts only. */
  mediaAllowed: window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia),
  screenAllowed: window.isSecureContext && Boolean(navigator.mediaDevices?.getDisplayMedia),
};

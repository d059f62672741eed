# Opens a session of each protocol at $BASE, as a client would. Run by `helm test`; needs a POSIX shell and curl.
ask() {
    curl --silent --show-error --fail --insecure --max-time 20 --retry 5 --retry-connrefused --header "Origin: ${ORIGIN:-}" "$@"
}
fail() {
    echo "FAILED: $1: $2"
    exit 1
}
# What comes back when a WebSocket is asked for; curl leaves it open until its time-out.
upgrade() {
    curl --silent --insecure --include --no-buffer --http1.1 --max-time 3 --header "Origin: ${ORIGIN:-}" \
        --header 'Connection: Upgrade' --header 'Upgrade: websocket' --header 'Sec-WebSocket-Version: 13' \
        --header 'Sec-WebSocket-Key: c2lnbmFsYm94LXRlc3QhIQ==' "$1" | tr -cd '[:print:]\n' || true
}

case "$TRANSPORTS" in
*polling*)
    url="$BASE$SOCKETIO_PATH?EIO=4&transport=polling"
    open=$(ask "$url")
    sid=$(printf '%s' "$open" | sed -n 's/^0{.*"sid":"\([A-Za-z0-9_-]*\)".*/\1/p')
    [ -n "$sid" ] || fail "Socket.IO handshake" "$open"
    # Each request is a connection of its own, so that any pod may get it.
    posted=$(ask --data-binary 40 "$url&sid=$sid")
    [ "$posted" = ok ] || fail "Socket.IO CONNECT" "$posted"
    connected=$(ask "$url&sid=$sid")
    case "$connected" in
    '40{"sid":'*) echo "Socket.IO: connected, $connected" ;;
    *) fail "Socket.IO answer to CONNECT" "$connected" ;;
    esac
    ask --data-binary 1 "$url&sid=$sid" >/dev/null
    ;;
*)
    answer=$(upgrade "$BASE$SOCKETIO_PATH?EIO=4&transport=websocket")
    case "$answer" in
    *' 101 '*'0{"sid":'*) echo "Socket.IO: WebSocket opened" ;;
    *) fail "Socket.IO WebSocket" "$answer" ;;
    esac
    ;;
esac

id=$(ask "$BASE$PEERSERVER_PATH/$PEERSERVER_KEY/id")
case "$id" in
*-*-*-*-*) ;;
*) fail "PeerServer id" "$id" ;;
esac
answer=$(upgrade "$BASE$PEERSERVER_PATH/peerjs?key=$PEERSERVER_KEY&id=$id&token=helm-test")
case "$answer" in
*'"OPEN"'*) echo "PeerServer: opened, $id" ;;
*) fail "PeerServer WebSocket" "$answer" ;;
esac

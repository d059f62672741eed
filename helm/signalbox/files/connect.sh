# Opens sessions of both protocols at $BASE, as clients would; joins a room from two pods, where there are two; asks for ICE servers, where
# clients without a token get some. Run by `helm test`; needs a POSIX shell and curl.
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

# Opens a polling session and connects it, and says which in $sid. Each request is a connection of its own, so that any pod may get it.
session() {
    open=$(ask "$url")
    sid=$(printf '%s' "$open" | sed -n 's/^0{.*"sid":"\([A-Za-z0-9_-]*\)".*/\1/p')
    [ -n "$sid" ] || fail "Socket.IO handshake" "$open"
    send "$sid" 40
    connected=$(ask "$url&sid=$sid")
    case "$AUTH $connected" in
    *' 40{"sid":'* | 'required 44{'*) ;;
    *) fail "Socket.IO answer to CONNECT" "$connected" ;;
    esac
}
# Sends a packet on the session $1.
send() {
    posted=$(ask --data-binary "$2" "$url&sid=$1")
    [ "$posted" = ok ] || fail "Socket.IO packet $2" "$posted"
}
# What the session $1 has been sent, until it contains $2.
hears() {
    heard=
    for _ in 1 2 3 4 5; do
        heard="$heard$(ask "$url&sid=$1")"
        case "$heard" in *"$2"*) return ;; esac
    done
    fail "session $1 does not hear $2" "$heard"
}

case "$TRANSPORTS" in
*polling*)
    url="$BASE$SOCKETIO_PATH?EIO=4&transport=polling"
    session
    echo "Socket.IO: connected, $connected"
    # A session's name begins with its pod's: sessions are opened until there are two pods.
    if [ "$PODS" -gt 1 ] && [ "$AUTH" != required ]; then
        first=$sid
        tries=0
        while [ "${first%"${first#?????}"}" = "${sid%"${sid#?????}"}" ]; do
            tries=$((tries + 1))
            [ "$tries" -lt 60 ] || fail "two pods" "$tries sessions were all of one"
            [ "$tries" -eq 1 ] || send "$sid" 1
            session
        done
        second=$sid
        room="helm-test-$first"
        send "$first" "421[\"join\",\"$room\"]"
        hears "$first" '431[{"ok":true'
        send "$second" "421[\"join\",\"$room\"]"
        hears "$second" '431[{"ok":true'
        hears "$first" '42["joined",'
        echo "Socket.IO: a room of two pods, $first and $second"
        send "$first" 1
    fi
    send "$sid" 1
    ;;
*)
    answer=$(upgrade "$BASE$SOCKETIO_PATH?EIO=4&transport=websocket")
    case "$answer" in
    *' 101 '*'0{"sid":'*) echo "Socket.IO: WebSocket opened" ;;
    *) fail "Socket.IO WebSocket" "$answer" ;;
    esac
    ;;
esac

if [ "$ICE" = true ]; then
    servers=$(ask "$BASE/turn/ice-servers")
    case "$servers" in
    *'"urls"'*) echo "ICE servers: $(printf '%s' "$servers" | grep -o '"urls":[^]]*]' | tr '\n' ' ')" ;;
    *) fail "ICE servers" "$servers" ;;
    esac
fi

id=$(ask "$BASE$PEERSERVER_PATH/$PEERSERVER_KEY/id")
case "$id" in
*-*-*-*-*) ;;
*) fail "PeerServer id" "$id" ;;
esac
answer=$(upgrade "$BASE$PEERSERVER_PATH/peerjs?key=$PEERSERVER_KEY&id=$id&token=helm-test")
case "$AUTH $answer" in
*'"OPEN"'*) echo "PeerServer: opened, $id" ;;
'required '*'"ERROR"'* | 'required '*' 401 '*) echo "PeerServer: refused without a token, as --auth required says" ;;
*) fail "PeerServer WebSocket" "$answer" ;;
esac

# Makes the secrets of a compose project, once, each a file in the volume that is mounted here. Needs a POSIX shell and coreutils or
# busybox. What is there already stays: to change one, remove its file and restart the services that read it.
umask 022
cd "${SECRETS:-/run/secrets}"

make() {
    [ -s "$1" ] && return
    # Moved when it is whole, so that nothing reads a half.
    printf '%s%s' "${2:-}" "$(head -c 32 /dev/urandom | base64 | tr -d '=\n' | tr '+/' '-_')" > "$1.new"
    mv "$1.new" "$1"
}

make cluster-secret
make jwt-secret
make turn-secret
make turn-key sbt_
printf 'api-key = ["gateway:issue:%s"]\n' "$(sha256sum turn-key | cut -d ' ' -f 1)" > turn.toml.new
mv turn.toml.new turn.toml

# coturn reads its secret from no other file than its configuration.
{
    # No TLS without a certificate, and no metrics for the whole network.
    grep -v -e '^cert=' -e '^pkey=' -e '^tls-listening-port=' -e '^prometheus$' "${TURNSERVER_CONF:-/etc/signalbox/turnserver.conf}"
    echo "static-auth-secret=$(cat turn-secret)"
    echo no-tls
    local_address=${TURN_LOCAL_ADDRESS:-$TURN_ADDRESS}
    echo "listening-ip=$local_address"
    echo "relay-ip=$local_address"
    # Two clients that both use the relay are each other's peers at this address.
    echo "allowed-peer-ip=$TURN_ADDRESS"
    if [ "$local_address" != "$TURN_ADDRESS" ]; then
        echo "external-ip=$TURN_ADDRESS/$local_address"
        echo "allowed-peer-ip=$local_address"
    fi
    # Nothing but UDP, so that no server on this machine can be talked to.
    echo no-tcp-relay
    case "$TURN_ADDRESS" in
    127.*) echo allow-loopback-peers ;;
    esac
} > turnserver.conf.new
mv turnserver.conf.new turnserver.conf
echo "secrets are in place"

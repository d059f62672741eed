# Puts secrets and addresses behind the configuration, and becomes coturn, which reads them from nowhere else.
umask 077
{
    cat /etc/coturn/turnserver.conf
    for secret in $(printf '%s' "$TURN_SECRET" | tr ',' ' '); do
        echo "static-auth-secret=$secret"
    done
    echo "listening-ip=$HOST_IP"
    echo "relay-ip=$HOST_IP"
    # Two clients that both use this relay are each other's peers at its address.
    echo "allowed-peer-ip=$HOST_IP"
    for node in $EXTERNAL_IPS; do
        if [ "${node%%=*}" = "$NODE_NAME" ]; then
            echo "external-ip=${node#*=}/$HOST_IP"
            echo "allowed-peer-ip=${node#*=}"
        fi
    done
} > /run/coturn/turnserver.conf
exec turnserver -c /run/coturn/turnserver.conf

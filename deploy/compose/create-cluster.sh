# Makes one Redis Cluster of the six servers of docker-compose.yml, unless they are one.
nodes=
for name in redis-1 redis-2 redis-3 redis-4 redis-5 redis-6; do
    until [ "$(redis-cli -h "$name" ping 2>/dev/null)" = PONG ]; do sleep 1; done
    # They meet by address; names are for clients.
    nodes="$nodes $(getent hosts "$name" | cut -d ' ' -f 1):6379"
done
state() { redis-cli -h redis-1 cluster info | tr -d '\r' | sed -n 's/^cluster_state://p'; }
if [ "$(state)" != ok ]; then
    # Each address is a word of its own.
    # shellcheck disable=SC2086
    redis-cli --cluster create $nodes --cluster-replicas 1 --cluster-yes
fi
until [ "$(state)" = ok ]; do sleep 1; done
echo "the cluster is whole"

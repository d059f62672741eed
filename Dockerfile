# syntax=docker/dockerfile:1
# The image of both programs, the gateway and `signalbox-turn`: with the libraries they are linked with, and the bundles that browsers
# load. No shell, no package manager.

# The clients for browsers, at the versions and with the hashes of the lock file that the tests run with.
FROM node:22-bookworm-slim AS bundles
WORKDIR /bundles
COPY services/gateway/tests/js/package.json services/gateway/tests/js/package-lock.json ./
RUN --mount=type=cache,target=/npm-cache npm ci --cache /npm-cache --ignore-scripts --no-audit --no-fund \
    && mkdir /vendor \
    && cp node_modules/socket.io-client/dist/socket.io.js node_modules/socket.io-client/dist/socket.io.js.map \
        node_modules/socket.io-client/dist/socket.io.min.js node_modules/socket.io-client/dist/socket.io.min.js.map \
        node_modules/socket.io-client/dist/socket.io.esm.min.js node_modules/socket.io-client/dist/socket.io.esm.min.js.map \
        node_modules/peerjs/dist/peerjs.min.js /vendor/

# What was compiled is kept in caches of the builder: a change of our own code compiles that code only.
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target,sharing=locked \
    cargo build --locked --release --package signalbox-gateway --package signalbox-turn-credentials --bins \
    && install -D target/release/signalbox-gateway /image/usr/bin/signalbox-gateway \
    && install -D target/release/signalbox-turn /image/usr/bin/signalbox-turn
COPY --from=bundles /vendor /image/usr/share/signalbox/vendor
# What the programs are linked with, at the places where they look for them; names are resolved by files and DNS. Each is run once in that
# tree alone, so that a missing library fails here and not in production.
RUN ldd /image/usr/bin/signalbox-gateway /image/usr/bin/signalbox-turn | grep -o '/[^ ]*[^ :]' | grep -v '^/image' | sort -u | while read -r library; do \
        install -D "$(realpath "$library")" "/image$library"; \
    done \
    && install -D /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
    && echo 'hosts: files dns' > /image/etc/nsswitch.conf \
    && echo 'signalbox:x:65532:65532:signalbox:/nonexistent:/nonexistent' > /image/etc/passwd \
    && echo 'signalbox:x:65532:' > /image/etc/group \
    && cp LICENSE-MIT LICENSE-APACHE /image/usr/share/signalbox/ \
    && chroot /image /usr/bin/signalbox-gateway --version \
    && chroot /image /usr/bin/signalbox-turn --version

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="signalbox-gateway" \
    org.opencontainers.image.description="Signaling for Socket.IO and PeerJS clients" \
    org.opencontainers.image.url="https://github.com/signalbox/signalbox" \
    org.opencontainers.image.source="https://github.com/signalbox/signalbox" \
    org.opencontainers.image.documentation="https://github.com/signalbox/signalbox/blob/main/docs/kubernetes.md" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
USER 65532:65532
# The bundles come from the image, and from no CDN. An empty value turns that off.
ENV SIGNALBOX_VENDOR_DIR=/usr/share/signalbox/vendor
# Public; management is 9001, inside the container only; probes and metrics as SIGNALBOX_METRICS_PORT says.
EXPOSE 9000
STOPSIGNAL SIGTERM
# The program asks the one that runs, with the same settings. Kubernetes does not read this: its probes ask /livez and /readyz.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/bin/signalbox-gateway", "health"]
ENTRYPOINT ["/usr/bin/signalbox-gateway"]

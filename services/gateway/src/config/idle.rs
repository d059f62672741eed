//! Settings that were given and have no effect. They are no errors, since one file may serve several kinds of nodes; but whoever gave
//! them should know.

use signalbox_config::auth::AuthMode;
use signalbox_config::{SettingSource, SettingSources};

use super::settings::{LONGEST_STANDALONE_STOP, Settings, TlsMode, Transport};

/// One sentence for each.
pub(super) fn warnings(settings: &Settings, sources: &SettingSources) -> Vec<String> {
    let Settings { listener, socketio, cluster, node, auth, ice, webhooks, hooks, .. } = settings;
    let no_webhooks = webhooks.webhook_url.is_none();
    let without_webhooks = "has no effect without --webhook-url";
    let no_hooks = hooks.hook.is_empty();
    let without_hooks = "has no effect without --hook";
    let has_service = ice.turn_url.is_some();
    let without_service = "has no effect without --turn-url";
    let is_open = auth.tokens.auth == AuthMode::Off;
    let without_auth = "has no effect with --auth off";
    let without_cookie = "has no effect without --cookie";
    let is_alone = cluster.redis_url.is_none();
    let is_encrypted = cluster.redis_url.as_ref().is_some_and(|url| url.starts_with("rediss"));
    let has = |transport| socketio.transports.contains(&transport);
    let never_upgrades = !(has(Transport::Polling) && has(Transport::WebSocket));
    let is_cut = is_alone && node.drain_timeout.is_some_and(|timeout| timeout > LONGEST_STANDALONE_STOP);
    let cut = format!("counts as {} milliseconds without --redis-url", LONGEST_STANDALONE_STOP.as_millis());
    let no_link_tls = cluster.cluster_tls == TlsMode::Off;
    let without_link_tls = "has no effect with --cluster-tls off";
    let without_redis = "has no effect without --redis-url";
    [
        ("redis-prefix", is_alone, without_redis),
        ("redis-ca", is_alone, without_redis),
        ("redis-ca", !is_alone && !is_encrypted, "has no effect without rediss in --redis-url"),
        ("cluster-addr", is_alone, without_redis),
        ("cluster-secret", is_alone, without_redis),
        ("cluster-secret-file", is_alone, without_redis),
        ("cluster-tls", is_alone, without_redis),
        ("cluster-tls-ca", no_link_tls, without_link_tls),
        ("cluster-tls-cert", no_link_tls, without_link_tls),
        ("cluster-tls-key", no_link_tls, without_link_tls),
        ("drain-delay", is_alone, without_redis),
        ("drain-timeout", is_cut, &cut),
        ("upgrade-timeout", never_upgrades, "has no effect without both --transports"),
        (
            "cookie",
            socketio.cookie.is_some() && !has(Transport::Polling),
            "has no effect without polling among --transports",
        ),
        ("cookie-secure", socketio.cookie.is_none(), without_cookie),
        ("cookie-same-site", socketio.cookie.is_none(), without_cookie),
        ("cookie-http-only", socketio.cookie.is_none(), without_cookie),
        ("jwt-secret", is_open, without_auth),
        ("jwt-secret-file", is_open, without_auth),
        ("jwt-public-key", is_open, without_auth),
        ("jwks", is_open, without_auth),
        ("jwt-issuer", is_open, without_auth),
        ("jwt-audience", is_open, without_auth),
        ("jwt-leeway", is_open, without_auth),
        ("jwt-max-lifetime", is_open, without_auth),
        ("jwt-grants-claim", is_open, without_auth),
        ("jwt-session-claim", is_open, without_auth),
        ("jwt-cookie", is_open, without_auth),
        ("auth-without-redis", is_open, without_auth),
        ("auth-without-redis", is_alone && !is_open, without_redis),
        ("connections-per-subject", is_open, without_auth),
        ("default-grants", is_open, without_auth),
        ("anonymous-grants", auth.tokens.auth != AuthMode::Optional, "has no effect without --auth optional"),
        ("ice-servers", has_service, "has no effect with --turn-url"),
        ("turn-key", !has_service, without_service),
        ("turn-key-file", !has_service, without_service),
        ("turn-anonymous", !has_service, without_service),
        ("webhook-secret", no_webhooks, without_webhooks),
        ("webhook-secret-file", no_webhooks, without_webhooks),
        ("webhook-ca", no_webhooks, without_webhooks),
        ("webhook-events", no_webhooks, without_webhooks),
        ("webhook-batch", no_webhooks, without_webhooks),
        ("webhook-concurrency", no_webhooks, without_webhooks),
        ("webhook-timeout", no_webhooks, without_webhooks),
        ("webhook-buffer", no_webhooks, without_webhooks),
        ("hook-secret", no_hooks, without_hooks),
        ("hook-secret-file", no_hooks, without_hooks),
        ("hook-ca", no_hooks, without_hooks),
        ("hook-timeout", no_hooks, without_hooks),
        ("hook-concurrency", no_hooks, without_hooks),
        ("vendor-dir", !listener.serve_client, "has no effect with --serve-client false"),
    ]
    .into_iter()
    .filter(|(name, is_idle, _)| *is_idle && sources.of(name) != &SettingSource::Default)
    .map(|(name, _, problem)| format!("{}: {problem}", sources.of(name).place(name)))
    .collect()
}

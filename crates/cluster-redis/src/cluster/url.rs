//! `redis+cluster://[user:password@]host:port,host:port`, taken apart.

use std::fmt;

use redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisError};

use super::super::{
    CannotConnect,
    single_server::{credentials, trusting},
};

/// Where a node of a Redis Cluster listens for clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// Reads `host:port` or `[host]:port`; an address of IPv6 may also stand without its brackets.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Some nodes of a Redis Cluster, from which the others are found, and how to connect to all of them.
#[derive(Clone)]
pub(in super::super) struct Url {
    scheme: String,
    pub(super) seeds: Vec<Address>,
    settings: RedisConnectionInfo,
    authorities: Option<Vec<u8>>,
}

impl Url {
    /// `None` if the URL means no Redis Cluster.
    pub(in super::super) fn parse(url: &str) -> Option<Result<Self, CannotConnect>> {
        let (scheme, rest) = url.split_once("+cluster://")?;
        let wrong = |what: &str| {
            let form = "as in redis+cluster://user:password@127.0.0.1:7000,127.0.0.2:7000";
            Some(Err(CannotConnect::Url(format!("{what} ({form})"))))
        };
        if !matches!(scheme, "redis" | "rediss") {
            return wrong("it begins neither with redis+cluster:// nor with rediss+cluster://");
        }
        let ([username, password], rest) = credentials(rest);
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !path.is_empty() {
            return wrong("a Redis Cluster has no databases");
        }
        let hosts = hosts.split(',').filter(|host| !host.is_empty());
        let Some(seeds) = hosts.map(Address::parse).collect::<Option<Vec<_>>>() else {
            return wrong("a node is not written as host:port");
        };
        if seeds.is_empty() || seeds.iter().any(|seed| seed.host.is_empty()) {
            return wrong("its nodes are missing");
        }
        let mut settings = RedisConnectionInfo::default();
        if let Some(username) = username {
            settings = settings.set_username(username);
        }
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        Some(Ok(Self { scheme: scheme.to_owned(), seeds, settings, authorities: None }))
    }

    /// With the user and password of another one.
    pub(super) fn with_credentials_of(&self, other: &Self) -> Self {
        Self { settings: other.settings.clone(), ..self.clone() }
    }

    /// Whether connections are encrypted: then nodes go by their host names, which stand in their certificates.
    pub(super) fn is_encrypted(&self) -> bool {
        self.scheme == "rediss"
    }

    /// With these authorities, in PEM, instead of those that browsers trust.
    pub(in super::super) fn trusting(self, authorities: Option<&[u8]>) -> Self {
        Self { authorities: authorities.map(<[u8]>::to_vec), ..self }
    }

    /// How to connect to a node for commands.
    pub(super) fn node(&self, address: &Address) -> Result<ConnectionInfo, RedisError> {
        let info = format!("{}://{address}", self.scheme).into_connection_info()?;
        let info = trusting(info, self.authorities.as_deref())?;
        Ok(info.set_redis_settings(self.settings.clone()))
    }

    /// How to connect to a node as a subscriber.
    pub(super) fn subscriber(&self, address: &Address) -> Result<ConnectionInfo, RedisError> {
        let settings = self.settings.clone().set_protocol(ProtocolVersion::RESP3);
        Ok(self.node(address)?.set_redis_settings(settings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_and_password_leave_everything_else() {
        let parse = |url| Url::parse(url).unwrap().unwrap_or_else(|_| panic!("{url}"));
        let url = parse("redis+cluster://ann:old@h1:1,h2:2")
            .with_credentials_of(&parse("redis+cluster://bob:new@h3:3"));
        let settings = url.node(&url.seeds[0]).unwrap().redis_settings().clone();
        assert_eq!(
            (url.seeds.len(), settings.username(), settings.password()),
            (2, Some("bob"), Some("new"))
        );
    }

    #[test]
    fn urls_of_clusters_are_taken_apart() {
        let Some(Ok(url)) = Url::parse("rediss+cluster://ann:p:w@h1:1,[::1]:2,") else { panic!() };
        let seeds: Vec<String> = url.seeds.iter().map(ToString::to_string).collect();
        assert_eq!((url.is_encrypted(), &seeds[..]), (true, &["h1:1".to_owned(), "[::1]:2".to_owned()][..]));
        let node = url.node(&url.seeds[1]).unwrap();
        assert_eq!(node.redis_settings().username(), Some("ann"));
        assert_eq!(node.redis_settings().password(), Some("p:w"));
        assert_eq!(node.addr().to_string(), "::1:2");
        assert!(Url::parse("redis://h1:1").is_none());
        for wrong in ["redis+cluster://", "redis+cluster://h1", "redis+cluster://h1:1/3", "x+cluster://h1:1"]
        {
            let Some(Err(error)) = Url::parse(wrong) else { panic!("{wrong}") };
            assert!(error.to_string().contains("redis+cluster://user:password@"), "{error}");
        }
    }
}

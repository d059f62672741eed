//! Where Redis is: one server at a time, or the masters of a Redis Cluster.

use std::sync::Arc;

use super::{
    CannotConnect,
    cluster::{self, Topology},
    single_server::SingleServer,
};

/// A store in Redis.
pub(super) enum Backend {
    Single(Arc<SingleServer>),
    Cluster(Arc<Topology>),
}

impl Backend {
    /// With certificates of authorities in PEM, they alone count.
    pub(super) fn new(url: &str, authorities: Option<&[u8]>) -> Result<Self, CannotConnect> {
        match cluster::Url::parse(url) {
            Some(url) => Ok(Self::Cluster(Arc::new(Topology::new(url?.trusting(authorities))))),
            None => Ok(Self::Single(Arc::new(SingleServer::new(url, authorities)?))),
        }
    }

    /// New connections introduce themselves with the user and password of this URL, which is the one in use but for them.
    pub(super) fn replace_credentials(
        &self,
        url: &str,
        authorities: Option<&[u8]>,
    ) -> Result<(), CannotConnect> {
        match (self, cluster::Url::parse(url)) {
            (Self::Cluster(topology), Some(url)) => topology.replace_credentials(&url?),
            (Self::Single(single_server), _) => single_server.replace(url, authorities)?,
            // It is no URL of a Redis Cluster, and so not the one in use.
            (Self::Cluster(_), None) => {}
        }
        Ok(())
    }

    /// The command that publishes a message. In a Redis Cluster, messages stay with the master that owns their channel's slot.
    pub(super) fn publish(&self) -> &'static str {
        match self {
            Self::Single(_) => "PUBLISH",
            Self::Cluster(_) => "SPUBLISH",
        }
    }

    /// Host and port of one of its servers, to find out from which address of this machine it is reached.
    pub(super) fn address(&self) -> Option<(String, u16)> {
        match self {
            Self::Single(single_server) => single_server.address(),
            Self::Cluster(topology) => topology.address(),
        }
    }
}

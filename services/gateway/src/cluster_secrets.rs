//! Secrets of the cluster that stand in files: read again while the program runs.

use std::path::PathBuf;

use signalbox_node::Node;

use crate::config::{self, settings::ClusterSettings};

/// The files, and what they held at the start.
#[derive(Debug, Clone)]
pub(crate) struct ClusterSecrets {
    redis_url_file: Option<PathBuf>,
    secret_file: Option<PathBuf>,
    secret: Option<String>,
}

impl ClusterSecrets {
    /// As the settings have them.
    pub(crate) fn new(settings: &ClusterSettings) -> Self {
        // Without Redis there is nobody to show them to.
        let has_redis = settings.redis_url.is_some();
        Self {
            redis_url_file: settings.redis_url_file.clone(),
            secret_file: settings.cluster_secret_file.clone().filter(|_| has_redis),
            secret: settings.cluster_secret.clone(),
        }
    }

    /// Reads the files again. User and password of Redis count for connections that are opened from now on. Another secret of the cluster
    /// cannot: whoever has it could not speak with those who have the old one, so that it is for a restart. It blocks.
    pub(crate) fn reload(&self, node: &Node) {
        if let Some(file) = &self.redis_url_file {
            let replaced = config::read_redis_url(file)
                .and_then(|url| node.replace_redis_credentials(&url).map_err(|error| error.to_string()));
            match replaced {
                Ok(()) => tracing::info!("user and password of --redis-url-file were read again"),
                Err(error) => {
                    tracing::error!(error, "--redis-url-file cannot be used; user and password in use stay");
                }
            }
        }
        if let Some(file) = &self.secret_file {
            match config::read_cluster_secret(file) {
                Ok(secret) if self.secret.as_ref() == Some(&secret) => {}
                Ok(_) => tracing::error!(
                    "--cluster-secret-file has changed, and the secret in use stays: restart all nodes, one after the other, for the new one to count"
                ),
                Err(error) => {
                    tracing::error!(error, "--cluster-secret-file cannot be read; the secret in use stays");
                }
            }
        }
    }
}

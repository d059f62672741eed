//! The bundles of the browser clients: from the vendor directory, else from a public CDN.

use std::{collections::HashMap, path::Path};

use actix_web::{HttpRequest, HttpResponse, http::header};
use anyhow::{Context, Result};
use serde::Deserialize;

use super::File;
use crate::config::Settings;

/// What `socket.io` itself serves, as files of the npm package's `dist` directory.
const SOCKETIO: [&str; 4] =
    ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.msgpack.min.js"];
/// The demo's copy of `peerjs`.
const PEERJS: &str = "peerjs.min.js";

/// A bundle at the CDN, with its integrity hash.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Pinned {
    pub(super) path: String,
    pub(super) url: String,
    pub(super) integrity: String,
}

/// The bundles by path.
#[derive(Debug)]
pub(super) struct Bundles {
    files: HashMap<String, File>,
    redirects: HashMap<String, String>,
    pub(super) pinned: Vec<Pinned>,
    /// Whether the bundles come from the CDN.
    pub(super) is_remote: bool,
}

impl Bundles {
    pub(super) fn load(settings: &Settings) -> Result<Self> {
        let pinned: Vec<Pinned> = serde_json::from_str(include_str!("../../../../demo/cdn.json"))
            .context("the demo's cdn.json is broken")?;
        let mut bundles = Self {
            files: HashMap::new(),
            redirects: HashMap::new(),
            pinned,
            is_remote: settings.listener.vendor_dir.is_none(),
        };
        let base = settings.socketio.socketio_path.trim_end_matches('/');
        let wanted =
            SOCKETIO.iter().flat_map(|name| [format!("{base}/{name}"), format!("{base}/{name}.map")]);
        for path in wanted.chain([format!("/demo/{PEERJS}")]) {
            bundles.add(&path, settings.listener.vendor_dir.as_deref())?;
        }
        Ok(bundles)
    }

    fn add(&mut self, path: &str, vendor: Option<&Path>) -> Result<()> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let Some(directory) = vendor else {
            // All files of a package stand side by side.
            let package = if name == PEERJS { "peerjs@" } else { "socket.io-client@" };
            let sibling = self.pinned.iter().find(|pinned| pinned.url.contains(package));
            if let Some((base, _)) = sibling.and_then(|pinned| pinned.url.rsplit_once('/')) {
                self.redirects.insert(path.to_owned(), format!("{base}/{name}"));
            }
            return Ok(());
        };
        let file = directory.join(name);
        match std::fs::read(&file) {
            Ok(body) => {
                self.files.insert(path.to_owned(), File::new(name, body.into()));
                Ok(())
            }
            // Source maps are a convenience.
            Err(_) if name.ends_with(".map") => Ok(()),
            Err(error) => Err(error).with_context(|| {
                format!(
                    "--vendor-dir: {} cannot be read (put the dist files of the npm packages socket.io-client and peerjs there)",
                    file.display()
                )
            }),
        }
    }

    pub(super) fn paths(&self) -> Vec<String> {
        self.files.keys().chain(self.redirects.keys()).cloned().collect()
    }

    pub(super) fn serve(&self, request: &HttpRequest) -> HttpResponse {
        match (self.files.get(request.path()), self.redirects.get(request.path())) {
            (Some(file), _) => file.serve(request),
            (None, Some(url)) => {
                HttpResponse::Found().insert_header((header::LOCATION, url.as_str())).finish()
            }
            (None, None) => HttpResponse::NotFound().finish(),
        }
    }
}

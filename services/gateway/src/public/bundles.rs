//! The bundles of the browser clients: from the vendor directory, else from a public CDN.

use std::{collections::HashMap, path::Path};

use actix_web::{HttpRequest, HttpResponse, http::header};
use anyhow::{Context, Result};
use serde::Deserialize;

use super::file::File;
use crate::config::Settings;

/// What `socket.io` itself serves, as files of the npm package's `dist` directory. Its msgpack bundle is not offered: nothing here answers
/// that parser.
const SOCKETIO: [&str; 3] = ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js"];
const MSGPACK: &str = "socket.io.msgpack.min.js";
/// The demo's scripts.
const DEMO: [&str; 2] = ["socket.io.min.js", "peerjs.min.js"];

/// A bundle at the CDN, with its integrity hash.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Pinned {
    pub(super) path: String,
    pub(super) url: String,
    pub(super) integrity: String,
}

/// What is at a bundle's path.
#[derive(Debug)]
enum Bundle {
    File(Box<File>),
    Redirect(String),
    Missing,
}

/// The bundles by path.
#[derive(Debug)]
pub(super) struct Bundles {
    bundles: HashMap<String, Bundle>,
    pub(super) pinned: Vec<Pinned>,
    /// Whether the bundles come from the CDN.
    pub(super) is_remote: bool,
}

impl Bundles {
    pub(super) fn load(settings: &Settings) -> Result<Self> {
        let pinned: Vec<Pinned> = serde_json::from_str(include_str!("../../../../demo/cdn.json"))
            .context("the demo's cdn.json is broken")?;
        let vendor = settings.listener.vendor_dir.as_deref();
        let mut bundles = Self { bundles: HashMap::new(), pinned, is_remote: vendor.is_none() };
        if settings.listener.serve_client {
            let base = settings.socketio.socketio_path.trim_end_matches('/');
            for name in SOCKETIO.into_iter().flat_map(|name| [name.to_owned(), format!("{name}.map")]) {
                bundles.add(format!("{base}/{name}"), &name, vendor)?;
            }
            for name in [MSGPACK.to_owned(), format!("{MSGPACK}.map")] {
                bundles.bundles.insert(format!("{base}/{name}"), Bundle::Missing);
            }
        }
        for name in DEMO {
            bundles.add(format!("/demo/{name}"), name, vendor)?;
        }
        Ok(bundles)
    }

    fn add(&mut self, path: String, name: &str, vendor: Option<&Path>) -> Result<()> {
        let bundle = match vendor {
            Some(directory) => read(&directory.join(name), name)?,
            None => {
                // All files of a package stand side by side.
                let package = if name.starts_with("peerjs") { "peerjs@" } else { "socket.io-client@" };
                let sibling = self.pinned.iter().find(|pinned| pinned.url.contains(package));
                let base = sibling.and_then(|pinned| pinned.url.rsplit_once('/'));
                base.map_or(Bundle::Missing, |(base, _)| Bundle::Redirect(format!("{base}/{name}")))
            }
        };
        self.bundles.insert(path, bundle);
        Ok(())
    }

    pub(super) fn paths(&self) -> Vec<String> {
        self.bundles.keys().cloned().collect()
    }

    pub(super) fn serve(&self, request: &HttpRequest) -> HttpResponse {
        match self.bundles.get(request.path()) {
            Some(Bundle::File(file)) => file.serve(request),
            Some(Bundle::Redirect(url)) => {
                HttpResponse::Found().insert_header((header::LOCATION, url.as_str())).finish()
            }
            Some(Bundle::Missing) | None => signalbox_node::edge::http::not_found(request),
        }
    }
}

/// A file of the vendor directory, which may hold some of the bundles only.
fn read(path: &Path, name: &str) -> Result<Bundle> {
    match std::fs::read(path) {
        Ok(body) => Ok(Bundle::File(Box::new(File::new(name, body)))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!("--vendor-dir: {} is missing; its address answers 404", path.display());
            Ok(Bundle::Missing)
        }
        Err(error) => Err(error).with_context(|| {
            format!("--vendor-dir: {} cannot be read (is it a readable file?)", path.display())
        }),
    }
}

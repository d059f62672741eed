//! The demo at `/demo/`: embedded files, adapted to how the gateway is configured.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse};
use rust_embed::Embed;

use super::{bundles::Bundles, file::File};
use crate::config::{Settings, Transport};

/// The files of `demo/`.
#[derive(Embed)]
#[folder = "../../demo/"]
struct Files;

/// The demo's files by name.
#[derive(Debug)]
pub(super) struct Demo {
    files: HashMap<String, File>,
}

impl Demo {
    pub(super) fn new(settings: &Settings, bundles: &Bundles) -> Self {
        let policy = policy(bundles);
        let mut files = HashMap::new();
        for name in Files::iter().filter(|name| name != "cdn.json") {
            let Some(embedded) = Files::get(&name) else { continue };
            let body = match &*name {
                "index.html" => {
                    index(&String::from_utf8_lossy(&embedded.data), settings, bundles).into_bytes()
                }
                _ => embedded.data.into_owned(),
            };
            files.insert(name.to_string(), File::new(&name, body).with_policy(&policy));
        }
        Self { files }
    }

    pub(super) fn serve(&self, request: &HttpRequest, name: &str) -> HttpResponse {
        let name = if name.is_empty() { "index.html" } else { name };
        match self.files.get(name) {
            Some(file) => file.serve(request),
            None => signalbox_node::edge::http::not_found(request),
        }
    }
}

/// What the page may load and run: its own files, and its two bundles where they come from the CDN, whose integrity the page checks. Whatever
/// else comes into it, comes from others in the room.
fn policy(bundles: &Bundles) -> String {
    let mut scripts = String::from("'self'");
    if bundles.is_remote {
        for pinned in &bundles.pinned {
            scripts.push(' ');
            scripts.push_str(&pinned.url);
        }
    }
    format!(
        "default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; \
         connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The page, with the paths of both protocols and the addresses of its bundles filled in.
fn index(page: &str, settings: &Settings, bundles: &Bundles) -> String {
    let peer_path = format!("{}/", settings.peerserver.path.trim_end_matches('/'));
    let key = settings.peerserver.key.first().map_or("peerjs", String::as_str);
    let transport = |transport: &Transport| match transport {
        Transport::Polling => "polling",
        Transport::WebSocket => "websocket",
    };
    let transports: Vec<&str> = settings.socketio.transports.iter().map(transport).collect();
    let mut page = page
        .replacen("data-peer-path=\"/\"", &format!("data-peer-path=\"{}\"", escape(&peer_path)), 1)
        .replacen("data-peer-key=\"peerjs\"", &format!("data-peer-key=\"{}\"", escape(key)), 1)
        .replacen(
            "data-socketio-path=\"/socket.io/\"",
            &format!("data-socketio-path=\"{}\"", escape(&settings.socketio.socketio_path)),
            1,
        )
        .replacen(
            "data-transports=\"polling,websocket\"",
            &format!("data-transports=\"{}\"", transports.join(",")),
            1,
        );
    for pinned in &bundles.pinned {
        let local = format!("<script src=\"{}\"></script>", pinned.path);
        let source = if bundles.is_remote {
            format!(
                "<script src=\"{}\" integrity=\"{}\" crossorigin=\"anonymous\"></script>",
                pinned.url, pinned.integrity
            )
        } else {
            let base = settings.socketio.socketio_path.trim_end_matches('/');
            let path = match pinned.path.strip_prefix("/socket.io/") {
                Some(name) if settings.listener.serve_client => format!("{base}/{name}"),
                Some(name) => format!("/demo/{name}"),
                None => pinned.path.clone(),
            };
            format!("<script src=\"{}\"></script>", escape(&path))
        };
        page = page.replacen(&local, &source, 1);
    }
    page
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}

//! The files of `--static`, and pages of rooms.
//!
//! A file called `{room}.html` is the page of every room: of each address in its directory that no file has. Where its directory has no
//! `index.html`, the directory's own address leads to a room that nobody is in yet.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use actix_files::{NamedFile, PathBufWrap};
use actix_web::{
    HttpMessage as _, HttpRequest, HttpResponse,
    http::{
        Method,
        header::{self, ETag, EntityTag, HeaderValue, IfNoneMatch},
    },
    web,
};
use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use signalbox_node::edge::http::not_found;

use crate::config::Settings;

/// What a directory answers with.
const INDEX: &str = "index.html";
/// The page of every room of its directory.
const ROOM_PAGE: &str = "{room}.html";
/// How the tutorials' templates have the room's id.
const ROOM_IDS: [&str; 2] = ["<%= roomId %>", "<%= room %>"];
/// Largest page of rooms in bytes: it is read for each request.
const MAX_ROOM_PAGE: u64 = 1024 * 1024;
/// Longest name of a room in an address. It is one of these characters only, so that it is harmless wherever a page has it.
const MAX_ROOM: usize = 64;

/// A directory whose files are served.
#[derive(Debug)]
pub(super) struct Directory {
    /// Without symbolic links in it.
    root: PathBuf,
    socketio_path: String,
    /// Without the slash at its end.
    peer_path: String,
    keys: Vec<String>,
}

/// What there is for a path.
#[derive(Debug)]
enum Found {
    File(Box<NamedFile>),
    /// The page of a room.
    Page(String),
    /// The path of a directory lacks its slash.
    Slash,
    /// The page of a room that nobody is in yet.
    NewRoom,
    Nothing,
}

impl Directory {
    /// The directory of `--static`, if there is one.
    ///
    /// # Errors
    /// It cannot be read any more.
    pub(super) fn open(settings: &Settings) -> Result<Option<Arc<Self>>> {
        let Some(path) = &settings.listener.r#static else { return Ok(None) };
        let root = path.canonicalize().with_context(|| {
            format!("--static: {} cannot be read (is it a readable directory?)", path.display())
        })?;
        Ok(Some(Arc::new(Self {
            root,
            socketio_path: settings.socketio.socketio_path.clone(),
            peer_path: settings.peerserver.path.trim_end_matches('/').to_owned(),
            keys: settings.peerserver.key.clone(),
        })))
    }

    /// Whether a request is for a file, and not for one of the protocols. With PeerServer at the root, only the addresses that its
    /// clients use are its own.
    pub(super) fn is_asked(&self, method: &Method, path: &str) -> bool {
        if !matches!(*method, Method::GET | Method::HEAD) || path.starts_with(&self.socketio_path) {
            return false;
        }
        let below = match path.split_at_checked(self.peer_path.len()) {
            Some((start, below)) if start.eq_ignore_ascii_case(&self.peer_path) => below,
            _ => return true,
        };
        if !self.peer_path.is_empty() {
            return !(below.is_empty() || below.starts_with('/'));
        }
        let mut parts = below.split('/').skip(1);
        let is_key = parts.next().is_some_and(|key| self.keys.iter().any(|known| known == key));
        let is_resource = |name: &str| ["id", "peers"].iter().any(|known| known.eq_ignore_ascii_case(name));
        !(is_key && parts.next().is_some_and(is_resource))
    }

    /// Answers a request.
    pub(super) async fn serve(self: Arc<Self>, request: HttpRequest) -> HttpResponse {
        let path = request.path().to_owned();
        let wanted = PathBufWrap::parse_req_path(&request, false);
        let found = match wanted {
            // Two slashes would make a redirect one to another host.
            Ok(wanted) if !path.contains("//") => {
                let find = move || self.find(&path, wanted.as_ref()).unwrap_or(Found::Nothing);
                web::block(find).await.unwrap_or(Found::Nothing)
            }
            _ => Found::Nothing,
        };
        let mut response = match found {
            Found::File(file) => file.disable_content_disposition().into_response(&request),
            Found::Page(page) => room_page(&request, page),
            Found::Slash => {
                let query = Some(request.query_string()).filter(|query| !query.is_empty());
                let query = query.map(|query| format!("?{query}")).unwrap_or_default();
                let location = format!("{}/{query}", request.uri().path());
                HttpResponse::PermanentRedirect().insert_header((header::LOCATION, location)).finish()
            }
            Found::NewRoom => {
                let location = format!("{}{}", request.uri().path(), uuid::Uuid::new_v4());
                let mut response = HttpResponse::Found();
                response.insert_header((header::CACHE_CONTROL, "no-store"));
                response.insert_header((header::LOCATION, location)).finish()
            }
            Found::Nothing => not_found(&request),
        };
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if !headers.contains_key(header::CACHE_CONTROL) {
            // Asked for again each time, and sent only if it has changed.
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        response
    }

    /// Looks for what a path means; `wanted` is the same below the root.
    fn find(&self, path: &str, wanted: &Path) -> io::Result<Found> {
        let is_directory = path.ends_with('/');
        if let Some(place) = self.inside(&self.root.join(wanted)) {
            if place.is_dir() {
                if !is_directory {
                    return Ok(Found::Slash);
                }
                if let Some(index) = self.file(&place.join(INDEX)) {
                    return open(&index, INDEX);
                }
                let has_rooms = self.file(&place.join(ROOM_PAGE)).is_some();
                return Ok(if has_rooms { Found::NewRoom } else { Found::Nothing });
            }
            let name = wanted.file_name().unwrap_or_default();
            return if place.is_file() && !is_directory { open(&place, name) } else { Ok(Found::Nothing) };
        }
        let room = wanted.file_name().and_then(|name| name.to_str()).filter(|room| is_room(room));
        let (Some(room), false) = (room, is_directory) else { return Ok(Found::Nothing) };
        let directory = self.root.join(wanted.parent().unwrap_or(Path::new("")));
        let Some(page) = self.file(&directory.join(ROOM_PAGE)) else { return Ok(Found::Nothing) };
        let mut text = String::new();
        File::open(page)?.take(MAX_ROOM_PAGE).read_to_string(&mut text)?;
        Ok(Found::Page(ROOM_IDS.iter().fold(text, |text, id| text.replace(id, room))))
    }

    /// Where a path leads, if that is inside the directory.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        path.canonicalize().ok().filter(|place| place.starts_with(&self.root))
    }

    /// The same of a regular file.
    fn file(&self, path: &Path) -> Option<PathBuf> {
        self.inside(path).filter(|place| place.is_file())
    }
}

/// A file, with the type that the name in the address has: a link may lead to another name.
fn open(place: &Path, name: impl AsRef<Path>) -> io::Result<Found> {
    NamedFile::from_file(File::open(place)?, name).map(|file| Found::File(Box::new(file)))
}

fn is_room(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MAX_ROOM).contains(&name.len()) && name.bytes().all(is_plain)
}

fn room_page(request: &HttpRequest, page: String) -> HttpResponse {
    let tag = EntityTag::new_strong(URL_SAFE_NO_PAD.encode(&Sha256::digest(&page)[..12]));
    let is_known = match request.get_header::<IfNoneMatch>() {
        Some(IfNoneMatch::Any) => true,
        Some(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        None => false,
    };
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header(ETag(tag));
    if is_known {
        return response.finish();
    }
    response.insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8")).body(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocols_keep_their_addresses() {
        let directory = |peer_path: &str| Directory {
            root: PathBuf::new(),
            socketio_path: "/socket.io/".to_owned(),
            peer_path: peer_path.to_owned(),
            keys: vec!["peerjs".to_owned()],
        };
        let (root, mounted) = (directory(""), directory("/peer"));
        for (path, at_root, at_mount) in [
            ("/", true, true),
            ("/socket.io/", false, false),
            ("/socket.io", true, true),
            ("/peerjs/id", false, true),
            ("/peerjs/ID/", false, true),
            ("/peerjs/peers", false, true),
            ("/peerjs", true, true),
            ("/peerjs/min.js", true, true),
            ("/other/id", true, true),
            ("/peer", true, false),
            ("/Peer/peerjs/id", true, false),
            ("/peers.html", true, true),
        ] {
            assert_eq!(root.is_asked(&Method::GET, path), at_root, "{path}");
            assert_eq!(mounted.is_asked(&Method::HEAD, path), at_mount, "{path} of a mount");
            assert!(!root.is_asked(&Method::POST, path));
        }
    }

    #[test]
    fn rooms_in_addresses_are_plain() {
        for (name, expected) in
            [("a", true), ("A-b_9", true), ("", false), ("a.js", false), ("a\"b", false), ("é", false)]
        {
            assert_eq!(is_room(name), expected, "{name}");
        }
        assert!(!is_room(&"x".repeat(65)));
    }
}

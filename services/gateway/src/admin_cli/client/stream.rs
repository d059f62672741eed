//! The stream of events: a WebSocket of a node.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use signalbox_tls::{client::tls, connection::Connection};
use tungstenite::{
    ClientRequestBuilder, Error as WebSocketError, HandshakeError, Message, Utf8Bytes, WebSocket,
    client::client_with_config,
    http::{StatusCode, Uri},
    protocol::WebSocketConfig,
};

use super::{Client, segment};

/// How long a node may take to let somebody listen, from the connection on.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// The node sends something every 5 seconds. One that is silent for so long is not there any more.
const SILENCE: Duration = Duration::from_secs(20);
/// Largest event in bytes.
const MAX_EVENT: usize = 1 << 20;
/// Longest position in bytes: it has to fit into a ping.
const MAX_POSITION: usize = 125;

/// Why there is no stream.
#[derive(Debug)]
pub(in super::super) enum Refusal {
    /// It would be the same again.
    Final(anyhow::Error),
    /// It may be another time.
    Passing(anyhow::Error),
}

/// What a node tells.
#[derive(Debug)]
pub(in super::super) enum Told {
    /// Something has happened: JSON, if it is a node that says so.
    Event(Utf8Bytes),
    /// There was nothing more up to this position, from which one can go on.
    Position(Utf8Bytes),
}

/// What a node tells, for as long as the connection lasts.
#[derive(Debug)]
pub(in super::super) struct EventStream {
    socket: WebSocket<Connection>,
    farewell: Option<String>,
}

/// Where the stream is.
struct Place {
    uri: Uri,
    host: String,
    port: u16,
    is_tls: bool,
}

impl Client {
    /// Listens to the events that fit the parameters; `last` is the position to go on behind.
    ///
    /// # Errors
    /// The node refuses, for good or for now, or cannot be reached.
    pub(in super::super) fn listen(
        &self,
        parameters: &[(&str, &str)],
        last: Option<&str>,
    ) -> Result<EventStream, Refusal> {
        let asked = || format!("{} cannot be asked (--url)", self.url);
        let place = self.place(parameters).with_context(asked).map_err(Refusal::Final)?;
        let connection = connect(&place).with_context(asked).map_err(Refusal::Passing)?;
        let request = self.handshake(place.uri, last);
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_EVENT)).max_frame_size(Some(MAX_EVENT));
        let error = match client_with_config(request, connection, Some(config)) {
            Ok((mut socket, _)) => {
                socket.get_mut().wait_for_each(SILENCE);
                return Ok(EventStream { socket, farewell: None });
            }
            Err(HandshakeError::Failure(error)) => error,
            // The connection blocks.
            Err(HandshakeError::Interrupted(_)) => std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
        };
        Err(match error {
            WebSocketError::Http(answer) => self.refusal(answer.status(), parameters),
            // A token that no header can have.
            WebSocketError::HttpFormat(_) => Refusal::Final(anyhow::Error::new(error).context(asked())),
            WebSocketError::Io(error) => Refusal::Passing(anyhow::Error::new(error).context(asked())),
            _ => Refusal::Passing(anyhow::Error::new(error).context(asked())),
        })
    }

    fn place(&self, parameters: &[(&str, &str)]) -> Result<Place> {
        let query: Vec<_> =
            parameters.iter().map(|(name, value)| format!("{name}={}", segment(value))).collect();
        let uri: Uri = format!("{}/events?{}", self.url, query.join("&")).parse()?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!("the URL is neither http nor https"),
        };
        let host = uri.host().context("the URL has no host")?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let mut parts = uri.into_parts();
        parts.scheme = Some(if is_tls { "wss" } else { "ws" }.parse()?);
        Ok(Place { uri: Uri::from_parts(parts)?, host, port, is_tls })
    }

    fn handshake(&self, uri: Uri, last: Option<&str>) -> ClientRequestBuilder {
        // A name and a password in the URL are for a proxy before the node, as in all other requests.
        let user =
            uri.authority().and_then(|authority| authority.as_str().rsplit_once('@')).map(|(user, _)| {
                let colon = if user.contains(':') { "" } else { ":" };
                format!("Basic {}", STANDARD.encode(format!("{user}{colon}")))
            });
        let shown = self.token.as_ref().map(|token| format!("Bearer {token}")).or(user);
        let mut request = ClientRequestBuilder::new(uri).with_header("User-Agent", "signalbox");
        if let Some(shown) = shown {
            request = request.with_header("Authorization", shown);
        }
        if let Some(last) = last {
            request = request.with_header("Last-Event-ID", last);
        }
        request
    }

    /// Why a handshake got another answer. Of the answer there is but what came together with its head: the node is asked again, without one.
    fn refusal(&self, status: StatusCode, parameters: &[(&str, &str)]) -> Refusal {
        if status.is_success() {
            return Refusal::Final(anyhow!(
                "{} opens no WebSocket: does a proxy before it let upgrades through? (--url)",
                self.url
            ));
        }
        let query: Vec<_> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let answer = self.prepared(self.agent.get(format!("{}/events", self.url)), &query).call();
        let error = match answer {
            // What has no end is not read.
            Ok(answer) if answer.status().is_success() => None,
            answer => self.read(answer).err(),
        };
        let error = error.unwrap_or_else(|| anyhow!("{} has answered {status} for a moment", self.url));
        if status.is_client_error() { Refusal::Final(error) } else { Refusal::Passing(error) }
    }
}

fn connect(place: &Place) -> Result<Connection> {
    let tls = place.is_tls.then(|| tls(None)).transpose()?;
    Ok(Connection::open(&place.host, place.port, tls, HANDSHAKE)?)
}

impl EventStream {
    /// What the node has said at the end, if it has.
    pub(in super::super) fn farewell(self) -> Option<String> {
        self.farewell
    }
}

impl Iterator for EventStream {
    type Item = Told;

    fn next(&mut self) -> Option<Told> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(event)) => return Some(Told::Event(event)),
                // The answer to it is sent when the next message is read.
                Ok(Message::Ping(bytes)) => {
                    if let Some(position) = Utf8Bytes::try_from(bytes).ok().filter(|text| is_position(text)) {
                        return Some(Told::Position(position));
                    }
                }
                Ok(Message::Close(frame)) => {
                    let reason = frame.map(|frame| frame.reason.as_str().to_owned());
                    self.farewell = reason.filter(|reason| !reason.is_empty());
                    // The answer to it; the node has ended it anyway.
                    let _ = self.socket.flush();
                    return None;
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Whether this can be shown to a node as a position, in a header.
pub(in super::super) fn is_position(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_POSITION && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        thread::{self, JoinHandle},
    };

    use tungstenite::{
        Bytes, accept_hdr,
        handshake::server::{Request, Response},
        protocol::{CloseFrame, frame::coding::CloseCode},
    };

    use super::*;

    /// Does something with the first connection; what comes of it, and the URL.
    fn node<T: Send + 'static>(
        serve: impl FnOnce(TcpStream) -> T + Send + 'static,
    ) -> (String, JoinHandle<T>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/prefix/", listener.local_addr().unwrap());
        (url, thread::spawn(move || serve(listener.accept().unwrap().0)))
    }

    fn told(told: Option<Told>) -> String {
        match told {
            Some(Told::Event(text)) => format!("event {text}"),
            Some(Told::Position(text)) => format!("position {text}"),
            None => "nothing".to_owned(),
        }
    }

    #[test]
    fn a_node_is_asked_under_its_prefix_and_its_pings_are_answered() {
        let (url, node) = node(|tcp| {
            let mut asked = String::new();
            #[expect(clippy::result_large_err, reason = "what the handshake calls is of this form")]
            let note = |request: &Request, response: Response| {
                let header =
                    |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                let headers = ["authorization", "last-event-id"].map(header);
                asked = format!("{} {headers:?}", request.uri());
                Ok(response)
            };
            let mut socket = accept_hdr(tcp, note).unwrap();
            for message in [
                Message::Ping(Bytes::from_static(b"1.1.7")),
                Message::Ping(Bytes::new()),
                Message::Ping(Bytes::from_static(b"no\nheader")),
                Message::binary(vec![1]),
                Message::text("{\"a\":1}"),
            ] {
                socket.send(message).unwrap();
            }
            let pong = socket.read().unwrap();
            let (code, reason) = (CloseCode::Policy, Utf8Bytes::from_static("the token has ended"));
            socket.close(Some(CloseFrame { code, reason })).unwrap();
            // A connection that is dropped with something unread in it takes along what the other end has not read.
            while socket.read().is_ok() {}
            (asked, pong)
        });
        let client = Client::new(&url, Some("secret")).unwrap();
        let mut stream = client.listen(&[("room", "a&b"), ("node", "é")], Some("1.1.6")).unwrap();
        assert_eq!(told(stream.next()), "position 1.1.7");
        assert_eq!(told(stream.next()), "event {\"a\":1}");
        assert_eq!(told(stream.next()), "nothing");
        assert_eq!(stream.farewell().as_deref(), Some("the token has ended"));
        let (asked, pong) = node.join().unwrap();
        assert_eq!(
            asked,
            r#"/prefix/admin/v1/events?room=a%26b&node=%C3%A9 [Some("Bearer secret"), Some("1.1.6")]"#
        );
        assert!(pong.is_pong());
    }

    #[test]
    fn an_event_beyond_all_bounds_ends_the_stream() {
        let (url, node) = node(|tcp| {
            let mut socket = tungstenite::accept(tcp).unwrap();
            let _ = socket.send(Message::text("x".repeat(MAX_EVENT + 1)));
        });
        let mut stream = Client::new(&url, None).unwrap().listen(&[], None).unwrap();
        assert_eq!(told(stream.next()), "nothing");
        assert_eq!(stream.farewell(), None);
        node.join().unwrap();
    }

    #[test]
    fn what_is_no_node_is_named() {
        let cases: [(&'static str, bool, &str); 3] = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true, "opens no WebSocket"),
            ("SSH-2.0-OpenSSH_9.6\r\n", false, "cannot be asked (--url)"),
            ("", false, "cannot be asked (--url)"),
        ];
        for (answer, is_final, why) in cases {
            let (url, node) = node(move |mut tcp| {
                let _ = tcp.read(&mut [0; 1024]);
                let _ = tcp.write_all(answer.as_bytes());
            });
            let refusal = Client::new(&url, None).unwrap().listen(&[], None).unwrap_err();
            let (was_final, error) = match refusal {
                Refusal::Final(error) => (true, error),
                Refusal::Passing(error) => (false, error),
            };
            assert_eq!(was_final, is_final, "{answer}");
            assert!(error.to_string().contains(why), "{error:#}");
            node.join().unwrap();
        }
    }

    #[test]
    fn urls_and_tokens_that_cannot_be_are_refused_for_good() {
        for (url, token) in [("ftp://host", None), ("host:1", None), ("http://", None), ("http://a b", None)]
        {
            let refused = Client::new(url, token).unwrap().listen(&[], None).unwrap_err();
            assert!(matches!(refused, Refusal::Final(_)), "{url} {refused:?}");
        }
        let (url, node) = node(drop);
        let refused = Client::new(&url, Some("two\nlines")).unwrap().listen(&[], None).unwrap_err();
        let Refusal::Final(error) = refused else { panic!("{refused:?}") };
        assert!(!format!("{error:?}").contains("lines"), "the token is shown: {error:?}");
        node.join().unwrap();
    }

    #[test]
    fn a_place_has_a_host_and_a_port_whatever_the_url() {
        for (url, host, port, uri) in [
            ("http://[::1]:9001", "::1", 9001, "ws://[::1]:9001/admin/v1/events?"),
            ("HTTPS://ops.example/a", "ops.example", 443, "wss://ops.example/a/admin/v1/events?"),
            ("http://me:pw@ops.example", "ops.example", 80, "ws://me:pw@ops.example/admin/v1/events?"),
        ] {
            let client = Client::new(url, None).unwrap();
            let place = client.place(&[]).unwrap();
            assert_eq!((place.host.as_str(), place.port), (host, port), "{url}");
            assert_eq!(place.uri.to_string(), uri);
        }
    }
}

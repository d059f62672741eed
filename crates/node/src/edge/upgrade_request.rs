//! A request for a WebSocket, and what it leads to: routing, `Origin`, the policy, limits and metrics, wherever the request came from.

use std::{borrow::Cow, net::IpAddr, rc::Rc, sync::Arc};

use actix_http::{Method, RequestHead, header};
use signalbox_engineio::{
    RequestError, Transport,
    handshake::{Query, RequestKind, check_request},
};
use signalbox_peerserver::{Params, Refusal};
use signalbox_telemetry::{CLIENT_EVENTS, traces};
use signalbox_websocket::Frame;

use super::{
    client,
    polling::{dispatch, outcome, outcome_of, owner},
    protocol::{Protocol, protocol},
};
use crate::{
    ledger::EvictAt,
    limits::{AddressSlot, TurnedAway},
    policy::{AccessRequest, Decided, Principal},
    protocol::RequestRefused,
    routing::Reply,
    shard::{
        mailbox::Request,
        peerserver::PeerClaim,
        runtime::{Busy, ShardRuntime},
    },
    shared::NodeShared,
    transport::{Conn, ReaderLimits},
};

/// An HTTP error instead of an upgrade.
pub(super) struct Refused {
    pub(super) status: &'static str,
    pub(super) message: String,
    /// Further headers, as they go on the wire.
    pub(super) header: Cow<'static, str>,
}

impl Refused {
    fn bad_request(message: impl Into<String>) -> Self {
        Self { status: "400 Bad Request", message: message.into(), header: "".into() }
    }
}

impl From<RequestError> for Refused {
    fn from(error: RequestError) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// Whether a key has the form of 16 bytes in base64. The last of its characters may have bits that mean nothing, as the example of RFC
/// 6455 has; the references take it.
fn is_websocket_key(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    matches!(key.split_at_checked(22), Some((digits, b"==")) if digits.iter().all(is_base64))
}

/// What tells the holder of a peer id from others, who may take it over: a principal's subject and session, whatever tokens they are shown
/// with; else the client's own token. Neither can be mistaken for the other.
fn holder(principal: Option<&Principal>, token: String) -> String {
    const OURS: &str = "signalbox:";
    match principal {
        Some(principal) => format!("{OURS}principal:{}", principal.holder_digest()),
        None if token.starts_with(OURS) => format!("{OURS}token:{token}"),
        None => token,
    }
}

/// What an upgrade leads to.
pub(super) enum Accepted {
    Open {
        principal: Option<Arc<Principal>>,
        handshake: crate::policy::Handshake,
    },
    TakeOver {
        conn: Rc<Conn>,
    },
    Peer(PeerClaim),
    /// A word, and goodbye.
    CloseAfterHandshake(Option<Frame>),
}

/// A request for a WebSocket.
pub(super) struct UpgradeRequest<'r> {
    pub(super) node: &'r Arc<NodeShared>,
    pub(super) head: &'r RequestHead,
    /// The client's place among the connections of its address, where the request was given one.
    pub(super) of_address: Option<AddressSlot>,
}

impl UpgradeRequest<'_> {
    /// What it leads to.
    pub(super) async fn judge(&mut self) -> Result<Accepted, Refused> {
        self.check()?;
        match protocol(self.head.uri.path(), &self.node.config) {
            Protocol::SocketIo => self.socketio().await,
            // HTTP is lenient about case, here as in the reference; the WebSocket's path is exact.
            Protocol::Peer("/peerjs") if self.is_below_mount() => self.peer().await,
            _ => Err(Refused::bad_request("Bad Request")),
        }
    }

    fn header(&self, name: header::HeaderName) -> Option<&[u8]> {
        self.head.headers.get(name).map(|value| value.as_bytes())
    }

    /// The first of the subprotocols that it offers. A client that offers some fails without one; neither protocol has any, so that the
    /// first will do.
    pub(super) fn subprotocol(&self) -> Option<&str> {
        let offered = std::str::from_utf8(self.header(header::SEC_WEBSOCKET_PROTOCOL)?).ok()?;
        offered.split(',').next().map(str::trim).filter(|name| !name.is_empty())
    }

    /// What may come over the connection.
    pub(super) fn limits(&self, accepted: &Accepted) -> ReaderLimits {
        let config = &self.node.config;
        let max_payload = match accepted {
            Accepted::Peer(_) => config.peer.max_payload,
            _ => config.engine.max_payload,
        };
        ReaderLimits { max_payload, pace: self.node.pace() }
    }

    /// Checks the handshake itself. That it is an upgrade was seen before the dispatcher, see [`super::http1`].
    fn check(&self) -> Result<(), Refused> {
        if self.head.method != Method::GET {
            return Err(match self.is_socketio() {
                true => RequestError::BadHandshakeMethod.into(),
                false => Refused {
                    status: "405 Method Not Allowed",
                    message: "Invalid HTTP method".to_owned(),
                    header: "Allow: GET\r\n".into(),
                },
            });
        }
        if self.header(header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
            return Err(Refused {
                header: "Sec-WebSocket-Version: 13\r\n".into(),
                ..Refused::bad_request("Missing or invalid Sec-WebSocket-Version header")
            });
        }
        if !self.header(header::SEC_WEBSOCKET_KEY).is_some_and(is_websocket_key) {
            return Err(Refused::bad_request("Missing or invalid Sec-WebSocket-Key header"));
        }
        Ok(())
    }

    fn is_below_mount(&self) -> bool {
        self.head.uri.path().starts_with(&self.node.config.peer.path)
    }

    fn is_socketio(&self) -> bool {
        protocol(self.head.uri.path(), &self.node.config) == Protocol::SocketIo
    }

    fn handshake(&self) -> crate::policy::Handshake {
        let query = self.head.uri.query().unwrap_or_default();
        client::handshake(&self.head.headers, query, self.head.peer_addr, &self.node.config)
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        client::address_of(&self.head.headers, self.head.peer_addr, &self.node.config)
    }

    /// A client begins a session, or is told to come later.
    fn let_in(&mut self, protocol: &str, address: Option<IpAddr>) -> Result<(), Refused> {
        let slot = self.node.let_in(address, self.head.peer_addr);
        self.take_place(protocol, slot)
    }

    /// The connection keeps its client's place, or the client is told why it gets none.
    fn take_place(
        &mut self,
        protocol: &str,
        slot: Result<Option<AddressSlot>, TurnedAway>,
    ) -> Result<(), Refused> {
        let slot = slot.map_err(|away| {
            self.count(protocol, outcome_of(&away));
            self.node.report_refused(protocol, self.address(), away.reason);
            let (status, message) = match away.is_full() {
                true => ("503 Service Unavailable", "full"),
                false => ("429 Too Many Requests", "rate-limited"),
            };
            Refused {
                status,
                message: message.to_owned(),
                header: format!("Retry-After: {}\r\n", away.seconds()).into(),
            }
        })?;
        if slot.is_some() {
            self.of_address = slot;
        }
        Ok(())
    }

    /// A connection for the client of this request.
    pub(super) fn conn(&self, shard: &ShardRuntime) -> Rc<Conn> {
        let address = self.address();
        let conn = Conn::new(self.node.ledger.account(address, EvictAt::Shard(shard.id())));
        conn.set_address(address);
        conn
    }

    fn count(&self, protocol: &str, outcome: &str) {
        self.node.metrics.handshakes.with_label_values(&[protocol, outcome]).inc();
    }

    async fn socketio(&mut self) -> Result<Accepted, Refused> {
        let config = &self.node.config;
        let query = self.head.uri.query().unwrap_or_default().to_owned();
        let query = Query::parse(&query);
        let origin = self.header(header::ORIGIN);
        if query.transport.as_deref() == Some("polling")
            && config.engine.transports.contains(&Transport::Polling)
        {
            // The reference switches protocols before it notices.
            return Ok(Accepted::CloseAfterHandshake(None));
        }
        let asks = check_request(&query, &config.engine.transports, true, true, client::origin_valid(origin))
            .inspect_err(|error| self.count("socketio", outcome(*error)))?;
        if !client::origin_allowed(origin, config) {
            self.count("socketio", "forbidden");
            return Err(RequestError::Forbidden.into());
        }
        match asks {
            RequestKind::Open(_) => {
                if self.node.lifecycle.is_stopping() {
                    return Err(Refused {
                        status: "503 Service Unavailable",
                        ..Refused::bad_request("stopping")
                    });
                }
                let handshake = self.handshake();
                self.let_in("socketio", handshake.address)?;
                let verdict = self.node.policy.decide(None, AccessRequest::Handshake(&handshake));
                match verdict.decided().await {
                    Decided::Allow(principal) => Ok(Accepted::Open { principal, handshake }),
                    Decided::Deny(denial) => {
                        self.count("socketio", "forbidden");
                        self.node.report_refused("socketio", handshake.address, denial.code);
                        Err(Refused::bad_request(denial.message))
                    }
                }
            }
            RequestKind::Continue { sid, transport, revision_matches } => {
                let (sid, place) = owner(self.node, sid).await.ok_or(RequestError::UnknownSid)?;
                debug_assert_eq!(transport, Transport::WebSocket);
                if !revision_matches {
                    return Err(RequestError::BadRequest.into());
                }
                let Some(own) = self.node.shard() else { return Err(RequestError::BadRequest.into()) };
                if place.node != self.node.tag && !self.node.peering.can_take_session().await {
                    // The session cannot come here. The client goes on polling.
                    self.node.metrics.upgrades.with_label_values(&["not_transferable"]).inc();
                    return Ok(Accepted::CloseAfterHandshake(None));
                }
                let slot = self.node.place_of(self.address(), self.head.peer_addr);
                self.take_place("socketio", slot)?;
                // The connection is known before its session is asked, so that no word of the owner can miss it.
                let conn = self.conn(&own);
                conn.is_text_only.set(query.b64);
                let connection = own.with(|shard, now| shard.open_probe(now, &conn, sid));
                let (reply, began) = Reply::channel();
                let request = Request::BeginUpgrade { sid, connection, reply };
                let began = match dispatch(self.node, place, request) {
                    Ok(()) => began.await.unwrap_or(Err(RequestRefused::UnknownSid)),
                    Err(Busy) => Err(RequestRefused::Busy),
                };
                match began {
                    Ok(true) => Ok(Accepted::TakeOver { conn }),
                    Ok(false) => {
                        own.with(|shard, _| shard.close_probe(connection));
                        Ok(Accepted::CloseAfterHandshake(None))
                    }
                    Err(RequestRefused::Busy) => {
                        own.with(|shard, _| shard.close_probe(connection));
                        let busy = Refused::bad_request("the server is overloaded");
                        Err(Refused { status: "503 Service Unavailable", ..busy })
                    }
                    Err(_) => {
                        own.with(|shard, _| shard.close_probe(connection));
                        self.count("socketio", "unknown_sid");
                        Err(RequestError::UnknownSid.into())
                    }
                }
            }
        }
    }

    async fn peer(&mut self) -> Result<Accepted, Refused> {
        let node = self.node.clone();
        let config = &node.config;
        if !client::origin_allowed(self.header(header::ORIGIN), config) {
            self.count("peerserver", "forbidden");
            return Err(Refused { status: "403 Forbidden", ..Refused::bad_request("Forbidden") });
        }
        if self.node.lifecycle.is_stopping() {
            // Without an ERROR, which would end the client's Peer object for good.
            return Ok(Accepted::CloseAfterHandshake(None));
        }
        let query = self.head.uri.query().unwrap_or_default();
        let params = match Params::parse(query, &config.peer.keys) {
            Ok(params) => params,
            Err(refusal) => {
                self.count("peerserver", "refused");
                return Ok(Accepted::CloseAfterHandshake(Some(refusal.frame())));
            }
        };
        let handshake = self.handshake();
        self.let_in("peerserver", handshake.address)?;
        let ask = AccessRequest::Claim {
            handshake: &handshake,
            key: &params.key,
            id: &params.id,
            token: &params.token,
        };
        let principal = match self.node.policy.decide(None, ask).decided().await {
            Decided::Allow(principal) => principal,
            Decided::Deny(denial) => {
                self.count("peerserver", "forbidden");
                self.node.metrics.refusals.with_label_values(&[denial.code]).inc();
                self.node.report_refused("peerserver", handshake.address, denial.code);
                // An ERROR ends the client's Peer object for good; after a plain close it tries again.
                let word = (!denial.is_transient).then(|| Refusal::Policy(denial.message).frame());
                return Ok(Accepted::CloseAfterHandshake(word));
            }
        };
        let realm = config.peer.keys.iter().position(|key| *key == params.key).unwrap_or_default();
        let token = holder(principal.as_deref(), params.token);
        let trace = traces::of_client(handshake.header("traceparent"));
        let claim =
            PeerClaim { realm: realm as u16, id: params.id.into(), token: token.into(), principal, trace };
        Ok(Accepted::Peer(claim))
    }
}

/// The client is connected: its shard serves it from now on.
pub(super) fn begin(
    node: &NodeShared,
    shard: &ShardRuntime,
    conn: &Rc<Conn>,
    accepted: Accepted,
    address: Option<IpAddr>,
) {
    match accepted {
        Accepted::Open { principal, handshake } => {
            shard.with(|shard, now| shard.open_websocket(now, conn, principal, handshake));
        }
        Accepted::TakeOver { .. } => {}
        Accepted::Peer(claim) => shard.with(|shard, now| shard.open_peer(now, conn, claim)),
        Accepted::CloseAfterHandshake(frame) => {
            node.tell_story(address, "turned away after its handshake", "101");
            let address = address.map(tracing::field::display);
            tracing::debug!(target: CLIENT_EVENTS, address, "client turned away after its handshake");
            if let Some(frame) = frame {
                conn.push(&frame);
            }
            conn.close(&Frame::close(None));
        }
    }
}

impl Accepted {
    /// The same, of a node that was told to stop while the policy made up its mind.
    pub(super) fn unless_stopping(self, node: &NodeShared) -> Self {
        match self {
            Self::Open { .. } | Self::Peer(_) if node.lifecycle.is_stopping() => {
                Self::CloseAfterHandshake(None)
            }
            accepted => accepted,
        }
    }

    /// The connection that is to be served: that of a session which is to take it over is known already.
    pub(super) fn conn(&self, request: &UpgradeRequest<'_>, shard: &ShardRuntime) -> Rc<Conn> {
        match self {
            Self::TakeOver { conn } => conn.clone(),
            _ => request.conn(shard),
        }
    }
}

//! One try: a STUN binding, an allocation with an issued credential, a permission, and data through the relay and back.
//!
//! The peer is the allocation itself: what is sent through the relay to the relay's own address comes back through it.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant as StdInstant},
};

use signalbox_turn::{Credential, TurnUri};
use turn_client_proto::{
    api::{Transmit, TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet},
    prelude::*,
    stun::{
        Instant,
        types::{
            TransportType,
            message::{BINDING, Message, MessageWrite as _, MessageWriteVec},
        },
    },
    tcp::TurnClientTcp,
    types::TurnCredentials,
    udp::TurnClientUdp,
};

use super::{
    Depth,
    wire::{Tls, Wire},
};

/// Pause before the same is sent again over UDP.
const RESEND: Duration = Duration::from_millis(300);
/// Longer than the library's pause between two requests.
const CADENCE: Duration = Duration::from_millis(100);
/// What is relayed.
const PAYLOAD: &[u8] = b"signalbox probe";

/// Why a try failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// Nobody listens there, or it went away.
    #[error("cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    /// It does not answer STUN.
    #[error("it does not answer STUN")]
    Binding,
    /// The credential was refused, or there is no room.
    #[error("it refuses an allocation: does it have the secret, and room?")]
    Allocation,
    /// It does not relay to itself.
    #[error("it refuses to relay to its own address (set external-ip, or --probe allocate)")]
    Permission,
    /// The allocation ended meanwhile.
    #[error("the allocation ended")]
    Closed,
}

impl ProbeError {
    /// As metrics call it.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Binding => "no-binding",
            Self::Allocation => "allocation-refused",
            Self::Permission => "permission-refused",
            Self::Closed => "closed",
        }
    }
}

/// Tries, and says how long the last round trip took.
pub(super) async fn run(
    uri: &TurnUri,
    credential: &Credential,
    depth: Depth,
    tls: &Tls,
) -> Result<Duration, ProbeError> {
    let mut wire = Wire::connect(uri, tls).await?;
    let binding = bind(&mut wire).await?;
    if uri.relay().is_none() {
        return Ok(binding);
    }
    let credentials = TurnCredentials::new(&credential.username, &credential.password);
    let mut config = TurnConfig::new(credentials);
    config.set_request_retransmits(RESEND, RESEND * 2, 5, RESEND);
    if wire.remote.is_ipv6() {
        config.add_address_family(turn_client_proto::types::AddressFamily::IPV4);
    }
    let (local, remote) = (wire.local, wire.remote);
    match wire.is_datagram() {
        true => allocate(wire, TurnClientUdp::allocate(local, remote, config), depth, binding).await,
        false => allocate(wire, TurnClientTcp::allocate(local, remote, config), depth, binding).await,
    }
}

/// A STUN binding.
async fn bind(wire: &mut Wire) -> Result<Duration, ProbeError> {
    let begin = StdInstant::now();
    let request = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
    let mut received = Vec::new();
    loop {
        wire.send(&request).await?;
        let answer = tokio::time::timeout(RESEND, wire.receive()).await;
        match answer {
            Ok(bytes) => received.extend(bytes?),
            // Lost, or late; a stream loses nothing.
            Err(_) if wire.is_datagram() => continue,
            Err(_) => received.extend(wire.receive().await?),
        }
        return match Message::from_bytes(&received) {
            Ok(answer)
                if answer.is_response()
                    && !answer.has_class(turn_client_proto::stun::types::message::MessageClass::Error) =>
            {
                Ok(begin.elapsed())
            }
            _ => Err(ProbeError::Binding),
        };
    }
}

async fn allocate(
    mut wire: Wire,
    mut client: impl TurnClientApi,
    depth: Depth,
    binding: Duration,
) -> Result<Duration, ProbeError> {
    let base = StdInstant::now();
    let now = || Instant::from_std(base);
    let transport = client.transport();
    let mut relayed: Option<SocketAddr> = None;
    let mut sent: Option<StdInstant> = None;
    let outcome = 'outcome: loop {
        while let Some(event) = client.poll_event() {
            match event {
                TurnEvent::AllocationCreated(_, address) if depth == Depth::Relay => {
                    relayed = Some(address);
                    let _ = client.create_permission(TransportType::Udp, address.ip(), now());
                }
                TurnEvent::AllocationCreated(..) => break 'outcome Ok(binding),
                TurnEvent::AllocationCreateFailed(_) => break 'outcome Err(ProbeError::Allocation),
                TurnEvent::PermissionCreateFailed(..) => break 'outcome Err(ProbeError::Permission),
                TurnEvent::PermissionCreated(..) => {
                    let Some(address) = relayed else { continue };
                    sent = Some(StdInstant::now());
                    send(&mut wire, &mut client, address, now()).await?;
                }
                _ => {}
            }
        }
        let wait = match client.poll(now()) {
            TurnPollRet::WaitUntil(at) => at.saturating_duration_since(now()).min(RESEND),
            TurnPollRet::Closed => break Err(ProbeError::Closed),
            _ => Duration::ZERO,
        };
        while let Some(transmit) = client.poll_transmit(now()) {
            wire.send(&transmit.data).await?;
        }
        match tokio::time::timeout(wait.max(Duration::from_millis(1)), wire.receive()).await {
            Ok(bytes) => {
                let arrived = Transmit::new(bytes?, transport, wire.remote, wire.local);
                if let TurnRecvRet::PeerData(data) = client.recv(arrived, now())
                    && data.data() == PAYLOAD
                {
                    break Ok(sent.map_or(binding, |at| at.elapsed()));
                }
                while let Some(data) = client.poll_recv(now()) {
                    if data.data() == PAYLOAD {
                        break 'outcome Ok(sent.map_or(binding, |at| at.elapsed()));
                    }
                }
            }
            // Datagrams between the relay and itself can be lost too.
            Err(_) => {
                if let (Some(address), Some(at)) = (relayed, sent)
                    && at.elapsed() >= RESEND
                {
                    send(&mut wire, &mut client, address, now()).await?;
                }
            }
        }
    };
    if client.delete(now()).is_ok() {
        // Refused or lost, there is nothing to be done about it: the server forgets the allocation in any case, but half an hour later.
        let _ = release(&mut wire, &mut client, now()).await;
    }
    outcome
}

/// Gives an allocation back, so that tries do not use up what the server has for one user.
async fn release(wire: &mut Wire, client: &mut impl TurnClientApi, now: Instant) -> io::Result<()> {
    let mut requests = Vec::new();
    // Until then the library holds it back, since the request before it has just been sent.
    while let Some(transmit) = client.poll_transmit(now + CADENCE) {
        requests.push(transmit.data);
    }
    // A stream loses nothing, and ends its allocation in any case.
    let attempts = if wire.is_datagram() { 2 } else { 1 };
    for _ in 0..attempts {
        for request in &requests {
            wire.send(request).await?;
        }
        if tokio::time::timeout(RESEND, wire.receive()).await.is_ok() {
            break;
        }
    }
    Ok(())
}

async fn send(
    wire: &mut Wire,
    client: &mut impl TurnClientApi,
    to: SocketAddr,
    now: Instant,
) -> Result<(), ProbeError> {
    if let Ok(Some(transmit)) = client.send_to(TransportType::Udp, to, PAYLOAD, now) {
        wire.send(&transmit.build().data).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use turn_client_proto::stun::types::message::{
        IntegrityAlgorithm, LongTermKeyCredentials, MessageIntegrityCredentials,
    };

    use super::*;

    /// RFC 5769, section 2.4, with the names behind its SASLprep.
    const SIGNED: [u8; 116] = [
        0x00, 0x01, 0x00, 0x60, 0x21, 0x12, 0xa4, 0x42, 0x78, 0xad, 0x34, 0x33, 0xc6, 0xad, 0x72, 0xc0, 0x29,
        0xda, 0x41, 0x2e, 0x00, 0x06, 0x00, 0x12, 0xe3, 0x83, 0x9e, 0xe3, 0x83, 0x88, 0xe3, 0x83, 0xaa, 0xe3,
        0x83, 0x83, 0xe3, 0x82, 0xaf, 0xe3, 0x82, 0xb9, 0x00, 0x00, 0x00, 0x15, 0x00, 0x1c, 0x66, 0x2f, 0x2f,
        0x34, 0x39, 0x39, 0x6b, 0x39, 0x35, 0x34, 0x64, 0x36, 0x4f, 0x4c, 0x33, 0x34, 0x6f, 0x4c, 0x39, 0x46,
        0x53, 0x54, 0x76, 0x79, 0x36, 0x34, 0x73, 0x41, 0x00, 0x14, 0x00, 0x0b, 0x65, 0x78, 0x61, 0x6d, 0x70,
        0x6c, 0x65, 0x2e, 0x6f, 0x72, 0x67, 0x00, 0x00, 0x08, 0x00, 0x14, 0xf6, 0x70, 0x24, 0x65, 0x6d, 0xd6,
        0x4a, 0x3e, 0x02, 0xb8, 0xe0, 0x71, 0x2e, 0x85, 0xc9, 0xa2, 0x8c, 0xa8, 0x96, 0x66,
    ];

    /// The key is what the library signs a request with: RFC 8489, section 9.2.2, MD5 of `user:realm:password`.
    #[test]
    fn requests_are_signed_with_the_long_term_key() {
        let of = |user: &str, password: &str, realm: &str| {
            LongTermKeyCredentials::new(user.to_owned(), password.to_owned(), realm.to_owned())
        };
        // RFC 8489, section 9.2.2: its example.
        let key = of("user", "pass", "realm").make_key(IntegrityAlgorithm::Sha1);
        let written = format!("{key:?}");
        let expected = 0x8493_fbc5_3ba5_82fb_4c04_4c45_6bdc_40eb_u128.to_be_bytes();
        assert!(written.contains(&format!("{expected:?}")), "{written}");

        let message = Message::from_bytes(&SIGNED).unwrap();
        let validated =
            |credentials| message.validate_integrity(&MessageIntegrityCredentials::LongTerm(credentials));
        let user = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}";
        assert!(matches!(validated(of(user, "TheMatrIX", "example.org")), Ok(IntegrityAlgorithm::Sha1)));
        assert!(validated(of(user, "TheMatrix", "example.org")).is_err());
        assert!(validated(of(user, "TheMatrIX", "example.com")).is_err());
    }
}

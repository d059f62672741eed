//! The handshake: both ends prove that they know the cluster's secret, the one that connects first, and agree on the keys with which
//! they seal their frames.
//!
//! | step | from | bytes |
//! |---|---|---|
//! | 1 | initiator | the head: `SBXL`, the lowest and the highest format it reads (1, 1), its tag (4), the tag it expects (4); its half of the key exchange (33) |
//! | 2 | responder | the format (1), its tag (4), its half of the key exchange (33) |
//! | 3 | initiator | its proof (32), its extension |
//! | 4 | responder | its proof (32), its extension |
//!
//! This is format 2. The key exchange is [SPAKE2] on edwards25519 with the secret as the password: its halves say nothing about the
//! secret, and its result is the same at both ends only if the secret is. So whoever listens learns nothing that secrets could be tried
//! on, and whoever takes part, at either end, tries one secret with each connection. A proof is HMAC-SHA256 with that result over who
//! proves and the transcript: all bytes of steps 1 and 2, and in TLS what [RFC 9266] exports from the connection, so that no third party
//! stands between two ends that speak TLS with it.
//!
//! An extension is a length (2, big-endian), so many bytes of [`Metadata`], and an HMAC-SHA256 (32) over them and the transcript. It is
//! where later versions say more about themselves: entries with unknown keys are skipped. What comes behind the handshake is sealed, see
//! `seal`, except in TLS.
//!
//! The responder chooses the highest format that both read, and closes the connection when there is none, or when it is not the node
//! that is expected. What nodes of the previous version speak is format 1, in `previous`. Nobody can talk two nodes of this version into
//! it: the initiator knows from the list of nodes what the other reads, and offers nothing else; the responder speaks it only with a node
//! of which that list says so.
//!
//! [SPAKE2]: https://www.rfc-editor.org/rfc/rfc9382
//! [RFC 9266]: https://www.rfc-editor.org/rfc/rfc9266

mod previous;

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use signalbox_cluster::{NodeTag, envelope::Metadata};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    task::spawn_blocking,
};

use super::{Handler, LinkError, RemoteNode, seal::Seal, stream::Stream};

const MAGIC: &[u8; 4] = b"SBXL";
/// The format of this version.
pub(super) const FORMAT: u8 = 2;

/// Bytes of the first message before what depends on the format.
const HEAD: usize = 4 + 2 + 4 + 4;
/// Bytes of one half of the key exchange.
const HALF: usize = 33;
/// Bytes of a proof, and of a key.
const PROOF: usize = 32;

/// A secret that the nodes of a cluster share.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// The secret that is written as this text.
    pub fn new(text: &str) -> Self {
        Self(text.as_bytes().into())
    }

    /// The text of a new secret: 32 random bytes in Base64.
    pub fn random() -> String {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn password(&self) -> Password {
        Password::new(&self.0)
    }
}

/// How the frames of a connection are sealed, in either direction; `None` where they are not: in TLS, and with nodes of the previous
/// version.
pub(super) type Seals = Option<(Seal, Seal)>;

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    lowest: u8,
    highest: u8,
    initiator: NodeTag,
    responder: NodeTag,
}

impl Head {
    fn bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..6].copy_from_slice(&[self.lowest, self.highest]);
        bytes[6..10].copy_from_slice(&self.initiator.0.to_be_bytes());
        bytes[10..].copy_from_slice(&self.responder.0.to_be_bytes());
        bytes
    }

    async fn read(stream: &mut Stream) -> Option<Self> {
        let mut bytes = [0; HEAD];
        stream.read_exact(&mut bytes).await.ok()?;
        let tag =
            |at: usize| NodeTag(u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
        let head = Self { lowest: bytes[4], highest: bytes[5], initiator: tag(6), responder: tag(10) };
        (&bytes[..4] == MAGIC).then_some(head)
    }
}

/// What both ends have said, and the key that they share if they know the same secret.
struct Agreement {
    key: Vec<u8>,
    transcript: Vec<u8>,
}

impl Agreement {
    fn mac(&self, purpose: &[u8], extension: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length.
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key).expect("any length");
        mac.update(&[purpose.len() as u8]);
        mac.update(purpose);
        mac.update(&(self.transcript.len() as u64).to_be_bytes());
        mac.update(&self.transcript);
        mac.update(extension);
        mac
    }

    fn derive(&self, purpose: &[u8], extension: &[u8]) -> [u8; PROOF] {
        self.mac(purpose, extension).finalize().into_bytes().into()
    }

    /// What an end sends to prove itself, and what more it says.
    fn proof(&self, end: &End, extension: &Metadata) -> Vec<u8> {
        let mut metadata = Vec::new();
        extension.write(&mut metadata);
        let mut bytes = self.derive(end.proves, b"").to_vec();
        bytes.extend_from_slice(&(metadata.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&metadata);
        bytes.extend_from_slice(&self.derive(end.extends, &metadata));
        bytes
    }

    /// Reads the other end's proof; `None` if it does not know the secret. Only an authenticated node's extension is read.
    async fn read_proof(&self, stream: &mut Stream, end: &End) -> Option<Metadata> {
        let mut proof = [0; PROOF];
        stream.read_exact(&mut proof).await.ok()?;
        self.mac(end.proves, b"").verify_slice(&proof).ok()?;
        let mut bytes = vec![0; usize::from(stream.read_u16().await.ok()?)];
        stream.read_exact(&mut bytes).await.ok()?;
        stream.read_exact(&mut proof).await.ok()?;
        self.mac(end.extends, &bytes).verify_slice(&proof).ok()?;
        Metadata::read(&bytes).ok().map(|(metadata, _)| metadata)
    }

    /// The seals of what is sent and of what is received, for the end that sends with `own`.
    fn seals(&self, stream: &Stream, own: &End, other: &End) -> Seals {
        let seal = |end: &End| Seal::new(&self.derive(end.seals, b""));
        (!stream.is_tls()).then(|| (seal(own), seal(other)))
    }
}

/// What the keys of one end are derived for.
struct End {
    proves: &'static [u8],
    extends: &'static [u8],
    seals: &'static [u8],
}

const INITIATOR: End =
    End { proves: b"initiator", extends: b"initiator, extension", seals: b"initiator, frames" };
const RESPONDER: End =
    End { proves: b"responder", extends: b"responder, extension", seals: b"responder, frames" };

/// The names of both ends in the key exchange.
fn identities(head: Head) -> (Identity, Identity) {
    (Identity::new(&head.initiator.0.to_be_bytes()), Identity::new(&head.responder.0.to_be_bytes()))
}

/// Opens a connection to a node, and says `extension`. What comes behind the handshake is sealed as the result says, where what the other
/// node says more stands, too.
pub(super) async fn initiate(
    stream: &mut Stream,
    secret: &Secret,
    own: NodeTag,
    to: RemoteNode,
    extension: &Metadata,
) -> Result<(Seals, Metadata), LinkError> {
    let format = if to.is_previous { previous::FORMAT } else { FORMAT };
    let head = Head { lowest: format, highest: format, initiator: own, responder: to.tag };
    if to.is_previous {
        return previous::initiate(stream, secret, head).await.map(|()| (None, Metadata::default()));
    }
    let agreement = exchange(stream, secret, head).await?;
    let proof = agreement.proof(&INITIATOR, extension);
    stream.write_all(&proof).await.map_err(|_| LinkError::Unreachable)?;
    stream.flush().await.map_err(|_| LinkError::Unreachable)?;
    let theirs = agreement.read_proof(stream, &RESPONDER).await.ok_or(LinkError::WrongNode)?;
    Ok((agreement.seals(stream, &INITIATOR, &RESPONDER), theirs))
}

/// Steps 1 and 2, as the initiator takes them.
async fn exchange(stream: &mut Stream, secret: &Secret, head: Head) -> Result<Agreement, LinkError> {
    let password = secret.password();
    let (state, half) = off_thread(move || {
        let (initiator, responder) = identities(head);
        Spake2::<Ed25519Group>::start_a(&password, &initiator, &responder)
    })
    .await
    .ok_or(LinkError::Unreachable)?;
    let mut transcript = [&head.bytes()[..], &half].concat();
    stream.write_all(&transcript).await.map_err(|_| LinkError::Unreachable)?;
    stream.flush().await.map_err(|_| LinkError::Unreachable)?;
    let mut answer = [0; 1 + 4 + HALF];
    // A node that closes the connection now is not the one that is expected.
    stream.read_exact(&mut answer).await.map_err(|_| LinkError::WrongNode)?;
    if answer[0] != FORMAT || answer[1..5] != head.responder.0.to_be_bytes() {
        return Err(LinkError::WrongNode);
    }
    transcript.extend_from_slice(&answer);
    transcript.extend_from_slice(stream.binding());
    let key = off_thread(move || state.finish(&answer[5..]).ok()).await.flatten();
    Ok(Agreement { key: key.ok_or(LinkError::WrongNode)?, transcript })
}

/// A node that has proved itself, and waits for the answer.
pub(super) struct Initiator {
    pub(super) tag: NodeTag,
    /// What more it has said.
    pub(super) extension: Metadata,
    /// `None` with a node of the previous version, which has had its answer.
    agreement: Option<Agreement>,
}

impl Initiator {
    /// Answers, and says `extension`: how the frames behind that are sealed. `None` where it cannot be answered.
    pub(super) async fn answer(&self, stream: &mut Stream, extension: &Metadata) -> Option<Seals> {
        let Some(agreement) = &self.agreement else { return Some(None) };
        stream.write_all(&agreement.proof(&RESPONDER, extension)).await.ok()?;
        stream.flush().await.ok()?;
        Some(agreement.seals(stream, &RESPONDER, &INITIATOR))
    }
}

/// Finds out which nodes open connections.
pub(super) struct Acceptor {
    /// This node.
    pub(super) tag: NodeTag,
    /// One key exchange at a time: strangers cost a core at most, and never the thread that renews the node's lease.
    turn: Semaphore,
}

impl Acceptor {
    pub(super) fn new(tag: NodeTag) -> Self {
        Self { tag, turn: Semaphore::new(1) }
    }

    /// Takes the first three steps with a node; `None` unless it knows the secret.
    pub(super) async fn accept(
        &self,
        stream: &mut Stream,
        secret: &Secret,
        handler: &dyn Handler,
    ) -> Option<Initiator> {
        let head = Head::read(stream).await?;
        if head.responder != self.tag {
            return None;
        }
        if (head.lowest..=head.highest).contains(&FORMAT) {
            return self.accept_current(stream, secret, head).await;
        }
        let is_previous = (head.lowest..=head.highest).contains(&previous::FORMAT);
        if !is_previous || !handler.is_previous(head.initiator).await {
            return None;
        }
        previous::accept(stream, secret, head).await?;
        Some(Initiator { tag: head.initiator, extension: Metadata::default(), agreement: None })
    }

    async fn accept_current(&self, stream: &mut Stream, secret: &Secret, head: Head) -> Option<Initiator> {
        let mut theirs = [0; HALF];
        stream.read_exact(&mut theirs).await.ok()?;
        let password = secret.password();
        let (half, key) = {
            let _turn = self.turn.acquire().await.ok()?;
            off_thread(move || {
                let (initiator, responder) = identities(head);
                let (state, half) = Spake2::<Ed25519Group>::start_b(&password, &initiator, &responder);
                Some((half, state.finish(&theirs).ok()?))
            })
            .await
            .flatten()?
        };
        let answer = [&[FORMAT], &self.tag.0.to_be_bytes()[..], &half].concat();
        stream.write_all(&answer).await.ok()?;
        stream.flush().await.ok()?;
        let transcript = [&head.bytes()[..], &theirs, &answer, stream.binding()].concat();
        let agreement = Agreement { key, transcript };
        let extension = agreement.read_proof(stream, &INITIATOR).await?;
        Some(Initiator { tag: head.initiator, extension, agreement: Some(agreement) })
    }
}

/// Computes something that takes a fraction of a millisecond where nobody waits for the thread; `None` if the runtime ends.
async fn off_thread<T: Send + 'static>(compute: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    spawn_blocking(compute).await.ok()
}

/// Tries a secret on what an eavesdropper has: everything that the initiator and the responder have said. Whether the initiator's proof
/// fits; `None` if this is no handshake.
#[cfg(test)]
pub(super) fn attempt(initiator: &[u8], responder: &[u8], guess: &Secret) -> Option<bool> {
    let number = |at: usize| Some(u32::from_be_bytes(initiator.get(at..at + 4)?.try_into().ok()?));
    let head = Head {
        lowest: FORMAT,
        highest: FORMAT,
        initiator: NodeTag(number(6)?),
        responder: NodeTag(number(10)?),
    };
    let (theirs, answer) = (initiator.get(HEAD..HEAD + HALF)?, responder.get(..1 + 4 + HALF)?);
    let (from, to) = identities(head);
    // The responder's own half cannot be made again: what it has kept secret of it is gone.
    let (state, _) = Spake2::<Ed25519Group>::start_b(&guess.password(), &from, &to);
    let key = state.finish(theirs).ok()?;
    let transcript = [&head.bytes()[..], theirs, answer].concat();
    let agreement = Agreement { key, transcript };
    let proof = initiator.get(HEAD + HALF..HEAD + HALF + PROOF)?;
    Some(agreement.mac(INITIATOR.proves, b"").verify_slice(proof).is_ok())
}

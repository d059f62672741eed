//! The handshake: both ends prove that they know the cluster's secret, by signing each other's nonce.
//!
//! | step | from | format 1 | format 2 appends |
//! |---|---|---|---|
//! | 1 | initiator | `SBXL`, the lowest and the highest format it reads (1, 1), its tag (4), the tag it expects (4), a nonce (16) | nothing |
//! | 2 | responder | the format (1), its tag (4), a nonce (16), its signature (32) | its extension |
//! | 3 | initiator | its signature (32) | its extension |
//!
//! The responder chooses the highest format that both read, and closes the connection when there is none, or when it is not the
//! node that is expected. A signature is HMAC-SHA256 over who signs (`asked` for the responder, `asker` for the initiator), the
//! format, the initiator's tag, the responder's tag and both nonces, the initiator's first.
//!
//! An extension is a length (2, big-endian), so many bytes of [`Metadata`], and an HMAC-SHA256 (32) over all that its sender has
//! signed before and these bytes. It is where later versions say more about themselves: entries with unknown keys are skipped.

use std::{ops::RangeInclusive, sync::Arc};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use signalbox_cluster::{NodeTag, envelope::Metadata};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::LinkError;

const MAGIC: &[u8; 4] = b"SBXL";
/// The formats that this version reads.
const FORMATS: RangeInclusive<u8> = 1..=2;
/// The first format with extensions.
const EXTENSIBLE: u8 = 2;

const NONCE: usize = 16;
const SIGNATURE: usize = 32;

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

    fn mac(&self, transcript: &Transcript, signer: &[u8], extension: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length.
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0).expect("any length");
        mac.update(signer);
        mac.update(&[transcript.format]);
        mac.update(&transcript.initiator.0.to_be_bytes());
        mac.update(&transcript.responder.0.to_be_bytes());
        mac.update(&transcript.nonces[0]);
        mac.update(&transcript.nonces[1]);
        mac.update(extension);
        mac
    }

    fn sign(&self, transcript: &Transcript, signer: &[u8], extension: &[u8]) -> [u8; SIGNATURE] {
        self.mac(transcript, signer, extension).finalize().into_bytes().into()
    }

    fn verify(&self, transcript: &Transcript, signer: &[u8], extension: &[u8], signature: &[u8]) -> bool {
        self.mac(transcript, signer, extension).verify_slice(signature).is_ok()
    }

    /// The extension that a signer sends in format 2. There is nothing to say yet.
    fn extension(&self, transcript: &Transcript, signer: &[u8]) -> Vec<u8> {
        if transcript.format < EXTENSIBLE {
            return Vec::new();
        }
        let mut metadata = Vec::new();
        Metadata::default().write(&mut metadata);
        let mut extension = (metadata.len() as u16).to_be_bytes().to_vec();
        extension.extend_from_slice(&metadata);
        extension.extend_from_slice(&self.sign(transcript, signer, &metadata));
        extension
    }

    /// Reads the other end's extension; `None` if it is not signed, or malformed. Only an authenticated node's is read.
    async fn read_extension(
        &self,
        stream: &mut TcpStream,
        transcript: &Transcript,
        signer: &[u8],
    ) -> Option<Metadata> {
        if transcript.format < EXTENSIBLE {
            return Some(Metadata::default());
        }
        let mut bytes = vec![0; usize::from(stream.read_u16().await.ok()?)];
        stream.read_exact(&mut bytes).await.ok()?;
        let mut signature = [0; SIGNATURE];
        stream.read_exact(&mut signature).await.ok()?;
        let is_signed = self.verify(transcript, signer, &bytes, &signature);
        is_signed.then(|| Metadata::read(&bytes).ok())?.map(|(metadata, _)| metadata)
    }
}

/// The two ends, as they sign; and as they sign their extensions.
const RESPONDER: &[u8] = b"asked";
const INITIATOR: &[u8] = b"asker";
const RESPONDER_EXTENSION: &[u8] = b"asked, extension";
const INITIATOR_EXTENSION: &[u8] = b"asker, extension";

/// What both ends sign.
struct Transcript {
    format: u8,
    initiator: NodeTag,
    responder: NodeTag,
    nonces: [[u8; NONCE]; 2],
}

fn nonce() -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    rand::fill(&mut nonce);
    nonce
}

/// Opens a connection to a node.
pub(super) async fn initiate(
    stream: &mut TcpStream,
    secret: &Secret,
    initiator: NodeTag,
    responder: NodeTag,
) -> Result<(), LinkError> {
    initiate_within(stream, secret, (initiator, responder), FORMATS).await
}

/// The same for a version that reads these formats.
pub(super) async fn initiate_within(
    stream: &mut TcpStream,
    secret: &Secret,
    (initiator, responder): (NodeTag, NodeTag),
    formats: RangeInclusive<u8>,
) -> Result<(), LinkError> {
    let unreachable = |_| LinkError::Unreachable;
    let own = nonce();
    let mut first = [0; 4 + 2 + 4 + 4 + NONCE];
    first[..4].copy_from_slice(MAGIC);
    first[4..6].copy_from_slice(&[*formats.start(), *formats.end()]);
    first[6..10].copy_from_slice(&initiator.0.to_be_bytes());
    first[10..14].copy_from_slice(&responder.0.to_be_bytes());
    first[14..].copy_from_slice(&own);
    stream.write_all(&first).await.map_err(unreachable)?;

    let mut answer = [0; 1 + 4 + NONCE + SIGNATURE];
    // A node that closes the connection now is not the one that is expected.
    stream.read_exact(&mut answer).await.map_err(|_| LinkError::WrongNode)?;
    let mut theirs = [0; NONCE];
    theirs.copy_from_slice(&answer[5..5 + NONCE]);
    let transcript = Transcript { format: answer[0], initiator, responder, nonces: [own, theirs] };
    let tag = u32::from_be_bytes([answer[1], answer[2], answer[3], answer[4]]);
    let is_signed = secret.verify(&transcript, RESPONDER, b"", &answer[5 + NONCE..]);
    if tag != responder.0 || !is_signed || !formats.contains(&transcript.format) {
        return Err(LinkError::WrongNode);
    }
    let extension = secret.read_extension(stream, &transcript, RESPONDER_EXTENSION).await;
    extension.ok_or(LinkError::WrongNode)?;
    let mut last = secret.sign(&transcript, INITIATOR, b"").to_vec();
    last.extend(secret.extension(&transcript, INITIATOR_EXTENSION));
    stream.write_all(&last).await.map_err(unreachable)
}

/// Answers a node that opens a connection; its tag, if it knows the secret.
pub(super) async fn accept(stream: &mut TcpStream, secret: &Secret, responder: NodeTag) -> Option<NodeTag> {
    accept_within(stream, secret, responder, FORMATS).await
}

/// The same for a version that reads these formats.
pub(super) async fn accept_within(
    stream: &mut TcpStream,
    secret: &Secret,
    responder: NodeTag,
    formats: RangeInclusive<u8>,
) -> Option<NodeTag> {
    let mut first = [0; 4 + 2 + 4 + 4 + NONCE];
    stream.read_exact(&mut first).await.ok()?;
    let number = |at: usize| u32::from_be_bytes([first[at], first[at + 1], first[at + 2], first[at + 3]]);
    let (initiator, expected) = (NodeTag(number(6)), NodeTag(number(10)));
    let format = first[5].min(*formats.end());
    if &first[..4] != MAGIC || expected != responder || format < first[4].max(*formats.start()) {
        return None;
    }
    let own = nonce();
    let mut theirs = [0; NONCE];
    theirs.copy_from_slice(&first[14..]);
    let transcript = Transcript { format, initiator, responder, nonces: [theirs, own] };
    let mut answer = Vec::with_capacity(1 + 4 + NONCE + SIGNATURE);
    answer.push(format);
    answer.extend_from_slice(&responder.0.to_be_bytes());
    answer.extend_from_slice(&own);
    answer.extend_from_slice(&secret.sign(&transcript, RESPONDER, b""));
    answer.extend(secret.extension(&transcript, RESPONDER_EXTENSION));
    stream.write_all(&answer).await.ok()?;
    let mut signature = [0; SIGNATURE];
    stream.read_exact(&mut signature).await.ok()?;
    if !secret.verify(&transcript, INITIATOR, b"", &signature) {
        return None;
    }
    secret.read_extension(stream, &transcript, INITIATOR_EXTENSION).await.map(|_| initiator)
}

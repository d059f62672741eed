//! The handshake: both ends prove that they know the cluster's secret, by signing each other's nonce.
//!
//! | step | from | bytes |
//! |---|---|---|
//! | 1 | initiator | `SBXL`, the lowest and the highest format it speaks (1, 1), its tag (4), the tag it expects (4), a nonce (16) |
//! | 2 | responder | the format (1), its tag (4), a nonce (16), its signature (32) |
//! | 3 | initiator | its signature (32) |
//!
//! The responder chooses the highest format that both speak, and closes the connection when there is none, or when it is not the node
//! that is expected. A signature is HMAC-SHA256 over who signs (`asked` for the responder, `asker` for the initiator), the format, the
//! initiator's tag, the responder's tag and both nonces, the initiator's first.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::LinkError;
use signalbox_cluster::NodeTag;

const MAGIC: &[u8; 4] = b"SBXL";
/// The formats that this node speaks.
const LOWEST: u8 = 1;
const HIGHEST: u8 = 1;

const NONCE: usize = 16;
const SIGNATURE: usize = 32;

/// A secret that the nodes of a cluster share.
#[derive(Clone)]
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

    fn mac(&self, transcript: &Transcript, signer: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length.
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0).expect("any length");
        mac.update(signer);
        mac.update(&[transcript.format]);
        mac.update(&transcript.initiator.0.to_be_bytes());
        mac.update(&transcript.responder.0.to_be_bytes());
        mac.update(&transcript.nonces[0]);
        mac.update(&transcript.nonces[1]);
        mac
    }

    fn sign(&self, transcript: &Transcript, signer: &[u8]) -> [u8; SIGNATURE] {
        self.mac(transcript, signer).finalize().into_bytes().into()
    }

    fn verify(&self, transcript: &Transcript, signer: &[u8], signature: &[u8]) -> bool {
        self.mac(transcript, signer).verify_slice(signature).is_ok()
    }
}

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
    let unreachable = |_| LinkError::Unreachable;
    let own = nonce();
    let mut first = [0; 4 + 2 + 4 + 4 + NONCE];
    first[..4].copy_from_slice(MAGIC);
    first[4..6].copy_from_slice(&[LOWEST, HIGHEST]);
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
    let is_signed = secret.verify(&transcript, b"asked", &answer[5 + NONCE..]);
    if tag != responder.0 || !is_signed || !(LOWEST..=HIGHEST).contains(&transcript.format) {
        return Err(LinkError::WrongNode);
    }
    stream.write_all(&secret.sign(&transcript, b"asker")).await.map_err(unreachable)
}

/// Answers a node that opens a connection; its tag, if it knows the secret.
pub(super) async fn accept(stream: &mut TcpStream, secret: &Secret, responder: NodeTag) -> Option<NodeTag> {
    let mut first = [0; 4 + 2 + 4 + 4 + NONCE];
    stream.read_exact(&mut first).await.ok()?;
    let number = |at: usize| u32::from_be_bytes([first[at], first[at + 1], first[at + 2], first[at + 3]]);
    let (initiator, expected) = (NodeTag(number(6)), NodeTag(number(10)));
    let format = first[5].min(HIGHEST);
    if &first[..4] != MAGIC || expected != responder || format < first[4].max(LOWEST) {
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
    answer.extend_from_slice(&secret.sign(&transcript, b"asked"));
    stream.write_all(&answer).await.ok()?;
    let mut signature = [0; SIGNATURE];
    stream.read_exact(&mut signature).await.ok()?;
    secret.verify(&transcript, b"asker", &signature).then_some(initiator)
}

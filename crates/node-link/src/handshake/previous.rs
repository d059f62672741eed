//! Format 1 of the handshake: what nodes of the previous version speak. Both ends sign each other's nonce with the secret.
//!
//! | step | from | bytes behind the head |
//! |---|---|---|
//! | 1 | initiator | a nonce (16) |
//! | 2 | responder | the format (1), its tag (4), a nonce (16), its signature (32) |
//! | 3 | initiator | its signature (32) |
//!
//! A signature is HMAC-SHA256 over who signs (`asked` for the responder, `asker` for the initiator), the format, the initiator's tag,
//! the responder's tag and both nonces, the initiator's first. The responder signs before it knows who asks, and whoever has a
//! signature can try secrets on it for as long as they like. So this format is spoken only with a node that the cluster knows, and knows
//! to be of the previous version.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use signalbox_cluster::NodeTag;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Head, Secret};
use crate::{LinkError, stream::Stream};

/// The number of this format.
pub(super) const FORMAT: u8 = 1;

const NONCE: usize = 16;
const SIGNATURE: usize = 32;

/// The two ends, as they sign.
const RESPONDER: &[u8] = b"asked";
const INITIATOR: &[u8] = b"asker";

/// What both ends sign.
struct Transcript {
    initiator: NodeTag,
    responder: NodeTag,
    nonces: [[u8; NONCE]; 2],
}

impl Transcript {
    fn mac(&self, secret: &Secret, signer: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length.
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.bytes()).expect("any length");
        mac.update(signer);
        mac.update(&[FORMAT]);
        mac.update(&self.initiator.0.to_be_bytes());
        mac.update(&self.responder.0.to_be_bytes());
        mac.update(&self.nonces[0]);
        mac.update(&self.nonces[1]);
        mac
    }

    fn sign(&self, secret: &Secret, signer: &[u8]) -> [u8; SIGNATURE] {
        self.mac(secret, signer).finalize().into_bytes().into()
    }

    fn verify(&self, secret: &Secret, signer: &[u8], signature: &[u8]) -> bool {
        self.mac(secret, signer).verify_slice(signature).is_ok()
    }
}

fn nonce() -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    rand::fill(&mut nonce);
    nonce
}

/// Opens a connection to a node of the previous version.
pub(super) async fn initiate(stream: &mut Stream, secret: &Secret, head: Head) -> Result<(), LinkError> {
    let own = nonce();
    let first = [&head.bytes()[..], &own].concat();
    stream.write_all(&first).await.map_err(|_| LinkError::Unreachable)?;
    stream.flush().await.map_err(|_| LinkError::Unreachable)?;
    let mut answer = [0; 1 + 4 + NONCE + SIGNATURE];
    // A node that closes the connection now is not the one that is expected.
    stream.read_exact(&mut answer).await.map_err(|_| LinkError::WrongNode)?;
    let mut theirs = [0; NONCE];
    theirs.copy_from_slice(&answer[5..5 + NONCE]);
    let transcript =
        Transcript { initiator: head.initiator, responder: head.responder, nonces: [own, theirs] };
    let is_signed = transcript.verify(secret, RESPONDER, &answer[5 + NONCE..]);
    if answer[0] != FORMAT || answer[1..5] != head.responder.0.to_be_bytes() || !is_signed {
        return Err(LinkError::WrongNode);
    }
    let signature = transcript.sign(secret, INITIATOR);
    stream.write_all(&signature).await.map_err(|_| LinkError::Unreachable)?;
    stream.flush().await.map_err(|_| LinkError::Unreachable)
}

/// Answers a node of the previous version; `None` if it does not know the secret.
pub(super) async fn accept(stream: &mut Stream, secret: &Secret, head: Head) -> Option<()> {
    let own = nonce();
    let mut theirs = [0; NONCE];
    stream.read_exact(&mut theirs).await.ok()?;
    let transcript =
        Transcript { initiator: head.initiator, responder: head.responder, nonces: [theirs, own] };
    let mut answer = Vec::with_capacity(1 + 4 + NONCE + SIGNATURE);
    answer.push(FORMAT);
    answer.extend_from_slice(&head.responder.0.to_be_bytes());
    answer.extend_from_slice(&own);
    answer.extend_from_slice(&transcript.sign(secret, RESPONDER));
    stream.write_all(&answer).await.ok()?;
    stream.flush().await.ok()?;
    let mut signature = [0; SIGNATURE];
    stream.read_exact(&mut signature).await.ok()?;
    transcript.verify(secret, INITIATOR, &signature).then_some(())
}

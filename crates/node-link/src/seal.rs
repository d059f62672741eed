//! Seals: frames are encrypted and authenticated with AES-256-GCM, each direction of each connection with a key of its own. The nonce is
//! the frame's number on its connection, which is not sent: a frame that was changed, left out, repeated or moved does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Bytes that a seal adds to a frame.
pub(super) const TAG: usize = 16;

/// What one direction of a connection is sealed with.
pub(super) struct Seal {
    key: LessSafeKey,
    /// The number of the next frame.
    next: u64,
}

/// The bytes are not what the other end has sealed.
#[derive(Debug)]
pub(super) struct Broken;

impl Seal {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("the key is as long as the algorithm wants it");
        Self { key: LessSafeKey::new(key), next: 0 }
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - 8..].copy_from_slice(&self.next.to_be_bytes());
        // At a billion frames a second it would take 584 years.
        self.next += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts a frame in place. `length`, which is sent in clear, is authenticated with it.
    pub(super) fn seal(&mut self, length: [u8; 4], frame: &mut [u8]) -> Result<[u8; TAG], Broken> {
        let nonce = self.nonce();
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(length), frame).map_err(|_| Broken)?;
        tag.as_ref().try_into().map_err(|_| Broken)
    }

    /// Decrypts in place what [`seal`](Self::seal) made, with its tag at the end.
    pub(super) fn open(&mut self, length: [u8; 4], sealed: &mut [u8]) -> Result<(), Broken> {
        let nonce = self.nonce();
        self.key.open_in_place(nonce, Aad::from(length), sealed).map(drop).map_err(|_| Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seals() -> (Seal, Seal) {
        (Seal::new(&[7; 32]), Seal::new(&[7; 32]))
    }

    fn sealed(seal: &mut Seal, text: &[u8]) -> Vec<u8> {
        let mut bytes = text.to_vec();
        let tag = seal.seal([0; 4], &mut bytes).unwrap();
        bytes.extend_from_slice(&tag);
        bytes
    }

    #[test]
    fn what_was_sealed_is_opened_and_cannot_be_read_before() {
        let (mut one, mut other) = seals();
        for text in [&b"first"[..], b"", b"third"] {
            let mut bytes = sealed(&mut one, text);
            assert!(text.is_empty() || &bytes[..text.len()] != text);
            other.open([0; 4], &mut bytes).unwrap();
            assert_eq!(&bytes[..text.len()], text);
        }
    }

    #[test]
    fn what_was_changed_repeated_or_left_out_does_not_open() {
        for bit in 0..8 * (5 + TAG) {
            let (mut one, mut other) = seals();
            let mut bytes = sealed(&mut one, b"first");
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(other.open([0; 4], &mut bytes).is_err(), "bit {bit}");
        }
        let (mut one, mut other) = seals();
        let (first, second) = (sealed(&mut one, b"first"), sealed(&mut one, b"second"));
        other.open([0; 4], &mut first.clone()).unwrap();
        assert!(other.open([0; 4], &mut first.clone()).is_err());
        let (_, mut other) = seals();
        assert!(other.open([0; 4], &mut second.clone()).is_err());
        let (_, mut other) = seals();
        assert!(other.open([0, 0, 0, 1], &mut first.clone()).is_err());
    }
}

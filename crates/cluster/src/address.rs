//! Addresses of sessions and sockets: 15 bytes, written as 20 characters of `[A-Za-z0-9_-]`.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// Tells one start of one node from all others: 32 random bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeTag(pub u32);

impl fmt::Display for NodeTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The owner of a record in the shared store: a node in one of its epochs. A node that lost its lease begins a new epoch and
/// writes its records again; records of its earlier epochs are dead, and any node may remove them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// The node.
    pub tag: NodeTag,
    /// The number of its lease; later leases have larger ones.
    pub epoch: u64,
}

impl NodeTag {
    /// A fresh tag.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

/// A shard (a worker thread) of a node.
pub type ShardId = u8;

/// The birthplace of a session or socket, and 80 random bits that nobody can guess: node tag (4 bytes), shard (1), random (10).
/// When a session has moved, its birthplace knows where it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address([u8; 15]);

impl Address {
    /// Characters of the written form.
    pub const LEN: usize = 20;

    /// A fresh address.
    pub fn random(node: NodeTag, shard: ShardId) -> Self {
        let mut bytes = [0; 15];
        bytes[..4].copy_from_slice(&node.0.to_be_bytes());
        bytes[4] = shard;
        rand::fill(&mut bytes[5..]);
        Self(bytes)
    }

    /// The node it was born on.
    pub fn node(&self) -> NodeTag {
        NodeTag(u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]]))
    }

    /// The shard it was born on.
    pub fn shard(&self) -> ShardId {
        self.0[4]
    }

    /// Reads the written form; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != Self::LEN {
            return None;
        }
        let mut bytes = [0; 15];
        let read = BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        (read == bytes.len()).then_some(Self(bytes))
    }

    /// The 15 bytes.
    pub fn as_bytes(&self) -> &[u8; 15] {
        &self.0
    }

    /// An address of its 15 bytes.
    pub fn from_bytes(bytes: [u8; 15]) -> Self {
        Self(bytes)
    }

    /// Whether `text` has the shape of an address. No room may have such a name.
    pub fn is_shape_of(text: &str) -> bool {
        text.len() == Self::LEN
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    }

    /// The written form, without an allocation.
    pub fn written(&self) -> Written {
        let mut text = [0; Self::LEN];
        // 15 bytes are exactly 20 characters.
        let _ = BASE64_URL_SAFE_NO_PAD.encode_slice(self.0, &mut text);
        Written(text)
    }
}

/// The written form of an [`Address`]. Its order is that of the text, which is not that of the address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written([u8; Address::LEN]);

impl std::ops::Deref for Written {
    type Target = str;
    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_back() {
        let address = Address::random(NodeTag(0xDEAD_BEEF), 7);
        assert_eq!(address.to_string().len(), 20);
        assert!(Address::is_shape_of(&address.to_string()));
        assert_eq!(Address::parse(&address.to_string()), Some(address));
        assert_eq!((address.node(), address.shard()), (NodeTag(0xDEAD_BEEF), 7));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "short",
            "01234567890123456789a",
            "0123456789 123456789",
            "012345678901234567+9",
            "é234567890123456789",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
            assert!(!Address::is_shape_of(text));
        }
    }
}

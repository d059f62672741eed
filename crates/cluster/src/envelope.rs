//! The bytes around everything that one process writes and another reads: bus messages, messages between nodes, records,
//! sessions.
//!
//! | format | bytes |
//! |---|---|
//! | 1 | `1`, the value ([postcard](https://postcard.jamesmunns.com/wire-format)) |
//! | 2 | `2`, the metadata, the value |
//!
//! Metadata is a count (1 byte), and for each entry its key (1), the length of its value (2, big-endian) and the value. A reader
//! skips keys that it does not know, so that entries can be added without a new format.
//!
//! A node reads both formats. It writes format 1 until every node of the cluster says that it reads format 2
//! ([`NodeInfo::reads`](crate::NodeInfo::reads)), and again as soon as a node joins that does not:
//! [`Cluster::write_format`](crate::Cluster::write_format). So a rolling update, in which nodes of two versions run side by side, loses
//! nothing.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A format that this version reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Format {
    /// Without metadata.
    V1 = 1,
    /// With metadata.
    V2 = 2,
}

impl Format {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// The byte that a message of this format begins with.
    pub fn byte(self) -> u8 {
        self as u8
    }

    /// Reads that byte; `None` for a format that this version does not know.
    pub fn of_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.byte() == byte)
    }
}

/// The formats that a node reads, both ends included. They are numbers and no [`Format`]s, since a later version knows more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatRange {
    /// The oldest.
    pub lowest: u8,
    /// The newest.
    pub highest: u8,
}

impl FormatRange {
    /// What this version reads.
    pub const CURRENT: Self = Self { lowest: Format::V1 as u8, highest: Format::V2 as u8 };
    /// What a node reads whose description states no formats: its version is older than that field.
    pub const UNSTATED: Self = Self { lowest: Format::V1 as u8, highest: Format::V1 as u8 };

    /// Whether a node reads a format.
    pub fn contains(self, format: Format) -> bool {
        (self.lowest..=self.highest).contains(&format.byte())
    }
}

/// The newest format that every one of these nodes reads; the oldest, if there is none.
pub fn common_format(reads: impl IntoIterator<Item = FormatRange>) -> Format {
    let reads: Vec<FormatRange> = reads.into_iter().collect();
    let is_common = |format: &Format| reads.iter().all(|range| range.contains(*format));
    Format::ALL.into_iter().rev().find(is_common).unwrap_or(Format::V1)
}

/// What an entry of [`Metadata`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum MetadataKey {
    /// The W3C trace context of what caused the message, as its `traceparent` header has it.
    TraceContext = 1,
    /// The message's position in a stream from which a client may resume.
    Offset = 2,
    /// The formats that a node reads: the lowest and the highest, a byte each.
    ReadsFormats = 3,
    /// When the message was sent by the clock of its node's machine: microseconds since 1970, 8 bytes, big-endian.
    SentAt = 4,
    /// How a node's link is spoken to: a byte, 1 where it takes TLS.
    NodeLink = 5,
    /// What a node is doing: a byte, 1 while it writes its records again.
    NodeState = 6,
    /// Of the handshake of a node link: the stream that begins or goes on, as `signalbox_node_link` has it.
    Resume = 7,
}

impl MetadataKey {
    fn of_byte(byte: u8) -> Option<Self> {
        let all = [
            Self::TraceContext,
            Self::Offset,
            Self::ReadsFormats,
            Self::SentAt,
            Self::NodeLink,
            Self::NodeState,
            Self::Resume,
        ];
        all.into_iter().find(|key| *key as u8 == byte)
    }
}

/// What a message carries beside its value. Empty metadata allocates nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata(Vec<(MetadataKey, Box<[u8]>)>);

impl Metadata {
    /// The value of an entry.
    pub fn get(&self, key: MetadataKey) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, value)| &**value)
    }

    /// The same of an entry that is text; `None` for one that is none.
    pub fn text(&self, key: MetadataKey) -> Option<&str> {
        std::str::from_utf8(self.get(key)?).ok()
    }

    /// Adds an entry, or replaces it. A value of more than 65,535 bytes is ignored: nothing that long belongs here.
    pub fn insert(&mut self, key: MetadataKey, value: impl Into<Box<[u8]>>) {
        let value = value.into();
        if u16::try_from(value.len()).is_err() {
            return;
        }
        self.0.retain(|(known, _)| *known != key);
        self.0.push((key, value));
    }

    /// The same with an entry.
    #[must_use]
    pub fn with(mut self, key: MetadataKey, value: impl Into<Box<[u8]>>) -> Self {
        self.insert(key, value);
        self
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends its bytes, as they are in format 2.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        // There are as many entries as keys at most.
        bytes.push(self.0.len() as u8);
        for (key, value) in &self.0 {
            bytes.push(*key as u8);
            bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
            bytes.extend_from_slice(value);
        }
    }

    /// Reads it from the beginning of `bytes`, and gives back what follows.
    ///
    /// # Errors
    /// The bytes end before the metadata does.
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), EnvelopeError> {
        let (count, mut rest) = bytes.split_first().ok_or(EnvelopeError::Malformed)?;
        let mut metadata = Self::default();
        for _ in 0..*count {
            let (head, after) = rest.split_at_checked(3).ok_or(EnvelopeError::Malformed)?;
            let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
            let (value, after) = after.split_at_checked(length).ok_or(EnvelopeError::Malformed)?;
            if let Some(key) = MetadataKey::of_byte(head[0]) {
                metadata.insert(key, value);
            }
            rest = after;
        }
        Ok((metadata, rest))
    }
}

/// Why bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A later version wrote them.
    #[error("unknown format version")]
    Format,
    /// They are malformed.
    #[error("malformed message")]
    Malformed,
}

/// What the bytes of a message begin with: the format, and in format 2 the metadata.
pub fn head(format: Format, metadata: &Metadata) -> Vec<u8> {
    let mut bytes = vec![format.byte()];
    if format >= Format::V2 {
        metadata.write(&mut bytes);
    }
    bytes
}

/// Reads that beginning, and gives back what follows. Format 1 has no metadata.
///
/// # Errors
/// The format is unknown, or the bytes end too early.
pub fn split(bytes: &[u8]) -> Result<(Metadata, &[u8]), EnvelopeError> {
    let (format, rest) = bytes.split_first().ok_or(EnvelopeError::Malformed)?;
    match Format::of_byte(*format) {
        Some(Format::V1) => Ok((Metadata::default(), rest)),
        Some(Format::V2) => Metadata::read(rest),
        None => Err(EnvelopeError::Format),
    }
}

/// Writes a value. Format 1 drops the metadata.
pub fn encode<T: Serialize + ?Sized>(format: Format, metadata: &Metadata, value: &T) -> Bytes {
    // Postcard fails only for sequences of unknown length, which nothing here has.
    postcard::to_extend(value, head(format, metadata)).unwrap_or_default().into()
}

/// Reads what [`encode`] wrote, in any of the formats. The value may borrow from `bytes`.
///
/// # Errors
/// The format is unknown, or the bytes are no value of this type.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(Metadata, T), EnvelopeError> {
    let (metadata, value) = split(bytes)?;
    let value = postcard::from_bytes(value).map_err(|_| EnvelopeError::Malformed)?;
    Ok((metadata, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn traced() -> Metadata {
        Metadata::default().with(MetadataKey::TraceContext, *b"00-trace-span-01")
    }

    #[test]
    fn both_formats_are_read() {
        let value = (7_u32, "seven");
        for format in Format::ALL {
            let bytes = encode(format, &traced(), &value);
            assert_eq!(bytes[0], format.byte());
            let (metadata, read): (Metadata, (u32, &str)) = decode(&bytes).unwrap();
            assert_eq!(read, value);
            assert_eq!(metadata, if format == Format::V1 { Metadata::default() } else { traced() });
        }
    }

    #[test]
    fn format_1_is_what_earlier_versions_write() {
        let value = (7_u32, "seven");
        let bytes = encode(Format::V1, &traced(), &value);
        assert_eq!(bytes, [&[1][..], &postcard::to_stdvec(&value).unwrap()].concat());
    }

    #[test]
    fn unknown_metadata_is_skipped() {
        let mut bytes = vec![2, 3];
        bytes.extend_from_slice(&[200, 0, 2, 9, 9]);
        bytes.extend_from_slice(&[MetadataKey::Offset as u8, 0, 1, 5]);
        bytes.extend_from_slice(&[201, 0, 0]);
        bytes.extend_from_slice(&postcard::to_stdvec("value").unwrap());
        let (metadata, value): (Metadata, &str) = decode(&bytes).unwrap();
        assert_eq!(value, "value");
        assert_eq!(metadata, Metadata::default().with(MetadataKey::Offset, [5]));
    }

    #[test]
    fn later_formats_and_cut_off_bytes_are_refused() {
        let mut bytes = encode(Format::V2, &traced(), "value").to_vec();
        bytes[0] = 3;
        assert_eq!(decode::<&str>(&bytes), Err(EnvelopeError::Format));
        bytes[0] = 2;
        for length in 0..bytes.len() {
            assert_eq!(decode::<&str>(&bytes[..length]), Err(EnvelopeError::Malformed), "{length}");
        }
    }

    #[test]
    fn metadata_keeps_one_value_for_a_key_and_none_that_is_too_long() {
        let mut metadata = traced();
        metadata.insert(MetadataKey::TraceContext, vec![0; 65_536]);
        assert_eq!(metadata, traced());
        metadata.insert(MetadataKey::TraceContext, *b"another");
        assert_eq!(metadata.get(MetadataKey::TraceContext), Some(&b"another"[..]));
        assert_eq!(metadata.get(MetadataKey::Offset), None);
    }

    #[test]
    fn nodes_write_what_all_of_them_read() {
        let current = FormatRange::CURRENT;
        assert_eq!(common_format([current, current]), Format::V2);
        assert_eq!(common_format([current, FormatRange::UNSTATED]), Format::V1);
        // A later version that does not read the oldest format any more, and one with nothing in common.
        assert_eq!(common_format([current, FormatRange { lowest: 2, highest: 3 }]), Format::V2);
        assert_eq!(common_format([current, FormatRange { lowest: 3, highest: 4 }]), Format::V1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(format in 0_u8..5, rest: Vec<u8>) {
            let bytes = [&[format][..], &rest].concat();
            match decode::<(u16, String, Option<Vec<u8>>)>(&bytes) {
                Err(EnvelopeError::Format) => prop_assert!(Format::of_byte(format).is_none()),
                Err(EnvelopeError::Malformed) => prop_assert!(Format::of_byte(format).is_some()),
                Ok((metadata, value)) => {
                    // What was read is written and read as the same again.
                    let again = encode(Format::V2, &metadata, &value);
                    prop_assert_eq!(decode(&again), Ok((metadata, value)));
                }
            }
        }
    }
}

//! Outgoing packets: encoded once, shared by every receiver.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use signalbox_websocket::Frame;

use crate::packet::Kind;

/// An outgoing packet as the frames of its Engine.IO messages: the text, then its binary attachments. Cloning shares
/// everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    text: Frame,
    attachments: Option<Arc<[Frame]>>,
}

impl Message {
    /// CONNECT: the namespace was joined, `sid` is the socket's id there.
    pub fn connect(namespace: &str, sid: &str) -> Self {
        #[derive(Serialize)]
        struct Connected<'a> {
            sid: &'a str,
        }
        Self::with_payload(Kind::Connect, namespace, &Connected { sid })
    }

    /// CONNECT_ERROR: the namespace refuses, with a text for people and `data`, JSON for the client. Data that is not valid JSON is
    /// left out: the client could not read the packet.
    pub fn connect_error(namespace: &str, message: &str, data: Option<&str>) -> Self {
        #[derive(Serialize)]
        struct Refused<'a> {
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a RawValue>,
        }
        let data = data.and_then(|data| serde_json::from_str(data).ok());
        Self::with_payload(Kind::ConnectError, namespace, &Refused { message, data })
    }

    fn with_payload(kind: Kind, namespace: &str, payload: &impl Serialize) -> Self {
        // Structs of strings and of JSON that is there already always serialize.
        let payload = serde_json::to_string(payload).unwrap_or_default();
        Self::encode(kind, namespace, None, &[&payload], &[])
    }

    /// DISCONNECT.
    pub fn disconnect(namespace: &str) -> Self {
        Self::encode(Kind::Disconnect, namespace, None, &[], &[])
    }

    /// EVENT, or BINARY_EVENT with attachments. `name` is plain text; `args` is JSON, the elements behind the name without
    /// brackets, in pieces that are joined as they are. With `id` the client is asked for an ack.
    pub fn event(namespace: &str, id: Option<u64>, name: &str, args: &[&str], attachments: &[Bytes]) -> Self {
        let name = serde_json::to_string(name).unwrap_or_default();
        let empty = args.iter().all(|piece| piece.is_empty());
        let mut body = Vec::with_capacity(args.len() + 4);
        body.extend(["[", name.as_str()]);
        if !empty {
            body.push(",");
            body.extend_from_slice(args);
        }
        body.push("]");
        let kind = if attachments.is_empty() { Kind::Event } else { Kind::BinaryEvent };
        Self::encode(kind, namespace, id, &body, attachments)
    }

    /// The same message with each of its frames replaced, which must look the same on the wire.
    pub fn map_frames(self, mut replace: impl FnMut(Frame) -> Frame) -> Self {
        let text = replace(self.text);
        let attachments = self.attachments.map(|frames| frames.iter().cloned().map(replace).collect());
        Self { text, attachments }
    }

    /// ACK, or BINARY_ACK with attachments. `args` is JSON: the elements without brackets, in pieces.
    pub fn ack(namespace: &str, id: u64, args: &[&str], attachments: &[Bytes]) -> Self {
        let mut body = Vec::with_capacity(args.len() + 2);
        body.push("[");
        body.extend_from_slice(args);
        body.push("]");
        let kind = if attachments.is_empty() { Kind::Ack } else { Kind::BinaryAck };
        Self::encode(kind, namespace, Some(id), &body, attachments)
    }

    fn encode(kind: Kind, namespace: &str, id: Option<u64>, body: &[&str], attachments: &[Bytes]) -> Self {
        let head = match kind {
            Kind::Connect => "40",
            Kind::Disconnect => "41",
            Kind::Event => "42",
            Kind::Ack => "43",
            Kind::ConnectError => "44",
            Kind::BinaryEvent => "45",
            Kind::BinaryAck => "46",
        };
        let count = attachments.len().to_string();
        let id = id.map(|id| id.to_string());
        let mut parts: Vec<&str> = Vec::with_capacity(body.len() + 6);
        parts.push(head);
        if !attachments.is_empty() {
            parts.extend([count.as_str(), "-"]);
        }
        if namespace != "/" {
            parts.extend([namespace, ","]);
        }
        parts.extend(id.as_deref());
        parts.extend_from_slice(body);
        Self {
            text: Frame::text_of(&parts),
            attachments: (!attachments.is_empty())
                .then(|| attachments.iter().map(|bytes| Frame::binary(bytes)).collect()),
        }
    }

    /// A packet of the frames that [`Message::frames`] gave; `None` for anything else.
    pub fn from_frames(frames: impl IntoIterator<Item = Frame>) -> Option<Self> {
        let mut frames = frames.into_iter();
        let text = frames.next().filter(|text| !text.is_binary() && text.payload().first() == Some(&b'4'))?;
        let attachments: Vec<Frame> = frames.collect();
        let is_good = attachments.iter().all(Frame::is_binary);
        is_good.then(|| Self { text, attachments: (!attachments.is_empty()).then(|| attachments.into()) })
    }

    /// The frames in the order they are sent.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        std::iter::once(&self.text).chain(self.attachments.iter().flat_map(|frames| frames.iter()))
    }

    /// Bytes of all frames together.
    pub fn len(&self) -> usize {
        self.frames().map(Frame::len).sum()
    }

    /// Never: a packet has at least its type.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The text of the packet, without the Engine.IO type digit.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.payload()[1..]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_written_as_the_reference_does() {
        let bytes = [Bytes::from_static(b"x"), Bytes::from_static(b"y")];
        for (message, text) in [
            (Message::connect("/", "abc"), r#"0{"sid":"abc"}"#),
            (Message::connect("/n", "abc"), r#"0/n,{"sid":"abc"}"#),
            (Message::connect_error("/", "no \"x\"", None), r#"4{"message":"no \"x\""}"#),
            (Message::connect_error("/n", "no", Some("[1]")), r#"4/n,{"message":"no","data":[1]}"#),
            (
                Message::connect_error("/", "no", Some(r#"{"b":1.0}"#)),
                r#"4{"message":"no","data":{"b":1.0}}"#,
            ),
            (Message::connect_error("/", "no", Some("[1")), r#"4{"message":"no"}"#),
            (Message::disconnect("/"), "1"),
            (Message::disconnect("/n"), "1/n,"),
            (Message::event("/", None, "a", &[], &[]), r#"2["a"]"#),
            (Message::event("/", None, "a", &["1", ",", "2"], &[]), r#"2["a",1,2]"#),
            (Message::event("/n", Some(7), "a", &["1"], &bytes), r#"52-/n,7["a",1]"#),
            (Message::ack("/", 3, &[], &[]), "33[]"),
            (Message::ack("/n", 3, &["1"], &bytes[..1]), "61-/n,3[1]"),
        ] {
            assert_eq!(message.text(), text);
        }
    }

    #[test]
    fn a_packet_is_put_together_again_from_its_frames() {
        let bytes = [Bytes::from_static(b"x"), Bytes::from_static(b"y")];
        for message in [Message::event("/", None, "a", &["1"], &[]), Message::ack("/n", 3, &[], &bytes)] {
            assert_eq!(Message::from_frames(message.frames().cloned()), Some(message));
        }
        for frames in
            [vec![], vec![Frame::binary(b"4")], vec![Frame::text("2")], vec![Frame::text("42[]"); 2]]
        {
            assert_eq!(Message::from_frames(frames), None);
        }
    }
}

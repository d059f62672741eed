//! RFC 6455 frames for a server that holds many connections and trusts none of them.
//!
//! In the order that data flows:
//!
//! - [`Parser`] takes the bytes of one connection, in whatever pieces they arrive, and gives back messages. It judges a
//!   frame by its *header*: a frame that declares more than the limit is refused before one byte of it is kept.
//! - [`Frame`] is one outgoing frame, encoded once and shared by everybody who is to receive it. Frames of a server are
//!   unmasked, so the same bytes are right for every connection.
//!
//! There is no socket, no clock and no handshake here.
//!
//! ```
//! use signalbox_websocket::{Frame, Message, Parser};
//!
//! let mut parser = Parser::new(1_000_000);
//! // A client's masked text frame "hi" (mask 0).
//! let mut wire = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
//! let mut input = &mut wire[..];
//! assert_eq!(parser.next(&mut input).unwrap(), Some(Message::Text("hi")));
//! assert_eq!(&Frame::text("hi").bytes()[..], &[0x81, 2, b'h', b'i']);
//! ```

mod frame;
mod parser;

pub use frame::Frame;
pub use parser::{Message, Parser, ProtocolError};

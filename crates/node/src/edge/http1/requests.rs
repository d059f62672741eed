//! The requests of a connection: which of its bytes are heads, what the dispatcher gets for them, and where nothing more is read.

use actix_http::StatusCode;
use bytes::{Buf, BytesMut};

use super::{
    chunked::Chunked,
    head::{Follows, judge},
};

/// Stands for a head that is refused; whoever answers is told so by another way, see [`super::Exchange`].
const REFUSED: &[u8] = b"GET / HTTP/1.1\r\nHost: -\r\nConnection: close\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Body(u64),
    Chunked(Chunked),
    /// The rest is not looked at.
    Opaque,
    /// The rest is not even given on.
    Ended,
}

/// What a connection is in the midst of sending, with a number that tells it from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished {
    Head(u64),
    Body(u64),
}

/// What the bytes of a connection are.
#[derive(Debug)]
pub(super) struct Requests {
    /// Most bytes in a head.
    max_head: usize,
    stage: Stage,
    /// Heads that have ended so far.
    heads: u64,
    /// Of a head that has not arrived whole.
    partial: BytesMut,
    /// How much of it cannot hold the head's end.
    searched: usize,
    /// Bytes of the present body that have come.
    body_read: u64,
    /// The present request is the last one.
    is_last: bool,
}

/// A head has been passed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passed {
    Head,
    /// In the place of one that is refused with this status.
    Refused(StatusCode),
}

impl Requests {
    pub(super) fn new(max_head: usize) -> Self {
        Self {
            max_head,
            stage: Stage::Head,
            heads: 0,
            partial: BytesMut::new(),
            searched: 0,
            body_read: 0,
            is_last: false,
        }
    }

    /// What has begun and has not ended. The first head begins with the connection.
    pub(super) fn unfinished(&self) -> Option<Unfinished> {
        match self.stage {
            Stage::Head if self.heads > 0 && self.partial.is_empty() => None,
            Stage::Head => Some(Unfinished::Head(self.heads)),
            Stage::Body(_) | Stage::Chunked(_) => Some(Unfinished::Body(self.heads)),
            Stage::Opaque | Stage::Ended => None,
        }
    }

    /// How much has come of the body that has begun and has not ended, in chunks with what these take.
    pub(super) fn body_read(&self) -> Option<u64> {
        matches!(self.stage, Stage::Body(_) | Stage::Chunked(_)).then_some(self.body_read)
    }

    /// Has the connection answered with this, and reads nothing more of it.
    pub(super) fn refuse(&mut self, status: StatusCode, out: &mut BytesMut, mut on_head: impl FnMut(Passed)) {
        out.extend_from_slice(REFUSED);
        self.stage = Stage::Ended;
        self.partial = BytesMut::new();
        on_head(Passed::Refused(status));
    }

    /// Whether bytes go through without being looked at, and how many of them at most.
    pub(super) fn is_transparent(&self) -> bool {
        self.stage == Stage::Opaque
    }

    /// Whether the connection holds nothing of a request.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.stage == Stage::Head && self.partial.is_empty()
    }

    /// How many of the bytes, from the first on, the dispatcher gets as they are. It must be given the rest with [`Self::push`].
    pub(super) fn pass(&mut self, bytes: &[u8], mut on_head: impl FnMut(Passed)) -> usize {
        let mut at = 0;
        if !self.partial.is_empty() {
            return at;
        }
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.stage {
                Stage::Head => {
                    let Some(end) = head_end(rest, 0).filter(|_| !is_blank(rest[0])) else { break };
                    if end > self.max_head {
                        break;
                    }
                    match judge(&rest[..end]) {
                        Ok(judged) if judged.rewritten.is_none() => {
                            self.enter(judged.follows, judged.is_last);
                            on_head(Passed::Head);
                            at += end;
                        }
                        _ => break,
                    }
                }
                Stage::Opaque => return bytes.len(),
                Stage::Ended => break,
                Stage::Body(_) | Stage::Chunked(_) => at += self.body(rest),
            }
        }
        at
    }

    /// Takes bytes in; what the dispatcher gets for them is added to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut BytesMut, mut on_head: impl FnMut(Passed)) {
        if self.stage == Stage::Ended {
            return;
        }
        self.partial.extend_from_slice(bytes);
        while !self.partial.is_empty() {
            match self.stage {
                Stage::Head => {
                    // Empty lines in front of a request are ignored (RFC 9112 §2.2).
                    let blank = self.partial.iter().take_while(|byte| is_blank(**byte)).count();
                    self.partial.advance(blank);
                    let Some(end) = head_end(&self.partial, self.searched) else {
                        self.searched = self.partial.len().saturating_sub(3);
                        if self.partial.len() > self.max_head {
                            self.refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, out, &mut on_head);
                        }
                        break;
                    };
                    self.searched = 0;
                    if end > self.max_head {
                        self.refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, out, &mut on_head);
                        break;
                    }
                    let head = self.partial.split_to(end);
                    match judge(&head) {
                        Ok(judged) => {
                            out.extend_from_slice(judged.rewritten.as_deref().unwrap_or(&head));
                            self.enter(judged.follows, judged.is_last);
                            on_head(Passed::Head);
                        }
                        Err(status) => self.refuse(status, out, &mut on_head),
                    }
                }
                Stage::Body(_) | Stage::Chunked(_) => {
                    let bytes = self.partial.split();
                    let length = self.body(&bytes);
                    out.extend_from_slice(&bytes[..length]);
                    self.partial.extend_from_slice(&bytes[length..]);
                }
                Stage::Opaque => {
                    out.extend_from_slice(&self.partial);
                    self.partial.clear();
                }
                Stage::Ended => self.partial.clear(),
            }
        }
        if self.partial.is_empty() {
            // A connection that is idle holds no buffer.
            self.partial = BytesMut::new();
        }
    }

    fn enter(&mut self, follows: Follows, is_last: bool) {
        self.heads += 1;
        self.body_read = 0;
        self.is_last = is_last;
        match follows {
            Follows::Body(0) => self.end_request(),
            Follows::Body(length) => self.stage = Stage::Body(length),
            Follows::Chunked => self.stage = Stage::Chunked(Chunked::START),
            Follows::OtherProtocol => self.stage = Stage::Opaque,
        }
    }

    /// Goes on through a body; how many of the bytes belong to it.
    fn body(&mut self, bytes: &[u8]) -> usize {
        let length = self.advance_body(bytes);
        self.body_read += length as u64;
        length
    }

    fn advance_body(&mut self, bytes: &[u8]) -> usize {
        match &mut self.stage {
            Stage::Body(left) => {
                let length = (*left).min(bytes.len() as u64);
                *left -= length;
                if *left == 0 {
                    self.end_request();
                }
                length as usize
            }
            Stage::Chunked(chunked) => match chunked.advance(bytes) {
                Ok(Some(length)) => {
                    self.end_request();
                    length
                }
                Ok(None) => bytes.len(),
                Err(_) => {
                    // The dispatcher refuses it, and closes.
                    self.stage = Stage::Opaque;
                    bytes.len()
                }
            },
            _ => 0,
        }
    }

    fn end_request(&mut self) {
        self.stage = if self.is_last { Stage::Ended } else { Stage::Head };
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// How long a head is that is whole; what stands before `from` does not end it.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(feed) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        at += feed + 1;
        match bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the dispatcher gets for `input`, in pieces of `size`, and how many heads that are.
    fn through(input: &str, size: usize) -> (String, Vec<Passed>, bool) {
        let mut requests = Requests::new(1_000);
        let (mut text, mut heads) = (Vec::new(), Vec::new());
        for piece in input.as_bytes().chunks(size) {
            let passed = requests.pass(piece, |head| heads.push(head));
            text.extend_from_slice(&piece[..passed]);
            if passed < piece.len() {
                let mut out = BytesMut::new();
                requests.push(&piece[passed..], &mut out, |head| heads.push(head));
                text.extend_from_slice(&out);
            }
        }
        (String::from_utf8(text).unwrap(), heads, requests.is_idle())
    }

    /// The same in pieces of any size.
    fn all(input: &str) -> (String, Vec<Passed>, bool) {
        let whole = through(input, input.len());
        for size in 1..input.len() {
            let pieces = through(input, size);
            assert_eq!(pieces, whole, "in pieces of {size}");
        }
        whole
    }

    const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    const POST: &str = "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET ";
    const CHUNKED: &str =
        "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n";

    #[test]
    fn requests_that_need_nothing_go_through_unchanged() {
        let input = [GET, POST, CHUNKED, GET, GET].concat();
        let (text, heads, is_idle) = all(&input);
        assert_eq!((text, heads.len(), is_idle), (input, 5, true));
    }

    #[test]
    fn a_head_is_rewritten_and_its_neighbours_are_not() {
        let odd = "GET /<a> HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n";
        let (text, ..) = all(&[POST, "\r\n", odd, CHUNKED].concat());
        assert_eq!(text, [POST, "GET /%3Ca%3E HTTP/1.1\r\nHost: a\r\n\r\n", CHUNKED].concat());
    }

    #[test]
    fn behind_a_last_request_nothing_is_read() {
        let last = "POST /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
        let (text, heads, _) = all(&[last, GET, GET].concat());
        assert_eq!((text.as_str(), heads.len()), (last, 1));
    }

    #[test]
    fn behind_an_upgrade_everything_goes_through() {
        let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let input = [upgrade, "\r\n\r\nno head <>\r\n\r\n"].concat();
        assert_eq!(all(&input).0, input);
    }

    #[test]
    fn a_refused_head_is_the_last() {
        let (text, heads, _) = all(&[GET, "GET / HTTP/1.1\r\n\r\n", GET].concat());
        assert_eq!(text.as_bytes(), [GET.as_bytes(), REFUSED].concat());
        assert_eq!(heads, [Passed::Head, Passed::Refused(StatusCode::BAD_REQUEST)]);
    }

    #[test]
    fn a_head_that_is_too_large_is_refused() {
        let head = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length));
        let whole = GET.len() - "a".len();
        let (text, heads, _) = all(&[&head(1_000 - whole), GET].concat());
        assert_eq!((text.len(), heads.len()), (1_000 + GET.len(), 2));
        for input in [&*head(1_001 - whole), &head(5_000), &"a".repeat(1_001)] {
            let (text, heads, _) = all(&[GET, input].concat());
            assert_eq!(text.as_bytes(), [GET.as_bytes(), REFUSED].concat());
            assert_eq!(heads, [Passed::Head, Passed::Refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)]);
        }
    }

    #[test]
    fn it_is_known_what_is_unfinished() {
        let mut requests = Requests::new(1_000);
        let mut at = |bytes: &str| {
            let passed = requests.pass(bytes.as_bytes(), |_| {});
            requests.push(&bytes.as_bytes()[passed..], &mut BytesMut::new(), |_| {});
            requests.unfinished()
        };
        assert_eq!(at(""), Some(Unfinished::Head(0)));
        assert_eq!(at("GET"), Some(Unfinished::Head(0)));
        assert_eq!(at(&GET[3..]), None);
        assert_eq!(at("\r\n"), None);
        assert_eq!(at(&POST[..POST.len() - 1]), Some(Unfinished::Body(2)));
        assert_eq!(at(" GET"), Some(Unfinished::Head(2)));
        assert_eq!(at(&[&GET[3..], &CHUNKED[..CHUNKED.len() - 2]].concat()), Some(Unfinished::Body(4)));
        assert_eq!(at("\r\n"), None);
    }

    #[test]
    fn a_malformed_chunk_is_left_to_the_dispatcher() {
        let input = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n\r\nGET <> HTTP/1.1\r\n\r\n";
        assert_eq!(all(input).0, input);
    }
}

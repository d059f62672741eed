//! A request's head, judged, and rewritten where the dispatcher would take it otherwise than it is meant.

use std::borrow::Cow;

use actix_http::{StatusCode, Uri};
use httparse::{EMPTY_HEADER, Header};
use smallvec::SmallVec;

/// How many header lines the dispatcher takes.
const MOST_LINES: usize = 96;
/// How many are read; Node's limit.
const MOST_READ: usize = 2000;
/// Longer targets may be refused, see [`Uri`].
const SHORT_TARGET: usize = 60_000;

/// The headers that are kept where not all can be: those that the node itself reads.
const READ_HERE: [&str; 14] = [
    "host",
    "connection",
    "upgrade",
    "origin",
    "cookie",
    "authorization",
    "x-forwarded-for",
    "content-length",
    "transfer-encoding",
    "content-type",
    "accept-encoding",
    "expect",
    "access-control-request-headers",
    "if-none-match",
];

/// What comes behind a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    /// A body of so many bytes.
    Body(u64),
    /// A chunked body.
    Chunked,
    /// Another protocol, to the end of the connection.
    OtherProtocol,
}

/// A head that the dispatcher may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// What it is given in the place of the head, where that is not the head itself.
    pub(super) rewritten: Option<Vec<u8>>,
    pub(super) follows: Follows,
    /// The client says that it is the connection's last request.
    pub(super) is_last: bool,
}

/// Judges a head, which ends with its empty line.
///
/// # Errors
/// The status to refuse it with.
pub(super) fn judge(head: &[u8]) -> Result<Judged, StatusCode> {
    // A proxy in front may see two lines where the parser sees one, or the other way round (RFC 9112 §2.2).
    let is_bare = |(index, byte): (usize, &u8)| *byte == b'\n' && (index == 0 || head[index - 1] != b'\r');
    if head.iter().enumerate().any(is_bare) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let mut lines = [EMPTY_HEADER; MOST_LINES];
    let mut request = httparse::Request::new(&mut lines);
    let mut many;
    match request.parse(head) {
        Err(httparse::Error::TooManyHeaders) => {
            many = vec![EMPTY_HEADER; MOST_READ];
            request = httparse::Request::new(&mut many);
            match request.parse(head) {
                Err(httparse::Error::TooManyHeaders) => {
                    return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
                }
                parsed => parsed.map_err(|_| StatusCode::BAD_REQUEST)?,
            }
        }
        parsed => parsed.map_err(|_| StatusCode::BAD_REQUEST)?,
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(StatusCode::BAD_REQUEST);
    };
    let head = Head { method, target, version, lines: request.headers };
    head.judge()
}

struct Head<'a> {
    method: &'a str,
    target: &'a str,
    /// 0 or 1, of HTTP/1.
    version: u8,
    lines: &'a [Header<'a>],
}

impl<'a> Head<'a> {
    fn judge(&self) -> Result<Judged, StatusCode> {
        let follows = self.body()?;
        let hosts = self.values("host").count();
        if hosts > 1 || hosts == 0 && self.version == 1 {
            return Err(StatusCode::BAD_REQUEST);
        }
        let target = escaped(self.target);
        if !target.is_ascii()
            || (!target.starts_with('/') || target.len() > SHORT_TARGET) && Uri::try_from(&*target).is_err()
        {
            return Err(StatusCode::BAD_REQUEST);
        }

        let options: SmallVec<[&str; 4]> = self.options().collect();
        let has = |option: &str| options.iter().any(|other| other.eq_ignore_ascii_case(option));
        let names_websocket =
            self.values("upgrade").any(|value| value.trim_ascii().eq_ignore_ascii_case(b"websocket"));
        // `Upgrade` counts with its connection option, and not in HTTP/1.0 (RFC 9110 §7.8).
        let is_upgrade = names_websocket && has("upgrade") && self.version == 1;
        let has_body = self.values("content-length").chain(self.values("transfer-encoding")).next().is_some();
        // What the dispatcher would refuse; without a length there is no body.
        let lacks_length = self.version == 0 && self.method == "POST" && !has_body;
        let is_changed = match is_upgrade {
            // What follows an upgrade is no body, whatever the head says, as in the reference.
            true => has("close") || has_body || self.values("expect").next().is_some(),
            // Else the dispatcher would close the connection without announcing it, or take the request for an upgrade.
            false => has("upgrade") || names_websocket,
        };
        let is_rewritten =
            is_changed || lacks_length || matches!(target, Cow::Owned(_)) || self.lines.len() > MOST_LINES;
        let is_last = match self.version {
            _ if is_upgrade => false,
            0 => has("close") || !has("keep-alive"),
            _ => has("close"),
        };
        Ok(Judged {
            rewritten: is_rewritten.then(|| self.rewrite(&target, &options, is_upgrade, lacks_length)),
            follows: if is_upgrade || self.method == "CONNECT" { Follows::OtherProtocol } else { follows },
            is_last,
        })
    }

    /// How the body is delimited (RFC 9112 §6.3), with no tolerance for what two parsers could read differently.
    fn body(&self) -> Result<Follows, StatusCode> {
        let mut lengths = self.values("content-length");
        let mut codings = self.values("transfer-encoding");
        let (length, coding) = (lengths.next(), codings.next());
        if lengths.next().is_some() || codings.next().is_some() {
            return Err(StatusCode::BAD_REQUEST);
        }
        match (length, coding) {
            (None, None) => Ok(Follows::Body(0)),
            (Some(length), None) => {
                let length = length.trim_ascii();
                let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
                let length = is_number.then(|| std::str::from_utf8(length).ok()?.parse().ok()).flatten();
                length.map(Follows::Body).ok_or(StatusCode::BAD_REQUEST)
            }
            (None, Some(coding))
                if self.version == 1 && coding.trim_ascii().eq_ignore_ascii_case(b"chunked") =>
            {
                Ok(Follows::Chunked)
            }
            (_, Some(_)) => Err(StatusCode::BAD_REQUEST),
        }
    }

    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.lines.iter().filter(move |line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value)
    }

    /// The options of `Connection`.
    fn options(&self) -> impl Iterator<Item = &'a str> {
        self.values("connection")
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|option| !option.is_empty())
    }

    fn rewrite(&self, target: &str, options: &[&str], is_upgrade: bool, lacks_length: bool) -> Vec<u8> {
        let is_dropped = |name: &str| {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            match is_upgrade {
                _ if is("connection") => true,
                true => is("content-length") || is("transfer-encoding") || is("expect"),
                false => is("upgrade"),
            }
        };
        let kept: Vec<&Header<'_>> = self.lines.iter().filter(|line| !is_dropped(line.name)).collect();
        let mut head = format!("{} {target} HTTP/1.{}\r\n", self.method, self.version).into_bytes();
        if is_upgrade {
            head.extend_from_slice(b"Connection: Upgrade\r\n");
        } else {
            let others: Vec<&str> =
                options.iter().filter(|option| !option.eq_ignore_ascii_case("upgrade")).copied().collect();
            if !others.is_empty() {
                head.extend_from_slice(format!("Connection: {}\r\n", others.join(", ")).as_bytes());
            }
        }
        if lacks_length {
            head.extend_from_slice(b"Content-Length: 0\r\n");
        }
        // Two lines may have been added.
        for (name, value) in fitted(&kept, MOST_LINES - 2) {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(&value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// The header lines; where there are more than `most`, lines of one name become one, and of those that are still too many the node drops
/// what it does not read itself.
fn fitted<'a>(lines: &[&Header<'a>], most: usize) -> Vec<(&'a str, Cow<'a, [u8]>)> {
    let mut fitted: Vec<(&str, Cow<'_, [u8]>)> = Vec::with_capacity(lines.len());
    for line in lines {
        let first = match lines.len() > most {
            true => fitted.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(line.name)),
            false => None,
        };
        match first {
            Some((name, value)) => {
                let separator: &[u8] = if name.eq_ignore_ascii_case("cookie") { b"; " } else { b", " };
                let value = value.to_mut();
                value.extend_from_slice(separator);
                value.extend_from_slice(line.value);
            }
            None => fitted.push((line.name, Cow::Borrowed(line.value))),
        }
    }
    let mut surplus = fitted.len().saturating_sub(most);
    let is_read = |name: &str| {
        let name = name.to_ascii_lowercase();
        READ_HERE.contains(&&*name) || name.starts_with("sec-websocket-")
    };
    // The last ones go first.
    for index in (0..fitted.len()).rev() {
        if surplus > 0 && !is_read(fitted[index].0) {
            fitted.remove(index);
            surplus -= 1;
        }
    }
    fitted
}

/// The target, with those characters encoded that the dispatcher's URIs do not take raw. They mean the same.
fn escaped(target: &str) -> Cow<'_, str> {
    let is_raw = |c: char| matches!(c, '"' | '<' | '>' | '`');
    if !target.contains(is_raw) {
        return Cow::Borrowed(target);
    }
    let mut text = String::with_capacity(target.len() + 16);
    for c in target.chars() {
        match is_raw(c) {
            true => text.push_str(&format!("%{:02X}", u32::from(c))),
            false => text.push(c),
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(head: &str) -> Result<Judged, StatusCode> {
        judge(format!("{}\r\n\r\n", head.replace('\n', "\r\n")).as_bytes())
    }

    /// What the dispatcher is given, its lines sorted but for the first.
    fn given(head: &str) -> Vec<String> {
        let judged = judged(head).unwrap();
        let text = judged.rewritten.map_or(head.to_owned(), |bytes| String::from_utf8(bytes).unwrap());
        let mut lines: Vec<String> = text.trim_end().lines().map(str::to_owned).collect();
        lines[1..].sort_unstable();
        lines
    }

    #[test]
    fn a_head_that_needs_nothing_stays_as_it_is() {
        for head in [
            "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\nHost: a\nConnection: keep-alive",
            "POST / HTTP/1.1\nHost: a\nContent-Length: 3\nX-A: {\"b\"}",
            "GET / HTTP/1.1\nHost: a\nUpgrade: WebSocket\nConnection: keep-alive, UPGRADE",
            "GET / HTTP/1.0",
        ] {
            assert_eq!(judged(head).unwrap().rewritten, None, "{head}");
        }
    }

    #[test]
    fn an_upgrade_is_named_and_asked_for_in_http_1_1() {
        let plain = ["GET / HTTP/1.1", "Host: a"];
        for lines in [
            "Connection: upgrade",
            "Upgrade: websocket",
            "Upgrade: websocket\nConnection: close, x",
            "Connection: Upgrade\nUpgrade: h2c",
        ] {
            let head = format!("GET / HTTP/1.1\nHost: a\n{lines}");
            let given: Vec<String> =
                given(&head).into_iter().filter(|line| !line.starts_with("Connection: close")).collect();
            assert_eq!(given, plain, "{lines}");
            assert_eq!(judged(&head).unwrap().follows, Follows::Body(0));
        }
        let old = "GET / HTTP/1.0\nConnection: keep-alive, Upgrade\nUpgrade: websocket";
        assert_eq!(given(old), ["GET / HTTP/1.0", "Connection: keep-alive"]);
    }

    #[test]
    fn an_upgrade_has_no_body_and_no_other_option() {
        let head = "GET / HTTP/1.1\nHost: a\nConnection: close, Upgrade\nUpgrade: websocket\nExpect: 100-continue\nTransfer-Encoding: chunked";
        assert_eq!(given(head), ["GET / HTTP/1.1", "Connection: Upgrade", "Host: a", "Upgrade: websocket"]);
        let judged = judged(head).unwrap();
        assert_eq!((judged.follows, judged.is_last), (Follows::OtherProtocol, false));
    }

    #[test]
    fn raw_characters_of_a_target_are_encoded() {
        assert_eq!(given("GET /a?b=\"<>\" HTTP/1.1\nHost: a")[0], "GET /a?b=%22%3C%3E%22 HTTP/1.1");
        assert_eq!(given("GET /<a>?{b}|^`'#x HTTP/1.1\nHost: a")[0], "GET /%3Ca%3E?{b}|^%60'#x HTTP/1.1");
    }

    #[test]
    fn many_headers_are_joined_and_what_nobody_reads_is_dropped() {
        let lines = |name: fn(usize) -> String| (0..200).map(name).collect::<Vec<_>>().join("\n");
        let head = format!(
            "GET / HTTP/1.1\n{}\nCookie: a=1\nHost: a\nCookie: b=2",
            lines(|n| format!("X-Same: {n}"))
        );
        let joined = given(&head);
        assert_eq!(joined[1..3], ["Cookie: a=1; b=2", "Host: a"]);
        assert!(joined[3].starts_with("X-Same: 0, 1, 2"));
        let head = format!("GET / HTTP/1.1\n{}\nOrigin: http://a\nHost: a", lines(|n| format!("X-{n}: v")));
        let kept = given(&head);
        assert_eq!(kept.len(), 1 + MOST_LINES - 2);
        assert!(kept.contains(&"Origin: http://a".to_owned()) && kept.contains(&"X-91: v".to_owned()));
        let many = (0..2001).map(|n| format!("X-{n}: v")).collect::<Vec<_>>().join("\n");
        assert_eq!(
            judged(&format!("GET / HTTP/1.1\n{many}")),
            Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        );
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for head in [
            "GET / HTTP/1.1",
            "GET / HTTP/1.1\nHost: a\nHost: b",
            "GET / HTTP/1.1\nHost: a\nContent-Length: 1\nContent-Length: 1",
            "GET / HTTP/1.1\nHost: a\nContent-Length: +1",
            "GET / HTTP/1.1\nHost: a\nContent-Length: 1\nTransfer-Encoding: chunked",
            "GET / HTTP/1.1\nHost: a\nTransfer-Encoding: gzip, chunked",
            "GET / HTTP/1.0\nTransfer-Encoding: chunked",
            "GET / HTTP/1.1\nHost : a",
            "GET no where HTTP/1.1\nHost: a",
            "GET /é HTTP/1.1\nHost: a",
            "GET é HTTP/1.1\nHost: a",
            "GET / HTTP/2.0\nHost: a",
        ] {
            assert_eq!(judged(head), Err(StatusCode::BAD_REQUEST), "{head}");
        }
        assert_eq!(judge(b"GET / HTTP/1.1\nHost: a\r\n\r\n"), Err(StatusCode::BAD_REQUEST));
        assert_eq!(judge(b"GET / HTTP/1.1\r\nHost: a\n\n"), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn bodies_and_last_requests_are_known() {
        for (head, follows, is_last) in [
            ("POST / HTTP/1.1\nHost: a\nContent-Length: 12", Follows::Body(12), false),
            (
                "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: Chunked\nConnection: Close",
                Follows::Chunked,
                true,
            ),
            ("POST / HTTP/1.0\nConnection: keep-alive", Follows::Body(0), false),
            ("GET / HTTP/1.0", Follows::Body(0), true),
            ("CONNECT a:1 HTTP/1.1\nHost: a", Follows::OtherProtocol, false),
        ] {
            let judged = judged(head).unwrap();
            assert_eq!((judged.follows, judged.is_last), (follows, is_last), "{head}");
        }
    }
}

//! The PROXY protocol, versions 1 and 2: the header in front of a connection by which a proxy says whose it is.
//!
//! Only the header is looked at, and as many bytes of it as it says it has: what follows is the client's. Fuzzed as `proxy_protocol`.
//!
//! Source: HAProxy, `doc/proxy-protocol.txt`, sections 2.1 (text), 2.2 (binary).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What follows it: version and command, family and transport, and the length of the rest.
const FIXED: usize = SIGNATURE.len() + 4;
/// Largest rest in bytes: addresses have 36, and what proxies say beside them (names, certificates) is passed over.
const MAX_REST: usize = 4096;
/// What one of version 1 begins with.
const TEXT: &[u8] = b"PROXY ";
/// Its largest length, with its line ending.
const MAX_TEXT: usize = 107;

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read exactly so many bytes more; at least one.
    Read(usize),
    /// The header is complete. `None`: the proxy speaks for itself, or does not say for whom.
    Done(Option<SocketAddr>),
}

/// This is no such header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Looks at what was read of a header so far, which never is more than the header.
pub(crate) fn parse(header: &[u8]) -> Result<Step, Malformed> {
    if header.len() < SIGNATURE.len() {
        // Neither is shorter.
        return Ok(Step::Read(SIGNATURE.len() - header.len()));
    }
    if header.starts_with(SIGNATURE) {
        binary(header)
    } else if header.starts_with(TEXT) {
        text(header)
    } else {
        Err(Malformed)
    }
}

fn binary(header: &[u8]) -> Result<Step, Malformed> {
    let Some((fixed, rest)) = header.split_first_chunk::<FIXED>() else {
        return Ok(Step::Read(FIXED - header.len()));
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_REST || rest.len() > length {
        return Err(Malformed);
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed),
    };
    if rest.len() < length {
        return Ok(Step::Read(length - rest.len()));
    }
    let source = match family {
        _ if is_local => None,
        0x11 => Some(source::<4>(rest)?),
        0x21 => Some(source::<16>(rest)?),
        // Neither TCP over IPv4 nor over IPv6.
        _ => None,
    };
    Ok(Step::Done(source))
}

/// The first of two addresses, and of the two ports behind them.
fn source<const N: usize>(rest: &[u8]) -> Result<SocketAddr, Malformed>
where
    IpAddr: From<[u8; N]>,
{
    let address = rest.first_chunk::<N>().ok_or(Malformed)?;
    let ports = rest.get(2 * N..2 * N + 4).and_then(<[u8]>::first_chunk::<2>).ok_or(Malformed)?;
    Ok(SocketAddr::new(IpAddr::from(*address), u16::from_be_bytes(*ports)))
}

fn text(header: &[u8]) -> Result<Step, Malformed> {
    let Some(line) = header.strip_suffix(b"\r\n") else {
        // What is left is a line ending at least, half of which may be there.
        let missing = if header.ends_with(b"\r") { 1 } else { 2 };
        let is_broken =
            header.strip_suffix(b"\r").unwrap_or(header).iter().any(|b| matches!(b, b'\r' | b'\n'));
        return match header.len() + missing <= MAX_TEXT && !is_broken {
            true => Ok(Step::Read(missing)),
            false => Err(Malformed),
        };
    };
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(Step::Done(None));
    }
    let words: [&str; 4] = words.collect::<Vec<_>>().try_into().map_err(|_| Malformed)?;
    let [source, destination, port, destination_port] = words;
    let address = |text: &str| match family {
        Some("TCP4") => text.parse::<Ipv4Addr>().map(IpAddr::from).map_err(|_| Malformed),
        Some("TCP6") => text.parse::<Ipv6Addr>().map(IpAddr::from).map_err(|_| Malformed),
        _ => Err(Malformed),
    };
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u16>().map_err(|_| Malformed),
        false => Err(Malformed),
    };
    let source = SocketAddr::new(address(source)?, number(port)?);
    address(destination)?;
    number(destination_port)?;
    Ok(Step::Done(Some(source)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whose a connection is, and what follows the header; `None` while that is not complete.
    type Read<'a> = Option<(Option<SocketAddr>, &'a [u8])>;

    /// Reads a header out of this as from a connection.
    fn read(bytes: &[u8]) -> Result<Read<'_>, Malformed> {
        let mut len = 0;
        loop {
            match parse(&bytes[..len])? {
                Step::Done(source) => return Ok(Some((source, &bytes[len..]))),
                Step::Read(more) if len + more > bytes.len() => return Ok(None),
                Step::Read(more) => {
                    assert!(more > 0 && len + more <= FIXED + MAX_REST);
                    len += more;
                }
            }
        }
    }

    fn source(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, rest].concat()
    }

    #[test]
    fn a_line_of_text_names_the_client() {
        let longest = format!("PROXY TCP6 {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
        assert!(longest.len() <= MAX_TEXT);
        for (header, expected) in [
            ("PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n", source("192.0.2.7:56324")),
            ("PROXY TCP6 2001:db8::7 ::1 1 2\r\n", source("[2001:db8::7]:1")),
            (&longest, source("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN anything 1 2 3\r\n", None),
        ] {
            let all = format!("{header}GET / HTTP/1.1\r\n");
            assert_eq!(read(all.as_bytes()), Ok(Some((expected, &b"GET / HTTP/1.1\r\n"[..]))), "{header:?}");
            for cut in 0..header.len() {
                assert_eq!(read(&header.as_bytes()[..cut]), Ok(None), "{header:?} {cut}");
            }
        }
        for header in [
            "GET / HTTP/1.1\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324 443 1\r\n",
            "PROXY TCP4 ::1 ::1 1 1\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 \r\n",
            "PROXY  TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n",
            "PROXY TCP4 192.0.2.7\r10.0.0.1 1 2\r\n",
            "proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
        ] {
            assert_eq!(read(format!("{header}{}", "x".repeat(120)).as_bytes()), Err(Malformed), "{header:?}");
        }
    }

    #[test]
    fn a_binary_header_names_the_client() {
        let ipv4 = [192, 0, 2, 7, 10, 0, 0, 1, 0xdc, 4, 1, 0xbb];
        let ipv6 = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0, 1, 0, 2]].concat();
        let with_more = [&ipv4[..], &[0x20, 0, 5, 1, 2, 3, 4, 5]].concat();
        for (header, expected) in [
            (binary(0x21, 0x11, &ipv4), source("192.0.2.7:56324")),
            (binary(0x21, 0x11, &with_more), source("192.0.2.7:56324")),
            (binary(0x21, 0x21, &ipv6), source("[2001:db8::7]:1")),
            // A check of the proxy's own; no address; a datagram; a path.
            (binary(0x20, 0x11, &ipv4), None),
            (binary(0x20, 0, &[]), None),
            (binary(0x21, 0, &[]), None),
            (binary(0x21, 0x12, &ipv4), None),
            (binary(0x21, 0x31, &[0; 216]), None),
        ] {
            let all = [&header[..], b"\x16\x03\x01"].concat();
            assert_eq!(read(&all), Ok(Some((expected, &b"\x16\x03\x01"[..]))));
            for cut in 0..header.len() {
                assert_eq!(read(&header[..cut]), Ok(None));
            }
        }
        for header in [
            binary(0x11, 0x11, &ipv4),
            binary(0x22, 0x11, &ipv4),
            binary(0x21, 0x11, &ipv4[..11]),
            binary(0x21, 0x21, &ipv4),
            binary(0x21, 0x11, &vec![0; MAX_REST + 1]),
        ] {
            assert_eq!(read(&header), Err(Malformed));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(start in 0..3_usize, bytes: Vec<u8>) {
            let start: &[u8] = [&b""[..], TEXT, SIGNATURE][start];
            let _ = read(&[start, &bytes].concat());
        }
    }
}

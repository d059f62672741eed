//! The W3C trace context: which trace something belongs to, and what caused it.

use std::fmt;

/// As the header `traceparent` has it, in version 00 (<https://www.w3.org/TR/trace-context/#traceparent-header>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span in it; never 0.
    pub span_id: u64,
    /// Whether whoever began the trace keeps it.
    pub is_sampled: bool,
}

impl TraceContext {
    /// Reads the header's value; `None` for what is none. Of later versions the part that version 00 has is read.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (version, rest) = (bytes.get(..2)?, bytes.get(55..)?);
        let is_later = version != b"00" && version != b"ff" && version.iter().all(is_hex);
        let is_whole =
            version == b"00" && rest.is_empty() || is_later && rest.first().is_none_or(|b| *b == b'-');
        let has_dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        if !is_whole || !has_dashes {
            return None;
        }
        let number = |from: usize, to: usize| {
            let part = text.get(from..to).filter(|part| part.bytes().all(|b| is_hex(&b)))?;
            u128::from_str_radix(part, 16).ok()
        };
        let (trace_id, span_id, flags) = (number(3, 35)?, number(36, 52)? as u64, number(53, 55)?);
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, is_sampled: flags & 1 == 1 })
    }
}

/// Digits in upper case are against the rules.
fn is_hex(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.is_sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = TraceContext::parse(text).unwrap();
        assert_eq!(context.to_string(), text);
        assert!(context.is_sampled);
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-what-the-future-will-be-like";
        assert!(!TraceContext::parse(later).unwrap().is_sampled);
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319\u{e9}-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00.x",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }
}

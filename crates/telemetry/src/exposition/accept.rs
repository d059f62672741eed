//! The header `Accept` of a scrape.

/// Ranges of media types that are looked at. Prometheus sends five.
const MAX_RANGES: usize = 32;

/// Whether the client asks for the protobuf format, by its name, and would not rather have text.
pub(super) fn prefers_protobuf<'a>(headers: impl IntoIterator<Item = &'a str>) -> bool {
    let mut protobuf = 0.0_f32;
    // Of the ranges that text is in, the most exact one counts; of several that are as exact, the one that likes it best.
    let (mut text, mut exactness) = (0.0_f32, 0);
    for range in headers.into_iter().flat_map(|header| header.split(',')).take(MAX_RANGES) {
        let Some(range) = Range::parse(range) else { continue };
        if range.is_protobuf {
            protobuf = protobuf.max(range.quality);
        }
        match range.text_exactness {
            0 => {}
            more if more > exactness => (text, exactness) = (range.quality, more),
            same if same == exactness => text = text.max(range.quality),
            _ => {}
        }
    }
    protobuf > 0.0 && protobuf >= text
}

/// One range of media types.
struct Range {
    is_protobuf: bool,
    /// How exactly text is meant; 0: not at all.
    text_exactness: u8,
    /// From 0 to 1.
    quality: f32,
}

impl Range {
    /// `None` for what cannot be read.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next()?;
        let (mut message, mut is_delimited, mut quality) = ("", false, 1.0);
        for part in parts {
            let (key, value) = part.split_once('=')?;
            let (key, value) = (key.trim_end(), value.trim().trim_matches('"'));
            if key.eq_ignore_ascii_case("q") {
                quality = value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?;
            } else if key.eq_ignore_ascii_case("proto") {
                message = value;
            } else if key.eq_ignore_ascii_case("encoding") {
                is_delimited = value.eq_ignore_ascii_case("delimited");
            }
        }
        let is_named = |known: &str| name.eq_ignore_ascii_case(known);
        let is_protobuf = is_named("application/vnd.google.protobuf")
            && message == "io.prometheus.client.MetricFamily"
            && is_delimited;
        let text_exactness = match () {
            () if is_named("text/plain") => 3,
            () if is_named("text/*") => 2,
            () if is_named("*/*") => 1,
            () => 0,
        };
        Some(Self { is_protobuf, text_exactness, quality })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROTOBUF: &str =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[test]
    fn protobuf_is_for_those_who_name_it_and_like_it_as_much_as_text() {
        // Prometheus 2.42 and 3.5, with native histograms and without.
        let old = ",application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert!(prefers_protobuf([&*format!("{PROTOBUF}{old}")]));
        assert!(!prefers_protobuf([&old[1..]]));
        let new = ";q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        assert!(prefers_protobuf([&*format!("{PROTOBUF};escaping=allow-utf-8{new}")]));
        for (accept, expected) in [
            (PROTOBUF.to_owned(), true),
            (format!("{PROTOBUF};q=0.5, text/plain;q=0.6"), false),
            (format!("{PROTOBUF};q=0.5, text/plain;q=0.4, */*"), true),
            (format!("{PROTOBUF};q=0.5, text/*;q=0.6, */*;q=0.1"), false),
            (format!("{PROTOBUF};q=0"), false),
            (PROTOBUF.replace("=delimited", "=text"), false),
            (PROTOBUF.replace(".MetricFamily", ".Other"), false),
            (
                PROTOBUF
                    .to_uppercase()
                    .replace("IO.PROMETHEUS.CLIENT.METRICFAMILY", "\"io.prometheus.client.MetricFamily\""),
                true,
            ),
            ("*/*".to_owned(), false),
            ("application/*".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(prefers_protobuf([&*accept]), expected, "{accept}");
        }
        assert!(prefers_protobuf(["text/plain;q=0.5", PROTOBUF]), "two headers are one list");
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        for quality in ["q", "q=", "q=2", "q=-1", "q=NaN", "q=inf", "q=1e9", "q=0,5"] {
            assert!(!prefers_protobuf([&*format!("{PROTOBUF};{quality}")]), "{quality}");
        }
        let long = ",".repeat(100_000) + PROTOBUF;
        assert!(!prefers_protobuf([&*long]));
    }

    proptest! {
        #[test]
        fn any_header_is_read(header in "[a-z/*;=,q.\" 0-9\u{e9}]{0,200}") {
            let _ = prefers_protobuf([&*header]);
        }
    }
}

//! JSON that is put together from texts.

/// A text as JSON.
pub(super) fn json_string(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// What stands between an object's braces, and the comma that belongs before it.
pub(crate) fn spread(object: &str) -> (&'static str, &str) {
    let inner = object.trim();
    let inner = inner.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or_default().trim();
    if inner.is_empty() { ("", "") } else { (",", inner) }
}

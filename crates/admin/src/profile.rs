//! What a member joined a room with.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The JSON that a member joined with, as it was written. It is passed on and never parsed: a page of a list may have many.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Profile(Box<RawValue>);

impl Profile {
    /// Of its text; `null` if that is no JSON.
    pub fn of(text: &str) -> Self {
        RawValue::from_string(text.to_owned()).map(Self).unwrap_or_default()
    }

    /// Its text.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self(RawValue::NULL.to_owned())
    }
}

impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Profile {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_keeps_its_digits_and_nonsense_is_null() {
        let exact = r#"{"b":12345678901234567890123,"a":1.0}"#;
        let profile = Profile::of(exact);
        let written = serde_json::to_string(&profile).unwrap();
        assert_eq!((written.as_str(), serde_json::from_str(&written).ok()), (exact, Some(profile)));
        assert_eq!(Profile::of("{"), Profile::default());
    }
}

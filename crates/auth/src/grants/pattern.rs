//! Patterns for namespaces, rooms and peer ids: `*` stands for any text, `{sub}` for the subject, all else for itself.

/// What a pattern is for, which says what it may possibly match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// Namespaces: they begin with `/`.
    Namespaces,
    /// Rooms.
    Rooms,
    /// Ids of peers.
    PeerIds,
}

impl Names {
    /// The longest name in bytes.
    fn longest(self) -> usize {
        match self {
            Self::Namespaces | Self::Rooms => 255,
            Self::PeerIds => 256,
        }
    }
}

/// Why a pattern is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is empty, and no name is.
    #[error("the pattern is empty, so it can never match")]
    Empty,
    /// It is longer than the names that it is for.
    #[error("the pattern is longer than any such name, so it can never match")]
    TooLong,
    /// A namespace begins with a slash.
    #[error("the pattern does not begin with / or *, as namespaces do, so it can never match")]
    NoSlash,
    /// A namespace has no comma: it would end there in a packet.
    #[error("the pattern has a comma, which no namespace has, so it can never match")]
    Comma,
    /// `{sub}`, where there is no subject.
    #[error("the pattern has {{sub}}, but an anonymous client has no subject, so it can never match")]
    NoSubject,
    /// A brace that is not that of `{sub}`.
    #[error("the pattern has a brace that is not that of {{sub}}, the only placeholder")]
    Placeholder,
}

const SUBJECT: &str = "{sub}";

/// A pattern for one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// As it was written.
    text: Box<str>,
    /// What stands between the stars, with the subject put in: one piece where there is no star.
    pieces: Box<[Box<str>]>,
}

impl Pattern {
    /// Whether it can ever match. `has_subject`: whether there is one for `{sub}`.
    pub(crate) fn check(text: &str, names: Names, has_subject: bool) -> Result<(), PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let literal = text.replace(SUBJECT, "");
        if literal.contains(['{', '}']) {
            return Err(PatternError::Placeholder);
        }
        if text.contains(SUBJECT) && !has_subject {
            return Err(PatternError::NoSubject);
        }
        if literal.replace('*', "").len() > names.longest() {
            return Err(PatternError::TooLong);
        }
        if names == Names::Namespaces {
            if !text.starts_with(['/', '*']) {
                return Err(PatternError::NoSlash);
            }
            if literal.contains(',') {
                return Err(PatternError::Comma);
            }
        }
        Ok(())
    }

    /// Puts the subject in. What it contains is itself: a subject `*` matches nothing but a star.
    pub(crate) fn new(text: &str, subject: &str) -> Self {
        let pieces = text.split('*').map(|piece| piece.replace(SUBJECT, subject).into()).collect();
        Self { text: text.into(), pieces }
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the name is one of those that are meant. It allocates nothing.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let (first, middle, last) = match &*self.pieces {
            [only] => return **only == *name,
            [first, middle @ .., last] => (first, middle, last),
            [] => return false,
        };
        let inner = name.strip_prefix(&**first).and_then(|rest| rest.strip_suffix(&**last));
        let Some(mut rest) = inner else { return false };
        for piece in middle {
            // The leftmost place is as good as any: what follows only has to come after it.
            let Some(at) = rest.find(&**piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern, "alice").matches(name)
    }

    #[test]
    fn stars_stand_for_any_text_and_none() {
        for (pattern, name) in [
            ("team", "team"),
            ("team-*", "team-"),
            ("team-*", "team-1"),
            ("*", "x"),
            ("*-1", "team-1"),
            ("a*b*c", "abc"),
            ("a*b*c", "a-b-b-c"),
            ("**", "x"),
            ("é*é", "é é"),
            ("{sub}", "alice"),
            ("of-{sub}-*", "of-alice-2"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("team", "teams"),
            ("team-*", "team"),
            ("aa*aa", "aaa"),
            ("a*b*c", "acb"),
            ("é*é", "é"),
            ("{sub}", "{sub}"),
            ("of-{sub}", "of-bob"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_subject_is_text_whatever_it_contains() {
        let pattern = Pattern::new("room-{sub}", "*");
        assert!(pattern.matches("room-*") && !pattern.matches("room-1"));
        let pattern = Pattern::new("{sub}-*", "{sub}");
        assert!(pattern.matches("{sub}-1") && !pattern.matches("alice-1"));
    }

    #[test]
    fn what_can_never_match_is_an_error() {
        use PatternError::*;
        let check = |text: &str, names| Pattern::check(text, names, true);
        assert_eq!(check("", Names::Rooms), Err(Empty));
        assert_eq!(check("chat", Names::Namespaces), Err(NoSlash));
        assert_eq!(check("{sub}", Names::Namespaces), Err(NoSlash));
        assert_eq!(check("/a,b", Names::Namespaces), Err(Comma));
        assert_eq!(check(&"r".repeat(256), Names::Rooms), Err(TooLong));
        assert_eq!(check(&"r".repeat(257), Names::PeerIds), Err(TooLong));
        assert_eq!(check("{room}", Names::Rooms), Err(Placeholder));
        assert_eq!(check("{sub", Names::Rooms), Err(Placeholder));
        assert_eq!(Pattern::check("of-{sub}", Names::Rooms, false), Err(NoSubject));
        for good in ["/", "/chat", "*", "/of/{sub}"] {
            assert_eq!(check(good, Names::Namespaces), Ok(()), "{good}");
        }
        assert_eq!(check(&format!("{}*", "r".repeat(255)), Names::Rooms), Ok(()));
    }

    /// The definition, slow and plain.
    fn model(pattern: &[char], name: &[char]) -> bool {
        match pattern {
            [] => name.is_empty(),
            ['*', rest @ ..] => (0..=name.len()).any(|skipped| model(rest, &name[skipped..])),
            [first, rest @ ..] => name.first() == Some(first) && model(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_the_definition_says(pattern in "[abé*]{0,8}", name in "[abé*]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &name), model(&chars(&pattern), &chars(&name)));
        }
    }
}

//! "Did you mean": the known name nearest to a mistyped one.

/// The candidate that is few enough slips away from `name`; hyphens and underscores count as the same.
pub(crate) fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let spelled = |text: &str| text.replace('_', "-").to_ascii_lowercase();
    let name = spelled(name);
    let most_slips = (name.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &spelled(candidate)), candidate))
        .filter(|(slips, _)| *slips <= most_slips)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::suggest;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let names = ["port", "path", "ping-interval", "ping-timeout", "expire_timeout"];
        for (typed, expected) in [
            ("prot", Some("port")),
            ("pingintervall", Some("ping-interval")),
            ("ping_timeout", Some("ping-timeout")),
            ("expire-timout", Some("expire_timeout")),
            ("redis-url", None),
        ] {
            assert_eq!(suggest(typed, names), expected, "{typed}");
        }
    }
}

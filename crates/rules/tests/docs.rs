//! The files of docs/rules.md: shown there as they are, and their examples hold.

use std::{fs, path::Path};

use signalbox_rules::RuleSet;

#[test]
fn the_files_of_the_page_are_shown_as_they_are_and_their_examples_hold() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = fs::read_to_string(docs.join("rules.md")).expect("docs/rules.md");
    let mut files: Vec<_> = fs::read_dir(docs.join("rules"))
        .expect("docs/rules")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(files.len() >= 8);
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        let text = fs::read_to_string(&file).expect(name);
        let rules = RuleSet::parse(&text).unwrap_or_else(|problems| panic!("{name}: {}", problems[0]));
        assert_eq!(rules.play_examples(), [], "{name}");
        assert!(!rules.examples().is_empty(), "{name} has no example");
        let shown = text.split("[[example]]").next().unwrap_or_default().trim();
        assert!(
            page.contains(&format!("```toml\n{shown}\n```")),
            "docs/rules.md does not show {name} as it is"
        );
    }
    // Whatever else the page shows is a rules file, too.
    for block in page.split("```toml\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        if let Err(problems) = RuleSet::parse(block) {
            panic!("docs/rules.md: {}\n{block}", problems[0]);
        }
    }
}

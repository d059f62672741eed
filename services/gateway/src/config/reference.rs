//! What the reference page `docs/configuration.md` begins with. `cargo xtask docs` writes it.

pub(super) const INTRODUCTION: &str = "\
# Configuration of the gateway

<!-- Written by `cargo xtask docs` from the settings in services/gateway/src/config. Change them there. -->

Every setting is a flag, an environment variable, and a key of the TOML file that `--config FILE` (or `SIGNALBOX_CONFIG`)
names. The flag wins over the variable, the variable over the file, the file over the default; a list is replaced, never
merged. `signalbox-gateway --print-config` shows the outcome, and where each value came from.

- The file's keys are the names of the flags, without the dashes, in one flat table: `ping-interval = 25000`. Hyphens and
  underscores are interchangeable, in flags too.
- Lists: a flag is repeated (all but `--key` also take commas), a variable is separated by commas, the file has an array.
- Flags that are on or off may stand alone (`--proxied`) or with a value (`--proxied=false`); a variable has `true` or
  `false`.
- An empty variable counts as absent. So does one that Kubernetes makes for a Service (`SIGNALBOX_PORT=tcp://...`).
- Paths of files are relative to the working directory.
- What cannot be used ends the program with code 2 and one line on stderr that names the place and the remedy.

`PORT` and `PEERSERVER_PATH` are read as well, where the variable with our prefix is absent.
";

#[cfg(test)]
mod tests {
    use signalbox_config::arguments::{long_name, settings};
    use signalbox_config::command::parser;
    use signalbox_config::reference::{meaning, page};

    use super::super::PROGRAM;

    #[test]
    fn the_reference_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == page(&PROGRAM),
            "docs/configuration.md differs from the settings; run cargo xtask docs"
        );
    }

    #[test]
    fn every_setting_says_what_it_is_for_and_in_which_unit() {
        for arg in settings(&parser(&PROGRAM)) {
            let name = long_name(arg);
            let meaning = meaning(arg);
            assert!(meaning.len() > 20, "{name}: {meaning}");
            let value_name = arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str());
            match value_name {
                Some("MS") => assert!(meaning.contains("milliseconds"), "{name}: {meaning}"),
                Some("BYTES") => assert!(meaning.to_lowercase().contains("bytes"), "{name}: {meaning}"),
                Some(_) => {}
                None => panic!("{name} has no value name"),
            }
        }
    }
}

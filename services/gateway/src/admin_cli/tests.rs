//! Arguments of `admin`: names and numbers may begin with a hyphen.

use super::*;

#[test]
fn names_and_numbers_may_begin_with_a_hyphen() {
    // One id of a socket in 64 does.
    let cli = Cli::try_parse_from(["admin", "kick", "--socket", "-Zk", "--room", "-r", "--close"]).unwrap();
    let Command::Kick { to, close, .. } = cli.command else { panic!("not what was asked") };
    assert_eq!((to.socket, to.room, close), (vec!["-Zk".to_owned()], vec!["-r".to_owned()], true));

    let cli = Cli::try_parse_from(["admin", "emit", "news", "-7", "--socket", "-Zk"]).unwrap();
    let Command::Emit { args, to, .. } = cli.command else { panic!("not what was asked") };
    assert_eq!((args, to.socket), (vec!["-7".to_owned()], vec!["-Zk".to_owned()]));

    let cli = Cli::try_parse_from(["admin", "members", "--token", "-secret", "--", "-room"]).unwrap();
    assert_eq!(cli.token.as_deref(), Some("-secret"));
    let Command::Members { room, .. } = cli.command else { panic!("not what was asked") };
    assert_eq!(room, "-room");
}

#[test]
fn an_option_is_not_taken_for_the_value_that_was_forgotten() {
    let error = Cli::try_parse_from(["admin", "kick", "--everyone", "--except", "--close"]).unwrap_err();
    assert!(error.to_string().contains("is a value missing before it?"), "{error}");
}

#[test]
fn every_option_that_takes_a_name_takes_one_with_a_hyphen() {
    const NAMES: [&str; 7] = ["ROOM", "ID", "SUBJECT", "NAME", "CLIENT", "NODE", "PATTERN"];
    for subcommand in command().get_subcommands() {
        for argument in subcommand.get_opts().filter(|option| option.get_value_names().is_some()) {
            let names = argument.get_value_names().unwrap_or_default();
            if names.iter().any(|name| NAMES.contains(&name.as_str())) {
                assert!(argument.is_allow_hyphen_values_set(), "{} {argument}", subcommand.get_name());
            }
        }
    }
}

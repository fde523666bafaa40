//! Environment variables beside flags: each flag of the server has one, an empty one counts as unset, and errors say
//! where a value is from.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::builder::Resettable;
use clap::{Arg, Command};

use crate::config::{PASSWORD, TARGET_PASSWORD};

/// What our variables begin with.
const PREFIX: &str = "SLUICE_";

/// How alike two names are, of 1, for the one to be a misspelling of the other.
const ALIKE: f64 = 0.85;

/// The command without the variables that are set to nothing, as etcd ignores its own.
pub(crate) fn without_empty(command: Command) -> Command {
    command.mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg }).mut_subcommands(without_empty)
}

fn is_empty(arg: &Arg) -> bool {
    arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty())
}

/// The flags in a text, such as an error, that have their values from variables: a line for each.
pub(crate) fn origins(command: &Command, words: &[OsString], text: &str) -> Vec<String> {
    let mut lines = BTreeSet::new();
    for arg in all(command) {
        let Some((long, variable)) = arg.get_long().zip(arg.get_env()) else { continue };
        let flag = format!("--{long}");
        let is_given = words.iter().filter_map(|word| word.to_str()).any(|word| is_flag(word, &flag));
        let is_named = text.match_indices(&flag).any(|(at, _)| ends_name(&text[at + flag.len()..]));
        if is_named && !is_given && std::env::var_os(variable).is_some_and(|value| !value.is_empty()) {
            lines.insert(format!("{flag} has its value from the variable {}", variable.display()));
        }
    }
    lines.into_iter().collect()
}

fn is_flag(word: &str, flag: &str) -> bool {
    word.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

fn ends_name(rest: &str) -> bool {
    !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
}

/// The variables of the environment that look like misspelt ones of ours, each with the one that may be meant.
pub(crate) fn misspelt(command: &Command) -> Vec<(String, String)> {
    let of_flags = all(command).filter_map(|arg| arg.get_env()?.to_str());
    let known: BTreeSet<&str> = of_flags.chain([PASSWORD, TARGET_PASSWORD]).collect();
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    set.filter(|name| !known.contains(&name[..]))
        .filter_map(|name| Some((alike(&name, &known)?, name)))
        .map(|(meant, name)| (name, meant))
        .collect()
}

fn alike(name: &str, known: &BTreeSet<&str>) -> Option<String> {
    let name = name.strip_prefix(PREFIX)?;
    let known = known.iter().filter_map(|known| known.strip_prefix(PREFIX));
    let best = known.map(|known| (strsim::jaro(name, known), known)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > ALIKE).then(|| format!("{PREFIX}{}", best.1))
}

fn all(command: &Command) -> impl Iterator<Item = &Arg> {
    let mut commands = vec![command];
    let mut at = 0;
    while let Some(command) = commands.get(at) {
        commands.extend(command.get_subcommands());
        at += 1;
    }
    commands.into_iter().flat_map(Command::get_arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings() {
        let known = BTreeSet::from(["SLUICE_ENDPOINT", "SLUICE_GC", "SLUICE_LISTEN_CLIENT_URLS"]);
        for (name, meant) in
            [("SLUICE_ENDPIONT", "SLUICE_ENDPOINT"), ("SLUICE_LISTEN_CLIENT_URL", "SLUICE_LISTEN_CLIENT_URLS")]
        {
            assert_eq!(alike(name, &known).as_deref(), Some(meant));
        }
        // Kubernetes sets such variables for a Service named sluice.
        for name in ["SLUICE_SERVICE_HOST", "SLUICE_PORT", "SLUICE_PORT_2379_TCP_ADDR", "SLUICE_CACHE", "ENDPOINT"] {
            assert_eq!(alike(name, &known), None, "{name}");
        }
    }

    #[test]
    fn a_flag_is_a_whole_word() {
        assert!(is_flag("--gc", "--gc") && is_flag("--gc=on", "--gc") && !is_flag("--gc-rate", "--gc"));
        assert!(ends_name(" <N>") && ends_name("'") && !ends_name("-rate"));
    }
}

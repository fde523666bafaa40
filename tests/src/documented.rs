//! Every `cargo xtask …` in the workflows and in the documents is a command line that the programs take.

use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args as _, CommandFactory as _};

use crate::Cli;

/// A command line, and where it stands.
#[derive(Debug, PartialEq)]
struct Found {
    words: String,
    /// In running text the verb may be named without what it takes.
    prose: bool,
}

/// What stands for something that the reader chooses, and an example of it. Longer names first.
const EXAMPLES: [(&str, &str); 6] = [
    ("v1.NN.P", "v1.37.9"),
    ("v1.NN", "v1.37"),
    ("VERSION", "v1.37.9"),
    ("COMMIT", "HEAD"),
    ("\"$MINOR\"", "v1.37"),
    ("…", "x"),
];

const COMMAND: &str = "cargo xtask";

/// Up to where a command goes in a line of a shell: quotes hide what ends it.
fn one_command(line: &str) -> &str {
    let mut quote = None;
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            (Some(open), letter) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, '|' | '>' | '<' | ';' | '&' | ')' | '`') => return &line[..at],
            (None, '#') if line[..at].ends_with(' ') => return &line[..at],
            (None, _) => {}
        }
    }
    line
}

/// The commands in lines of a shell, as a script or a workflow has them.
fn in_shell(text: &str) -> Vec<String> {
    let lines = text.replace("\\\n", " ");
    let lines = lines.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(|line| line.match_indices(COMMAND).map(|(at, _)| one_command(&line[at..]).to_owned())).collect()
}

/// The commands in a document: in blocks of code, and between backticks, where the text goes on in the next line.
fn in_document(text: &str) -> Vec<Found> {
    let mut found = vec![];
    for (index, part) in text.split("\n```").enumerate() {
        if index % 2 == 1 {
            found.extend(in_shell(part).into_iter().map(|words| Found { words, prose: false }));
            continue;
        }
        let spans = part.split('`').skip(1).step_by(2).filter(|span| span.contains(COMMAND));
        for span in spans.map(|span| span.replace("\\|", "|")) {
            found.extend(alternatives(&span).into_iter().map(|words| Found { words, prose: true }));
        }
    }
    found
}

/// `x [--a] [--b c|d]` is `x`, `x --a`, `x --b c`, `x --b d`.
fn alternatives(span: &str) -> Vec<String> {
    let start = span.find(COMMAND).unwrap_or_default();
    let mut parts = span[start..].split('[');
    let plain = parts.next().unwrap_or_default().trim_end();
    let mut all = vec![plain.to_owned()];
    for group in parts.filter_map(|part| part.split(']').next()) {
        let (flag, values) = group.rsplit_once(' ').unwrap_or(("", group));
        all.extend(values.split('|').map(|value| format!("{plain} {flag} {value}")));
    }
    all
}

/// Why the programs would not take a command line.
fn refused(found: &Found) -> Option<String> {
    let line = EXAMPLES.iter().fold(found.words.clone(), |line, (name, example)| line.replace(name, example));
    let Some(words) = shlex::split(&line) else { return Some("a quote is not closed".to_owned()) };
    // `cargo` is not a word that the program sees.
    let doctor = sluice_shell::doctor::Cmd::augment_args(clap::Command::new("doctor"));
    let error = Cli::command().subcommand(doctor).try_get_matches_from(&words[1..]).err()?;
    let named = match error.kind() {
        ErrorKind::MissingSubcommand
        | ErrorKind::MissingRequiredArgument
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => true,
        // A flag without its value.
        ErrorKind::InvalidValue => error.get(ContextKind::InvalidValue) == Some(&ContextValue::String(String::new())),
        _ => false,
    };
    let said = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let taken = said || found.prose && named;
    (!taken).then(|| error.to_string())
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.unwrap().into_path());
    all.filter(|path| path.extension().is_some_and(|it| it == extension)).collect()
}

#[test]
fn workflows_and_documents_have_commands_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let top = fs_err::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut documents: Vec<PathBuf> = top.filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    documents.extend(["ci", "docs", "images"].iter().flat_map(|folder| files(&root.join(folder), "md")));
    // It tells of commands as they were.
    documents.retain(|path| !path.ends_with("CHANGELOG.md"));
    let mut all: Vec<(PathBuf, Found)> = vec![];
    for path in documents {
        let found = in_document(&fs_err::read_to_string(&path).unwrap());
        all.extend(found.into_iter().map(|found| (path.clone(), found)));
    }
    let workflows: Vec<PathBuf> = files(&root.join("ci"), "yaml");
    assert!(workflows.len() > 2, "{workflows:?}");
    for path in workflows {
        let found = in_shell(&fs_err::read_to_string(&path).unwrap());
        assert!(!found.is_empty(), "{}", path.display());
        all.extend(found.into_iter().map(|words| (path.clone(), Found { words, prose: false })));
    }
    assert!(all.len() > 60, "{}", all.len());
    let wrong = all.iter().filter_map(|(path, found)| {
        refused(found).map(|why| format!("{}: `{}`: {why}", path.display(), found.words.trim()))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_command_is_found_where_it_ends() {
    let shell = "# cargo xtask no\n  run: cargo xtask up --apiserver-arg '--a=b|c' | tee x\n\
                 cargo xtask source \\\n  --k8s v1.37 # why\ncd \"$(cargo xtask patch apply)\" && cargo xtask down";
    let words: Vec<String> =
        in_shell(shell).iter().map(|words| words.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "cargo xtask up --apiserver-arg '--a=b|c'",
        "cargo xtask source --k8s v1.37",
        "cargo xtask patch apply",
        "cargo xtask down",
    ];
    assert_eq!(words, expected);

    let text =
        "Run `cargo xtask\nup` or `A=1 cargo xtask test [unit\\|shim]`.\n```console\n$ cargo xtask down\n```\nEnd.";
    let found: Vec<_> = in_document(text).into_iter().map(|found| (found.words, found.prose)).collect();
    let expected = [
        ("cargo xtask\nup", true),
        ("cargo xtask test", true),
        ("cargo xtask test  unit", true),
        ("cargo xtask test  shim", true),
        ("cargo xtask down", false),
    ];
    assert_eq!(found, expected.map(|(words, prose)| (words.to_owned(), prose)));
}

#[test]
fn a_flag_that_is_gone_and_a_value_that_is_none_are_found() {
    for (words, prose, ok) in [
        ("cargo xtask build-images --release-flags", false, true),
        ("cargo xtask build-images --nosuch", true, false),
        ("cargo xtask nosuch", true, false),
        ("cargo xtask patch rebase", true, true),
        ("cargo xtask patch rebase", false, false),
        ("cargo xtask patch rebase --to v1.NN.P", false, true),
        ("cargo xtask patch rebase --to nonsense", true, false),
        ("cargo xtask doctor --for images", false, true),
        ("cargo xtask doctor --for imges", false, false),
        ("cargo xtask up --database", true, true),
        ("cargo xtask up --database", false, false),
        ("cargo xtask up --database x", true, false),
        ("cargo xtask up '", true, false),
        ("cargo xtask --help", true, true),
    ] {
        assert_eq!(refused(&Found { words: words.to_owned(), prose }).is_none(), ok, "{words}");
    }
}

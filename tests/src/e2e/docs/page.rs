//! A page of docs/, as far as a test can follow it.

use std::path::Path;

use sluice_shell::error::{Error, Result};

/// Before a block, or anywhere with `on this page`: no test runs it, and why.
const NOT_RUN: &str = "<!-- not run";
const WHOLE: &str = " on this page";

/// What a reader does, in order.
#[derive(Debug, PartialEq)]
pub(super) enum Block {
    /// A file that the text above tells the reader to save.
    File { name: String, text: String },
    /// Commands.
    Commands(Vec<Step>),
    /// Commands that no test runs.
    Left { why: String },
}

/// A command, and what the page says that it prints.
#[derive(Debug, PartialEq)]
pub(super) struct Step {
    pub(super) command: String,
    pub(super) shown: Vec<String>,
}

/// The pages with commands, by name, in order.
///
/// # Errors
/// When a file can't be read, or a block has a form that no test could follow.
pub(super) fn pages(docs: &Path) -> Result<Vec<(String, Vec<Block>)>> {
    let mut pages = Vec::new();
    for entry in fs_err::read_dir(docs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let blocks = blocks(&fs_err::read_to_string(&path)?)
                .map_err(|line| Error::input(format!("{}:{line}: a console block without `$ `", path.display())))?;
            pages.push((name, blocks));
        }
    }
    pages.retain(|(_, blocks)| blocks.iter().any(|block| !matches!(block, Block::File { .. })));
    pages.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(pages)
}

/// The blocks of a page. Fails with the number of a console block's first line if there is no command in it.
fn blocks(text: &str) -> Result<Vec<Block>, usize> {
    let whole = text.lines().filter_map(reason).find_map(|(whole, why)| whole.then_some(why));
    let (mut blocks, mut above, mut lines) = (Vec::new(), "", text.lines().enumerate());
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            above = if line.is_empty() { above } else { line };
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let inside = lines.by_ref().map(|(_, line)| line.get(indent..).unwrap_or_default());
        let inside: Vec<&str> = inside.take_while(|line| !line.starts_with("```")).collect();
        match (language, whole.or_else(|| reason(above).map(|(_, why)| why))) {
            ("console", Some(why)) => blocks.push(Block::Left { why: why.to_owned() }),
            ("console", None) => blocks.push(Block::Commands(steps(&inside).ok_or(number + 1)?)),
            ("yaml", _) => blocks.extend(file_name(above).map(|name| Block::File {
                name: name.to_owned(),
                text: inside.iter().flat_map(|line| [*line, "\n"]).collect(),
            })),
            _ => {}
        }
        above = "";
    }
    Ok(blocks)
}

/// Whether a line says of the whole page or of what follows that no test runs it, and why.
fn reason(line: &str) -> Option<(bool, &str)> {
    let rest = line.strip_prefix(NOT_RUN)?.strip_suffix("-->")?;
    let (whole, rest) = rest.strip_prefix(WHOLE).map_or((false, rest), |rest| (true, rest));
    Some((whole, rest.strip_prefix(':')?.trim()))
}

/// The last manifest that a line names.
fn file_name(line: &str) -> Option<&str> {
    line.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".yaml")).last()
}

/// A command goes on behind a backslash; what follows is its output. None if the block begins otherwise.
fn steps(lines: &[&str]) -> Option<Vec<Step>> {
    let (mut steps, mut goes_on): (Vec<Step>, _) = (Vec::new(), false);
    for line in lines {
        if goes_on {
            let last = steps.last_mut()?;
            last.command.extend(["\n", *line]);
            goes_on = line.ends_with('\\');
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), shown: Vec::new() });
            goes_on = command.ends_with('\\');
        } else {
            steps.last_mut()?.shown.push((*line).to_owned());
        }
    }
    (!steps.is_empty()).then_some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(command: &str, shown: &[&str]) -> Step {
        Step { command: command.to_owned(), shown: shown.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn a_page_is_what_its_reader_does() {
        let text = "Save it as `a.yaml`:\n\n```yaml\nx: 1\n```\n```console\n$ a \\\n  b\nc\n$ d\n```\n\
                    1. In a list:\n   ```console\n   $ e\n   f\n   ```\n<!-- not run: needs root -->\n```console\n# g\n```\n\
                    ```yaml\nno: file\n```\n```\n$ not a console\n```\n";
        let expected = [
            Block::File { name: "a.yaml".into(), text: "x: 1\n".into() },
            Block::Commands(vec![step("a \\\n  b", &["c"]), step("d", &[])]),
            Block::Commands(vec![step("e", &["f"])]),
            Block::Left { why: "needs root".into() },
        ];
        assert_eq!(blocks(text).unwrap(), expected);
    }

    #[test]
    fn a_whole_page_may_be_left_out() {
        let text = "# A\n<!-- not run on this page: takes hours -->\n```console\n$ a\n```\nb\n```console\nc\n```\n";
        let left = || Block::Left { why: "takes hours".into() };
        assert_eq!(blocks(text).unwrap(), [left(), left()]);
    }

    #[test]
    fn commands_without_a_prompt_are_found() {
        assert_eq!(blocks("a\n\n```console\ncargo xtask up\n```\n"), Err(3));
        assert_eq!(blocks("```console\n```\n"), Err(1));
    }
}

//! Whether a command printed what the page shows.

/// What stands for any text in a line, or alone for any number of lines.
const ANY: char = '…';

/// Whether the lines that a page shows are those that were printed, but for numbers, UIDs, empty lines and the blanks
/// between columns. A page that shows nothing says nothing of the output.
pub(super) fn is_shown(shown: &[String], printed: &str) -> bool {
    let shown = normal(shown.iter().map(String::as_str));
    shown.is_empty()
        || fits(&shown, &normal(printed.lines()), &|line| *line == [ANY], &|shown, printed| {
            fits(shown, printed, &|letter| *letter == ANY, &|one, other| one == other)
        })
}

/// The lines, without what differs from run to run.
fn normal<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Vec<char>> {
    let words = |line: &str| line.split_whitespace().map(normal_word).collect::<Vec<_>>().join(" ");
    lines.map(|line| words(line).chars().collect()).filter(|line: &Vec<char>| !line.is_empty()).collect()
}

/// The word with each number as 0, and with a UID as one word.
fn normal_word(word: &str) -> String {
    let bare = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    let is_uid = bare.len() == 36 && bare.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    let word = if is_uid { word.replace(bare, "UID") } else { word.to_owned() };
    let mut normal = String::new();
    for letter in word.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }) {
        if letter != '0' || !normal.ends_with('0') {
            normal.push(letter);
        }
    }
    normal
}

/// Whether items are those of a pattern, some of which stand for any number of items.
fn fits<A, B>(pattern: &[A], items: &[B], any: &dyn Fn(&A) -> bool, same: &dyn Fn(&A, &B) -> bool) -> bool {
    match pattern.split_first() {
        None => items.is_empty(),
        Some((first, rest)) if any(first) => (0..=items.len()).any(|skipped| fits(rest, &items[skipped..], any, same)),
        Some((first, rest)) => {
            items.split_first().is_some_and(|(item, left)| same(first, item) && fits(rest, left, any, same))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_compared_but_for_what_differs_from_run_to_run() {
        let table: [(&[&str], &str, bool); 10] = [
            (&[], "anything", true),
            (&["a", "b"], "a\nb\n", true),
            (&["a", "b"], "a\n", false),
            (&["a"], "a\nb\n", false),
            (&["NAME  AGE", "x  12s", ""], "NAME AGE\nx    3s\n", true),
            (&["rows: 4"], "rows: 120\n", true),
            (&["rows: 4"], "rows: none\n", false),
            (
                &["UID 6ba7b810-9dad-11d1-80b4-00c04fd430c8: dead"],
                "UID 0c8f5a3e-8a1c-4d58-9f8e-2d6e3f0b7a11: dead",
                true,
            ),
            (&["…", "b", "…"], "a\na\nb\n", true),
            (&["from … to …x", "…"], "from a b to 1x\n", true),
        ];
        for (shown, printed, expected) in table {
            let lines: Vec<String> = shown.iter().map(ToString::to_string).collect();
            assert_eq!(is_shown(&lines, printed), expected, "{shown:?} {printed:?}");
        }
    }
}

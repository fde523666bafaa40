//! The tokens of a label selector (apimachinery: `Lexer` in pkg/labels/selector.go).

use std::fmt;

/// A token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A key, a value, or one of the words `in` and `notin`.
    Word(&'a str),
    /// `=`
    Equals,
    /// `==`
    DoubleEquals,
    /// `!=`
    NotEquals,
    /// `!`
    Not,
    /// `>`
    Greater,
    /// `<`
    Less,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// The end of the selector.
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Word(word) => word,
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::Not => "!",
            Self::Greater => ">",
            Self::Less => "<",
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
            Self::End => "end of string",
        })
    }
}

/// Cuts a selector into tokens, one at a time; at the end, [`Token::End`] for ever.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    pub(super) fn next(&mut self) -> Token<'a> {
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let mut bytes = text.bytes();
        let (token, length) = match (bytes.next(), bytes.next()) {
            // Upstream reads a zero byte as the end of the string.
            (None | Some(0), _) => {
                self.rest = "";
                return Token::End;
            }
            (Some(b'='), Some(b'=')) => (Token::DoubleEquals, 2),
            (Some(b'='), _) => (Token::Equals, 1),
            (Some(b'!'), Some(b'=')) => (Token::NotEquals, 2),
            (Some(b'!'), _) => (Token::Not, 1),
            (Some(b'>'), _) => (Token::Greater, 1),
            (Some(b'<'), _) => (Token::Less, 1),
            (Some(b'('), _) => (Token::Open, 1),
            (Some(b')'), _) => (Token::Close, 1),
            (Some(b','), _) => (Token::Comma, 1),
            _ => {
                let end = text.find(ends_word).unwrap_or(text.len());
                (Token::Word(&text[..end]), end)
            }
        };
        // The zero byte that ends a token is swallowed with it.
        let rest = &text[length..];
        self.rest = rest.strip_prefix('\0').unwrap_or(rest);
        token
    }
}

fn ends_word(character: char) -> bool {
    matches!(character, '=' | '!' | '(' | ')' | ',' | '>' | '<' | ' ' | '\t' | '\r' | '\n' | '\0')
}

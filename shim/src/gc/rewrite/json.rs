//! The spans of a JSON text.
//!
//! The text was read by [`crate::object::decode`] before, so it is well-formed and this looks only for where things
//! end.

use std::borrow::Cow;

use super::form::{Container, Form, Item, Piece};

/// JSON, as kube-apiserver writes it or as anybody else does.
pub(super) struct Json;

impl Form for Json {
    fn map(value: &[u8]) -> Option<Container<'_>> {
        container(value, b'{', b'}')
    }

    fn array(value: &[u8]) -> Option<Container<'_>> {
        container(value, b'[', b']')
    }

    fn write(container: &Container<'_>, pieces: &[Piece<'_>]) -> Vec<u8> {
        let mut text = container.head.to_vec();
        for (index, piece) in pieces.iter().enumerate() {
            if index > 0 {
                text.extend_from_slice(piece.lead.filter(|lead| !lead.is_empty()).unwrap_or(b","));
            }
            text.extend_from_slice(&piece.bytes);
        }
        text.extend_from_slice(container.tail);
        text
    }

    fn is_null(value: &[u8]) -> bool {
        value == b"null"
    }

    fn text(text: &str) -> Vec<u8> {
        serde_json::Value::from(text).to_string().into_bytes()
    }

    fn integer(number: i64) -> Vec<u8> {
        number.to_string().into_bytes()
    }

    fn boolean(boolean: bool) -> Vec<u8> {
        boolean.to_string().into_bytes()
    }

    fn array_of(element: &[u8]) -> Vec<u8> {
        [b"[", element, b"]"].concat()
    }

    fn member(name: &str, value: &[u8]) -> Vec<u8> {
        [&Self::text(name), &b":"[..], value].concat()
    }

    /// Go's encoding/json sorts the keys of maps by their bytes.
    fn precedes(name: &str, other: &str) -> bool {
        name < other
    }
}

fn container(text: &[u8], open: u8, close: u8) -> Option<Container<'_>> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.space();
    scanner.expect(open)?;
    scanner.space();
    let head = &text[..scanner.at];
    let mut items = Vec::new();
    let mut end = scanner.at;
    while scanner.peek()? != close {
        if !items.is_empty() {
            scanner.expect(b',')?;
            scanner.space();
        }
        let lead = &text[end..scanner.at];
        let start = scanner.at;
        let name = if open == b'{' { scanner.name()? } else { Cow::Borrowed("") };
        let value = scanner.value()?;
        end = scanner.at;
        items.push(Item { lead, name, whole: &text[start..end], value });
        scanner.space();
    }
    Some(Container { head, items, tail: &text[end..] })
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        let found = self.peek()? == byte;
        self.at += 1;
        found.then_some(())
    }

    fn skip_while(&mut self, pass: impl Fn(u8) -> bool) {
        self.at += self.text[self.at..].iter().take_while(|&&byte| pass(byte)).count();
    }

    fn space(&mut self) {
        self.skip_while(is_space);
    }

    /// A member's name, and what stands between it and the value.
    fn name(&mut self) -> Option<Cow<'a, str>> {
        let start = self.at;
        self.string()?;
        let quoted = &self.text[start..self.at];
        self.space();
        self.expect(b':')?;
        self.space();
        if quoted.contains(&b'\\') {
            return serde_json::from_slice(quoted).ok().map(Cow::Owned);
        }
        std::str::from_utf8(&quoted[1..quoted.len() - 1]).ok().map(Cow::Borrowed)
    }

    fn string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            self.skip_while(|byte| byte != b'"' && byte != b'\\');
            let escape = self.peek()? == b'\\';
            self.at += 1;
            if !escape {
                return Some(());
            }
            self.at += 1;
            self.peek()?;
        }
    }

    fn value(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' => self.at += 1,
                byte if is_space(byte) => self.at += 1,
                _ => self.skip_while(|byte| !is_space(byte) && !b",:]}".contains(&byte)),
            }
            if depth == 0 {
                return Some(&self.text[start..self.at]);
            }
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

//! Percent-encoding, stricter than in URLs of the web: a `%` that encodes nothing is an error, as with libpq.

use std::fmt::Display;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the text stands for; `None` if it is wrongly encoded, no UTF-8, or holds a NUL.
pub(super) fn decode(text: &str) -> Option<String> {
    let is_code = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_code) {
        return None;
    }
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    (!decoded.contains('\0')).then(|| decoded.into_owned())
}

/// The text as a part of a URL.
pub(super) fn encode(text: &str) -> impl Display + '_ {
    utf8_percent_encode(text, RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_well_encoded() {
        for (text, expected) in [("", ""), ("a%2fb%2F", "a/b/"), ("a+b", "a+b"), ("%C3%A9", "é"), ("%25", "%")] {
            assert_eq!(decode(text).as_deref(), Some(expected));
            assert_eq!(decode(&encode(expected).to_string()).as_deref(), Some(expected));
        }
        for text in ["%", "100%", "a%2", "%zz", "%é", "%00", "%ff", "%%41"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}

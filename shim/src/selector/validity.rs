//! What label keys and values may look like (apimachinery: `IsLabelKey` and `IsLabelValue` in
//! pkg/api/validate/content/kube.go, `IsDNS1123Subdomain` in dns.go beside it).

/// The longest name and the longest value, in bytes.
const MAX_NAME: usize = 63;

/// The longest prefix of a key, in bytes.
const MAX_PREFIX: usize = 253;

/// Whether it is a name, or a DNS subdomain, a slash and a name.
pub(super) fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(key),
    }
}

/// Whether it is empty or a name.
pub(super) fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_name(value)
}

fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() <= MAX_NAME && has_form(name, |byte| byte.is_ascii_alphanumeric(), inner)
}

fn is_subdomain(domain: &str) -> bool {
    let outer = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inner = |byte: u8| outer(byte) || byte == b'-';
    domain.len() <= MAX_PREFIX && domain.split('.').all(|part| has_form(part, outer, inner))
}

/// Whether the text is not empty, starts and ends with `outer` bytes, and has `inner` bytes between them.
fn has_form(text: &str, outer: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    ends.is_some_and(|(&first, &last)| outer(first) && outer(last)) && bytes.iter().all(|&byte| inner(byte))
}

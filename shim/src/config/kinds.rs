//! Names of groups and kinds, as Kubernetes allows them.

/// An API group: a DNS name, or nothing for the core group.
pub(crate) fn group(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    if text.is_empty() || (text.len() <= 253 && text.split('.').all(is_label)) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no API group, such as apps or stable.example.com; the core group is the empty name"))
}

/// `group/Kind`; nothing, for a list without any.
pub(crate) fn ignored_kind(text: &str) -> Result<String, String> {
    let is_kind = |kind: &str| {
        kind.starts_with(|c: char| c.is_ascii_uppercase()) && kind.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    match text.split_once('/') {
        _ if text.is_empty() => Ok(String::new()),
        Some((name, kind)) if group(name).is_ok() && is_kind(kind) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no group/Kind, such as stable.example.com/Shirt; of the core group: /Event")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_kinds() {
        for good in ["", "apps", "stable.example.com", "a-b.c"] {
            assert_eq!(group(good).as_deref(), Ok(good));
        }
        for bad in ["Apps", "a..b", "-a", "a-.b", "apps/v1", "a b", "*"] {
            assert!(group(bad).is_err(), "{bad}");
        }
        for good in ["", "/Event", "stable.example.com/Shirt", "a/V2Shirt"] {
            assert_eq!(ignored_kind(good).as_deref(), Ok(good));
        }
        for bad in ["Event", "a/event", "a/v1/Event", "A/Event", "a/", "/"] {
            assert!(ignored_kind(bad).is_err(), "{bad}");
        }
    }
}

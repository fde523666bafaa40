//! Custom resources that kube-apiserver encrypts: the collector can't read their owners.

use bytes::Bytes;

use super::TYPED_GROUPS;

/// What kube-apiserver puts before an encrypted value (apiserver: `kmsTransformerPrefixV2` and its neighbours in
/// pkg/server/options/encryptionconfig/config.go).
const ENCRYPTED: &[u8] = b"k8s:enc:";

/// The key of an encrypted custom resource, if there is one. `opaque`: the directories of keys, with their last slash,
/// that hold values which can't be read. `find` finds a key below a directory whose value can't be read and begins with
/// these bytes.
pub fn encrypted<E>(
    opaque: &[Vec<u8>],
    mut find: impl FnMut(&[u8], &[u8]) -> Result<Option<Bytes>, E>,
) -> Result<Option<Bytes>, E> {
    for directory in opaque.iter().filter(|directory| is_of_custom_resources(directory)) {
        if let Some(key) = find(directory, ENCRYPTED)? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Whether the directory is named like one of custom resources: a part after the first has a dot and is no group of
/// Kubernetes' own.
fn is_of_custom_resources(directory: &[u8]) -> bool {
    let Ok(directory) = std::str::from_utf8(directory) else { return false };
    let mut parts = directory.split('/').filter(|part| !part.is_empty()).skip(1);
    parts.next().is_some_and(|part| part.contains('.') && !TYPED_GROUPS.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_custom_resources_are_searched() {
        let directories =
            ["/registry/secrets/a/", "/my.app/x/", "/registry/apps/deployments/", "/registry/example.com/shirts/a/"];
        let directories = [&b"/registry/\xff.x/"[..]].into_iter().chain(directories.map(str::as_bytes));
        let directories: Vec<Vec<u8>> = directories.map(<[u8]>::to_vec).collect();
        let mut searched = Vec::new();
        let mut find = |directory: &[u8], begins: &[u8]| -> Result<Option<Bytes>, ()> {
            assert_eq!(begins, b"k8s:enc:");
            searched.push(directory.to_vec());
            Ok(None)
        };
        assert_eq!(encrypted(&directories, &mut find), Ok(None));
        assert_eq!(searched, [b"/registry/example.com/shirts/a/"]);
        let found = |directory: &[u8], _: &[u8]| Ok::<_, ()>(Some(Bytes::copy_from_slice(directory)));
        assert_eq!(encrypted(&directories, found), Ok(Some("/registry/example.com/shirts/a/".into())));
        assert_eq!(encrypted(&directories, |_, _| Err(())), Err(()));
    }
}

//! The files of one layer, before they are packed.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::PathBuf,
};

use fs_err as fs;

use super::Error;

/// A Linux file capability, given to whoever executes the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Capability {
    /// `CAP_NET_BIND_SERVICE`: listen on ports below 1024 without being root.
    NetBindService,
}

impl Capability {
    /// The bit number, from linux/capability.h.
    fn bit(self) -> u32 {
        match self {
            Self::NetBindService => 10,
        }
    }
}

/// The extended attribute `security.capability` for `capabilities` as `setcap …=+ep` writes it: struct vfs_cap_data of
/// linux/capability.h, revision 2, permitted and effective.
pub(crate) fn capability_attribute(capabilities: &[Capability]) -> [u8; 20] {
    const REVISION_2_EFFECTIVE: u32 = 0x0200_0000 | 1;
    let permitted = capabilities.iter().fold(0u32, |set, capability| set | 1 << capability.bit());
    let mut value = [0; 20];
    value[..4].copy_from_slice(&REVISION_2_EFFECTIVE.to_le_bytes());
    value[4..8].copy_from_slice(&permitted.to_le_bytes());
    value
}

/// Where the bytes of a file come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// From memory.
    Bytes(Vec<u8>),
    /// From a file on this machine.
    File(PathBuf),
}

impl Content {
    /// The size in bytes and a reader for them.
    pub(crate) fn open(&self) -> io::Result<(u64, Box<dyn Read + '_>)> {
        match self {
            Self::Bytes(bytes) => Ok((bytes.len() as u64, Box::new(bytes.as_slice()))),
            Self::File(path) => {
                let file = fs::File::open(path)?;
                Ok((file.metadata()?.len(), Box::new(file)))
            }
        }
    }
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Its bytes.
        content: Content,
        /// Its file capabilities.
        capabilities: Vec<Capability>,
    },
    /// A symbolic link.
    Link {
        /// Where it points to.
        target: String,
    },
}

/// A path's node with its permissions and owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What it is.
    pub(crate) node: Node,
    /// Permission bits.
    pub(crate) mode: u32,
    /// User and group id: the toolkit gives a file to root (0) or to one service user, whose group has the same id.
    pub(crate) owner: u32,
}

/// Files by path, in the order of their paths: the order of insertion leaves no trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// Adds what stands at the absolute path `path`.
    pub(crate) fn insert(&mut self, path: &str, entry: Entry) -> Result<(), Error> {
        let fail = |reason| Error::Tree { path: path.to_owned(), reason };
        let relative = path.strip_prefix('/').ok_or_else(|| fail("a path inside an image starts with /"))?;
        if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(fail("a path inside an image has no empty part, `.` or `..`"));
        }
        if self.entries.contains_key(relative) {
            return Err(fail("two entries of one layer have this path"));
        }
        self.entries.insert(relative.to_owned(), entry);
        Ok(())
    }

    /// The entries with their paths without the leading slash, parents before children. Folders that no entry names
    /// and that none of the layers `below` has belong to root with mode 755.
    pub(crate) fn complete(&self, below: &[&Self]) -> Result<BTreeMap<String, Entry>, Error> {
        let known = |path: &str| below.iter().rev().find_map(|tree| tree.entries.get(path));
        let mut all = self.entries.clone();
        for path in self.entries.keys() {
            for (end, _) in path.match_indices('/') {
                let parent = &path[..end];
                match all.get(parent).or_else(|| known(parent)) {
                    Some(Entry { node: Node::Folder, .. }) => {}
                    Some(_) => {
                        return Err(Error::Tree {
                            path: format!("/{parent}"),
                            reason: "it is not a folder, but a file is put into it",
                        });
                    }
                    None => {
                        all.insert(parent.to_owned(), Entry { node: Node::Folder, mode: 0o755, owner: 0 });
                    }
                }
            }
        }
        Ok(all)
    }

    /// The paths, for people.
    pub(crate) fn summary(&self) -> String {
        self.entries.keys().map(|path| format!("/{path}")).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Entry {
        let node = Node::File { content: Content::Bytes(vec![]), capabilities: vec![] };
        Entry { node, mode: 0o644, owner: 0 }
    }

    #[test]
    fn paths_are_absolute_normal_and_unique() {
        let mut tree = Tree::default();
        tree.insert("/a/b", file()).unwrap();
        for path in ["", "/", "a", "/a/", "/a//b", "/./a", "/a/../b", "/a/b"] {
            assert!(tree.insert(path, file()).is_err(), "{path:?}");
        }
    }

    #[test]
    fn parents_are_added_unless_a_layer_below_has_them() {
        let mut below = Tree::default();
        below.insert("/tmp", Entry { node: Node::Folder, mode: 0o1777, owner: 0 }).unwrap();
        below.insert("/etc", file()).unwrap();
        let mut tree = Tree::default();
        tree.insert("/tmp/a/b", file()).unwrap();
        let all = tree.complete(&[&below]).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["tmp/a", "tmp/a/b"]);

        tree.insert("/etc/passwd", file()).unwrap();
        assert!(matches!(tree.complete(&[&below]), Err(Error::Tree { .. })));
    }

    /// What `setcap cap_net_bind_service=+ep` writes on Linux.
    #[test]
    fn capabilities_are_encoded_as_setcap_does() {
        let value = capability_attribute(&[Capability::NetBindService]);
        assert_eq!(value[..8], [1, 0, 0, 2, 0, 4, 0, 0]);
        assert_eq!(value[8..], [0; 12]);
    }
}

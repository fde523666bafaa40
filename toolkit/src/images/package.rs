//! The files of a Debian package that is installed on this machine, for images whose programs are not static.

use std::path::Path;

use fs_err as fs;
use sluice_shell::platform::Platform;

use super::{
    Error,
    definition::Definition,
    tree::{Content, Entry, Node},
};

/// What no program needs to run: documents, settings of the machine, tables of character sets.
const LEFT_OUT: [&str; 4] = ["/usr/share/", "/etc/", "/var/", "/gconv/"];

/// The programs, libraries and links of the package `name`, by their paths, as dpkg lists them below `root`.
pub(crate) fn entries(
    image: &Definition,
    name: &str,
    root: &Path,
    platform: Platform,
) -> Result<Vec<(String, Entry)>, Error> {
    let info = root.join("var/lib/dpkg/info");
    // Packages that can be installed for several processors carry the processor's name.
    let lists = [format!("{name}:{}.list", platform.arch()), format!("{name}.list")].map(|list| info.join(list));
    let Some(list) = lists.iter().find(|list| list.is_file()) else {
        let [_, path] = lists;
        return Err(Error::MissingFile { image: image.name.clone(), path, package: name.to_owned(), platform });
    };
    let text = fs::read_to_string(list)?;
    let wanted = |path: &&str| path.len() > 2 && !LEFT_OUT.iter().any(|part| path.contains(part));
    let mut entries = vec![];
    for path in text.lines().filter(wanted) {
        let file = root.join(path.trim_start_matches('/'));
        let meta = fs::symlink_metadata(&file)?;
        if file.is_dir() {
            // It comes with what is in it. On this machine it may be a link: /lib is one to /usr/lib.
            continue;
        }
        let entry = if meta.is_symlink() {
            let target = fs::read_link(&file)?.display().to_string();
            Entry { node: Node::Link { target }, mode: 0o777, owner: 0 }
        } else {
            let mode = std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777;
            let node = Node::File { content: Content::File(file), capabilities: vec![] };
            Entry { node, mode, owner: 0 }
        };
        entries.push((path.to_owned(), entry));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::Definitions;

    #[test]
    fn programs_and_libraries_are_taken_and_documents_are_not() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        for folder in ["var/lib/dpkg/info", "usr/sbin", "usr/share/doc/x", "lib/gconv", "images"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["usr/sbin/x", "usr/share/doc/x/copyright", "lib/gconv/y.so"] {
            fs::write(root.join(file), file).unwrap();
        }
        fs::set_permissions(root.join("usr/sbin/x"), std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
        fs::os::unix::fs::symlink("x", root.join("usr/sbin/y")).unwrap();
        fs::os::unix::fs::symlink("usr/sbin", root.join("sbin")).unwrap();
        let list =
            "/.\n/usr\n/sbin\n/usr/sbin\n/usr/sbin/x\n/usr/share/doc/x/copyright\n/lib/gconv/y.so\n/usr/sbin/y\n";
        fs::write(root.join("var/lib/dpkg/info/x:arm64.list"), list).unwrap();
        let toml = "description = ''\nlicenses = ''\nrun.workdir = '/'\nvariant = [{ suffix = '', user = '0:0' }]\n\
                    [[layer]]\npackages = ['x']\n";
        fs::write(root.join("images/i.toml"), toml).unwrap();
        let definitions = Definitions::read(&root.join("images")).unwrap();
        let image = definitions.select(&[]).unwrap()[0];
        assert!(definitions.packages(image).contains("x"));

        let found = entries(image, "x", root, Platform::Arm64).unwrap();
        let node = |entry: &Entry| matches!(&entry.node, Node::Link { target } if target == "x");
        let paths: Vec<_> = found.iter().map(|(path, entry)| (path.as_str(), entry.mode, node(entry))).collect();
        assert_eq!(paths, [("/usr/sbin/x", 0o755, false), ("/usr/sbin/y", 0o777, true)]);

        let missing = entries(image, "x", root, Platform::Amd64).unwrap_err();
        assert!(matches!(missing, Error::MissingFile { package, .. } if package == "x"));
    }
}

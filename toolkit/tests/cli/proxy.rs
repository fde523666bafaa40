//! A Go module proxy of a few files, with a Kubernetes of three modules.

use super::workspace::Workspace;

const GO_MOD: &str = "module k8s.io/kubernetes

go 1.21

require (
\tk8s.io/api v0.0.0
\tk8s.io/sample-apiserver v0.0.0
)

replace (
\tk8s.io/api => ./staging/src/k8s.io/api
\tk8s.io/sample-apiserver => ./staging/src/k8s.io/sample-apiserver
)
";

/// Publishes k8s.io/kubernetes v1.37.2 and k8s.io/api v0.37.2 below `proxy/`.
pub(crate) fn publish(workspace: &Workspace) {
    version(workspace, "37.2", b"one\r\ntwo\r\n");
}

/// Publishes another version, such as 37.3, whose file cmd/golden.test is `golden`.
pub(crate) fn version(workspace: &Workspace, version: &str, golden: &[u8]) {
    let kubernetes: [(&str, &[u8]); 6] = [
        ("go.mod", GO_MOD.as_bytes()),
        ("go.work", b"go 1.21\n\nuse (\n\t.\n\t./staging/src/k8s.io/api\n\t./staging/src/k8s.io/sample-apiserver\n)\n"),
        (".go-version", b"1.26.10\n"),
        (".gitignore", b"*.test\n"),
        ("cmd/golden.test", golden),
        ("vendor/modules.txt", b"# none\n"),
    ];
    module(workspace, "k8s.io/kubernetes", &format!("v1.{version}"), &kubernetes);
    module(
        workspace,
        "k8s.io/api",
        &format!("v0.{version}"),
        &[("go.mod", b"module k8s.io/api\n\ngo 1.21\n"), ("api.go", b"package api\n")],
    );
}

/// Lists the versions of Kubernetes that the proxy has.
pub(crate) fn list(workspace: &Workspace, versions: &str) {
    workspace.write("proxy/k8s.io/kubernetes/@v/list", versions);
}

fn module(workspace: &Workspace, path: &str, version: &str, files: &[(&str, &[u8])]) {
    let base = format!("proxy/{path}/@v/{version}");
    let named: Vec<_> = files.iter().map(|(name, content)| (format!("{path}@{version}/{name}"), *content)).collect();
    workspace.write(&format!("{base}.zip"), zip(&named));
    workspace.write(&format!("{base}.mod"), files[0].1);
    workspace
        .write(&format!("{base}.info"), format!("{{\"Version\":\"{version}\",\"Time\":\"2026-10-27T12:01:04Z\"}}"));
}

/// A zip archive without compression (PKWARE APPNOTE 4.3: local headers, central directory, end record).
fn zip(files: &[(String, &[u8])]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let size = u32::try_from(content.len()).unwrap().to_le_bytes();
        let mut header = Vec::new();
        // Version 2.0, no flags, stored, no time.
        header.extend([20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0]);
        header.extend(crc.sum().to_le_bytes());
        header.extend(size);
        header.extend(size);
        header.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        header.extend([0, 0]);

        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&header);
        // No comment, disk 0, no attributes.
        directory.extend([0; 10]);
        directory.extend(u32::try_from(archive.len()).unwrap().to_le_bytes());
        directory.extend(name.as_bytes());

        archive.extend(b"PK\x03\x04");
        archive.extend(header);
        archive.extend(name.as_bytes());
        archive.extend(*content);
    }
    let count = u16::try_from(files.len()).unwrap().to_le_bytes();
    let start = u32::try_from(archive.len()).unwrap().to_le_bytes();
    let size = u32::try_from(directory.len()).unwrap().to_le_bytes();
    archive.extend(directory);
    archive.extend(b"PK\x05\x06\x00\x00\x00\x00");
    archive.extend(count);
    archive.extend(count);
    archive.extend(size);
    archive.extend(start);
    archive.extend([0, 0]);
    archive
}

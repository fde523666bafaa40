//! `install.sh` of a release, into a folder of its own.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_release_installs_itself_and_goes_without_a_trace() {
    let bench = Bench::new();
    let made = bench.make(None);
    let root = bench.dir.path().join("root");
    let run = |args: &[&str]| {
        // Whatever the machine's settings are.
        let run = Run::new(made.folder.join("install/install.sh"), bench.dir.path()).env("OPENSSL_CONF", "/dev/null");
        run.env("DESTDIR", &root).args(args)
    };
    assert_eq!(run(&[]).read().unwrap(), "export KUBECONFIG=/etc/sluice/admin.conf");
    let pki = root.join("etc/sluice/pki");
    for (authority, certificate, purpose) in [
        ("ca", "serving", "sslserver"),
        ("ca", "admin", "sslclient"),
        ("ca", "controller-manager", "sslclient"),
        ("store-ca", "store-serving", "sslserver"),
        ("store-ca", "store-client", "sslclient"),
    ] {
        let verify = |authority: &str| {
            let args =
                ["verify", "-purpose", purpose, "-CAfile", &format!("{authority}.crt"), &format!("{certificate}.crt")];
            Run::new("openssl", &pki).args(args).run()
        };
        verify(authority).unwrap();
        // Who may use the cluster may not read the store.
        verify(if authority == "ca" { "store-ca" } else { "ca" }).unwrap_err();
        assert_eq!(mode(&pki.join(format!("{certificate}.key"))), 0o600);
    }
    assert_eq!(mode(&root.join("etc/sluice/admin.conf")), 0o600);

    // Each service starts a program that was installed, with files that are there.
    let mut services = 0;
    for entry in fs::read_dir(root.join("etc/systemd/system")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        // By itself systemd gives up a service that ends five times in ten seconds.
        let unit = text.split("[Service]").next().unwrap();
        assert!(unit.contains("\nStartLimitIntervalSec=0\n"), "{unit}");
        let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let mut words = line.split(' ');
        let program = root.join(words.next().unwrap().trim_start_matches('/'));
        assert_eq!(mode(&program), 0o755, "{}", program.display());
        for file in words.filter_map(|word| word.split_once("=/etc/")) {
            assert!(root.join("etc").join(file.1).is_file(), "{}", file.1);
        }
        services += 1;
    }
    assert_eq!(services, 3);

    // A second run replaces programs alone.
    let key = fs::read(pki.join("ca.key")).unwrap();
    fs::write(root.join("var/lib/sluice/sluice.db"), "data").unwrap();
    fs::write(root.join("usr/local/bin/sluice-shim"), "old").unwrap();
    run(&["install"]).run().unwrap();
    assert_eq!(fs::read(pki.join("ca.key")).unwrap(), key);
    assert_ne!(fs::read(root.join("usr/local/bin/sluice-shim")).unwrap(), b"old");

    run(&["uninstall"]).run().unwrap();
    assert!(root.join("var/lib/sluice/sluice.db").exists() && pki.exists());
    run(&["uninstall", "--purge"]).run().unwrap();
    assert!(bundle::Files::of(&root).unwrap().all().unwrap().is_empty());
    run(&["remove"]).run().unwrap_err();
}

#[test]
fn what_openssl_says_is_shown_and_nothing_was_replaced() {
    let bench = Bench::new();
    let made = bench.make(None);
    let (root, path) = (bench.dir.path().join("root"), bench.dir.path().join("path"));
    fs::create_dir(&path).unwrap();
    fs::write(path.join("openssl"), "#!/bin/sh\necho no entropy >&2\nexit 1\n").unwrap();
    fs::set_permissions(path.join("openssl"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
    let run = Run::new(made.folder.join("install/install.sh"), bench.dir.path()).env("DESTDIR", &root);
    let error = run.env("PATH", path).run().unwrap_err().to_string();
    assert!(error.contains("install.sh: openssl req failed: no entropy"), "{error}");
    assert!(!root.join("usr/local/bin/sluice-shim").exists());
}

#[test]
fn a_damaged_release_is_not_installed() {
    let bench = Bench::new();
    let made = bench.make(None);
    let root = bench.dir.path().join("root");
    fs::write(made.folder.join("bin/linux-amd64/sluice-shim"), "other").unwrap();
    let run = Run::new(made.folder.join("install/install.sh"), bench.dir.path()).env("DESTDIR", &root);
    assert!(run.run().unwrap_err().to_string().contains("is damaged"));
    assert!(!root.exists());
}

#[test]
fn shellcheck_finds_nothing() {
    Run::new("shellcheck", root().join("install")).arg("install.sh").run().unwrap();
}

//! `cargo xtask doctor` is the first thing that a newcomer waits for.

use sluice_shell::process::Run;

/// Crates that are compiled before `doctor` can answer, with ours: 15 s on two cores. Raise the number only for
/// something that `doctor` can't do without.
const MOST: usize = 55;

/// What compiles C, or for long.
const HEAVY: [&str; 8] = ["cc", "git2", "ring", "rustls", "tokio", "regex", "oci-spec", "sluice-toolkit"];

#[test]
fn doctor_waits_for_few_crates() {
    let tree = Run::cargo(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--package", "xtask", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .read()
        .unwrap();
    let mut crates: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    crates.sort_unstable();
    crates.dedup();
    assert!(crates.contains(&"sluice-shell") && crates.contains(&"clap"), "{crates:?}");
    assert!(crates.len() <= MOST, "{} crates: {crates:?}", crates.len());
    let heavy: Vec<&&str> = HEAVY.iter().filter(|name| crates.contains(name)).collect();
    assert!(heavy.is_empty(), "{heavy:?}");
}

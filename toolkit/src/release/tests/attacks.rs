//! Archives that nobody made with `release`.

use super::*;

/// An archive with entries of these names and kinds.
fn archive(path: &Path, entries: &[(&str, tar::EntryType)]) {
    let mut tar = tar::Builder::new(zstd::Encoder::new(fs::File::create(path).unwrap(), 1).unwrap());
    for (name, kind) in entries {
        let mut header = tar::Header::new_ustar();
        // `set_path` refuses what an attacker writes.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(if *kind == tar::EntryType::Regular { 1 } else { 0 });
        if *kind == tar::EntryType::Symlink {
            header.set_link_name("/etc").unwrap();
        }
        header.set_cksum();
        let bytes: &[u8] = if *kind == tar::EntryType::Regular { b"x" } else { b"" };
        tar.append(&header, bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}

#[test]
fn nothing_is_written_outside_of_the_folder() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    for entries in [
        &[("../x", Regular)][..],
        &[("a/../../x", Regular)],
        &[("/tmp/sluice-x", Regular)],
        &[("a/b", Symlink), ("a/b/x", Regular)],
        &[("a/b", Link)],
        &[("a/b", Directory)],
        &[("a/x", Regular), ("a/x", Regular)],
        &[("a/x", Regular), ("b/x", Regular)],
        &[("x", Regular)],
        &[],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (path, scratch) = (dir.path().join("a.tar.zst"), dir.path().join("in/scratch"));
        fs::create_dir_all(&scratch).unwrap();
        archive(&path, entries);
        let verdict = verify::archive(&path, None, &scratch).unwrap();
        assert_eq!(verdict.problems.len(), 1, "{entries:?}: {:?}", verdict.problems);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "{entries:?}");
        assert_eq!(fs::read_dir(dir.path().join("in")).unwrap().count(), 1, "{entries:?}");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_an_archive_is_found() {
    let bench = Bench::new();
    let (signer, public) = bench.keys("keys");
    let made = bench.make(Some(&signer));
    let check = |keys| {
        let scratch = tempfile::tempdir_in(bench.dir.path()).unwrap();
        verify::archive(&made.archive, keys, scratch.path()).unwrap().problems
    };
    assert_eq!(check(Some(&public)), []);
    let whole = fs::read(&made.archive).unwrap();
    let name = made.archive.file_name().unwrap().to_string_lossy().into_owned();
    let places = (0..16).chain((0..8).map(|part| whole.len() / 8 * part + 99)).chain([whole.len() - 1]);
    for (number, place) in places.enumerate() {
        let mut bad = whole.clone();
        bad[place] ^= 1 << (number % 8);
        fs::write(&made.archive, bad).unwrap();
        assert!(!check(None).is_empty(), "a flipped bit at {place}");
    }
    // Both: the digest beside it is as easily written as the archive.
    fs::write(&made.archive, [whole.as_slice(), b"x"].concat()).unwrap();
    let sum = sums::digest(&made.archive).unwrap();
    fs::write(made.archive.with_file_name(format!("{name}.sha256")), sums::line(&sum, &name)).unwrap();
    assert!(check(Some(&public)).iter().any(|problem| problem.file == format!("{name}.minisig")));
}

/// Whole and signed, but another version than the one that was asked for.
#[test]
fn a_release_under_the_name_of_another_one_is_refused() {
    let bench = Bench::new();
    let (signer, public) = bench.keys("keys");
    let made = bench.make(Some(&signer));
    let path = bench.dir.path().join("sluice-v1.37.2+sluice.2.tar.zst");
    fs::copy(&made.archive, &path).unwrap();
    let scratch = tempfile::tempdir_in(bench.dir.path()).unwrap();
    let problems = verify::archive(&path, Some(&public), scratch.path()).unwrap().problems;
    let what = "it is the release that is named sluice-v1.37.2+sluice.1.tar.zst";
    assert_eq!(problems, [Problem::new("sluice-v1.37.2+sluice.2.tar.zst", what)]);
}

#[test]
fn modes_and_times_in_an_archive_are_those_of_a_release() {
    let bench = Bench::new();
    let made = bench.make(None);
    let path = bench.dir.path().join("sluice-v1.37.2_sluice.1.tar.zst");
    let (top, epoch) = (made.description.top(), made.description.source_date_epoch);
    let check = || {
        let scratch = tempfile::tempdir_in(bench.dir.path()).unwrap();
        verify::archive(&path, None, scratch.path()).unwrap().problems
    };
    archive::write(&made.folder, &top, epoch, &path).unwrap();
    assert_eq!(check(), []);
    archive::write(&made.folder, &top, epoch + 1, &path).unwrap();
    assert!(check()[0].what.contains("times or modes"));
    let program = made.folder.join("bin/linux-amd64/sluice-shim");
    fs::set_permissions(program, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    archive::write(&made.folder, &top, epoch, &path).unwrap();
    assert!(check().iter().any(|problem| problem.file == "bin/linux-amd64/sluice-shim"), "{:?}", check());
}

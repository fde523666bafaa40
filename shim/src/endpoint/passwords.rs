//! Where the password of a database's user is.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Once;

use super::pgpass::{self, Login};
use super::secret::Secret;
use crate::config::error::ConfigError;

/// The most that a file with a password may hold, in bytes. Tokens that serve as passwords have some thousands.
const LONGEST: u64 = 64 << 10;

/// Where a password may be, from the first place that is looked at to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passwords {
    /// The file of `--endpoint-password-file`, or of another such flag.
    pub file: Option<PathBuf>,
    /// That flag.
    pub flag: &'static str,
    /// What the variable `SLUICE_ENDPOINT_PASSWORD` holds.
    pub variable: Option<Secret>,
    /// What the URL holds.
    pub url: Option<Secret>,
    /// PostgreSQL's own password file, which need not be there.
    pub pgpass: Option<PathBuf>,
}

/// The flag that names the file, but for the target of a move.
pub const PASSWORD_FILE: &str = "--endpoint-password-file";

impl Default for Passwords {
    fn default() -> Self {
        Self { file: None, flag: PASSWORD_FILE, variable: None, url: None, pgpass: None }
    }
}

impl Passwords {
    /// What the file holds now.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn of_file(&self) -> Result<Option<Secret>, ConfigError> {
        self.file.as_deref().map(|path| of_file(path, self.flag)).transpose()
    }

    /// The password of the first place that has one. Files are read now.
    pub(super) fn find(&self, login: &Login<'_>) -> Result<Option<Secret>, ConfigError> {
        let known = self.of_file()?.or_else(|| self.variable.clone()).or_else(|| self.url.clone());
        Ok(known.or_else(|| self.pgpass.as_deref().and_then(|path| of_pgpass(path, login))))
    }
}

fn of_file(path: &Path, flag: &str) -> Result<Secret, ConfigError> {
    read(path).map_err(|error| {
        let what = format!("{flag} {} can't be used: {error}", path.display());
        ConfigError::here(what, "name a file that holds the password, and nothing else, and that this user can read")
    })
}

/// All of a file but the end of its line.
fn read(path: &Path) -> io::Result<Secret> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other("it is too long for a password"));
    }
    let line = text.strip_suffix('\n').map_or(&text[..], |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() || line.contains('\0') {
        return Err(io::Error::other(if line.is_empty() { "it is empty" } else { "it holds a NUL" }));
    }
    Ok(Secret::from(line.to_owned()))
}

/// As with libpq, a file that can't be used is no error: it may be about other databases. That is said once.
fn of_pgpass(path: &Path, login: &Login<'_>) -> Option<Secret> {
    static SAID: Once = Once::new();
    pgpass::password(path, login).unwrap_or_else(|why| {
        SAID.call_once(|| tracing::warn!("the password file {} is not looked at: {why}", path.display()));
        None
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const LOGIN: Login<'_> = Login { host: "db", port: 1, database: "x", user: "me" };

    fn secret(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    #[test]
    fn the_first_place_that_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "of file\n").unwrap();
        fs::write(at("pgpass"), "*:*:*:*:of pgpass\n").unwrap();
        fs::set_permissions(at("pgpass"), fs::Permissions::from_mode(0o600)).unwrap();
        let mut all = Passwords {
            file: Some(at("file")),
            flag: PASSWORD_FILE,
            variable: Some(secret("of variable")),
            url: Some(secret("of URL")),
            pgpass: Some(at("pgpass")),
        };
        let find = |all: &Passwords| all.find(&LOGIN).unwrap();
        assert_eq!(find(&all), Some(secret("of file")));
        // A password that was changed holds for the next connection.
        fs::write(at("file"), "changed").unwrap();
        assert_eq!(find(&all), Some(secret("changed")));
        all.file = None;
        assert_eq!(find(&all), Some(secret("of variable")));
        all.variable = None;
        assert_eq!(find(&all), Some(secret("of URL")));
        all.url = None;
        assert_eq!(find(&all), Some(secret("of pgpass")));
        all.pgpass = Some(at("missing"));
        assert_eq!(find(&all), None);
    }

    #[test]
    fn what_a_file_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let table: [(&[u8], Result<&str, &str>); 10] = [
            (b"secret", Ok("secret")),
            (b"secret\n", Ok("secret")),
            (b"secret\r\n", Ok("secret")),
            (b" two words \n", Ok(" two words ")),
            (b"two\nlines\n", Ok("two\nlines")),
            (b"", Err("it is empty")),
            (b"\n", Err("it is empty")),
            (b"secret\0", Err("it holds a NUL")),
            (b"secret\xff", Err("stream did not contain valid UTF-8")),
            (&[b's'; 65_537], Err("it is too long for a password")),
        ];
        for (content, expected) in table {
            fs::write(&path, content).unwrap();
            match (of_file(&path, PASSWORD_FILE), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.reveal(), expected),
                (found, expected) => {
                    let why = found.unwrap_err().what;
                    assert_eq!(
                        why,
                        format!("--endpoint-password-file {} can't be used: {}", path.display(), expected.unwrap_err())
                    );
                }
            }
        }
        assert!(of_file(folder.path(), PASSWORD_FILE).unwrap_err().what.ends_with("it is no file"));
        assert!(of_file(Path::new("/dev/zero"), PASSWORD_FILE).unwrap_err().what.ends_with("it is no file"));
    }
}

//! PostgreSQL's password file, by libpq's rules: <https://www.postgresql.org/docs/current/libpq-pgpass.html>.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::secret::Secret;

/// The rights that nobody but the owner may have.
const OF_OTHERS: u32 = 0o077;

/// What a password is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Login<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The password of the first line that fits. A file that is not there has none.
///
/// # Errors
/// Says why the file is not looked at.
pub(super) fn password(path: &Path, login: &Login<'_>) -> Result<Option<Secret>, String> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    if metadata.mode() & OF_OTHERS != 0 {
        return Err("others than its owner have rights to it; take them away with chmod 600".to_owned());
    }
    let text = fs::read(path).map_err(|error| error.to_string())?;
    text.split(|byte| *byte == b'\n').find_map(|line| of_line(line, login)).map_or(Ok(None), |password| {
        let password = String::from_utf8(password).map_err(|_| "the password in it is no UTF-8".to_owned())?;
        Ok((!password.is_empty()).then(|| Secret::from(password)))
    })
}

/// The password of a line, `host:port:database:user:password`, if it fits.
fn of_line(line: &[u8], login: &Login<'_>) -> Option<Vec<u8>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.starts_with(b"#") {
        return None;
    }
    let mut rest = line;
    for wanted in [login.host, &login.port.to_string(), login.database, login.user] {
        let (field, behind) = field(rest);
        let is_any = rest.starts_with(b"*:");
        rest = behind.filter(|_| is_any || field == wanted.as_bytes())?;
    }
    Some(field(rest).0)
}

/// A field without its backslashes, and what is behind its colon.
fn field(text: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    let mut field = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, text.get(at + 1)) {
            (b':', _) => return (field, text.get(at + 1..)),
            (b'\\', Some(escaped)) => {
                field.push(*escaped);
                at += 1;
            }
            _ => field.push(*byte),
        }
        at += 1;
    }
    (field, None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const LOGIN: Login<'_> = Login { host: "db.example.com", port: 5432, database: "sluice", user: "me" };

    #[test]
    fn the_first_line_that_fits() {
        let table: [(&str, Option<&str>); 18] = [
            ("db.example.com:5432:sluice:me:one", Some("one")),
            ("*:*:*:*:one", Some("one")),
            ("*:5432:*:me:one\r\n*:*:*:*:two\n", Some("one")),
            ("other:*:*:*:one\n*:*:*:*:two", Some("two")),
            ("# db.example.com:5432:sluice:me:one\n*:*:*:me:two", Some("two")),
            ("\n\n*:*:*:me:two", Some("two")),
            (r"*:*:*:*:a\:b\\c\d", Some(r"a:b\cd")),
            ("*:*:*:*:one:two", Some("one")),
            (r"db\.example.com:*:*:m\e:one", Some("one")),
            ("*:*:*:*:é", Some("é")),
            ("*:*:*:*:", None),
            ("*:*:*:*", None),
            ("*:*:*:you:one", None),
            ("*:*:slu*:*:one", None),
            (r"\*:*:*:*:one", None),
            ("*:543:*:*:one", None),
            ("", None),
            (r"*:*:*:*\", None),
        ];
        for (text, expected) in table {
            let found = text.as_bytes().split(|byte| *byte == b'\n').find_map(|line| of_line(line, &LOGIN));
            let found = found.map(|password| String::from_utf8(password).unwrap()).filter(|found| !found.is_empty());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        let v6 = of_line(br"\:\:1:*:*:*:one", &Login { host: "::1", ..LOGIN });
        assert_eq!(v6.as_deref(), Some(&b"one"[..]));
    }

    #[test]
    fn a_file_that_others_may_read_is_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        let find = |path: &Path| password(path, &LOGIN).map(|found| found.map(|found| found.reveal().to_owned()));
        assert_eq!(find(&path), Ok(None));
        assert_eq!(find(folder.path()), Err("it is no file".to_owned()));
        fs::write(&path, "*:*:*:*:secret\n").unwrap();
        for (mode, is_read) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match find(&path) {
                Ok(found) => assert!(is_read && found.as_deref() == Some("secret"), "{mode:o}"),
                Err(why) => assert!(!is_read && why.contains("chmod 600") && !why.contains("secret"), "{why}"),
            }
        }
    }

    #[test]
    fn a_password_in_another_encoding_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        fs::write(&path, b"*:*:*:*:\xff\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(password(&path, &LOGIN).unwrap_err(), "the password in it is no UTF-8");
    }
}

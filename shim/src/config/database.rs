//! The flags that say where the data is, of the server and of all commands.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ArgAction;

use super::ConfigError;
use crate::endpoint::{Endpoint, Family, PASSWORD_FILE, Secret};

/// The variable with the password. There is no flag for it: `ps` would show it.
pub(crate) const PASSWORD: &str = "SLUICE_ENDPOINT_PASSWORD";

/// The variable with the password of a target.
pub(crate) const TARGET_PASSWORD: &str = "SLUICE_TARGET_PASSWORD";

/// The flag that names the file with it.
pub(crate) const TARGET_PASSWORD_FILE: &str = "--target-password-file";

/// The flag that names a server with a copy.
pub(crate) const READ_ENDPOINT: &str = "--read-endpoint";

/// What `--endpoint` says: read at once, so that no other part of the program has the text with the password.
pub(crate) type Given = Result<Endpoint, ConfigError>;

/// Where the data is, and the password for it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DatabaseFlags {
    /// The database: sqlite:///var/lib/sluice/state.db. There is no default. A password in the URL would be seen by
    /// every user of the machine, in `ps`.
    #[arg(long, env = "SLUICE_ENDPOINT", hide_env_values = true, value_name = "URL", value_parser = given)]
    endpoint: Option<Given>,

    /// A file with the password of a database that is reached over the network. It is read for each new connection, so
    /// the password may change. Instead of it the variable SLUICE_ENDPOINT_PASSWORD may hold the password, or
    /// PostgreSQL's password file (PGPASSFILE, or ~/.pgpass).
    #[arg(long, env = "SLUICE_ENDPOINT_PASSWORD_FILE", value_name = "FILE")]
    endpoint_password_file: Option<PathBuf>,

    /// Serve a database server even if it is set so that a crash of it takes back what was acknowledged.
    #[arg(
        long,
        env = "SLUICE_ALLOW_UNSAFE_DATABASE",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    allow_unsafe_database: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "an error of clap's would show the URL")]
pub(super) fn given(url: &str) -> Result<Given, Infallible> {
    Ok(url.parse())
}

impl DatabaseFlags {
    /// Where the data is, and where the password is.
    ///
    /// # Errors
    /// When there is no endpoint, or it is none, or the file with the password can't be read.
    pub fn endpoint(&self) -> Result<Endpoint, ConfigError> {
        self.endpoint_with(&|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// The same with the servers that hold copies of it.
    ///
    /// # Errors
    /// The same, and when one of these can't hold a copy of it.
    pub(super) fn endpoint_with_replicas(&self, replicas: &[Given]) -> Result<Endpoint, ConfigError> {
        let mut endpoint = self.endpoint()?;
        for given in replicas {
            let replica = given
                .clone()
                .map_err(|error| of_another(error, READ_ENDPOINT, (READ_ENDPOINT, "SLUICE_READ_ENDPOINT")))?;
            let replica = Self { endpoint: Some(Ok(replica)), ..self.clone() }.endpoint()?;
            let (Endpoint::Network(address), Endpoint::Network(replica)) = (&mut endpoint, replica) else {
                let hint = "use it with a database on a server (postgres:// or mysql://), or remove it";
                return Err(ConfigError::new(format!("{READ_ENDPOINT}: a SQLite file has no copies on servers"), hint));
            };
            if address.family != replica.family {
                let hint = format!("give the URL of a server that holds a copy of it: {}://…", address.family);
                let what = format!(
                    "{READ_ENDPOINT}: a {} server holds no copy of a {} database",
                    replica.family, address.family
                );
                return Err(ConfigError::new(what, hint));
            }
            address.replicas.push(*replica);
        }
        Ok(endpoint)
    }

    fn endpoint_with(&self, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Endpoint, ConfigError> {
        let endpoint = self.endpoint.clone().unwrap_or_else(|| "".parse())?;
        let file = self.endpoint_password_file.as_deref();
        with_passwords(endpoint, self.allow_unsafe_database, (file, &OF_ENDPOINT), variable)
    }
}

/// Where a store goes, and the password for it.
#[derive(Debug, Clone, clap::Args)]
pub struct TargetFlags {
    /// The database that the store goes to: postgres://user@host/database. A password in the URL would be seen by every
    /// user of the machine, in `ps`.
    #[arg(env = "SLUICE_TARGET", hide_env_values = true, value_name = "TARGET", value_parser = given)]
    target: Given,

    /// A file with the target's password. Instead of it the variable SLUICE_TARGET_PASSWORD may hold the password, or
    /// PostgreSQL's password file (PGPASSFILE, or ~/.pgpass).
    #[arg(long, env = "SLUICE_TARGET_PASSWORD_FILE", value_name = "FILE")]
    target_password_file: Option<PathBuf>,
}

impl TargetFlags {
    /// Where the store goes, and where the password is. What a crash may take back is the other flags' business.
    ///
    /// # Errors
    /// When it is no endpoint, or the file with the password can't be read.
    pub fn endpoint(&self, source: &DatabaseFlags) -> Result<Endpoint, ConfigError> {
        let endpoint =
            self.target.clone().map_err(|error| of_another(error, "the target", ("TARGET", "SLUICE_TARGET")))?;
        let file = self.target_password_file.as_deref();
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        with_passwords(endpoint, source.allow_unsafe_database, (file, &OF_TARGET), &variable)
    }
}

/// What is wrong with a URL that is another one's than `--endpoint`'s. `names`: those of its flag and its variable.
fn of_another(error: ConfigError, whose: &str, names: (&str, &str)) -> ConfigError {
    let hint = error.hint.replace("--endpoint", names.0).replace("SLUICE_ENDPOINT", names.1);
    ConfigError { what: format!("{whose}: {}", error.what), hint, ..error }
}

/// The names of the ways to give a password.
struct Ways {
    flag: &'static str,
    variable_of_flag: &'static str,
    variable: &'static str,
}

const OF_ENDPOINT: Ways =
    Ways { flag: PASSWORD_FILE, variable_of_flag: "SLUICE_ENDPOINT_PASSWORD_FILE", variable: PASSWORD };
const OF_TARGET: Ways =
    Ways { flag: TARGET_PASSWORD_FILE, variable_of_flag: "SLUICE_TARGET_PASSWORD_FILE", variable: TARGET_PASSWORD };

/// The endpoint with all that says what its password is.
fn with_passwords(
    mut endpoint: Endpoint,
    accepts_loss: bool,
    (file, ways): (Option<&Path>, &Ways),
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Endpoint, ConfigError> {
    match &mut endpoint {
        Endpoint::Sqlite(_) if file.is_some() => {
            let what = format!("{}: a SQLite database has no password", ways.flag);
            let hint = format!("remove the flag, or the variable {}", ways.variable_of_flag);
            return Err(ConfigError::new(what, hint));
        }
        Endpoint::Sqlite(_) => {}
        Endpoint::Network(address) => {
            address.accepts_loss = accepts_loss;
            let passwords = &mut address.passwords;
            passwords.file = file.map(Path::to_owned);
            passwords.flag = ways.flag;
            passwords.variable = variable(ways.variable).map(|text| secret(text, ways.variable)).transpose()?;
            if address.family == Family::Postgres {
                let usual = || variable("HOME").map(|home| PathBuf::from(home).join(".pgpass"));
                passwords.pgpass = variable("PGPASSFILE").map(PathBuf::from).or_else(usual);
            }
            passwords.of_file()?;
        }
    }
    Ok(endpoint)
}

fn secret(text: OsString, of: &str) -> Result<Secret, ConfigError> {
    let refuse = |_| ConfigError::new(format!("the variable {of} holds no UTF-8"), "set it to the password");
    text.into_string().map(Secret::from).map_err(refuse)
}

/// The flags that say so.
impl From<Endpoint> for DatabaseFlags {
    fn from(endpoint: Endpoint) -> Self {
        Self { endpoint: Some(Ok(endpoint)), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Passwords;

    fn flags(url: &str, file: Option<&str>) -> DatabaseFlags {
        DatabaseFlags {
            endpoint: Some(url.parse()),
            endpoint_password_file: file.map(PathBuf::from),
            ..DatabaseFlags::default()
        }
    }

    fn passwords(url: &str, file: Option<&str>, variables: &[(&str, &str)]) -> Result<Passwords, ConfigError> {
        let variable = |name: &str| variables.iter().find(|(given, _)| *given == name).map(|(_, value)| value.into());
        match flags(url, file).endpoint_with(&variable)? {
            Endpoint::Sqlite(_) => Ok(Passwords::default()),
            Endpoint::Network(address) => Ok(address.passwords),
        }
    }

    #[test]
    fn where_the_password_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password").display().to_string();
        std::fs::write(&file, "secret").unwrap();
        let variables = [(PASSWORD, "of variable"), ("PGPASSFILE", "/pg"), ("HOME", "/home/me")];
        let (of_variable, of_url) = (Some(Secret::from("of variable".to_owned())), Some(Secret::from("u".to_owned())));
        let all = Passwords {
            file: Some(file.clone().into()),
            flag: PASSWORD_FILE,
            variable: of_variable,
            url: of_url,
            pgpass: Some("/pg".into()),
        };
        assert_eq!(passwords("postgres://me:u@db/x", Some(&file), &variables), Ok(all.clone()));
        assert_eq!(passwords("mysql://me:u@db/x", Some(&file), &variables), Ok(Passwords { pgpass: None, ..all }));
        let usual = Passwords { pgpass: Some("/home/me/.pgpass".into()), ..Passwords::default() };
        assert_eq!(passwords("postgres://db/x", None, &variables[2..]), Ok(usual));
        assert_eq!(passwords("postgres://db/x", None, &[]), Ok(Passwords::default()));
        assert_eq!(passwords("sqlite://a.db", None, &variables), Ok(Passwords::default()));
    }

    #[test]
    fn servers_that_hold_copies() {
        let check = |url: &str, replicas: &[&str]| -> Result<Vec<String>, String> {
            let replicas: Vec<Given> = replicas.iter().map(|url| url.parse()).collect();
            match flags(url, None).endpoint_with_replicas(&replicas).map_err(|error| error.what)? {
                Endpoint::Network(address) => Ok(address.replicas.iter().map(ToString::to_string).collect()),
                Endpoint::Sqlite(_) => Ok(Vec::new()),
            }
        };
        let two = ["postgres://me@r1/x", "postgres://me@r2:1,r3/x"];
        let known = ["postgres://me@r1:5432/x", "postgres://me@r2:1,r3:5432/x"].map(str::to_owned).to_vec();
        assert_eq!(check("postgres://me@db/x", &two), Ok(known));
        assert_eq!(check("sqlite://a.db", &[]), Ok(vec![]));
        let refused = |url, replica| check(url, &[replica]).unwrap_err();
        let file = "--read-endpoint: a SQLite file has no copies on servers";
        assert_eq!(refused("sqlite://a.db", "postgres://r/x"), file);
        assert_eq!(refused("postgres://db/x", "sqlite://a.db"), file);
        let other = "--read-endpoint: a mysql server holds no copy of a postgres database";
        assert_eq!(refused("postgres://db/x", "mysql://r/x"), other);
        assert_eq!(refused("mysql://db/x", "r1"), "--read-endpoint: the endpoint is not a URL");
    }

    #[test]
    fn a_password_file_that_is_of_no_use() {
        let missing = passwords("mysql://me@db/x", Some("/missing"), &[]).unwrap_err();
        assert!(missing.what.starts_with("--endpoint-password-file /missing can't be used: No such file"), "{missing}");
        let sqlite = passwords("sqlite://a.db", Some("/missing"), &[]).unwrap_err();
        assert_eq!(sqlite.what, "--endpoint-password-file: a SQLite database has no password");
    }
}

//! Who we are for a registry: the credential files that `docker login`, `podman login` and `skopeo login` write, and
//! the helpers that they name.

use std::{
    collections::BTreeMap,
    env, io,
    path::{Path, PathBuf},
    time::Duration,
};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use fs_err as fs;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

use sluice_shell::process::{Limit, Run};

use super::{
    error::Error,
    login::{Login, Origin},
};

/// A helper may ask a person for a password.
const HELPER: Limit = Limit::Clock(Duration::from_mins(2));

/// The user name with which a helper says that its secret is an identity token.
const TOKEN: &str = "<token>";

/// The name that docker keeps the credentials of its own registry under.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The files in which credentials are looked for, in this order.
#[derive(Clone, Debug)]
pub(super) struct Files(pub(super) Vec<PathBuf>);

impl Files {
    /// Docker's (docs.docker.com, "docker login"), then those of podman and skopeo (containers-auth.json(5)).
    pub(super) fn from_env() -> Self {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let docker = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")));
        let runtime = variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers"));
        let runtime = runtime.unwrap_or_else(|| format!("/run/containers/{}", nix::unistd::geteuid()).into());
        let podman = variable("REGISTRY_AUTH_FILE").unwrap_or_else(|| runtime.join("auth.json"));
        Self(docker.map(|folder| folder.join("config.json")).into_iter().chain([podman]).collect())
    }

    /// The first credentials for the registry.
    ///
    /// # Errors
    /// A file or a helper that has them, and does not give them.
    pub(super) fn login(&self, registry: &str) -> Result<Login, Error> {
        let names = if registry == "docker.io" { vec![DOCKER_HUB, registry] } else { vec![registry] };
        for path in &self.0 {
            if let Some(login) = in_file(path, &names)? {
                return Ok(login);
            }
        }
        Ok(Login { auth: RegistryAuth::Anonymous, origin: Origin::Nowhere(self.0.clone()) })
    }
}

/// The programs that a credential file names.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Helpers {
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

impl Helpers {
    /// The program for a registry, as docker chooses it.
    fn of(&self, registry: &str) -> Option<String> {
        let name = self.cred_helpers.get(registry).or(self.creds_store.as_ref());
        name.filter(|name| !name.is_empty()).map(|name| format!("docker-credential-{name}"))
    }
}

fn in_file(path: &Path, names: &[&str]) -> Result<Option<Login>, Error> {
    let fail = |reason: String| Error::CredentialFile { path: path.to_owned(), reason };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(fail(error.to_string())),
    };
    let helpers: Helpers = serde_json::from_slice(&text).map_err(|error| fail(error.to_string()))?;
    for name in names {
        if let Some(helper) = helpers.of(name)
            && let Some(login) = ask(&helper, name, path)?
        {
            return Ok(Some(login));
        }
    }
    let mut file: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&text).map_err(|error| fail(error.to_string()))?;
    // Asked above: the crate starts them without a limit, and does not say which it could not start.
    file.retain(|key, _| key != "credHelpers" && key != "credsStore");
    let file = serde_json::to_vec(&file).map_err(|error| fail(error.to_string()))?;
    for name in names {
        match docker_credential::get_credential_from_reader(file.as_slice(), name) {
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                let origin = Origin::File { user: user.clone(), path: path.to_owned() };
                return Ok(Some(Login { auth: RegistryAuth::Basic(user, password), origin }));
            }
            Ok(DockerCredential::IdentityToken(_)) => {
                return Err(Error::IdentityToken { path: path.to_owned(), registry: (*name).to_owned() });
            }
            Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            Err(error) => return Err(fail(format!("its entry for {name}: {error}"))),
        }
    }
    Ok(None)
}

/// What a helper answers (github.com/docker/docker-credential-helpers, `credentials.Credentials`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The helper's credentials; none if it knows none.
fn ask(helper: &str, registry: &str, path: &Path) -> Result<Option<Login>, Error> {
    let fail = |reason: String| Error::Helper {
        helper: helper.to_owned(),
        path: path.to_owned(),
        registry: registry.to_owned(),
        reason,
    };
    let asked = Run::new(helper, "/").arg("get").stdin(registry).limit(HELPER).outcome();
    let outcome = asked.map_err(|error| fail(error.to_string()))?;
    if !outcome.status.success() {
        let said = format!("{} {}", outcome.stdout.trim(), outcome.stderr.trim());
        // docker-credential-helpers, `errCredentialsNotFoundMessage`.
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(fail(format!("{} {}", outcome.status, said.trim())));
    }
    // Not what it said: that may hold a password.
    let answer: Answer = serde_json::from_str(&outcome.stdout)
        .map_err(|_| fail("its answer is not JSON with a Username and a Secret".to_owned()))?;
    if answer.username == TOKEN {
        return Err(Error::IdentityToken { path: path.to_owned(), registry: registry.to_owned() });
    }
    let origin = Origin::Helper { user: answer.username.clone(), helper: helper.to_owned(), path: path.to_owned() };
    Ok(Some(Login { auth: RegistryAuth::Basic(answer.username, answer.secret), origin }))
}

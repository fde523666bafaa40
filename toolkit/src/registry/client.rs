//! The connection to one registry: who we are there, how often something is tried, and how long we wait.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use oci_client::{
    Client, RegistryOperation,
    errors::OciDistributionError,
    secrets::RegistryAuth,
    token_cache::{RegistryToken, RegistryTokenType},
};
use tokio::{runtime::Runtime, time};

use super::{access::Access, answer::Trouble, credentials::Files, error::Error, login::Login};
use crate::images::{Digest, Reference};

/// How long we bear with a registry.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    /// Without a byte in either direction.
    pub(super) silence: Duration,
    /// Between attempts of what may succeed later.
    pub(super) pauses: Vec<Duration>,
    /// Since a login, until it may end: a token that does not say how long it lasts is good for a minute (Docker's
    /// specification of tokens).
    pub(super) login: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let pauses = [1, 2, 4, 8].map(Duration::from_secs).to_vec();
        Self { silence: Duration::from_mins(2), pauses, login: Duration::from_secs(30) }
    }
}

/// A registry that we speak with.
pub(crate) struct Registry {
    /// Its name in references: a host, and a port if need be.
    name: String,
    pub(super) client: Client,
    login: Login,
    /// When we logged in last to push.
    logged_in: Cell<Option<Instant>>,
    patience: Patience,
    runtime: Runtime,
    /// A repository here for each blob that is known to be in one.
    pub(super) places: BTreeMap<Digest, String>,
}

/// What is attempted, for the error of it.
pub(super) struct Step<'a> {
    /// Path of the repository, without the registry.
    pub(super) path: &'a str,
    /// Completes "the registry refuses to …".
    pub(super) what: String,
}

impl Registry {
    /// The registry `name`, with the credentials that this user has for it. Does not connect yet.
    ///
    /// # Errors
    /// Flags, credential files and helpers.
    pub(crate) fn open(name: &str, access: &Access) -> Result<Self, Error> {
        Self::with(name, access, &Files::from_env(), Patience::default())
    }

    pub(super) fn with(name: &str, access: &Access, files: &Files, patience: Patience) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            client: access.client(name)?,
            login: files.login(name)?,
            logged_in: Cell::new(None),
            patience,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            places: BTreeMap::new(),
        })
    }

    /// Its name in references.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The path of a repository of this registry.
    ///
    /// # Errors
    /// For a reference of another one.
    pub(super) fn path(&self, reference: &Reference) -> Result<String, Error> {
        let path = reference.repository().strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('/'));
        path.map(str::to_owned).ok_or_else(|| Error::Elsewhere(reference.to_string(), self.name.clone()))
    }

    /// Whether it answers, and knows who we are: asked before minutes of work for a push to `reference`, which need not
    /// be there.
    ///
    /// # Errors
    /// Of the network, of TLS, and of the login.
    pub(crate) fn check(&self, reference: &Reference) -> Result<(), Error> {
        let path = self.path(reference)?;
        let anything = Digest::of(b"").to_string();
        let step = Step { path: &path, what: "look for a blob".to_owned() };
        self.runtime.block_on(async {
            self.log_in(&path, RegistryOperation::Push).await?;
            let reference = self.reference(&path, &anything);
            let found = self.attempt(&step, async || Ok(self.client.blob_exists(&reference, &anything).await?)).await;
            found.map(drop)
        })
    }

    /// What the client asks for again with each request.
    pub(super) fn auth(&self) -> &RegistryAuth {
        &self.login.auth
    }

    /// Does the asynchronous part of something.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Gets a token for a repository, if the registry gives any.
    pub(super) async fn log_in(&self, path: &str, operation: RegistryOperation) -> Result<(), Error> {
        let reference = self.reference(path, "latest");
        let step = Step { path, what: "log in".to_owned() };
        let token =
            self.attempt(&step, async || Ok(self.client.auth(&reference, &self.login.auth, operation).await?)).await?;
        if let (Some(token), RegistryOperation::Push) = (token, operation) {
            // Looking is a part of pushing. A token for looking alone is refused where nothing is yet.
            let token = RegistryTokenType::Bearer(RegistryToken::Token { token });
            self.client.tokens.insert(&reference, RegistryOperation::Pull, token).await;
        }
        if operation == RegistryOperation::Push {
            self.logged_in.set(Some(Instant::now()));
        }
        Ok(())
    }

    /// Logs in again to push, before the login ends in the middle: the client would get one for looking alone.
    pub(super) async fn stay_logged_in(&self, path: &str) -> Result<(), Error> {
        match self.logged_in.get() {
            Some(since) if since.elapsed() < self.patience.login => Ok(()),
            _ => self.log_in(path, RegistryOperation::Push).await,
        }
    }

    /// A reference for the client. It takes a digest in the place of a tag, and panics for a digest in its own place
    /// when a registry does not say where it has put a document.
    pub(super) fn reference(&self, path: &str, tag_or_digest: &str) -> oci_client::Reference {
        oci_client::Reference::with_tag(self.name.clone(), path.to_owned(), tag_or_digest.to_owned())
    }

    /// Does one request, again after a pause if it may succeed then.
    pub(super) async fn attempt<T>(
        &self,
        step: &Step<'_>,
        act: impl AsyncFn() -> Result<T, Trouble>,
    ) -> Result<T, Error> {
        self.persist(step, async || self.answered(act()).await).await
    }

    /// Like [`Registry::attempt`], for what has a limit of its own because it takes as long as it takes.
    pub(super) async fn persist<T>(
        &self,
        step: &Step<'_>,
        act: impl AsyncFn() -> Result<T, Trouble>,
    ) -> Result<T, Error> {
        let mut pauses = self.patience.pauses.iter();
        let mut attempts = 1;
        loop {
            let trouble = match act().await {
                Ok(done) => return Ok(done),
                Err(trouble) => trouble,
            };
            match pauses.next() {
                Some(pause) if trouble.may_pass() => time::sleep(*pause).await,
                _ => return Err(self.explain(trouble, step, attempts)),
            }
            attempts += 1;
        }
    }

    /// The answer, unless it takes too long.
    pub(super) async fn answered<T>(&self, work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        time::timeout(self.patience.silence, work).await.unwrap_or(Err(Trouble::Silent))
    }

    /// The answer, unless `moved`, which counts bytes on their way, stands still for too long.
    pub(super) async fn moving<T>(
        &self,
        moved: &AtomicU64,
        work: impl Future<Output = Result<T, OciDistributionError>>,
    ) -> Result<T, Trouble> {
        let stalled = async {
            let mut before = None;
            loop {
                let now = moved.load(Ordering::Relaxed);
                if before.replace(now) == Some(now) {
                    break;
                }
                time::sleep(self.patience.silence).await;
            }
        };
        tokio::select! {
            answer = work => Ok(answer?),
            () = stalled => Err(Trouble::Silent),
        }
    }

    fn explain(&self, trouble: Trouble, step: &Step<'_>, attempts: usize) -> Error {
        let passes = trouble.may_pass();
        let (registry, what, origin) = (self.name.clone(), step.what.clone(), self.login.origin.clone());
        match trouble {
            Trouble::UnknownHost(reason) => Error::UnknownHost { registry, reason },
            Trouble::Unreachable(reason) => Error::Unreachable { registry, reason },
            Trouble::Certificate(reason) => Error::Certificate { registry, reason },
            Trouble::NotTls => Error::NotTls { registry },
            Trouble::Broke(reason) => Error::Broke { registry, what, reason, attempts },
            Trouble::Silent => Error::Silent { registry, what, seconds: self.patience.silence.as_secs() },
            Trouble::NoToken(message) | Trouble::Status(401, message) => {
                Error::Unauthorized { registry, origin, message }
            }
            Trouble::Status(403, message) => {
                Error::Forbidden { repository: format!("{registry}/{}", step.path), origin, message }
            }
            Trouble::Status(status, message) if passes => Error::Failing { registry, what, status, message, attempts },
            Trouble::Status(status, message) => Error::Refused { registry, what, status, message },
            Trouble::Odd(reason) => Error::Answer { registry, what, reason },
        }
    }
}

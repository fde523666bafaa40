//! The definitions of custom resources, for a store that has the objects of some groups and not their definitions.
//!
//! kube-apiserver keeps CustomResourceDefinitions in its main store (`--etcd-servers`), and with
//! `--etcd-servers-overrides` the objects elsewhere. What a shim knows of definitions it reads from its own store:
//! which fields have an index, and which versions an owner may be named by. So a shim that has the objects alone keeps
//! an [outline](crate::object::crd::outline) of each definition, where the definition would be, and follows the main
//! store: it lists once, and then watches. While the main store is away, the outlines of before hold: they are in the
//! database.

mod outlines;
mod source;

use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

use crate::engine::{Engine, KeyRange};
use outlines::Outlines;
use source::Source;

/// Where kube-apiserver keeps definitions, with its usual `--etcd-prefix`.
const DEFINITIONS: &[u8] = b"/registry/apiextensions.k8s.io/customresourcedefinitions/";

/// How long the shim waits before it turns to the main store again: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// A main store that is followed. Dropping it ends that.
#[derive(Debug)]
pub struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Follows the definitions of a main store from now on. It need not be there yet.
///
/// # Errors
/// When this store has definitions of its own: then it is a main store.
pub async fn follow(engine: &Engine, main: Endpoint) -> Result<Following> {
    let outlines = Outlines::new(engine.clone());
    if let Some(key) = outlines.foreign().await? {
        bail!(
            "--definitions-from: this database has definitions of its own, such as {}; the flag is for a database of \
             some groups of custom resources, whose definitions are in another one",
            key.escape_ascii()
        );
    }
    Ok(Following(tokio::spawn(run(outlines, Source::new(main)))))
}

async fn run(outlines: Outlines, source: Source) {
    let (mut pause, mut said) = (PAUSES.0, String::new());
    loop {
        let mut listed = false;
        let Err(error) = copy(&outlines, &source, &mut listed).await;
        if listed {
            (pause, said) = (PAUSES.0, String::new());
        }
        let why = format!("{error:#}");
        if said != why {
            tracing::warn!("the definitions of the main store can't be followed now; those of before hold: {why}");
            said = why;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Makes the outlines what the main store's definitions are, and keeps them so until that fails. Says in `listed`
/// whether they were the same once.
async fn copy(outlines: &Outlines, source: &Source, listed: &mut bool) -> Result<std::convert::Infallible> {
    let mut connection = source.connect().await?;
    let (definitions, revision) = connection.list().await?;
    outlines.become_those_of(&definitions).await?;
    tracing::info!(definitions = definitions.len(), revision, "following the definitions of the main store");
    *listed = true;
    let mut changes = connection.watch(revision + 1).await?;
    loop {
        for (key, value) in changes.next().await? {
            outlines.put(&key, value.as_deref()).await?;
        }
    }
}

fn definitions() -> KeyRange {
    KeyRange::tree(DEFINITIONS)
}

/// The name of a definition.
fn name(key: &Bytes) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(DEFINITIONS)?).ok()
}

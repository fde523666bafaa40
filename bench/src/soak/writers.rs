//! Writers, who know what must be stored, and the check that it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use tokio::sync::Mutex;

use super::traffic::{Traffic, Work, count};
use crate::client::{Client, Store};
use crate::workload::{Keys, edited};

/// Objects of each writer.
const LIVE: u64 = 500;
/// Objects of a page of a list, as kube-apiserver asks for it.
const PAGE: i64 = 500;

/// An object as it was acknowledged: its revision and its value.
type Stored = (i64, Bytes);

/// A write that was sent and not answered.
#[derive(Debug)]
struct Unsure {
    key: Bytes,
    before: Option<Stored>,
    after: Option<Bytes>,
}

/// What one writer has written.
#[derive(Debug)]
pub(crate) struct Owned {
    client: Client,
    keys: Keys,
    objects: BTreeMap<Bytes, Stored>,
    unsure: Option<Unsure>,
    /// The number of the next object.
    next: u64,
    /// How many objects were created or edited: no two values are the same.
    edits: u64,
    random: u64,
}

/// What a writer has written; the check takes it from the writer meanwhile.
pub(crate) type Shared = Arc<Mutex<Owned>>;

/// The writers' objects.
pub(crate) fn keys() -> Keys {
    Keys::of_run(7)
}

impl Owned {
    /// What the writer of that number will write.
    pub(crate) fn new(store: &Store, number: u64) -> Self {
        Self {
            client: store.client(number as usize),
            keys: keys(),
            objects: BTreeMap::new(),
            unsure: None,
            next: number * 100_000_000,
            edits: 0,
            random: 0x9e37_79b9_7f4a_7c15 ^ (number + 1),
        }
    }

    /// Creates all objects.
    pub(crate) async fn fill(&mut self, traffic: &Traffic) -> Result<()> {
        while (self.objects.len() as u64) < LIVE {
            self.create(traffic).await?;
        }
        Ok(())
    }

    /// One write: an update, or the first half of a replacement, or its second half.
    async fn write(&mut self, traffic: &Traffic) -> Result<()> {
        if (self.objects.len() as u64) < LIVE {
            return self.create(traffic).await;
        }
        let at = self.random() % LIVE;
        let Some((key, stored)) = self.objects.iter().nth(at as usize) else { bail!("there is no object") };
        let (key, stored) = (key.clone(), stored.clone());
        let number = String::from_utf8_lossy(&key).rsplit('/').next().and_then(|number| number.parse().ok());
        let number = number.context("a key without a number")?;
        let after = (!self.random().is_multiple_of(4)).then(|| self.value(number));
        self.change(traffic, Unsure { key, before: Some(stored), after }).await
    }

    async fn create(&mut self, traffic: &Traffic) -> Result<()> {
        self.next += 1;
        let (key, after) = (self.keys.key(self.next), Some(self.value(self.next)));
        self.change(traffic, Unsure { key, before: None, after }).await
    }

    async fn change(&mut self, traffic: &Traffic, change: Unsure) -> Result<()> {
        let Unsure { key, before, after } = self.unsure.insert(change);
        let (key, after) = (key.clone(), after.clone());
        let written = match (before, &after) {
            (None, None) => bail!("nothing to change"),
            (None, Some(value)) => self.client.create(key.clone(), value.clone()).await?,
            (Some((revision, _)), Some(value)) => self.client.update(key.clone(), value.clone(), *revision).await?,
            (Some((revision, _)), None) => self.client.delete(key.clone(), *revision).await?,
        };
        self.unsure = None;
        if !written.succeeded {
            bail!("an object that nobody else changes is not what it was: {}", String::from_utf8_lossy(&key));
        }
        traffic.revision.fetch_max(written.revision, Ordering::Relaxed);
        count(&traffic.counts.writes, 1);
        match after {
            Some(value) => self.objects.insert(key, (written.revision, value)),
            None => self.objects.remove(&key),
        };
        Ok(())
    }

    fn value(&mut self, number: u64) -> Bytes {
        self.edits += 1;
        edited(number as usize, self.edits)
    }

    /// Says how the write ended that nobody answered: both ends are right, a third is not.
    fn settle(&mut self, stored: &BTreeMap<Bytes, Stored>) -> Result<()> {
        let Some(Unsure { key, before, after }) = self.unsure.take() else { return Ok(()) };
        let found = stored.get(&key);
        let carried_out = match (found, &after) {
            (Some((_, found)), Some(after)) => found == after,
            (None, None) => true,
            _ => false,
        };
        if !carried_out && found != before.as_ref() {
            bail!("a write without an answer left something else: {}", String::from_utf8_lossy(&key));
        }
        match found {
            Some(found) => self.objects.insert(key, found.clone()),
            None => self.objects.remove(&key),
        };
        Ok(())
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// A writer at work.
pub(crate) struct Writer(pub(crate) Shared);

impl Work for Writer {
    const NAME: &str = "write";

    async fn once(&mut self, traffic: &Traffic) -> Result<()> {
        let mut owned = self.0.lock().await;
        if traffic.is_down() {
            return Ok(());
        }
        if owned.unsure.is_some() {
            bail!("a write had no answer, and the server did not end");
        }
        owned.write(traffic).await
    }
}

/// Compares all that is stored with what was acknowledged, while no writer writes. Returns how many objects there are.
pub(crate) async fn check(store: &Store, writers: &[Shared]) -> Result<usize> {
    let stored = everything(&store.client(0)).await?;
    let mut expected = BTreeMap::new();
    for writer in writers {
        let mut owned = writer.lock().await;
        owned.settle(&stored)?;
        expected.extend(owned.objects.iter().map(|(key, stored)| (key.clone(), stored.clone())));
    }
    let wrong = |key: &&Bytes| stored.get(*key) != expected.get(*key);
    let wrong: Vec<String> =
        expected.keys().chain(stored.keys()).filter(wrong).map(|key| String::from_utf8_lossy(key).into()).collect();
    if !wrong.is_empty() {
        bail!("{} objects are not as acknowledged, the first is {}", wrong.len(), wrong[0]);
    }
    Ok(stored.len())
}

/// All objects, in pages.
async fn everything(client: &Client) -> Result<BTreeMap<Bytes, Stored>> {
    let (mut start, end) = keys().range();
    let mut all = BTreeMap::new();
    loop {
        let page = client.objects(start, end.clone(), PAGE, None).await.context("list what is stored")?;
        let Some(last) = page.last() else { return Ok(all) };
        start = [&last.key[..], b"\0"].concat().into();
        all.extend(page.into_iter().map(|kv| (kv.key, (kv.mod_revision, kv.value))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(unsure: Unsure) -> Owned {
        let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let mut owned = Owned::new(&Store::over(channel), 0);
        owned.objects.extend(unsure.before.clone().map(|before| (unsure.key.clone(), before)));
        owned.unsure = Some(unsure);
        owned
    }

    #[tokio::test]
    async fn a_write_without_an_answer_was_carried_out_or_was_not() {
        let (key, old, new) = (Bytes::from("k"), Bytes::from("old"), Bytes::from("new"));
        let was = Some((5, old));
        let table = [
            // before, after, found, right
            (was.clone(), Some(new.clone()), was.clone(), true),
            (was.clone(), Some(new.clone()), Some((9, new.clone())), true),
            (was.clone(), Some(new.clone()), Some((9, Bytes::from("third"))), false),
            (was.clone(), Some(new.clone()), None, false),
            (was.clone(), None, None, true),
            (was.clone(), None, was, true),
            (None, Some(new.clone()), None, true),
            (None, Some(new.clone()), Some((9, new)), true),
        ];
        for (before, after, found, right) in table {
            let mut owned = owned(Unsure { key: key.clone(), before, after });
            let stored: BTreeMap<_, _> = found.into_iter().map(|found| (key.clone(), found)).collect();
            assert_eq!(owned.settle(&stored).is_ok(), right);
            assert!(!right || owned.objects == stored);
        }
    }
}

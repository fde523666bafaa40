//! A list as a stream of chunks.

use std::future::Future;

use tokio::sync::mpsc;

use super::types::{Projection, RangeQuery, RangeResult, Result};

/// How many keys a chunk of a stream holds at most; and after how many bytes of values it ends.
const KEYS: usize = 1000;
const BYTES: usize = 1 << 20;
/// The fewest keys that are asked for where the bytes ended a chunk.
const LEAST: usize = 16;

/// Reads a range in chunks of one revision; the last chunk alone has `revision`, `more` and `count` set. Dropping the
/// receiver ends it. `range`: reads a page.
pub(super) fn chunks<F>(
    query: RangeQuery,
    range: impl Fn(RangeQuery) -> F + Send + Sync + 'static,
) -> mpsc::Receiver<Result<RangeResult>>
where
    F: Future<Output = Result<RangeResult>> + Send,
{
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        if let Err(error) = send(query, &sender, range).await {
            // Whoever dropped the receiver does not want the error either.
            let _ = sender.send(Err(error)).await;
        }
    });
    receiver
}

async fn send<F: Future<Output = Result<RangeResult>>>(
    query: RangeQuery,
    sender: &mpsc::Sender<Result<RangeResult>>,
    range: impl Fn(RangeQuery) -> F,
) -> Result<()> {
    if !query.limit_commutes() || query.projection == Projection::CountOnly {
        let result = range(query).await?;
        let _ = sender.send(Ok(result)).await;
        return Ok(());
    }
    let (limit, mut most, mut returned, mut total, mut newest) = (query.limit, KEYS, 0, None, 0);
    let mut page = RangeQuery { limit_bytes: BYTES, ..query };
    loop {
        page.limit = if limit == 0 { most } else { most.min(limit - returned) };
        let mut chunk = range(page.clone()).await?;
        // A server reads as many keys as are asked for: those that the bytes leave no room for are read in vain.
        let wanted = if chunk.kvs.len() < page.limit { chunk.kvs.len() } else { most };
        most = (2 * wanted).clamp(LEAST, KEYS);
        if page.revision == 0 {
            page.revision = chunk.revision;
        }
        newest = if newest == 0 { chunk.revision } else { newest };
        let total = *total.get_or_insert(chunk.count);
        returned += chunk.kvs.len();
        let last = !chunk.more || (limit > 0 && returned >= limit);
        if let Some(kv) = chunk.kvs.last() {
            page.range = page.range.after(&kv.key);
        }
        (chunk.revision, chunk.count) = if last { (newest, total) } else { (0, 0) };
        chunk.more &= last;
        if sender.send(Ok(chunk)).await.is_err() || last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;

    use super::*;
    use crate::engine::{KeyRange, KeyValue, RangeEnd};

    /// Of 500 large values a chunk has 16.
    #[tokio::test]
    async fn few_keys_are_asked_for_in_vain() {
        let (asked, value) = (Arc::new(Mutex::new(Vec::new())), Bytes::from(vec![b'v'; BYTES / 16]));
        let limits = Arc::clone(&asked);
        let range = move |page: RangeQuery| {
            limits.lock().unwrap().push(page.limit);
            let start = std::str::from_utf8(&page.range.start).unwrap();
            let from = start.trim_end_matches('\0').parse::<usize>().map_or(0, |last| last + 1);
            let to = (from + page.limit.min(16)).min(500);
            let kv = |key: usize| KeyValue { key: key.to_string().into(), value: value.clone(), ..KeyValue::default() };
            std::future::ready(Ok(RangeResult {
                revision: 7,
                kvs: (from..to).map(kv).collect(),
                more: to < 500,
                count: 500,
            }))
        };
        let all = KeyRange { start: "".into(), end: RangeEnd::Unbounded };
        let mut chunks = chunks(RangeQuery { range: all, ..RangeQuery::default() }, range);
        let mut found = 0;
        while let Some(chunk) = chunks.recv().await {
            found += chunk.unwrap().kvs.len();
        }
        let asked = asked.lock().unwrap();
        assert_eq!((found, asked[0]), (500, KEYS));
        assert!(asked[1..].iter().all(|limit| *limit <= 32), "{asked:?}");
    }
}

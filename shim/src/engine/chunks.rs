//! A list as a stream of chunks.

use std::future::Future;

use tokio::sync::mpsc;

use super::types::{Projection, RangeQuery, RangeResult, Result};

/// How many keys a chunk of a stream holds at most; and after how many bytes of values it ends.
const KEYS: usize = 1000;
const BYTES: usize = 1 << 20;

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
    let (limit, mut returned, mut total, mut newest) = (query.limit, 0, None, 0);
    let mut page = RangeQuery { limit_bytes: BYTES, ..query };
    loop {
        page.limit = if limit == 0 { KEYS } else { KEYS.min(limit - returned) };
        let mut chunk = range(page.clone()).await?;
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

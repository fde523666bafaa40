//! One connection, in the thread that uses it.
//!
//! The thread blocks, and the connection has a runtime of its own in the thread. A thread that runs tasks of another
//! runtime may not do so. In such a thread, as when a server starts, a new thread is made for the wait. Frequent work
//! must have threads of its own.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::ops::ControlFlow::{self, Break, Continue};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::task::Poll;
use std::time::Duration;

use futures::TryStreamExt as _;
use futures::future::join_all;
use tokio::runtime::{Handle, Runtime};
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Row, RowStream, Statement};

use super::error::{self, COMMIT};
use crate::engine::Error;
use crate::engine::database_metrics::Counted;
use crate::engine::metrics::Metrics;
use crate::sql::failure::{Failure, Result};

/// How long the server may take for an answer before the connection is given up, unless somebody waits for as long as
/// it takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take for the last statements of a connection.
const FAREWELL: Duration = Duration::from_secs(1);
/// How many rows wait for the one who takes them, if another thread reads them.
const AHEAD: usize = 64;
/// How many statements a connection has prepared at most; those whose text depends on what is asked are few.
const PREPARED: usize = 512;

/// A parameter with its type.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A statement to be carried out.
#[derive(Clone)]
pub(super) struct Ask<'a> {
    /// For errors.
    pub(super) name: &'static str,
    pub(super) sql: &'a str,
    /// `None`: several statements in one text, which give no rows.
    pub(super) params: Option<Vec<Param<'a>>>,
}

impl<'a> Ask<'a> {
    pub(super) fn new(name: &'static str, sql: &'a str, params: Vec<Param<'a>>) -> Self {
        Self { name, sql, params: Some(params) }
    }

    /// Statements that have no parameters and give no rows.
    pub(super) fn plain(name: &'static str, sql: &'a str) -> Self {
        Self { name, sql, params: None }
    }

    /// The end of a transaction.
    pub(super) fn commit() -> Self {
        Self::plain(COMMIT, "COMMIT")
    }
}

/// What a statement gave.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    /// How many rows it changed or gave.
    pub(super) affected: u64,
}

/// What a connection is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nature {
    /// Whether statements are prepared.
    pub(super) prepares: bool,
    /// Whether there is a pooler between.
    pub(super) is_pooled: bool,
    /// How long the server may take for an answer; `None`: as long as it takes.
    pub(super) patience: Option<Duration>,
}

/// A connection.
pub(super) struct Link {
    client: Client,
    /// Prepared statements by their text; `None` if they are not to be prepared.
    prepared: Option<HashMap<String, Statement>>,
    nature: Nature,
    /// Whether it turned out that statements do not stay prepared.
    pub(super) forgets: bool,
    metrics: Arc<Metrics>,
    _counted: Counted,
    /// Last, so that the client goes before it.
    runtime: Option<Runtime>,
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Link {
    pub(super) fn new(runtime: Runtime, client: Client, metrics: Arc<Metrics>, nature: Nature) -> Self {
        let (prepared, counted) = (nature.prepares.then(HashMap::new), metrics.database.connected());
        Self { client, prepared, nature, forgets: false, metrics, _counted: counted, runtime: Some(runtime) }
    }

    /// Whether there is a pooler between, so that the server's processes may be others from one transaction to the
    /// next, and live on when this process has ended.
    pub(super) fn is_pooled(&self) -> bool {
        self.nature.is_pooled || self.forgets
    }

    /// Whether the server has ended it.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Carries statements out, in order, with one flush, and looks at the answers of all of them.
    pub(super) fn all(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Answer>> {
        let commits = asks.iter().any(|ask| ask.name == COMMIT);
        let patience = self.nature.patience;
        let Self { client, prepared, metrics, runtime: Some(runtime), .. } = self else { return Err(closed()) };
        let answers = wait(runtime, async {
            prepare(client, metrics, prepared.as_mut(), asks, patience).await?;
            let _asking = metrics.database.asks();
            let statement = |ask: &Ask<'_>| prepared.as_ref().and_then(|prepared| prepared.get(ask.sql));
            let sent = join_all(asks.iter().map(|ask| one(client, statement(ask), ask)));
            within(patience, commits, sent).await
        })?;
        let mut first: Option<(&str, tokio_postgres::Error)> = None;
        let mut given = Vec::with_capacity(answers.len());
        for (ask, answer) in asks.iter().zip(answers) {
            match answer {
                Ok(answer) => given.push(answer),
                // Behind a statement that failed all others fail, and the end of the transaction does nothing.
                Err(error) if first.is_none() && !error::is_follow_up(&error) => first = Some((ask.name, error)),
                Err(_) => {}
            }
        }
        match first {
            None if given.len() == asks.len() => Ok(given),
            None => Err(Failure::Again(Error::Unavailable("the database gave a transaction up".into()))),
            Some((name, error)) => Err(self.failed(&error, name, commits)),
        }
    }

    /// Carries one statement out.
    pub(super) fn one(&mut self, ask: Ask<'_>) -> Result<Answer> {
        Ok(self.all(&[ask])?.pop().unwrap_or_default())
    }

    /// Hands on the rows of a statement as they come, until it breaks off; returns how many came.
    pub(super) fn each(
        &mut self,
        ask: &Ask<'_>,
        take: &mut dyn FnMut(Row) -> Result<ControlFlow<()>>,
    ) -> Result<usize> {
        let patience = self.nature.patience;
        let Self { client, prepared, metrics, runtime: Some(runtime), .. } = self else { return Err(closed()) };
        wait(runtime, prepare(client, metrics, prepared.as_mut(), std::slice::from_ref(ask), patience))?;
        let _asking = metrics.database.asks();
        let statement = prepared.as_ref().and_then(|prepared| prepared.get(ask.sql));
        let gone = if Handle::try_current().is_err() {
            runtime.block_on(hand_on(client, statement, ask, patience, take))
        } else {
            let (sender, receiver) = sync_channel(AHEAD);
            std::thread::scope(|scope| {
                let mut send = move |row| Ok(if sender.send(row).is_ok() { Continue(()) } else { Break(()) });
                let sent = scope.spawn(move || runtime.block_on(hand_on(client, statement, ask, patience, &mut send)));
                let mut rows = receiver.into_iter();
                let taken = rows.try_for_each(|row| match take(row) {
                    Ok(flow) => flow.map_break(Ok),
                    Err(failure) => Break(Err(failure)),
                });
                drop(rows);
                let sent = sent.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                if let Break(Err(failure)) = taken { Ok(Err(failure)) } else { sent }
            })
        };
        match gone {
            Ok(counted) => counted,
            Err(error) => Err(self.failed(&error, ask.name, false)),
        }
    }

    /// Carries a statement out that takes as long as it takes, outside a transaction.
    pub(super) fn long(&mut self, name: &'static str, sql: &str) -> Result<()> {
        let Self { client, metrics, runtime: Some(runtime), .. } = self else { return Err(closed()) };
        let _asking = metrics.database.asks();
        wait(runtime, client.batch_execute(sql)).map_err(|error| error::failed(&error, name, false))
    }

    /// Sends statements without waiting for what becomes of them. The next answers come behind theirs.
    pub(super) fn send(&mut self, ask: &'static str) {
        let Self { client, runtime: Some(runtime), .. } = self else { return };
        wait(runtime, async {
            let mut sent = pin!(client.batch_execute(ask));
            // The first look sends; then the connection has its turn.
            poll_fn(|cx| Poll::Ready(sent.as_mut().poll(cx).map(drop).is_ready())).await;
            tokio::task::yield_now().await;
        });
    }

    /// Carries out the last statements of a connection, if the server does so soon.
    pub(super) fn last(&mut self, sql: &str) {
        let Self { client, runtime: Some(runtime), .. } = self else { return };
        let done = wait(runtime, async { tokio::time::timeout(FAREWELL, client.batch_execute(sql)).await });
        if !matches!(done, Ok(Ok(()))) {
            tracing::debug!("the database was not told that this process no longer serves it");
        }
    }

    fn failed(&mut self, error: &tokio_postgres::Error, name: &str, commits: bool) -> Failure {
        if error::is_of_plans(error)
            && let Some(prepared) = &mut self.prepared
        {
            let pooled = error.code().is_some_and(|code| matches!(code.code(), "26000" | "42P05"));
            prepared.clear();
            if pooled {
                tracing::info!("a pooler gives each transaction another connection: statements are no longer prepared");
                (self.prepared, self.forgets) = (None, true);
            }
        }
        error::failed(error, name, commits)
    }

    /// The texts of the statements that it has prepared, with the types of their parameters.
    #[cfg(test)]
    pub(super) fn texts(&self) -> Vec<(String, Vec<String>)> {
        let types = |statement: &Statement| statement.params().iter().map(|of| of.name().to_owned()).collect();
        self.prepared.iter().flatten().map(|(text, statement)| (text.clone(), types(statement))).collect()
    }
}

/// What comes of something, or that it did not come in time. `commits`: it may have happened then.
async fn within<T>(patience: Option<Duration>, commits: bool, work: impl Future<Output = T>) -> Result<T> {
    let Some(patience) = patience else { return Ok(work.await) };
    tokio::time::timeout(patience, work).await.map_err(|_| {
        let error = Error::Unavailable(format!("the database did not answer within {} s", patience.as_secs()));
        if commits { Failure::Unknown(error) } else { Failure::Lost(error) }
    })
}

fn closed() -> Failure {
    Failure::Lost(Error::Unavailable("the connection to the database was closed".into()))
}

/// Waits for what a runtime does.
pub(super) fn wait<T: Send>(runtime: &Runtime, work: impl Future<Output = T> + Send) -> T {
    if Handle::try_current().is_err() {
        return runtime.block_on(work);
    }
    let done = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(work)).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Prepares what is not prepared yet, with one flush, if statements are prepared.
async fn prepare(
    client: &Client,
    metrics: &Metrics,
    prepared: Option<&mut HashMap<String, Statement>>,
    asks: &[Ask<'_>],
    patience: Option<Duration>,
) -> Result<()> {
    let Some(prepared) = prepared else { return Ok(()) };
    let mut missing: Vec<(&Ask<'_>, Vec<Type>)> = Vec::new();
    for ask in asks {
        let known = prepared.contains_key(ask.sql) || missing.iter().any(|(other, _)| other.sql == ask.sql);
        if let (Some(params), false) = (&ask.params, known) {
            missing.push((ask, params.iter().map(|(_, of)| of.clone()).collect()));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    if prepared.len() + missing.len() > PREPARED {
        prepared.clear();
    }
    let _asking = metrics.database.asks();
    let made = join_all(missing.iter().map(|(ask, types)| client.prepare_typed(ask.sql, types)));
    let made = within(patience, false, made).await?;
    for ((ask, _), made) in missing.iter().zip(made) {
        prepared.insert(ask.sql.to_owned(), made.map_err(|error| error::failed(&error, ask.name, false))?);
    }
    Ok(())
}

async fn rows(
    client: &Client,
    statement: Option<&Statement>,
    ask: &Ask<'_>,
) -> std::result::Result<RowStream, tokio_postgres::Error> {
    let params = ask.params.as_deref().unwrap_or_default();
    match statement {
        Some(statement) => client.query_raw(statement, params.iter().map(|(value, _)| *value)).await,
        None => client.query_typed_raw(ask.sql, params.iter().map(|(value, of)| (*value, of.clone()))).await,
    }
}

/// Hands on rows until it breaks off. The connection passes over those that come then. Each row may take the time that
/// a statement has: who takes the rows may take longer.
async fn hand_on(
    client: &Client,
    statement: Option<&Statement>,
    ask: &Ask<'_>,
    patience: Option<Duration>,
    mut take: impl FnMut(Row) -> Result<ControlFlow<()>>,
) -> std::result::Result<Result<usize>, tokio_postgres::Error> {
    let begun = match within(patience, false, rows(client, statement, ask)).await {
        Ok(begun) => begun?,
        Err(late) => return Ok(Err(late)),
    };
    let (mut rows, mut count) = (pin!(begun), 0);
    loop {
        let next = match within(patience, false, rows.try_next()).await {
            Ok(next) => next?,
            Err(late) => return Ok(Err(late)),
        };
        let Some(row) = next else { break };
        count += 1;
        match take(row) {
            Ok(Continue(())) => {}
            Ok(Break(())) => break,
            Err(failure) => return Ok(Err(failure)),
        }
    }
    Ok(Ok(count))
}

async fn one(
    client: &Client,
    statement: Option<&Statement>,
    ask: &Ask<'_>,
) -> std::result::Result<Answer, tokio_postgres::Error> {
    if ask.params.is_none() {
        client.batch_execute(ask.sql).await?;
        return Ok(Answer::default());
    }
    let mut stream = pin!(rows(client, statement, ask).await?);
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await? {
        rows.push(row);
    }
    let affected = stream.rows_affected().unwrap_or(0);
    Ok(Answer { rows, affected })
}

/// A column of a row.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T> {
    row.try_get(column).map_err(|error| {
        Failure::Final(Error::Damaged(format!("a row of the database can't be read, column {column}: {error}")))
    })
}

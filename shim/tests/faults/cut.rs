//! The connection is cut at each message of a commit.

use sluice_shim::engine::Error;

use crate::database::Database;
use crate::ledger::{Observer, Writer, in_time, open, sound};
use crate::proxy::{Cut, Proxy};

/// A commit has fewer messages than that.
const MANY: usize = 1000;

/// Cuts the first message of a commit, then the second, until one passes uncut; whatever was lost with the connection,
/// the write is acknowledged, and happened once.
async fn at_each_message(cut: Cut) {
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let proxy = Proxy::start(database.endpoint());
    let engine = open(proxy.endpoint()).await;
    let observer = Observer::new(&engine);
    let mut writer = Writer::new(&engine, "w");
    writer.step().await.unwrap();
    for messages in 0.. {
        assert!(messages < MANY, "no commit passed uncut");
        proxy.cut(cut, messages, false);
        if let Err(error) = writer.step().await {
            panic!("{cut:?} at message {messages}: {error}");
        }
        if proxy.spare() {
            eprintln!("{cut:?}: a commit has {messages} messages");
            break;
        }
    }
    observer.check([writer]).await;
    proxy.down(true);
    sound(database.endpoint());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_cut_at_any_message_of_a_commit_is_done_once() {
    at_each_message(Cut::Request).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_late_at_any_message_of_a_commit_is_done_once() {
    at_each_message(Cut::LateRequest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_at_any_message_of_a_commit_is_done_once() {
    at_each_message(Cut::Answer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_held_back_at_any_message_of_a_commit_is_done_once() {
    at_each_message(Cut::HeldAnswer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_waits_for_a_database_that_is_away_for_a_moment() {
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let proxy = Proxy::start(database.endpoint());
    let engine = open(proxy.endpoint()).await;
    let mut writer = Writer::new(&engine, "w");
    writer.step().await.unwrap();
    proxy.down(true);
    let again = async {
        // A read makes one more connection by itself.
        tokio::task::block_in_place(|| proxy.await_refused(3));
        proxy.down(false);
    };
    let (found, ()) = tokio::join!(writer.look(), again);
    found.unwrap();
}

/// How many databases are cut off at once: nearly all of the time they wait.
const AT_ONCE: usize = 32;

/// The connection is cut at a message, and no other one can be made, until the write is given up: it happened or not,
/// and an error that says not is right. Returns that error.
async fn cut_off(cut: Cut, messages: usize) -> Option<Error> {
    let database = Database::new();
    let proxy = Proxy::start(database.endpoint());
    let engine = open(proxy.endpoint()).await;
    let observer = Observer::new(&engine);
    let mut writer = Writer::new(&engine, "w");
    writer.step().await.unwrap();
    proxy.cut(cut, messages, true);
    let given_up = writer.step().await.err();
    proxy.spare();
    proxy.down(false);
    if let Some(error) = &given_up {
        assert!(matches!(error, Error::Unavailable(_) | Error::Unknown(_)), "{error}");
        writer.find_out(error).await;
    }
    in_time("the next write", async { while writer.step().await.is_err() {} }).await;
    observer.check([writer]).await;
    given_up
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_given_up_is_unknown_only_if_it_may_have_happened() {
    if crate::is_skipped() {
        return;
    }
    for cut in [Cut::Request, Cut::Answer] {
        let (mut known, mut unknown) = (0, 0);
        for first in (0..MANY).step_by(AT_ONCE) {
            let all = (first..first + AT_ONCE).map(|messages| tokio::spawn(cut_off(cut, messages)));
            let mut passed = false;
            for ended in futures::future::join_all(all).await {
                match ended.unwrap() {
                    None => passed = true,
                    Some(Error::Unknown(_)) => unknown += 1,
                    Some(_) => known += 1,
                }
            }
            if passed {
                break;
            }
        }
        // Before the second half of a commit is sent it is known that nothing happened.
        eprintln!("{cut:?}: {known} did not happen, of {unknown} it is unknown");
        assert!(known > 0 && unknown > 0, "{cut:?}: {known} known, {unknown} unknown");
    }
}

//! A clock of the test's own: it stands still until its hand is moved.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sluice_shim::clock::Ticker;
use tokio::sync::watch;

/// What drives it.
#[derive(Debug, Clone)]
pub(crate) struct Hand(watch::Sender<Duration>);

impl Hand {
    /// The clock of a machine that has been on for a while.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Duration::from_secs(86_400)))
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        self.0.send_modify(|now| *now += time);
    }
}

impl Ticker for Hand {
    fn elapsed(&self) -> Duration {
        *self.0.borrow()
    }

    fn sleep_until(&self, elapsed: Duration) -> BoxFuture<'static, ()> {
        let mut hand = self.0.subscribe();
        let reached = async move {
            // Fails when the clock is gone, and nobody waits any more.
            let _ = hand.wait_for(|now| *now >= elapsed).await;
        };
        reached.boxed()
    }
}

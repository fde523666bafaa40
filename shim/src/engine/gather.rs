//! Which requests a commit takes.
//!
//! A commit takes all requests that wait when the commit begins. But clients that were answered together send their
//! next requests spread over a while. A commit that begins with the first of these requests takes few of them, and
//! leaves the others to the next commit. Over a network a commit takes long however few requests it carries. There it
//! pays to wait a little for the others.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::request::Envelope;

/// How many requests one commit carries at most, and how many bytes of values, so that nobody waits long for a large
/// one.
const REQUESTS: usize = 1024;
const BYTES: usize = 4 << 20;
/// The part of the last commit's time that may be waited, and the part of its requests that is waited for.
const PART_OF_TIME: u32 = 10;
const PART_OF_REQUESTS: usize = 2;

/// Takes requests from the queue.
#[derive(Debug)]
pub(super) struct Gather {
    /// How long to wait at most.
    most: Duration,
    /// How many requests the last commit carried, and how long it took.
    last: (usize, Duration),
}

impl Gather {
    /// One that waits no longer than that.
    pub(super) fn new(most: Duration) -> Self {
        Self { most, last: (0, Duration::ZERO) }
    }

    /// Notes a commit.
    pub(super) fn committed(&mut self, requests: usize, took: Duration) {
        self.last = (requests, took);
    }

    /// The first request and those that wait behind it, up to the size of a batch. Those that nobody waits for any more
    /// are not begun: behind a database that stood still they would come before all that somebody waits for.
    pub(super) fn batch(&self, first: Envelope, inbox: &Receiver<Envelope>) -> Vec<Envelope> {
        let (requests, took) = self.last;
        let (wanted, until) = (requests / PART_OF_REQUESTS, Instant::now() + (took / PART_OF_TIME).min(self.most));
        let (mut bytes, mut batch, mut next) = (0, Vec::new(), Some(first));
        while let Some(envelope) = next {
            if !envelope.reply.is_closed() {
                bytes += envelope.room.bytes;
                batch.push(envelope);
            }
            if batch.len() >= REQUESTS || bytes >= BYTES {
                break;
            }
            next = match inbox.try_recv() {
                Err(_) if batch.len() < wanted => inbox.recv_deadline(until).ok(),
                next => next.ok(),
            };
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Sender, unbounded};
    use tokio::sync::oneshot;

    use super::super::request::{Answer, Request, Rooms};
    use super::*;

    /// So long that a test which waits in vain fails.
    const LONG: Duration = Duration::from_secs(3600);

    /// A request with the place where somebody waits for the answer.
    fn envelope() -> (Envelope, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        (Envelope { request: Request::Probe, reply, room: Rooms::default().make(0, 0).unwrap() }, answer)
    }

    struct Queue {
        sender: Sender<Envelope>,
        inbox: Receiver<Envelope>,
        answers: Vec<oneshot::Receiver<Answer>>,
    }

    fn queue(waiting: usize) -> Queue {
        let (sender, inbox) = unbounded();
        let mut queue = Queue { sender, inbox, answers: Vec::new() };
        (0..waiting).for_each(|_| queue.send());
        queue
    }

    impl Queue {
        fn send(&mut self) {
            let (envelope, answer) = envelope();
            self.sender.send(envelope).unwrap();
            self.answers.push(answer);
        }
    }

    /// How many requests a batch takes that begins with one more than wait.
    fn taken(gather: &Gather, inbox: &Receiver<Envelope>) -> usize {
        let (first, _answer) = envelope();
        gather.batch(first, inbox).len()
    }

    #[test]
    fn all_that_wait_are_taken_and_no_more_are_waited_for_than_half_of_the_last_ones() {
        // Last commit's requests, those that wait, those that come.
        for (last, waiting, comes, expected) in [(0, 0, 0, 1), (0, 3, 0, 4), (8, 3, 0, 4), (8, 5, 0, 6), (8, 0, 3, 4)] {
            let mut queue = queue(waiting);
            let mut gather = Gather::new(LONG);
            gather.committed(last, LONG);
            let inbox = queue.inbox.clone();
            let batch = std::thread::scope(|scope| {
                scope.spawn(|| (0..comes).for_each(|_| queue.send()));
                taken(&gather, &inbox)
            });
            assert_eq!(batch, expected, "{last} {waiting} {comes}");
        }
    }

    #[test]
    fn nobody_waits_where_it_does_not_pay_or_who_waits_in_vain() {
        for (most, took) in [(Duration::ZERO, LONG), (LONG, Duration::ZERO), (LONG, Duration::from_micros(10))] {
            let queue = queue(2);
            let mut gather = Gather::new(most);
            gather.committed(100, took);
            assert_eq!(taken(&gather, &queue.inbox), 3);
        }
    }

    #[test]
    fn a_batch_has_an_end() {
        let queue = queue(2 * REQUESTS);
        assert_eq!(taken(&Gather::new(LONG), &queue.inbox), REQUESTS);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_begun() {
        let mut queue = queue(3);
        queue.answers.remove(1);
        assert_eq!(taken(&Gather::new(LONG), &queue.inbox), 3);
    }
}

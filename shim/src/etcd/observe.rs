//! Who leads, from now on (etcd: client/v3/concurrency/election.go, `Election.Observe`).

use std::collections::VecDeque;
use std::sync::Arc;

use tonic::Status;

use super::context::{Shared, stopped};
use super::errors::Fault;
use super::{translate, turn};
use crate::engine::{Event, EventKind, KeyRange, KeyValue, Revision, WatchMessage, WatchSession, WatchSpec};
use crate::pb::v3electionpb as pb;

/// A client that is told of each leader and of each of their proclamations. It is pulled, as a watch is: nothing is
/// read ahead of it.
#[derive(Debug)]
pub(super) struct Observer {
    context: Shared,
    line: KeyRange,
    following: Following,
    queue: VecDeque<pb::LeaderResponse>,
    ended: bool,
}

/// What the observer waits for.
#[derive(Debug)]
enum Following {
    /// Nothing: it is to look who leads.
    Nobody,
    /// The first one in an empty line.
    Line(WatchSession),
    /// What the leader does with its key.
    Leader(WatchSession),
}

impl Observer {
    /// Of the election of that name.
    pub(super) fn new(context: Shared, name: &[u8]) -> Self {
        let queue = VecDeque::new();
        Self { context, line: turn::line(name), following: Following::Nobody, queue, ended: false }
    }

    /// The next response.
    pub(super) async fn step(mut self) -> Option<(Result<pb::LeaderResponse, Status>, Self)> {
        let mut stop = self.context.stop.clone();
        loop {
            if let Some(response) = self.queue.pop_front() {
                return Some((Ok(response), self));
            }
            if self.ended {
                return None;
            }
            let advanced = tokio::select! {
                () = stopped(&mut stop) => Err(Fault::Stopped.into()),
                advanced = self.advance() => advanced,
            };
            if let Err(status) = advanced {
                self.ended = true;
                return Some((Err(status), self));
            }
        }
    }

    async fn advance(&mut self) -> Result<(), Status> {
        let message = match &mut self.following {
            Following::Nobody => return self.look().await,
            Following::Line(session) | Following::Leader(session) => session.next().await,
        };
        match message {
            WatchMessage::Events { revision, events, .. } => self.show(revision, &events),
            // It was too slow to be told all: it goes on from what is now.
            WatchMessage::Compacted { .. } => self.following = Following::Nobody,
            WatchMessage::Failed { reason, .. } => {
                return Err(Status::unavailable(format!("etcdserver: watch failed: {reason}")));
            }
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<(), Status> {
        let found = self.context.engine.range(turn::first_of(&self.line)).await?;
        match found.kvs.into_iter().next() {
            Some(leader) => self.follow(leader, found.revision),
            None => self.following = Following::Line(self.watch(self.line.clone(), found.revision + 1, true)),
        }
        Ok(())
    }

    fn follow(&mut self, leader: KeyValue, revision: Revision) {
        let session = self.watch(KeyRange::single(leader.key.clone()), revision + 1, false);
        self.following = Following::Leader(session);
        self.tell(leader, revision);
    }

    fn show(&mut self, revision: Revision, events: &[Arc<Event>]) {
        if matches!(self.following, Following::Line(_)) {
            if let Some(first) = events.first() {
                self.follow(first.kv.clone(), first.kv.mod_revision);
            }
            return;
        }
        for event in events {
            match event.kind {
                EventKind::Put => self.tell(event.kv.clone(), revision),
                EventKind::Delete => return self.following = Following::Nobody,
            }
        }
    }

    fn tell(&mut self, kv: KeyValue, revision: Revision) {
        let header = Some(self.context.header_at(revision));
        self.queue.push_back(pb::LeaderResponse { header, kv: Some(translate::kv(kv)) });
    }

    fn watch(&self, range: KeyRange, start_revision: Revision, no_delete: bool) -> WatchSession {
        let session = self.context.engine.watch();
        session.create(WatchSpec { id: 0, range, start_revision, no_put: false, no_delete, selection: None });
        session
    }
}

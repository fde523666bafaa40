//! A process that stands by: another one serves the database, and requests are handed on to it.
//!
//! All requests go to the one process that serves, but for lists that this process can answer as well ([`near`]). So
//! clients see one etcd, whichever process they are connected to. While no process serves, requests wait, as they do in
//! an etcd that elects a leader. When this process becomes the one that serves, clients keep their connections to it.

mod forward;
mod leader;
mod near;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tower::ServiceExt as _;

use self::forward::{FORWARDED, refuse};
pub use self::leader::{Leader, Peers};
use self::near::Near;
use super::front::{Answers, Front, Sockets};
use super::http::{is_grpc, not_found, plain, scraped};
use super::server::{Server, Setting, prepare};
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::aside::Aside;
use crate::metrics::StandbyMetrics;

/// How long a request waits for a process that serves: about as long as etcd waits for a leader (etcd:
/// server/config/config.go, `ReqTimeout`).
const PATIENCE: Duration = Duration::from_secs(7);

/// etcd's text for clients of a member that has no leader (etcd: rpctypes.ErrNoLeader).
const NO_LEADER: &str = "etcdserver: no leader";

/// Who answers requests.
#[derive(Debug, Clone)]
enum Role {
    /// Nobody, and why.
    Nobody(Arc<str>),
    /// Another process, and this one for lists.
    Another(Leader, Option<Arc<Near>>),
    /// This process.
    This(Answers),
}

/// A process that stands by, with its open sockets.
#[derive(Debug)]
pub struct Standby {
    front: Front,
    setting: Setting,
    desk: Desk,
}

/// What requests at all sockets have in common.
#[derive(Debug, Clone)]
struct Desk {
    role: watch::Sender<Role>,
    /// Told when a connection to the other process broke.
    broken: Arc<Notify>,
    metrics: StandbyMetrics,
    /// What there is to scrape while another process serves.
    registry: Arc<Registry>,
    stop: watch::Receiver<bool>,
}

impl Standby {
    /// Begins to answer at the sockets: with the metrics of a process that stands by, which are registered, and with
    /// patience.
    pub fn open(sockets: Sockets, config: &Config, registry: &mut Registry) -> Self {
        let (setting, metrics) = (Setting::of(&sockets), StandbyMetrics::default());
        metrics.stands_by(true);
        metrics.register(registry);
        let mut alone = Registry::default();
        metrics.register(&mut alone);
        let desk = Desk {
            role: watch::Sender::new(Role::Nobody("it is not known yet which sluice-shim serves the database".into())),
            broken: Arc::default(),
            metrics,
            registry: Arc::new(alone),
            stop: sockets.stop.subscribe(),
        };
        let answers = Answers { clients: desk.router(Port::Clients), observers: desk.router(Port::Observers) };
        let front = Front::open(sockets, config, answers);
        tracing::info!(clients = %front.clients, metrics = %front.metrics, "standing by");
        Self { front, setting, desk }
    }

    /// Hands all requests on to that process.
    pub fn follow(&self, leader: Leader) {
        self.desk.role.send_replace(Role::Another(leader, None));
    }

    /// Hands all requests on to that process but for lists, which this process reads. `url`: that of this process.
    /// `open`: connects to the database, where that process is known by a number.
    ///
    /// # Errors
    /// When the process can't be asked, or the database not be reached.
    pub async fn read_beside<F: Future<Output = Result<Aside>>>(
        &self,
        leader: Leader,
        url: &str,
        open: impl FnOnce(i64) -> F,
    ) -> Result<()> {
        let place = leader.place().await?;
        let aside = open(place.owner).await?;
        let near = Near::start(leader.clone(), place, url, aside, self.setting.metrics.clone());
        self.desk.role.send_if_modified(|role| {
            let is_same = matches!(role, Role::Another(followed, _) if followed.url() == leader.url());
            if is_same {
                *role = Role::Another(leader, Some(Arc::new(near)));
            }
            is_same
        });
        Ok(())
    }

    /// Lets requests wait, since no process is known that serves.
    pub fn hold(&self, why: &str) {
        self.desk.role.send_replace(Role::Nobody(why.into()));
    }

    /// The same, since the process that served is gone.
    pub fn gone(&self) {
        self.setting.metrics.standing.changes.inc();
        self.hold("the sluice-shim that served is gone");
    }

    /// Has [`Standby::broken`] end as soon as that process serves no more.
    pub fn mind(&self, leader: Leader) -> Minded {
        let broken = Arc::clone(&self.desk.broken);
        Minded(tokio::spawn(async move {
            leader.ended().await;
            broken.notify_one();
        }))
    }

    /// Waits until a connection to the process that serves broke, or that process serves no more.
    pub async fn broken(&self) {
        self.desk.broken.notified().await;
    }

    /// Serves the store.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn serve(
        self,
        engine: Engine,
        config: &Config,
        snapshot_dir: PathBuf,
        registry: Registry,
    ) -> Result<Server> {
        let (context, health, answers) = prepare(engine, config, self.setting, snapshot_dir, registry).await?;
        self.desk.metrics.stands_by(false);
        self.desk.role.send_replace(Role::This(answers));
        Ok(Server::of(context, health, self.front))
    }

    /// Takes no more connections, and ends.
    pub async fn shutdown(self) {
        tracing::info!("stopping");
        self.front.shut().await;
        tracing::info!("stopped");
    }
}

/// A process that is minded. Dropping it ends that.
#[derive(Debug)]
pub struct Minded(JoinHandle<()>);

impl Drop for Minded {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a request came in.
#[derive(Debug, Clone, Copy)]
enum Port {
    Clients,
    Observers,
}

impl Desk {
    fn router(&self, port: Port) -> Router {
        let desk = self.clone();
        Router::new().fallback(move |request| {
            let desk = desk.clone();
            async move { desk.answer(port, request).await }
        })
    }

    async fn answer(&self, port: Port, request: Request) -> Response {
        let role = self.role.borrow().clone();
        match (role, request.uri().path()) {
            (Role::This(answers), _) => answers.of(port, request).await,
            (_, "/metrics") => scraped(&self.registry, request.headers()),
            (_, "/livez") => plain(StatusCode::OK, "ok\n".to_owned()),
            (role, path) if path == "/version" || path == "/health" || path.starts_with("/readyz") => match role {
                Role::Another(leader, _) if !is_forwarded(&request) => self.hand_on(leader, request).await,
                Role::Nobody(why) => unready(&why),
                Role::Another(..) | Role::This(_) => unready("the sluice-shim that was asked does not serve"),
            },
            _ if matches!(port, Port::Clients) && is_grpc(&request) => self.call(request).await,
            _ => not_found(request.into_parts().0.uri).await,
        }
    }

    /// A gRPC call: waits until there is somebody to answer.
    async fn call(&self, request: Request) -> Response {
        let (mut role, mut stop, until) = (self.role.subscribe(), self.stop.clone(), Instant::now() + PATIENCE);
        loop {
            let current = role.borrow_and_update().clone();
            let why = match current {
                Role::This(answers) => return answers.of(Port::Clients, request).await,
                Role::Another(leader, near) if !is_forwarded(&request) => {
                    return self.answer_or_hand_on(leader, near, request).await;
                }
                Role::Another(..) => "the sluice-shim that was asked does not serve".into(),
                Role::Nobody(why) => why,
            };
            let changed = tokio::select! {
                changed = timeout_at(until, role.changed()) => matches!(changed, Ok(Ok(()))),
                () = super::context::stopped(&mut stop) => false,
            };
            if !changed {
                tracing::warn!(reason = %why, "a request is refused: no sluice-shim serves the database");
                return refuse(NO_LEADER);
            }
        }
    }

    async fn answer_or_hand_on(&self, leader: Leader, near: Option<Arc<Near>>, mut request: Request) -> Response {
        if let Some(near) = near {
            match near.answer(request).await {
                Ok(answer) => {
                    self.metrics.lists.inc();
                    return answer;
                }
                Err(unanswered) => request = unanswered,
            }
        }
        self.hand_on(leader, request).await
    }

    async fn hand_on(&self, leader: Leader, request: Request) -> Response {
        self.metrics.requests.inc();
        leader.forward(request, self.stop.clone(), Arc::clone(&self.broken)).await
    }
}

impl Answers {
    async fn of(self, port: Port, request: Request) -> Response {
        let router = match port {
            Port::Clients => self.clients,
            Port::Observers => self.observers,
        };
        router.oneshot(request).await.into_response()
    }
}

/// Whether the request comes from a process that stands by. It is not handed on again.
fn is_forwarded(request: &Request) -> bool {
    request.headers().contains_key(FORWARDED)
}

/// A health check that does not pass.
fn unready(why: &str) -> Response {
    plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
}

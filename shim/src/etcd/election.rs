//! The Election service (etcd: server/etcdserver/api/v3election/election.go).

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status};

use super::context::Shared;
use super::held::{Held, relayed, session};
use super::observe::Observer;
use super::translate;
use super::turn::{self, Goal, NOT_LEADER};
use crate::metrics::{Asked, Method};
use crate::pb::v3electionpb as pb;
use pb::election_server::Election;

const SERVICE: &str = "v3electionpb.Election";

/// etcd: server/etcdserver/api/v3election, `ErrMissingLeaderKey`.
const MISSING_LEADER: &str = r#""leader" field must be provided"#;

/// etcd: client/v3/concurrency, `ErrElectionNoLeader`.
const NO_LEADER: &str = "election: no leader";

/// The Election service.
#[derive(Debug, Clone)]
pub struct ElectionService(pub Shared);

#[tonic::async_trait]
impl Election for ElectionService {
    async fn campaign(&self, request: Request<pb::CampaignRequest>) -> Result<Response<pb::CampaignResponse>, Status> {
        let pb::CampaignRequest { name, lease, value } = request.into_inner();
        let asked = Asked { key: name.clone(), waits: true, ..Asked::default() };
        let work = async {
            let goal = Goal::Leadership(value);
            let turn = turn::take(self.0.clone(), name.clone(), lease, goal).await.map_err(relayed)?;
            let Held { key, lease, created, .. } = turn.held;
            let leader = Some(pb::LeaderKey { name, key, rev: created, lease });
            Ok(pb::CampaignResponse { header: Some(self.0.header_at(turn.revision)), leader })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "Campaign"), asked, work).await
    }

    async fn proclaim(&self, request: Request<pb::ProclaimRequest>) -> Result<Response<pb::ProclaimResponse>, Status> {
        let request = request.into_inner();
        let asked = asked(request.leader.as_ref());
        let work = async {
            let mut held = self.held(request.leader)?;
            held.lease = session(&self.0, held.lease).await.map_err(relayed)?;
            let revision = held.put(request.value).await.map_err(relayed)?;
            let revision = revision.ok_or_else(|| Status::unknown(NOT_LEADER))?;
            Ok(pb::ProclaimResponse { header: Some(self.0.header_at(revision)) })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "Proclaim"), asked, work).await
    }

    async fn leader(&self, request: Request<pb::LeaderRequest>) -> Result<Response<pb::LeaderResponse>, Status> {
        let name = request.into_inner().name;
        let asked = Asked { key: name.clone(), ..Asked::default() };
        let work = async {
            let query = turn::first_of(&turn::line(&name));
            let found = self.0.engine.range(query).await.map_err(|error| relayed(error.into()))?;
            let kv = found.kvs.into_iter().next().ok_or_else(|| Status::unknown(NO_LEADER))?;
            let header = Some(self.0.header_at(found.revision));
            Ok(pb::LeaderResponse { header, kv: Some(translate::kv(kv)) })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "Leader"), asked, work).await
    }

    type ObserveStream = BoxStream<'static, Result<pb::LeaderResponse, Status>>;

    async fn observe(&self, request: Request<pb::LeaderRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        let observer = Observer::new(self.0.clone(), &request.into_inner().name);
        let answers = stream::unfold(observer, Observer::step).boxed();
        Ok(Response::new(self.0.metrics.observed(Method::stream(SERVICE, "Observe"), answers).boxed()))
    }

    async fn resign(&self, request: Request<pb::ResignRequest>) -> Result<Response<pb::ResignResponse>, Status> {
        let request = request.into_inner();
        let asked = asked(request.leader.as_ref());
        let work = async {
            let revision = self.held(request.leader)?.delete().await.map_err(relayed)?;
            Ok(pb::ResignResponse { header: Some(self.0.header_at(revision)) })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "Resign"), asked, work).await
    }
}

impl ElectionService {
    fn held(&self, leader: Option<pb::LeaderKey>) -> Result<Held, Status> {
        let pb::LeaderKey { key, rev, lease, .. } = leader.ok_or_else(|| Status::unknown(MISSING_LEADER))?;
        Ok(Held { context: self.0.clone(), key, lease, created: rev })
    }
}

fn asked(leader: Option<&pb::LeaderKey>) -> Asked {
    Asked { key: leader.map(|leader| leader.key.clone()).unwrap_or_default(), ..Asked::default() }
}

//! The Cluster service: one member, which is the instance that answers.

use tonic::{Request, Response, Status};

use super::context::{Context, Shared};
use crate::engine::Revision;
use crate::metrics::{Asked, Method};
use crate::pb::etcdserverpb as pb;
use pb::cluster_server::Cluster;

const SERVICE: &str = "etcdserverpb.Cluster";

/// The Cluster service.
#[derive(Debug, Clone)]
pub struct ClusterService(pub Shared);

/// etcd sends no revision with members.
const NO_REVISION: Revision = 0;

fn itself(context: &Context) -> pb::Member {
    pb::Member {
        id: context.identity.member_id,
        name: context.name.clone(),
        peer_ur_ls: vec![],
        client_ur_ls: context.client_urls.clone(),
        is_learner: false,
    }
}

fn fixed_membership() -> Status {
    Status::unimplemented(
        "etcdserver: members can't be added, removed, updated or promoted: one process alone serves a SQLite database",
    )
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_add(&self, _: Request<pb::MemberAddRequest>) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(fixed_membership())
    }

    async fn member_remove(
        &self,
        _: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        Err(fixed_membership())
    }

    async fn member_update(
        &self,
        _: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        Err(fixed_membership())
    }

    async fn member_list(&self, _: Request<pb::MemberListRequest>) -> Result<Response<pb::MemberListResponse>, Status> {
        let work = async {
            let header = Some(self.0.header_at(NO_REVISION));
            Ok(pb::MemberListResponse { header, members: vec![itself(&self.0)] })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "MemberList"), Asked::default(), work).await
    }

    async fn member_promote(
        &self,
        _: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        Err(fixed_membership())
    }
}

//! The Cluster service: the process that serves the database, and those that stand by.

use std::iter;

use tonic::{Request, Response, Status};

use super::context::{Context, Identity, Shared};
use crate::engine::Revision;
use crate::engine::instance::{Instance, Part};
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

/// Those that stand by. The name of a process is its `--name`, which may be that of all: the URL makes the difference.
fn others(context: &Context, instances: Vec<Instance>) -> impl Iterator<Item = pb::Member> {
    let identity = context.identity;
    let standby = instances.into_iter().filter(|instance| instance.part == Part::StandsBy);
    standby.filter_map(move |instance| {
        let url = instance.url()?.to_owned();
        let id = Identity::new(identity.cluster_id, &url).member_id;
        let name = instance.name.unwrap_or_default();
        Some(pb::Member { id, name, peer_ur_ls: vec![], client_ur_ls: vec![url], is_learner: false })
    })
}

fn fixed_membership() -> Status {
    Status::unimplemented(
        "etcdserver: members can't be added, removed, updated or promoted: the processes with --standby that share a \
         database are its members",
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
            let instances = self.0.engine.instances().await?;
            let members = iter::once(itself(&self.0)).chain(others(&self.0, instances)).collect();
            Ok(pb::MemberListResponse { header, members })
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

//! The Maintenance service (etcd: server/etcdserver/api/v3rpc/maintenance.go).

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use super::context::{CLUSTER_VERSION, ETCD_VERSION, Shared, TERM};
use super::errors::Fault;
use super::{backup, hash};
use crate::contract;
use crate::engine::StoreStatus;
use crate::metrics::{Asked, Method};
use crate::pb::etcdserverpb as pb;
use pb::maintenance_server::Maintenance;

const SERVICE: &str = "etcdserverpb.Maintenance";

/// Messages of a snapshot that are read before the client took those before them.
const CHUNKS_AHEAD: usize = 8;

/// The Maintenance service.
#[derive(Debug, Clone)]
pub struct MaintenanceService(pub Shared);

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let request = request.into_inner();
        let work = async {
            let alarms = self.alarms(&request).await?;
            Ok(pb::AlarmResponse { header: Some(self.0.header()), alarms })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "Alarm"), Asked::default(), work).await
    }

    /// Its metadata tells the apiserver whether labelled objects are collected here. Other clients do not notice.
    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let work = async {
            let store = self.0.engine.status().await?;
            let alarms = self.0.alarms().await;
            Ok(self.describe(store, &alarms))
        };
        let mut response = self.0.metrics.observe(Method::unary(SERVICE, "Status"), Asked::default(), work).await?;
        if self.0.engine.collects() {
            let label = MetadataValue::from_static(contract::SKIP_METADATA_CACHING_LABEL);
            response.metadata_mut().insert(contract::COLLECTED_LABEL_HEADER, label);
        }
        Ok(response)
    }

    async fn defragment(&self, _: Request<pb::DefragmentRequest>) -> Result<Response<pb::DefragmentResponse>, Status> {
        let work = async {
            self.0.engine.defragment().await?;
            self.0.measure_quota().await;
            // etcd sends no header here.
            Ok(pb::DefragmentResponse { header: None })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "Defragment"), Asked::default(), work).await
    }

    /// etcd hashes its whole file here; there is none, so it is the history with all that is kept for readers.
    async fn hash(&self, _: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let work = async {
            let hashed = hash::by_revision(&self.0.engine, 0).await?;
            Ok(pb::HashResponse { header: Some(self.0.header_at(hashed.current)), hash: hashed.hash })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "Hash"), Asked::default(), work).await
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        let revision = request.into_inner().revision;
        let asked = Asked { revision, ..Asked::default() };
        let work = async {
            let hashed = hash::by_revision(&self.0.engine, revision).await?;
            Ok(pb::HashKvResponse {
                header: Some(self.0.header_at(hashed.current)),
                hash: hashed.hash,
                // etcd's word for "never" is -1.
                compact_revision: if hashed.compact_revision == 0 { -1 } else { hashed.compact_revision },
                hash_revision: hashed.revision,
            })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "HashKV"), asked, work).await
    }

    type SnapshotStream = BoxStream<'static, Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(&self, _: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let mut observation = self.0.metrics.begin(Method::stream(SERVICE, "Snapshot"), Asked::default());
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let context = self.0.clone();
        tokio::spawn(async move {
            let result = backup::send(context, sender.clone()).await;
            observation.ends_with(result.as_ref().err());
            if let Err(status) = result {
                // A client that is gone needs no error.
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(chunks).boxed()))
    }

    async fn move_leader(&self, _: Request<pb::MoveLeaderRequest>) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        Err(Fault::BadLeaderTransferee.into())
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let request = request.into_inner();
        match downgrade(&request) {
            None => {
                let version = CLUSTER_VERSION.trim_end_matches(".0").to_owned();
                Ok(Response::new(pb::DowngradeResponse { header: Some(self.0.header()), version }))
            }
            Some(fault) => Err(fault.into()),
        }
    }
}

impl MaintenanceService {
    /// Alarms follow from the state of the database, so they end when their cause does and can't be set by hand.
    async fn alarms(&self, request: &pb::AlarmRequest) -> Result<Vec<pb::AlarmMember>, Status> {
        use pb::alarm_request::AlarmAction;
        let asks_for = |kind: pb::AlarmType| [pb::AlarmType::None as i32, kind as i32].contains(&request.alarm);
        let alarms = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => self.0.alarms().await,
            Ok(AlarmAction::Deactivate) => {
                let was_full = self.0.is_full();
                let is_full = self.0.measure_quota().await;
                if was_full && !is_full { vec![pb::AlarmType::Nospace] } else { vec![] }
            }
            Ok(AlarmAction::Activate) | Err(_) => return Err(Fault::NotCapable.into()),
        };
        let member_id = self.0.identity.member_id;
        let shown = alarms.into_iter().filter(|kind| asks_for(*kind));
        Ok(shown.map(|kind| pb::AlarmMember { member_id, alarm: kind as i32 }).collect())
    }

    fn describe(&self, store: StoreStatus, alarms: &[pb::AlarmType]) -> pb::StatusResponse {
        let identity = self.0.identity;
        // There is no raft log: the revision is what grows with each write.
        let index = u64::try_from(store.revision).unwrap_or(0);
        let error = |alarm: &pb::AlarmType| format!("memberID:{} alarm:{}", identity.member_id, alarm.as_str_name());
        pb::StatusResponse {
            header: Some(identity.header(store.revision)),
            version: ETCD_VERSION.to_owned(),
            db_size: store.db_size,
            leader: identity.member_id,
            raft_index: index,
            raft_term: TERM,
            raft_applied_index: index,
            errors: alarms.iter().map(error).collect(),
            db_size_in_use: store.db_size_in_use,
            is_learner: false,
            storage_version: CLUSTER_VERSION.to_owned(),
            db_size_quota: self.0.limits.quota_bytes,
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }
    }
}

/// There is nothing to downgrade to: what is wrong with the request. Only to cancel is fine, as with an etcd that has
/// no downgrade under way.
fn downgrade(request: &pb::DowngradeRequest) -> Option<Fault> {
    use pb::downgrade_request::DowngradeAction;
    match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Cancel) => return None,
        Ok(DowngradeAction::Validate | DowngradeAction::Enable) => {}
        Err(_) => return Some(Fault::UnknownAction),
    }
    let mut parts = request.version.splitn(3, '.');
    let numbers = parts.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    Some(if numbers && request.version.contains('.') {
        Fault::InvalidDowngradeTargetVersion
    } else {
        Fault::WrongDowngradeVersionFormat
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downgrades() {
        let table = [
            (0, "3.6", Some(Fault::InvalidDowngradeTargetVersion)),
            (1, "3.6.0", Some(Fault::InvalidDowngradeTargetVersion)),
            (0, "", Some(Fault::WrongDowngradeVersionFormat)),
            (1, "three.six", Some(Fault::WrongDowngradeVersionFormat)),
            (1, "3", Some(Fault::WrongDowngradeVersionFormat)),
            (2, "", None),
            (7, "3.6", Some(Fault::UnknownAction)),
        ];
        for (action, version, expected) in table {
            let request = pb::DowngradeRequest { action, version: version.to_owned() };
            assert_eq!(downgrade(&request), expected, "{action} {version}");
        }
    }
}

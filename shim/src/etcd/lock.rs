//! The Lock service (etcd: server/etcdserver/api/v3lock/lock.go).

use tonic::{Request, Response, Status};

use super::context::Shared;
use super::errors::Fault;
use super::held::relayed;
use super::turn::{self, Goal};
use crate::engine::{DeleteRange, KeyRange, Op};
use crate::metrics::{Asked, Method};
use crate::pb::v3lockpb as pb;
use pb::lock_server::Lock;

const SERVICE: &str = "v3lockpb.Lock";

/// The Lock service.
#[derive(Debug, Clone)]
pub struct LockService(pub Shared);

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(&self, request: Request<pb::LockRequest>) -> Result<Response<pb::LockResponse>, Status> {
        let request = request.into_inner();
        let asked = Asked { key: request.name.clone(), waits: true, ..Asked::default() };
        let work = async {
            let turn = turn::take(self.0.clone(), request.name, request.lease, Goal::Lock).await.map_err(relayed)?;
            Ok(pb::LockResponse { header: Some(self.0.header_at(turn.revision)), key: turn.held.key })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "Lock"), asked, work).await
    }

    async fn unlock(&self, request: Request<pb::UnlockRequest>) -> Result<Response<pb::UnlockResponse>, Status> {
        let key = request.into_inner().key;
        let asked = Asked { key: key.clone(), ..Asked::default() };
        let work = async {
            if key.is_empty() {
                return Err(relayed(Fault::EmptyKey.into()));
            }
            let delete = DeleteRange { range: KeyRange::single(key), prev_kv: false };
            let (revision, _) = self.0.engine.write(Op::Delete(delete)).await.map_err(|error| relayed(error.into()))?;
            Ok(pb::UnlockResponse { header: Some(self.0.header_at(revision)) })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "Unlock"), asked, work).await
    }
}

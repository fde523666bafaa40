//! The Lease service (etcd: server/etcdserver/api/v3rpc/lease.go, server/lease/lessor.go).

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status, Streaming};

use super::context::{Shared, stopped};
use super::errors::Fault;
use super::oversized;
use crate::engine::{self, LeaseId, LeaseStatus};
use crate::metrics::{Asked, Method};
use crate::pb::etcdserverpb as pb;
use pb::lease_server::Lease;

const SERVICE: &str = "etcdserverpb.Lease";

/// The longest time to live, in seconds (etcd: `lease.MaxLeaseTTL`).
pub const MAX_TTL: i64 = 9_000_000_000;

/// The shortest, in seconds: what asks for less gets this. With etcd it follows from the election timeout; this is the
/// value with etcd's defaults (etcd: server/etcdserver/server.go, `minTTL`).
pub const MIN_TTL: i64 = 2;

/// The Lease service.
#[derive(Debug, Clone)]
pub struct LeaseService(pub Shared);

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let request = request.into_inner();
        let work = async {
            let lease = grant(&self.0, request.id, request.ttl).await?;
            let header = Some(self.0.header());
            Ok(pb::LeaseGrantResponse { header, id: lease.id, ttl: lease.granted_ttl, error: String::new() })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "LeaseGrant"), Asked::default(), work).await
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let id = request.into_inner().id;
        let work = async {
            let revision = self.0.engine.lease_revoke(id).await?;
            Ok(pb::LeaseRevokeResponse { header: Some(self.0.header_at(revision)) })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "LeaseRevoke"), Asked::default(), work).await
    }

    type LeaseKeepAliveStream = BoxStream<'static, Result<pb::LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let client = KeepAlive { context: self.0.clone(), requests: request.into_inner(), ended: false };
        let answers = stream::unfold(client, KeepAlive::step).boxed();
        Ok(Response::new(self.0.metrics.observed(Method::two_streams(SERVICE, "LeaseKeepAlive"), answers).boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        let work = async {
            let found = self.0.engine.lease_time_to_live(request.id, request.keys).await;
            time_to_live(request.id, found, self.0.header())
        };
        self.0.metrics.observe(Method::unary(SERVICE, "LeaseTimeToLive"), Asked::default(), work).await
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let work = async {
            let leases = self.0.engine.leases().await?;
            let leases = leases.into_iter().map(|lease| pb::LeaseStatus { id: lease.id }).collect();
            Ok(pb::LeaseLeasesResponse { header: Some(self.0.header()), leases })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "LeaseLeases"), Asked::default(), work).await
    }
}

/// Grants a lease of that number (0 for any) and time to live.
pub(super) async fn grant(context: &Shared, id: LeaseId, ttl: i64) -> Result<LeaseStatus, Status> {
    // etcd: server/storage/quota.go, `leaseOverhead`.
    context.check_quota(64).await?;
    if ttl > MAX_TTL {
        return Err(Fault::LeaseTtlTooLarge.into());
    }
    Ok(context.engine.lease_grant(id, ttl.max(MIN_TTL)).await?)
}

/// A lease that does not exist is not an error here, but a time of -1.
fn time_to_live(
    id: i64,
    found: engine::Result<LeaseStatus>,
    header: pb::ResponseHeader,
) -> Result<pb::LeaseTimeToLiveResponse, Status> {
    let header = Some(header);
    match found {
        Ok(lease) => Ok(pb::LeaseTimeToLiveResponse {
            header,
            id,
            ttl: lease.remaining_ttl,
            granted_ttl: lease.granted_ttl,
            keys: lease.keys,
        }),
        Err(engine::Error::LeaseNotFound) => {
            Ok(pb::LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() })
        }
        Err(error) => Err(error.into()),
    }
}

/// A client's stream of keep-alives: one answer for each, in order.
struct KeepAlive {
    context: Shared,
    requests: Streaming<pb::LeaseKeepAliveRequest>,
    ended: bool,
}

impl KeepAlive {
    async fn step(mut self) -> Option<(Result<pb::LeaseKeepAliveResponse, Status>, Self)> {
        if self.ended {
            return None;
        }
        let mut stop = self.context.stop.clone();
        let request = tokio::select! {
            request = self.requests.message() => match request {
                Ok(request) => request?,
                Err(error) => {
                    self.ended = true;
                    return Some((Err(oversized::renamed(error)), self));
                }
            },
            () = stopped(&mut stop) => {
                self.ended = true;
                return Some((Err(Fault::Stopped.into()), self));
            }
        };
        let answer = self.renew(request.id).await;
        self.ended = answer.is_err();
        Some((answer, self))
    }

    async fn renew(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
        // Before the renewal: a header from after it could be newer than the end of the lease.
        let header = Some(self.context.header());
        match self.context.engine.lease_keep_alive(id).await {
            Ok(ttl) => Ok(pb::LeaseKeepAliveResponse { header, id, ttl }),
            Err(engine::Error::LeaseNotFound) => Ok(pb::LeaseKeepAliveResponse { header, id, ttl: 0 }),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_to_live_of_what_is_not_there() {
        let header = pb::ResponseHeader::default();
        let gone = time_to_live(7, Err(engine::Error::LeaseNotFound), header).unwrap();
        assert_eq!((gone.id, gone.ttl, gone.granted_ttl), (7, -1, 0));
        let lease = LeaseStatus { id: 7, granted_ttl: 60, remaining_ttl: 0, keys: vec!["a".into()] };
        let there = time_to_live(7, Ok(lease), header).unwrap();
        assert_eq!((there.ttl, there.granted_ttl, there.keys.len()), (0, 60, 1));
        assert!(time_to_live(7, Err(engine::Error::Unavailable(String::new())), header).is_err());
    }
}

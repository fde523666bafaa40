//! The Auth service of an etcd whose authentication is off (etcd: server/etcdserver/api/v3rpc/auth.go).
//!
//! Users and roles are not kept here: clients prove who they are with certificates (`--trusted-ca-file`). But a client
//! that is given a name and a password asks for a token first, and goes on without one if it hears that there are none.
//! The calls about users and roles are not in the protocol (`shim/wire/proto/rpc.proto`): [`super::unknown`] answers
//! them with [`NO_USERS`].

use tonic::{Request, Response, Status};

use super::context::Shared;
use super::errors::Fault;
use crate::metrics::{Asked, Method};
use crate::pb::etcdserverpb as pb;
use pb::auth_server::Auth;

const SERVICE: &str = "etcdserverpb.Auth";

/// The answer to all that is about users and roles.
pub(super) const NO_USERS: &str =
    "etcdserver: there are no users and roles here; use client certificates (--trusted-ca-file)";

/// What etcd calls the state before any user was added.
const FIRST_REVISION: u64 = 1;

/// The Auth service.
#[derive(Debug, Clone)]
pub struct AuthService(pub Shared);

#[tonic::async_trait]
impl Auth for AuthService {
    async fn auth_enable(&self, _: Request<pb::AuthEnableRequest>) -> Result<Response<pb::AuthEnableResponse>, Status> {
        Err(Status::unimplemented(NO_USERS))
    }

    /// It is off: etcd says so by doing nothing, without an error.
    async fn auth_disable(
        &self,
        _: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let work = async { Ok(pb::AuthDisableResponse { header: Some(self.0.header()) }) };
        self.0.metrics.observe(Method::unary(SERVICE, "AuthDisable"), Asked::default(), work).await
    }

    async fn auth_status(&self, _: Request<pb::AuthStatusRequest>) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let work = async {
            let header = Some(self.0.header());
            Ok(pb::AuthStatusResponse { header, enabled: false, auth_revision: FIRST_REVISION })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "AuthStatus"), Asked::default(), work).await
    }

    async fn authenticate(
        &self,
        _: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        Err(Fault::AuthNotEnabled.into())
    }
}

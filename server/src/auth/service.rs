//! etcd's `Auth` service.
//!
//! - A password is hashed or checked here and goes no further.

use std::{ops::RangeInclusive, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proto::{
    authpb,
    etcdserverpb::{self as pb, auth_server::Auth},
};
use store::{Actor, Answer, AuthCommand, AuthRefusal, Command, Kind, PasswordHash, Permission, Refusal};
use tonic::{Request, Response, Status};
use types::KeyRange;
use zeroize::Zeroizing;

use super::{Caller, passwords::Password};
use crate::{
    core::Core,
    kv::mismatched,
    status::{auth_refused, refused, unknown_enum},
};

/// How often a login is tried anew when users or roles change while the password is checked.
const LOGIN_ATTEMPTS: usize = 5;
/// What the work of checking a hash that was sent may be; each step doubles it.
const BCRYPT_COSTS: RangeInclusive<u32> = 4..=16;

/// Users, roles and permissions administered; users logged in.
#[derive(Clone, Debug)]
pub(crate) struct AuthFace(pub(crate) Arc<Core>);

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Auth for AuthFace {
    async fn auth_enable(&self, request: Request<pb::AuthEnableRequest>) -> Answered<pb::AuthEnableResponse> {
        let caller = Caller::of(&request);
        let command = AuthCommand::Enable;
        let header = Some(self.change(command, &caller).await?);
        Ok(Response::new(pb::AuthEnableResponse { header }))
    }

    async fn auth_disable(&self, request: Request<pb::AuthDisableRequest>) -> Answered<pb::AuthDisableResponse> {
        let caller = Caller::of(&request);
        let command = AuthCommand::Disable;
        let header = Some(self.change(command, &caller).await?);
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn user_delete(&self, request: Request<pb::AuthUserDeleteRequest>) -> Answered<pb::AuthUserDeleteResponse> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let command = AuthCommand::UserDelete { name: request.name };
        let header = Some(self.change(command, &caller).await?);
        Ok(Response::new(pb::AuthUserDeleteResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Answered<pb::AuthUserGrantRoleResponse> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let command = AuthCommand::UserGrantRole { user: request.user, role: request.role };
        let header = Some(self.change(command, &caller).await?);
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Answered<pb::AuthUserRevokeRoleResponse> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let command = AuthCommand::UserRevokeRole { user: request.name, role: request.role };
        let header = Some(self.change(command, &caller).await?);
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(&self, request: Request<pb::AuthRoleAddRequest>) -> Answered<pb::AuthRoleAddResponse> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let command = AuthCommand::RoleAdd { name: request.name };
        let header = Some(self.change(command, &caller).await?);
        Ok(Response::new(pb::AuthRoleAddResponse { header }))
    }

    async fn role_delete(&self, request: Request<pb::AuthRoleDeleteRequest>) -> Answered<pb::AuthRoleDeleteResponse> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let command = AuthCommand::RoleDelete { name: request.role };
        let header = Some(self.change(command, &caller).await?);
        Ok(Response::new(pb::AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Answered<pb::AuthRoleGrantPermissionResponse> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let command = AuthCommand::RoleGrantPermission { role: request.name, permission: permission(request.perm)? };
        let header = Some(self.change(command, &caller).await?);
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse { header }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Answered<pb::AuthRoleRevokePermissionResponse> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let command = AuthCommand::RoleRevokePermission {
            role: request.role,
            keys: KeyRange::from_wire(request.key, request.range_end),
        };
        let header = Some(self.change(command, &caller).await?);
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse { header }))
    }

    async fn user_add(&self, request: Request<pb::AuthUserAddRequest>) -> Answered<pb::AuthUserAddResponse> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let password = if request.options.is_some_and(|options| options.no_password) {
            None
        } else {
            Some(self.hashed(Zeroizing::new(request.password), &request.hashed_password).await?)
        };
        let command = AuthCommand::UserAdd { name: request.name, password };
        let header = Some(self.change(command, &caller).await?);
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Answered<pb::AuthUserChangePasswordResponse> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let password = self.hashed(Zeroizing::new(request.password), &request.hashed_password).await?;
        let command = AuthCommand::UserChangePassword { name: request.name, password };
        let header = Some(self.change(command, &caller).await?);
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
    }

    async fn authenticate(&self, request: Request<pb::AuthenticateRequest>) -> Answered<pb::AuthenticateResponse> {
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let token = self.log_in(&name, &Zeroizing::new(password)).await?;
        Ok(Response::new(pb::AuthenticateResponse { header: Some(self.header()), token }))
    }

    async fn auth_status(&self, _request: Request<pb::AuthStatusRequest>) -> Answered<pb::AuthStatusResponse> {
        self.0.confirm_read().await?;
        let auth = self.0.view.auth();
        Ok(Response::new(pb::AuthStatusResponse {
            header: Some(self.header()),
            enabled: auth.is_enabled(),
            auth_revision: auth.revision(),
        }))
    }

    /// Who is no administrator sees their own roles.
    async fn user_get(&self, request: Request<pb::AuthUserGetRequest>) -> Answered<pb::AuthUserGetResponse> {
        let caller = Caller::of(&request);
        let name = request.into_inner().name;
        self.0.confirm_read().await?;
        let auth = self.0.view.auth();
        let own = |user: &str| user == name;
        visible(&auth, &caller, own)?;
        let user = auth.user(&name).ok_or_else(|| auth_refused(AuthRefusal::UserNotFound))?;
        Ok(Response::new(pb::AuthUserGetResponse { header: Some(self.header()), roles: user.roles.clone() }))
    }

    async fn user_list(&self, request: Request<pb::AuthUserListRequest>) -> Answered<pb::AuthUserListResponse> {
        self.0.confirm_read().await?;
        self.0.require_root(&Caller::of(&request))?;
        let users = self.0.view.auth().users().map(|user| user.name.clone()).collect();
        Ok(Response::new(pb::AuthUserListResponse { header: Some(self.header()), users }))
    }

    /// Who is no administrator sees the roles that they have.
    async fn role_get(&self, request: Request<pb::AuthRoleGetRequest>) -> Answered<pb::AuthRoleGetResponse> {
        let caller = Caller::of(&request);
        let name = request.into_inner().role;
        self.0.confirm_read().await?;
        let auth = self.0.view.auth();
        let own = |user: &str| auth.user(user).is_some_and(|user| user.has_role(&name));
        visible(&auth, &caller, own)?;
        let role = auth.role(&name).ok_or_else(|| auth_refused(AuthRefusal::RoleNotFound))?;
        let perm = role.shown().iter().map(wire_permission).collect();
        Ok(Response::new(pb::AuthRoleGetResponse { header: Some(self.header()), perm }))
    }

    async fn role_list(&self, request: Request<pb::AuthRoleListRequest>) -> Answered<pb::AuthRoleListResponse> {
        self.0.confirm_read().await?;
        self.0.require_root(&Caller::of(&request))?;
        let roles = self.0.view.auth().roles().map(|role| role.name.clone()).collect();
        Ok(Response::new(pb::AuthRoleListResponse { header: Some(self.header()), roles }))
    }
}

impl AuthFace {
    fn header(&self) -> pb::ResponseHeader {
        self.0.header(self.0.view.revision())
    }

    /// Changes users or roles; the header of the answer.
    async fn change(&self, command: AuthCommand, caller: &Caller) -> Result<pb::ResponseHeader, Status> {
        let command = Command::Auth(command);
        match self.0.propose(&command, caller, &self.0.config.store).await? {
            Answer::Auth(answer) => Ok(self.0.header(answer.revision)),
            other => Err(mismatched(&other)),
        }
    }

    /// The hash that is kept of a password, or the one that was sent in its place.
    async fn hashed(&self, password: Password, hashed: &str) -> Result<PasswordHash, Status> {
        if password.is_empty() && !hashed.is_empty() {
            return given_hash(hashed).ok_or_else(|| auth_refused(AuthRefusal::InvalidManagement));
        }
        self.0.auth.passwords.hash(password).await
    }

    /// The token of who has shown their password.
    ///
    /// The password is checked here, and that nothing has changed since is checked where the login is agreed on.
    async fn log_in(&self, name: &str, password: &Password) -> Result<String, Status> {
        self.0.confirm_read().await?;
        for _ in 0..LOGIN_ATTEMPTS {
            let auth = self.0.view.auth();
            if !auth.is_enabled() {
                return Err(auth_refused(AuthRefusal::NotEnabled));
            }
            let user = auth.user(name).filter(|user| !user.no_password);
            let expected = user.map(|user| user.password_hash.clone());
            if !self.0.auth.passwords.check(password.clone(), expected).await? {
                return Err(auth_refused(AuthRefusal::AuthFailed));
            }
            let draft = self.0.auth.tokens.draft();
            let (user, checked_at) = (name.to_owned(), auth.revision());
            match self.0.agree_on_login(AuthCommand::Authenticate { user, checked_at, token: draft.digest }).await? {
                Ok(index) => return self.0.auth.tokens.finish(draft, name, index, checked_at),
                Err(Refusal::Auth(AuthRefusal::OldRevision)) => {}
                Err(refusal) => return Err(refused(&refusal)),
            }
        }
        Err(auth_refused(AuthRefusal::OldRevision))
    }
}

/// Refuses who neither administers nor asks about what is their own.
fn visible(auth: &store::Auth, caller: &Caller, own: impl FnOnce(&str) -> bool) -> Result<(), Status> {
    let actor = caller.actor();
    let Err(refusal) = auth.require_root(&actor) else { return Ok(()) };
    match actor {
        Actor::User { name, .. } if own(&name) => Ok(()),
        _ => Err(auth_refused(refusal)),
    }
}

/// Reads a bcrypt hash in base 64. Source: etcd `AuthUserAddRequest.hashedPassword`.
fn given_hash(hashed: &str) -> Option<PasswordHash> {
    let text = String::from_utf8(STANDARD.decode(hashed).ok()?).ok()?;
    let parts: bcrypt::HashParts = text.parse().ok()?;
    BCRYPT_COSTS.contains(&parts.get_cost()).then(|| PasswordHash::new(text))
}

fn permission(perm: Option<authpb::Permission>) -> Result<Permission, Status> {
    use authpb::permission::Type;
    let perm = perm.ok_or_else(|| auth_refused(AuthRefusal::PermissionNotGiven))?;
    let kind = match Type::try_from(perm.perm_type) {
        Ok(Type::Read) => Kind::Read,
        Ok(Type::Write) => Kind::Write,
        Ok(Type::Readwrite) => Kind::ReadWrite,
        Err(_) => return Err(unknown_enum("Permission.permType", perm.perm_type)),
    };
    Ok(Permission { kind, keys: KeyRange::from_wire(perm.key, perm.range_end) })
}

fn wire_permission(permission: &Permission) -> authpb::Permission {
    use authpb::permission::Type;
    let (key, range_end) = permission.keys.to_wire();
    let perm_type = match permission.kind {
        Kind::Read => Type::Read,
        Kind::Write => Type::Write,
        Kind::ReadWrite => Type::Readwrite,
    };
    authpb::Permission { perm_type: perm_type.into(), key, range_end }
}

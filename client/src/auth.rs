//! Users, roles, and whether they are demanded.

use crate::{
    Client, ClientError, Header, Password,
    transport::{Link, Repeat},
};
use proto::{
    authpb,
    etcdserverpb::{self as pb, auth_client::AuthClient},
};
use std::future::Future;
use tonic::{Response, Status};
use types::{KeyRange, Revision};

/// Whether the cluster demands users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthStatusResponse {
    /// Who answered.
    pub header: Header,
    /// The store's revision.
    pub revision: Revision,
    /// Whether it does.
    pub enabled: bool,
    /// Grows by each change to users and roles.
    pub auth_revision: u64,
}

/// Names of users or roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamesResponse {
    /// Who answered.
    pub header: Header,
    /// The store's revision.
    pub revision: Revision,
    /// In the server's order.
    pub names: Vec<String>,
}

/// What a role may do with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionKind {
    /// Read them.
    Read,
    /// Write and delete them.
    Write,
    /// Both.
    ReadWrite,
}

/// What a role may do, and with which keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// What.
    pub kind: PermissionKind,
    /// With which keys.
    pub range: KeyRange,
}

impl Permission {
    fn from_wire(permission: authpb::Permission) -> Result<Self, ClientError> {
        let kind = match permission.perm_type() {
            _ if authpb::permission::Type::try_from(permission.perm_type).is_err() => {
                return Err(ClientError::Protocol("a permission is of a kind that does not exist"));
            }
            authpb::permission::Type::Read => PermissionKind::Read,
            authpb::permission::Type::Write => PermissionKind::Write,
            authpb::permission::Type::Readwrite => PermissionKind::ReadWrite,
        };
        Ok(Self { kind, range: KeyRange::from_wire(permission.key, permission.range_end) })
    }

    fn into_wire(self) -> authpb::Permission {
        let kind = match self.kind {
            PermissionKind::Read => authpb::permission::Type::Read,
            PermissionKind::Write => authpb::permission::Type::Write,
            PermissionKind::ReadWrite => authpb::permission::Type::Readwrite,
        };
        let (key, range_end) = crate::kv::range_to_wire(&self.range);
        authpb::Permission { perm_type: kind.into(), key, range_end }
    }
}

/// What a role may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleGetResponse {
    /// Who answered.
    pub header: Header,
    /// The store's revision.
    pub revision: Revision,
    /// In the server's order.
    pub permissions: Vec<Permission>,
}

/// Answers that are nothing but a header.
trait Acknowledgement {
    fn header(self) -> Option<pb::ResponseHeader>;
}

macro_rules! acknowledgements {
    ($($name:ident)*) => {
        $(impl Acknowledgement for pb::$name {
            fn header(self) -> Option<pb::ResponseHeader> {
                self.header
            }
        })*
    };
}

acknowledgements! {
    AuthEnableResponse AuthDisableResponse AuthUserAddResponse AuthUserDeleteResponse AuthUserChangePasswordResponse
    AuthUserGrantRoleResponse AuthUserRevokeRoleResponse AuthRoleAddResponse AuthRoleDeleteResponse
    AuthRoleGrantPermissionResponse AuthRoleRevokePermissionResponse
}

type Auth = AuthClient<Link>;
type Acknowledged = Result<(Header, Revision), ClientError>;

/// Source of all: etcd v3 `Auth`. Changes to users and roles answer who did them, and the store's revision. They fail with
/// [`ClientError::Refused`] where a name is taken or not known, and [`ClientError::Denied`] for all but the administrators.
impl Client {
    /// Demands users from now on. The user `root` must have the role `root`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it has not.
    pub async fn auth_enable(&self) -> Acknowledged {
        let enable = |mut auth: Auth, request| async move { auth.auth_enable(request).await };
        self.change(pb::AuthEnableRequest {}, enable).await
    }

    /// Demands no users any more.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn auth_disable(&self) -> Acknowledged {
        let disable = |mut auth: Auth, request| async move { auth.auth_disable(request).await };
        self.change(pb::AuthDisableRequest {}, disable).await
    }

    /// Whether users are demanded.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn auth_status(&self) -> Result<AuthStatusResponse, ClientError> {
        let status = |mut auth: Auth, request| async move { auth.auth_status(request).await };
        let response = self.ask(pb::AuthStatusRequest {}, status).await?;
        let (header, revision) = Header::with_revision(response.header, None)?;
        let pb::AuthStatusResponse { enabled, auth_revision, .. } = response;
        Ok(AuthStatusResponse { header, revision, enabled, auth_revision })
    }

    /// Adds a user. Without a password it is known by its certificate alone.
    ///
    /// # Errors
    /// As all of these do.
    pub async fn user_add(&self, name: &str, password: Option<&Password>) -> Acknowledged {
        let request = pb::AuthUserAddRequest {
            name: name.to_owned(),
            password: password.map(Password::reveal).unwrap_or_default(),
            options: Some(authpb::UserAddOptions { no_password: password.is_none() }),
            hashed_password: String::new(),
        };
        self.change(request, |mut auth: Auth, request| async move { auth.user_add(request).await }).await
    }

    /// The roles of a user.
    ///
    /// # Errors
    /// As all of these do.
    pub async fn user_get(&self, name: &str) -> Result<NamesResponse, ClientError> {
        let get = |mut auth: Auth, request| async move { auth.user_get(request).await };
        let response = self.ask(pb::AuthUserGetRequest { name: name.to_owned() }, get).await?;
        let (header, revision) = Header::with_revision(response.header, None)?;
        Ok(NamesResponse { header, revision, names: response.roles })
    }

    /// All users.
    ///
    /// # Errors
    /// As all of these do.
    pub async fn user_list(&self) -> Result<NamesResponse, ClientError> {
        let list = |mut auth: Auth, request| async move { auth.user_list(request).await };
        let response = self.ask(pb::AuthUserListRequest {}, list).await?;
        let (header, revision) = Header::with_revision(response.header, None)?;
        Ok(NamesResponse { header, revision, names: response.users })
    }

    /// Deletes a user.
    ///
    /// # Errors
    /// As all of these do.
    pub async fn user_delete(&self, name: &str) -> Acknowledged {
        let delete = |mut auth: Auth, request| async move { auth.user_delete(request).await };
        self.change(pb::AuthUserDeleteRequest { name: name.to_owned() }, delete).await
    }

    /// Changes a user's password.
    ///
    /// # Errors
    /// As all of these do.
    pub async fn user_change_password(&self, name: &str, password: &Password) -> Acknowledged {
        let request = pb::AuthUserChangePasswordRequest {
            name: name.to_owned(),
            password: password.reveal(),
            hashed_password: String::new(),
        };
        let change = |mut auth: Auth, request| async move { auth.user_change_password(request).await };
        self.change(request, change).await
    }

    /// Gives a user a role.
    ///
    /// # Errors
    /// As all of these do.
    pub async fn user_grant_role(&self, user: &str, role: &str) -> Acknowledged {
        let request = pb::AuthUserGrantRoleRequest { user: user.to_owned(), role: role.to_owned() };
        self.change(request, |mut auth: Auth, request| async move { auth.user_grant_role(request).await }).await
    }

    /// Takes a role from a user.
    ///
    /// # Errors
    /// As all of these do.
    pub async fn user_revoke_role(&self, user: &str, role: &str) -> Acknowledged {
        let request = pb::AuthUserRevokeRoleRequest { name: user.to_owned(), role: role.to_owned() };
        self.change(request, |mut auth: Auth, request| async move { auth.user_revoke_role(request).await }).await
    }

    /// Adds a role that may do nothing yet.
    ///
    /// # Errors
    /// As all of these do.
    pub async fn role_add(&self, name: &str) -> Acknowledged {
        let add = |mut auth: Auth, request| async move { auth.role_add(request).await };
        self.change(pb::AuthRoleAddRequest { name: name.to_owned() }, add).await
    }

    /// What a role may do.
    ///
    /// # Errors
    /// As all of these do.
    pub async fn role_get(&self, name: &str) -> Result<RoleGetResponse, ClientError> {
        let get = |mut auth: Auth, request| async move { auth.role_get(request).await };
        let response = self.ask(pb::AuthRoleGetRequest { role: name.to_owned() }, get).await?;
        let (header, revision) = Header::with_revision(response.header, None)?;
        let permissions = response.perm.into_iter().map(Permission::from_wire).collect::<Result<_, _>>()?;
        Ok(RoleGetResponse { header, revision, permissions })
    }

    /// All roles.
    ///
    /// # Errors
    /// As all of these do.
    pub async fn role_list(&self) -> Result<NamesResponse, ClientError> {
        let list = |mut auth: Auth, request| async move { auth.role_list(request).await };
        let response = self.ask(pb::AuthRoleListRequest {}, list).await?;
        let (header, revision) = Header::with_revision(response.header, None)?;
        Ok(NamesResponse { header, revision, names: response.roles })
    }

    /// Deletes a role, and takes it from its users.
    ///
    /// # Errors
    /// As all of these do.
    pub async fn role_delete(&self, name: &str) -> Acknowledged {
        let delete = |mut auth: Auth, request| async move { auth.role_delete(request).await };
        self.change(pb::AuthRoleDeleteRequest { role: name.to_owned() }, delete).await
    }

    /// Lets a role do something with keys; in the place of what it could do with exactly these before.
    ///
    /// # Errors
    /// As all of these do.
    pub async fn role_grant_permission(&self, role: &str, permission: Permission) -> Acknowledged {
        let request = pb::AuthRoleGrantPermissionRequest { name: role.to_owned(), perm: Some(permission.into_wire()) };
        self.change(request, |mut auth: Auth, request| async move { auth.role_grant_permission(request).await }).await
    }

    /// Takes from a role what was granted for exactly these keys.
    ///
    /// # Errors
    /// As all of these do.
    pub async fn role_revoke_permission(&self, role: &str, range: &KeyRange) -> Acknowledged {
        let (key, range_end) = crate::kv::range_to_wire(range);
        let request = pb::AuthRoleRevokePermissionRequest { role: role.to_owned(), key, range_end };
        self.change(request, |mut auth: Auth, request| async move { auth.role_revoke_permission(request).await }).await
    }

    async fn change<Q, R, F>(&self, request: Q, send: impl Fn(Auth, Q) -> F) -> Acknowledged
    where
        Q: Clone,
        R: Acknowledgement,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let attempt = |link| send(AuthClient::new(link), request.clone());
        let response = self.transport.call(Repeat::IfUnsent, attempt).await?;
        Header::with_revision(response.header(), None)
    }

    async fn ask<Q, R, F>(&self, request: Q, send: impl Fn(Auth, Q) -> F) -> Result<R, ClientError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.transport.call(Repeat::Always, |link| send(AuthClient::new(link), request.clone())).await
    }
}

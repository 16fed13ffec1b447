//! Who asks, and what is asked about users and roles.

use bytes::Bytes;
use proto::{
    authpb,
    etcdserverpb::{self as pb, auth_client::AuthClient},
};
use tonic::{Request, Response, Status, transport::Channel};

use super::peer::comparable_header;

/// Whose token a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Caller {
    Nobody,
    Root,
    One,
    Two,
}

pub(crate) const CALLERS: [Caller; 3] = [Caller::Root, Caller::One, Caller::Two];

impl Caller {
    /// The user's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nobody => "",
            Self::Root => "root",
            Self::One => "one",
            Self::Two => "two",
        }
    }
}

/// A call of etcd's `Auth` service.
#[derive(Clone, Debug)]
pub(crate) enum About {
    Enable(pb::AuthEnableRequest),
    Disable(pb::AuthDisableRequest),
    Status(pb::AuthStatusRequest),
    Authenticate(pb::AuthenticateRequest),
    UserAdd(pb::AuthUserAddRequest),
    UserGet(pb::AuthUserGetRequest),
    UserList(pb::AuthUserListRequest),
    UserDelete(pb::AuthUserDeleteRequest),
    UserChangePassword(pb::AuthUserChangePasswordRequest),
    UserGrantRole(pb::AuthUserGrantRoleRequest),
    UserRevokeRole(pb::AuthUserRevokeRoleRequest),
    RoleAdd(pb::AuthRoleAddRequest),
    RoleGet(pb::AuthRoleGetRequest),
    RoleList(pb::AuthRoleListRequest),
    RoleDelete(pb::AuthRoleDeleteRequest),
    RoleGrantPermission(pb::AuthRoleGrantPermissionRequest),
    RoleRevokePermission(pb::AuthRoleRevokePermissionRequest),
}

impl About {
    /// What the server answers, as text without what is its own; and the token, if it gave one.
    pub(crate) async fn ask(
        self,
        auth: &mut AuthClient<Channel>,
        token: Option<&str>,
    ) -> Result<(String, Option<String>), Status> {
        macro_rules! call {
            ($method:ident, $request:expr) => {
                said(auth.$method(with_token($request, token)).await?, |it| &mut it.header)
            };
        }
        let text = match self {
            Self::Enable(request) => call!(auth_enable, request),
            Self::Disable(request) => call!(auth_disable, request),
            Self::Status(request) => call!(auth_status, request),
            Self::Authenticate(request) => {
                let response = auth.authenticate(with_token(request, token)).await?;
                let token = response.get_ref().token.clone();
                let without = response.map(|it| pb::AuthenticateResponse { token: String::new(), ..it });
                return Ok((said(without, |it| &mut it.header), Some(token)));
            }
            Self::UserAdd(request) => call!(user_add, request),
            Self::UserGet(request) => call!(user_get, request),
            Self::UserList(request) => call!(user_list, request),
            Self::UserDelete(request) => call!(user_delete, request),
            Self::UserChangePassword(request) => call!(user_change_password, request),
            Self::UserGrantRole(request) => call!(user_grant_role, request),
            Self::UserRevokeRole(request) => call!(user_revoke_role, request),
            Self::RoleAdd(request) => call!(role_add, request),
            Self::RoleGet(request) => call!(role_get, request),
            Self::RoleList(request) => call!(role_list, request),
            Self::RoleDelete(request) => call!(role_delete, request),
            Self::RoleGrantPermission(request) => call!(role_grant_permission, request),
            Self::RoleRevokePermission(request) => call!(role_revoke_permission, request),
        };
        Ok((text, None))
    }
}

fn said<T: std::fmt::Debug>(
    response: Response<T>,
    header: impl FnOnce(&mut T) -> &mut Option<pb::ResponseHeader>,
) -> String {
    let mut response = response.into_inner();
    comparable_header(header(&mut response));
    format!("{response:#?}")
}

/// A request as its caller's.
pub(crate) fn with_token<T>(request: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(request);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.parse().unwrap());
    }
    request
}

/// Users whose rights overlap, and authentication turned on.
pub(crate) fn founding() -> Vec<About> {
    let password = || "p".to_owned();
    let mut steps = Vec::new();
    for caller in CALLERS {
        let (user, role) = (caller.name().to_owned(), caller.name().to_owned());
        steps.push(About::UserAdd(pb::AuthUserAddRequest {
            name: user.clone(),
            password: password(),
            ..Default::default()
        }));
        steps.push(About::RoleAdd(pb::AuthRoleAddRequest { name: role.clone() }));
        steps.push(About::UserGrantRole(pb::AuthUserGrantRoleRequest { user, role }));
    }
    let grants = [("one", "a", "c", 2), ("one", "n", "o", 2), ("two", "b", "\0", 0), ("two", "a", "", 1)];
    for (role, key, range_end, kind) in grants {
        let perm = authpb::Permission { perm_type: kind, key: key.into(), range_end: range_end.into() };
        let name = role.to_owned();
        steps.push(About::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest { name, perm: Some(perm) }));
    }
    steps.push(About::Enable(pb::AuthEnableRequest {}));
    for caller in CALLERS {
        steps.push(About::Authenticate(pb::AuthenticateRequest {
            name: caller.name().to_owned(),
            password: password(),
        }));
    }
    steps
}

/// Draws what to ask.
pub(crate) trait Draw {
    fn below(&mut self, end: u32) -> u32;
    fn key(&mut self) -> Bytes;
    fn range_end(&mut self, key: &[u8]) -> Bytes;

    fn user(&mut self) -> String {
        ["root", "one", "two", "three", ""][usize::try_from(self.below(33) / 8).unwrap()].to_owned()
    }

    fn password(&mut self) -> String {
        ["p", "p", "p", "q", ""][usize::try_from(self.below(25) / 6).unwrap()].to_owned()
    }

    fn about(&mut self) -> About {
        let (user, role, password) = (self.user(), self.user(), self.password());
        match self.below(34) {
            0..2 => About::Enable(pb::AuthEnableRequest {}),
            2 => About::Disable(pb::AuthDisableRequest {}),
            3..5 => About::Status(pb::AuthStatusRequest {}),
            5..14 => About::Authenticate(pb::AuthenticateRequest { name: user, password }),
            14..16 => {
                let options = (self.below(4) == 0).then_some(authpb::UserAddOptions { no_password: true });
                About::UserAdd(pb::AuthUserAddRequest { name: user, password, options, ..Default::default() })
            }
            16..18 => About::UserGet(pb::AuthUserGetRequest { name: user }),
            18 => About::UserList(pb::AuthUserListRequest {}),
            19 => About::UserDelete(pb::AuthUserDeleteRequest { name: user }),
            20 => About::UserChangePassword(pb::AuthUserChangePasswordRequest {
                name: user,
                password,
                ..Default::default()
            }),
            21..23 => About::UserGrantRole(pb::AuthUserGrantRoleRequest { user, role }),
            23 => About::UserRevokeRole(pb::AuthUserRevokeRoleRequest { name: user, role }),
            24..26 => About::RoleAdd(pb::AuthRoleAddRequest { name: role }),
            // etcd tells from 3.5 on what root may do.
            26..28 if role != "root" => About::RoleGet(pb::AuthRoleGetRequest { role }),
            26..29 => About::RoleList(pb::AuthRoleListRequest {}),
            29 => About::RoleDelete(pb::AuthRoleDeleteRequest { role }),
            30..33 => {
                let key = self.key();
                let range_end = self.range_end(&key);
                let perm_type = self.below(3).try_into().unwrap();
                let perm = Some(authpb::Permission { perm_type, key, range_end });
                About::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest { name: role, perm })
            }
            _ => {
                let key = self.key();
                let range_end = self.range_end(&key);
                About::RoleRevokePermission(pb::AuthRoleRevokePermissionRequest { role, key, range_end })
            }
        }
    }
}

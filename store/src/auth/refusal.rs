//! What is refused about users and roles, one variant per error of etcd's.

/// Why somebody may not do what they asked for, or users and roles not be changed as asked. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthRefusal {
    /// Nobody is logged in; also a user to be made without a name.
    #[error("user name is empty")]
    UserEmpty,
    /// Users or roles changed since the caller was recognized: log in again.
    #[error("revision of auth store is old")]
    OldRevision,
    /// The user may not do that.
    #[error("permission denied")]
    PermissionDenied,
    /// Auth cannot be enabled without a user `root`.
    #[error("root user does not exist")]
    RootUserNotExist,
    /// Auth cannot be enabled before `root` has the role `root`.
    #[error("root user does not have root role")]
    RootRoleNotExist,
    /// A user of that name is there already.
    #[error("user name already exists")]
    UserAlreadyExists,
    /// No such user.
    #[error("user name not found")]
    UserNotFound,
    /// A role to be made without a name.
    #[error("role name is empty")]
    RoleEmpty,
    /// A role of that name is there already.
    #[error("role name already exists")]
    RoleAlreadyExists,
    /// No such role.
    #[error("role name not found")]
    RoleNotFound,
    /// Name or password is wrong, and it is not told which.
    #[error("authentication failed, invalid user ID or password")]
    AuthFailed,
    /// A grant that names no permission.
    #[error("permission not given")]
    PermissionNotGiven,
    /// The user does not have the role.
    #[error("role is not granted to the user")]
    RoleNotGranted,
    /// The role does not have the permission.
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    /// Nobody can log in while auth is disabled.
    #[error("authentication is not enabled")]
    NotEnabled,
    /// A token that was never given out, or has expired.
    #[error("invalid auth token")]
    InvalidToken,
    /// It would leave nobody who may do everything; also a permission whose range is none.
    #[error("invalid auth management")]
    InvalidManagement,
}

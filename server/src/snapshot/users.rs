//! Users and roles in etcd's file.
//!
//! - A file with users restores to a member with users: what was guarded stays guarded.
//!
//! Source: etcd `server/storage/schema/auth.go`, `auth_users.go`, `auth_roles.go`.

use std::fs::File;

use bbolt::Writer;
use prost::Message;
use proto::authpb;
use store::{Auth, Kind, PasswordHash, Permission, Role, User};
use types::KeyRange;

use super::{
    SnapshotError,
    source::{Source, wrong},
};

/// Whether permissions count, and how often users and roles were changed.
const AUTH: &str = "auth";
/// Users, by their name.
const USERS: &str = "authUsers";
/// Roles, by their name.
const ROLES: &str = "authRoles";

/// Keys of [`AUTH`]: one byte, 1 for yes; and 8 bytes, big-endian.
const ENABLED: &str = "authEnabled";
const REVISION: &str = "authRevision";

/// Writes all of it.
pub(super) fn write(auth: &Auth, writer: &mut Writer<File>) -> Result<(), SnapshotError> {
    let mut bucket = writer.bucket(AUTH.as_bytes())?;
    bucket.put(ENABLED.as_bytes(), &[u8::from(auth.is_enabled())])?;
    bucket.put(REVISION.as_bytes(), &auth.revision().to_be_bytes())?;
    bucket.finish()?;
    let mut bucket = writer.bucket(ROLES.as_bytes())?;
    for role in auth.roles() {
        bucket.put(role.name.as_bytes(), &role_record(role).encode_to_vec())?;
    }
    bucket.finish()?;
    let mut bucket = writer.bucket(USERS.as_bytes())?;
    for user in auth.users() {
        bucket.put(user.name.as_bytes(), &user_record(user).encode_to_vec())?;
    }
    Ok(bucket.finish()?)
}

/// Reads all of it; a file without users is one where auth has never begun.
pub(super) fn read(source: &Source) -> Result<Auth, SnapshotError> {
    let (mut enabled, mut revision) = (false, 0);
    source.visit_values(AUTH, |key, value| {
        if key == ENABLED.as_bytes() {
            enabled = value == [1];
        }
        if key == REVISION.as_bytes() {
            let bytes = value.try_into().map_err(|_| wrong(AUTH, "an auth revision is 8 bytes"))?;
            revision = u64::from_be_bytes(bytes);
        }
        Ok(())
    })?;
    let (mut users, mut roles) = (Vec::new(), Vec::new());
    source.visit_values(USERS, |_, value| {
        users.push(user(value).ok_or_else(|| wrong(USERS, "an entry is no user"))?);
        Ok(())
    })?;
    source.visit_values(ROLES, |_, value| {
        roles.push(role(value).ok_or_else(|| wrong(ROLES, "an entry is no role"))?);
        Ok(())
    })?;
    Ok(Auth::new(enabled, revision, users, roles))
}

fn user_record(user: &User) -> authpb::User {
    authpb::User {
        name: user.name.clone().into(),
        password: user.password_hash.as_bytes().to_vec().into(),
        roles: user.roles.clone(),
        options: Some(authpb::UserAddOptions { no_password: user.no_password }),
    }
}

fn user(record: &[u8]) -> Option<User> {
    let record = authpb::User::decode(record).ok()?;
    let mut roles = record.roles;
    roles.sort();
    roles.dedup();
    Some(User {
        name: name(&record.name)?,
        password_hash: PasswordHash::new(record.password),
        roles,
        no_password: record.options.is_some_and(|options| options.no_password),
    })
}

fn role_record(role: &Role) -> authpb::Role {
    let permission = |permission: &Permission| {
        let (key, range_end) = permission.keys.to_wire();
        authpb::Permission { perm_type: wire_kind(permission.kind).into(), key, range_end }
    };
    authpb::Role { name: role.name.clone().into(), key_permission: role.permissions.iter().map(permission).collect() }
}

fn role(record: &[u8]) -> Option<Role> {
    let record = authpb::Role::decode(record).ok()?;
    let permission = |permission: authpb::Permission| {
        let kind = kind(permission.perm_type)?;
        Some(Permission { kind, keys: KeyRange::from_wire(permission.key, permission.range_end) })
    };
    let mut permissions: Vec<_> = record.key_permission.into_iter().map(permission).collect::<Option<_>>()?;
    permissions.sort_by_key(|permission| permission.keys.to_wire());
    Some(Role { name: name(&record.name)?, permissions })
}

fn name(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok().filter(|name| !name.is_empty())
}

fn wire_kind(kind: Kind) -> authpb::permission::Type {
    match kind {
        Kind::Read => authpb::permission::Type::Read,
        Kind::Write => authpb::permission::Type::Write,
        Kind::ReadWrite => authpb::permission::Type::Readwrite,
    }
}

fn kind(wire: i32) -> Option<Kind> {
    Some(match authpb::permission::Type::try_from(wire).ok()? {
        authpb::permission::Type::Read => Kind::Read,
        authpb::permission::Type::Write => Kind::Write,
        authpb::permission::Type::Readwrite => Kind::ReadWrite,
    })
}

//! How users and roles lie on the engine.
//!
//! | key | value |
//! |---|---|
//! | `e` | there if auth is enabled |
//! | `r` | the auth revision, 8 bytes, big-endian |
//! | `u` and a user's name | auth revision of its password; flag; hash; roles |
//! | `p` and a role's name | permissions: kind, key, range end as on the wire |

use bytes::Bytes;
use engine::{Batch, Read, Space};
use types::KeyRange;

use super::{Auth, Kind, PasswordHash, Permission, Role, User, state::Account};
use crate::{StoreError, layout::corrupt, varint};

/// Users, roles and permissions.
pub(crate) const SPACE: Space = Space::new("store-auth");

const ENABLED: &[u8] = b"e";
const REVISION: &[u8] = b"r";
const USER: u8 = b'u';
const ROLE: u8 = b'p';

/// Reads what is on the engine; an empty one is auth as it begins.
pub(crate) fn load(engine: &impl Read) -> Result<Auth, StoreError> {
    let malformed = |what| move || corrupt(SPACE, what);
    let mut auth = Auth::default();
    let (mut users, mut roles) = (Vec::new(), Vec::new());
    engine.walk(SPACE, |key, value| {
        match key {
            ENABLED => auth.enabled = true,
            REVISION => {
                let revision = value.try_into().map_err(|_| corrupt(SPACE, "an auth revision is 8 bytes"))?;
                auth.revision = u64::from_be_bytes(revision);
            }
            [USER, name @ ..] => users.push(read_user(name, value).ok_or_else(malformed("a user's row"))?),
            [ROLE, name @ ..] => roles.push(read_role(name, value).ok_or_else(malformed("a role's row"))?),
            _ => return Err(corrupt(SPACE, "a row is a user's, a role's, the revision or the switch")),
        }
        Ok(())
    })?;
    auth.roles = roles.into_iter().map(|role| (role.name.clone(), role.into())).collect();
    for (user, since) in users {
        auth.put_account(user, since);
    }
    Ok(auth)
}

impl Auth {
    /// Writes all of it to an engine that holds no users and roles yet.
    pub(crate) fn write(&self, batch: &mut Batch) {
        put_enabled(batch, self.enabled);
        put_revision(batch, self.revision);
        self.accounts.values().for_each(|account| put_user(batch, account));
        self.roles.values().for_each(|role| put_role(batch, role));
    }
}

pub(super) fn put_enabled(batch: &mut Batch, enabled: bool) {
    if enabled {
        batch.put(SPACE, ENABLED, Bytes::new());
    } else {
        batch.delete(SPACE, ENABLED);
    }
}

pub(super) fn put_revision(batch: &mut Batch, revision: u64) {
    batch.put(SPACE, REVISION, Bytes::copy_from_slice(&revision.to_be_bytes()));
}

pub(super) fn put_user(batch: &mut Batch, account: &Account) {
    let Account { user, since, .. } = account;
    let mut row = Vec::new();
    varint::put(&mut row, *since);
    row.push(u8::from(user.no_password));
    put_bytes(&mut row, user.password_hash.as_bytes());
    user.roles.iter().for_each(|role| put_bytes(&mut row, role.as_bytes()));
    batch.put(SPACE, named(USER, &user.name), row);
}

pub(super) fn delete_user(batch: &mut Batch, name: &str) {
    batch.delete(SPACE, named(USER, name));
}

pub(super) fn put_role(batch: &mut Batch, role: &Role) {
    let mut row = Vec::new();
    for Permission { kind, keys } in &role.permissions {
        row.push(match kind {
            Kind::Read => 1,
            Kind::Write => 2,
            Kind::ReadWrite => 3,
        });
        let (key, end) = keys.to_wire();
        put_bytes(&mut row, &key);
        put_bytes(&mut row, &end);
    }
    batch.put(SPACE, named(ROLE, &role.name), row);
}

pub(super) fn delete_role(batch: &mut Batch, name: &str) {
    batch.delete(SPACE, named(ROLE, name));
}

fn named(kind: u8, name: &str) -> Vec<u8> {
    [&[kind], name.as_bytes()].concat()
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn read_user(name: &[u8], mut row: &[u8]) -> Option<(User, u64)> {
    let since = varint::take(&mut row)?;
    let no_password = match take_byte(&mut row)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let password_hash = PasswordHash::new(Bytes::copy_from_slice(take_bytes(&mut row)?));
    let mut roles = Vec::new();
    while !row.is_empty() {
        roles.push(text(take_bytes(&mut row)?)?);
    }
    Some((User { name: text(name)?, password_hash, roles, no_password }, since))
}

fn read_role(name: &[u8], mut row: &[u8]) -> Option<Role> {
    let mut permissions = Vec::new();
    while !row.is_empty() {
        let kind = match take_byte(&mut row)? {
            1 => Kind::Read,
            2 => Kind::Write,
            3 => Kind::ReadWrite,
            _ => return None,
        };
        let key = Bytes::copy_from_slice(take_bytes(&mut row)?);
        let end = Bytes::copy_from_slice(take_bytes(&mut row)?);
        permissions.push(Permission { kind, keys: KeyRange::from_wire(key, end) });
    }
    Some(Role { name: text(name)?, permissions })
}

fn take_byte(row: &mut &[u8]) -> Option<u8> {
    let (&byte, rest) = row.split_first()?;
    *row = rest;
    Some(byte)
}

fn take_bytes<'a>(row: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(varint::take(row)?).ok()?;
    let (bytes, rest) = row.split_at_checked(len)?;
    *row = rest;
    Some(bytes)
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

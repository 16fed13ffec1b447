//! Actors, and the commands about users and roles, as bytes.

use types::KeyRange;

use super::{Write, reader::Reader, tag};
use crate::{Actor, AuthCommand, DecodeError, Kind, PasswordHash, Permission};

type Result<T> = std::result::Result<T, DecodeError>;

/// Which variant follows; numbers are never reused.
mod auth_tag {
    pub(super) const ENABLE: u8 = 1;
    pub(super) const DISABLE: u8 = 2;
    pub(super) const USER_ADD: u8 = 3;
    pub(super) const USER_DELETE: u8 = 4;
    pub(super) const USER_CHANGE_PASSWORD: u8 = 5;
    pub(super) const USER_GRANT_ROLE: u8 = 6;
    pub(super) const USER_REVOKE_ROLE: u8 = 7;
    pub(super) const ROLE_ADD: u8 = 8;
    pub(super) const ROLE_DELETE: u8 = 9;
    pub(super) const ROLE_GRANT_PERMISSION: u8 = 10;
    pub(super) const ROLE_REVOKE_PERMISSION: u8 = 11;
    pub(super) const AUTHENTICATE: u8 = 12;

    pub(super) const TRUSTED: u8 = 1;
    pub(super) const USER: u8 = 2;
}

/// Appends an actor; nobody is not written, but said by the format.
pub(super) fn put_actor(out: &mut Vec<u8>, actor: &Actor) {
    match actor {
        Actor::Nobody => {}
        Actor::Trusted => out.push(auth_tag::TRUSTED),
        Actor::User { name, revision } => {
            out.tagged(auth_tag::USER).bytes(name.as_bytes());
            out.number(*revision);
        }
    }
}

pub(super) fn put_command(out: &mut Vec<u8>, command: &AuthCommand) {
    match command {
        AuthCommand::Enable => out.push(auth_tag::ENABLE),
        AuthCommand::Disable => out.push(auth_tag::DISABLE),
        AuthCommand::UserAdd { name, password } => {
            out.tagged(auth_tag::USER_ADD).bytes(name.as_bytes());
            match password {
                None => out.push(tag::ABSENT),
                Some(hash) => out.tagged(tag::PRESENT).bytes(hash.as_bytes()),
            }
        }
        AuthCommand::UserDelete { name } => out.tagged(auth_tag::USER_DELETE).bytes(name.as_bytes()),
        AuthCommand::UserChangePassword { name, password } => {
            put_two(out, auth_tag::USER_CHANGE_PASSWORD, name.as_bytes(), password.as_bytes());
        }
        AuthCommand::UserGrantRole { user, role } => {
            put_two(out, auth_tag::USER_GRANT_ROLE, user.as_bytes(), role.as_bytes());
        }
        AuthCommand::UserRevokeRole { user, role } => {
            put_two(out, auth_tag::USER_REVOKE_ROLE, user.as_bytes(), role.as_bytes());
        }
        AuthCommand::RoleAdd { name } => out.tagged(auth_tag::ROLE_ADD).bytes(name.as_bytes()),
        AuthCommand::RoleDelete { name } => out.tagged(auth_tag::ROLE_DELETE).bytes(name.as_bytes()),
        AuthCommand::RoleGrantPermission { role, permission } => {
            out.tagged(auth_tag::ROLE_GRANT_PERMISSION).bytes(role.as_bytes());
            out.push(match permission.kind {
                Kind::Read => 1,
                Kind::Write => 2,
                Kind::ReadWrite => 3,
            });
            out.keys(&permission.keys);
        }
        AuthCommand::RoleRevokePermission { role, keys } => {
            out.tagged(auth_tag::ROLE_REVOKE_PERMISSION).bytes(role.as_bytes());
            out.keys(keys);
        }
        AuthCommand::Authenticate { user, checked_at, token } => {
            out.tagged(auth_tag::AUTHENTICATE).bytes(user.as_bytes());
            out.number(*checked_at);
            match token {
                None => out.push(tag::ABSENT),
                Some(digest) => out.tagged(tag::PRESENT).extend_from_slice(digest),
            }
        }
    }
}

fn put_two(out: &mut Vec<u8>, tag: u8, one: &[u8], other: &[u8]) {
    out.tagged(tag).bytes(one);
    out.bytes(other);
}

impl Reader<'_> {
    pub(super) fn actor(&mut self) -> Result<Actor> {
        match self.byte()? {
            auth_tag::TRUSTED => Ok(Actor::Trusted),
            auth_tag::USER => Ok(Actor::User { name: self.text()?.into(), revision: self.number()? }),
            _ => Err(DecodeError::Malformed("unknown actor")),
        }
    }

    pub(super) fn auth(&mut self) -> Result<AuthCommand> {
        Ok(match self.byte()? {
            auth_tag::ENABLE => AuthCommand::Enable,
            auth_tag::DISABLE => AuthCommand::Disable,
            auth_tag::USER_ADD => {
                AuthCommand::UserAdd { name: self.text()?, password: self.present(Self::password_hash)? }
            }
            auth_tag::USER_DELETE => AuthCommand::UserDelete { name: self.text()? },
            auth_tag::USER_CHANGE_PASSWORD => {
                AuthCommand::UserChangePassword { name: self.text()?, password: self.password_hash()? }
            }
            auth_tag::USER_GRANT_ROLE => AuthCommand::UserGrantRole { user: self.text()?, role: self.text()? },
            auth_tag::USER_REVOKE_ROLE => AuthCommand::UserRevokeRole { user: self.text()?, role: self.text()? },
            auth_tag::ROLE_ADD => AuthCommand::RoleAdd { name: self.text()? },
            auth_tag::ROLE_DELETE => AuthCommand::RoleDelete { name: self.text()? },
            auth_tag::ROLE_GRANT_PERMISSION => {
                AuthCommand::RoleGrantPermission { role: self.text()?, permission: self.permission()? }
            }
            auth_tag::ROLE_REVOKE_PERMISSION => {
                AuthCommand::RoleRevokePermission { role: self.text()?, keys: self.keys()? }
            }
            auth_tag::AUTHENTICATE => AuthCommand::Authenticate {
                user: self.text()?,
                checked_at: self.number()?,
                token: self.present(Reader::digest)?,
            },
            _ => return Err(DecodeError::Malformed("unknown command about users")),
        })
    }

    fn permission(&mut self) -> Result<Permission> {
        let kind = match self.byte()? {
            1 => Kind::Read,
            2 => Kind::Write,
            3 => Kind::ReadWrite,
            _ => return Err(DecodeError::Malformed("unknown permission")),
        };
        let keys: KeyRange = self.keys()?;
        Ok(Permission { kind, keys })
    }

    fn password_hash(&mut self) -> Result<PasswordHash> {
        self.bytes().map(PasswordHash::new)
    }

    fn present<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        match self.byte()? {
            tag::ABSENT => Ok(None),
            tag::PRESENT => read(self).map(Some),
            _ => Err(DecodeError::Malformed("there or not there")),
        }
    }
}

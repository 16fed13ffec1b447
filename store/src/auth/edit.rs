//! Users and roles changed.
//!
//! Owns: what each [`AuthCommand`] does, in memory and on the engine alike.
//!
//! - A change is refused before it changes anything, or it is made wholly and takes one auth revision.

use std::sync::Arc;

use engine::Batch;
use types::KeyRange;

use super::{Auth, AuthCommand, AuthRefusal, PasswordHash, Permission, ROOT, Role, User, rows};

type Result = std::result::Result<(), AuthRefusal>;

/// A state that is being changed, and the batch that its rows go into.
pub(crate) struct Edit<'a> {
    pub(crate) auth: &'a mut Auth,
    pub(crate) batch: &'a mut Batch,
}

impl Edit<'_> {
    /// Does what the command says, whoever gave it.
    pub(crate) fn run(&mut self, command: &AuthCommand) -> Result {
        match command {
            AuthCommand::Enable => self.enable(),
            AuthCommand::Disable => {
                self.disable();
                Ok(())
            }
            AuthCommand::UserAdd { name, password } => self.user_add(name, password.as_ref()),
            AuthCommand::UserDelete { name } => self.user_delete(name),
            AuthCommand::UserChangePassword { name, password } => self.user_change_password(name, password),
            AuthCommand::UserGrantRole { user, role } => self.user_grant_role(user, role),
            AuthCommand::UserRevokeRole { user, role } => self.user_revoke_role(user, role),
            AuthCommand::RoleAdd { name } => self.role_add(name),
            AuthCommand::RoleDelete { name } => self.role_delete(name),
            AuthCommand::RoleGrantPermission { role, permission } => self.role_grant(role, permission),
            AuthCommand::RoleRevokePermission { role, keys } => self.role_revoke(role, keys),
            AuthCommand::Authenticate { user, checked_at, .. } => self.authenticate(user, *checked_at),
        }
    }

    /// Enabling what is enabled changes nothing; enabling takes no revision of its own, disabling does. Source: etcd.
    fn enable(&mut self) -> Result {
        if self.auth.enabled {
            return Ok(());
        }
        let root = self.auth.user(ROOT).ok_or(AuthRefusal::RootUserNotExist)?;
        if !root.is_root() {
            return Err(AuthRefusal::RootRoleNotExist);
        }
        self.auth.enabled = true;
        rows::put_enabled(self.batch, true);
        Ok(())
    }

    fn disable(&mut self) {
        if self.auth.enabled {
            self.auth.enabled = false;
            rows::put_enabled(self.batch, false);
            self.changed();
        }
    }

    fn user_add(&mut self, name: &str, password: Option<&PasswordHash>) -> Result {
        if name.is_empty() {
            return Err(AuthRefusal::UserEmpty);
        }
        if self.auth.user(name).is_some() {
            return Err(AuthRefusal::UserAlreadyExists);
        }
        let since = self.changed();
        let user = User {
            name: name.to_owned(),
            password_hash: password.cloned().unwrap_or_default(),
            roles: Vec::new(),
            no_password: password.is_none(),
        };
        self.put_user(user, since);
        Ok(())
    }

    fn user_delete(&mut self, name: &str) -> Result {
        if self.auth.enabled && name == ROOT {
            return Err(AuthRefusal::InvalidManagement);
        }
        self.auth.accounts.remove(name).ok_or(AuthRefusal::UserNotFound)?;
        rows::delete_user(self.batch, name);
        self.changed();
        Ok(())
    }

    fn user_change_password(&mut self, name: &str, password: &PasswordHash) -> Result {
        let mut user = self.user(name)?;
        if !user.no_password {
            user.password_hash = password.clone();
        }
        let since = self.changed();
        self.put_user(user, since);
        Ok(())
    }

    fn user_grant_role(&mut self, name: &str, role: &str) -> Result {
        let mut user = self.user(name)?;
        if role != ROOT && self.auth.role(role).is_none() {
            return Err(AuthRefusal::RoleNotFound);
        }
        let Err(place) = user.roles.binary_search_by(|one| one.as_str().cmp(role)) else { return Ok(()) };
        user.roles.insert(place, role.to_owned());
        self.replace_user(user);
        self.changed();
        Ok(())
    }

    fn user_revoke_role(&mut self, name: &str, role: &str) -> Result {
        if self.auth.enabled && name == ROOT && role == ROOT {
            return Err(AuthRefusal::InvalidManagement);
        }
        let mut user = self.user(name)?;
        if !user.has_role(role) {
            return Err(AuthRefusal::RoleNotGranted);
        }
        user.roles.retain(|one| one != role);
        self.replace_user(user);
        self.changed();
        Ok(())
    }

    fn role_add(&mut self, name: &str) -> Result {
        if name.is_empty() {
            return Err(AuthRefusal::RoleEmpty);
        }
        if self.auth.role(name).is_some() {
            return Err(AuthRefusal::RoleAlreadyExists);
        }
        self.put_role(Role { name: name.to_owned(), permissions: Vec::new() });
        self.changed();
        Ok(())
    }

    fn role_delete(&mut self, name: &str) -> Result {
        if self.auth.enabled && name == ROOT {
            return Err(AuthRefusal::InvalidManagement);
        }
        self.auth.roles.remove(name).ok_or(AuthRefusal::RoleNotFound)?;
        rows::delete_role(self.batch, name);
        let holders: Vec<User> = self.auth.users().filter(|user| user.has_role(name)).cloned().collect();
        for mut user in holders {
            user.roles.retain(|one| one != name);
            self.replace_user(user);
        }
        self.changed();
        Ok(())
    }

    fn role_grant(&mut self, name: &str, permission: &Permission) -> Result {
        if permission.keys.start().is_empty() || permission.keys.is_empty() {
            return Err(AuthRefusal::InvalidManagement);
        }
        let mut role = self.role(name)?;
        if let Some(known) = role.permissions.iter_mut().find(|one| one.keys == permission.keys) {
            known.kind = permission.kind;
        } else {
            let place = role.permissions.partition_point(|one| one.keys.to_wire() < permission.keys.to_wire());
            role.permissions.insert(place, permission.clone());
        }
        self.put_role(role);
        self.changed();
        Ok(())
    }

    fn role_revoke(&mut self, name: &str, keys: &KeyRange) -> Result {
        let mut role = self.role(name)?;
        let before = role.permissions.len();
        role.permissions.retain(|permission| permission.keys != *keys);
        if role.permissions.len() == before {
            return Err(AuthRefusal::PermissionNotGranted);
        }
        self.put_role(role);
        self.changed();
        Ok(())
    }

    /// A login changes nothing, but is decided here: what was checked must be what is there.
    fn authenticate(&self, name: &str, checked_at: u64) -> Result {
        if !self.auth.enabled {
            return Err(AuthRefusal::NotEnabled);
        }
        if checked_at != self.auth.revision {
            return Err(AuthRefusal::OldRevision);
        }
        match self.auth.user(name) {
            Some(user) if !user.no_password => Ok(()),
            Some(_) | None => Err(AuthRefusal::AuthFailed),
        }
    }

    fn user(&self, name: &str) -> std::result::Result<User, AuthRefusal> {
        self.auth.user(name).cloned().ok_or(AuthRefusal::UserNotFound)
    }

    fn role(&self, name: &str) -> std::result::Result<Role, AuthRefusal> {
        self.auth.role(name).cloned().ok_or(AuthRefusal::RoleNotFound)
    }

    fn put_user(&mut self, user: User, since: u64) {
        let name = user.name.clone();
        self.auth.put_account(user, since);
        rows::put_user(self.batch, &self.auth.accounts[&name]);
    }

    /// Changes a user but for its password.
    fn replace_user(&mut self, user: User) {
        let since = self.auth.accounts[&user.name].since;
        self.put_user(user, since);
    }

    fn put_role(&mut self, role: Role) {
        rows::put_role(self.batch, &role);
        let name = role.name.clone();
        self.auth.roles.insert(name.clone(), Arc::new(role));
        self.auth.refresh_holders(&name);
    }

    /// Takes the next auth revision.
    fn changed(&mut self) -> u64 {
        self.auth.revision += 1;
        rows::put_revision(self.batch, self.auth.revision);
        self.auth.revision
    }
}

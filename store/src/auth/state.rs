//! Users, roles and permissions at one auth revision.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Access, Actor, AuthRefusal, KeySet, Role, User,
    access::{Grants, Scope},
};

/// The auth revision before the first change. Source: etcd.
const REVISION_FIRST: u64 = 1;

/// All of it, at one auth revision. Clones share users and roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    pub(super) enabled: bool,
    pub(super) revision: u64,
    pub(super) accounts: BTreeMap<String, Arc<Account>>,
    pub(super) roles: BTreeMap<String, Arc<Role>>,
}

/// A user, and what follows from its roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) user: User,
    /// The auth revision that gave it its password: who was recognized before that is no longer.
    pub(super) since: u64,
    pub(super) grants: Grants,
}

impl Default for Auth {
    fn default() -> Self {
        Self::new(false, REVISION_FIRST, [], [])
    }
}

impl Auth {
    /// A state as it was exported. `revision`: 0 counts as none yet.
    pub fn new(
        enabled: bool,
        revision: u64,
        users: impl IntoIterator<Item = User>,
        roles: impl IntoIterator<Item = Role>,
    ) -> Self {
        let revision = revision.max(REVISION_FIRST);
        let roles = roles.into_iter().map(|role| (role.name.clone(), Arc::new(role))).collect();
        let mut auth = Self { enabled, revision, accounts: BTreeMap::new(), roles };
        for user in users {
            auth.put_account(user, revision);
        }
        auth
    }

    /// Whether permissions count.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// How often users and roles were changed, from 1.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All users, by name.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.accounts.values().map(|account| &account.user)
    }

    /// One user.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.accounts.get(name).map(|account| &account.user)
    }

    /// All roles, by name.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values().map(AsRef::as_ref)
    }

    /// One role.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name).map(AsRef::as_ref)
    }

    /// What somebody may do to keys; everything while auth is disabled.
    ///
    /// # Errors
    /// [`AuthRefusal::UserEmpty`] for nobody, [`AuthRefusal::OldRevision`] for who was recognized before the last change,
    /// [`AuthRefusal::PermissionDenied`] for a user that is not there.
    pub fn access(&self, actor: &Actor) -> Result<Access<'_>, AuthRefusal> {
        let Some((name, revision)) = self.judged(actor)? else { return Ok(Access(Scope::All)) };
        if revision < self.revision {
            return Err(AuthRefusal::OldRevision);
        }
        let account = self.accounts.get(name).ok_or(AuthRefusal::PermissionDenied)?;
        Ok(Access(if account.user.is_root() { Scope::All } else { Scope::Granted(&account.grants) }))
    }

    /// Whether somebody is a user at all; everybody is while auth is disabled.
    ///
    /// # Errors
    /// [`AuthRefusal::UserEmpty`] for nobody, [`AuthRefusal::PermissionDenied`] for a user that is not there,
    /// [`AuthRefusal::OldRevision`] for who was recognized by an earlier password.
    pub fn require_user(&self, actor: &Actor) -> Result<(), AuthRefusal> {
        let Some(named) = self.judged(actor)? else { return Ok(()) };
        self.recognized(named, AuthRefusal::PermissionDenied).map(drop)
    }

    /// Whether somebody may administer; everybody may while auth is disabled.
    ///
    /// An administrator's token outlives the changes made with it, as in etcd, but not its own password.
    ///
    /// # Errors
    /// [`AuthRefusal::UserEmpty`] for nobody, [`AuthRefusal::UserNotFound`], [`AuthRefusal::PermissionDenied`] for a user
    /// without the role `root`, [`AuthRefusal::OldRevision`] for who was recognized by an earlier password.
    pub fn require_root(&self, actor: &Actor) -> Result<(), AuthRefusal> {
        let Some(named) = self.judged(actor)? else { return Ok(()) };
        let account = self.recognized(named, AuthRefusal::UserNotFound)?;
        if account.user.is_root() { Ok(()) } else { Err(AuthRefusal::PermissionDenied) }
    }

    /// Who must be judged: name, and auth revision of the recognition; `None` for those who may do everything.
    fn judged<'a>(&self, actor: &'a Actor) -> Result<Option<(&'a str, u64)>, AuthRefusal> {
        match actor {
            _ if !self.enabled => Ok(None),
            Actor::Trusted => Ok(None),
            Actor::Nobody => Err(AuthRefusal::UserEmpty),
            Actor::User { name, revision } => Ok(Some((name, *revision))),
        }
    }

    fn recognized(&self, (name, revision): (&str, u64), unknown: AuthRefusal) -> Result<&Account, AuthRefusal> {
        let account = self.accounts.get(name).ok_or(unknown)?;
        if revision < account.since { Err(AuthRefusal::OldRevision) } else { Ok(account) }
    }

    /// Makes or replaces a user, whose permissions follow from the roles as they are.
    pub(super) fn put_account(&mut self, user: User, since: u64) {
        let grants = self.grants(&user);
        self.accounts.insert(user.name.clone(), Arc::new(Account { user, since, grants }));
    }

    /// The permissions of those who have a role follow from the roles as they are.
    pub(super) fn refresh_holders(&mut self, role: &str) {
        let holders: Vec<_> = self.accounts.values().filter(|account| account.user.has_role(role)).cloned().collect();
        for account in holders {
            self.put_account(account.user.clone(), account.since);
        }
    }

    fn grants(&self, user: &User) -> Grants {
        let permissions = || user.roles.iter().filter_map(|role| self.role(role)).flat_map(|role| &role.permissions);
        let readable = permissions().filter(|permission| permission.kind.reads());
        let writable = permissions().filter(|permission| permission.kind.writes());
        Grants {
            read: KeySet::union(readable.map(|permission| &permission.keys)),
            write: KeySet::union(writable.map(|permission| &permission.keys)),
        }
    }
}

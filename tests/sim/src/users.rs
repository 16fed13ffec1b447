//! The administrator, who grants and takes permissions, and the user, who tries what is permitted.
//!
//! - A range of which nobody knows what is permitted is left, and another one taken in its place: so most of what the user
//!   does can be judged.
//! - What the user does is written down as everybody's, and judged by `history` too: what was refused has changed nothing.

use std::time::Duration;

use client::{Client, ClientError, Password, Permission, PermissionKind, User};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::time::{Instant, sleep};

use crate::{
    calls::{call, range},
    clients::Ended,
    history::{Compare, Keys, Request, Target},
    permissions::{May, Subject},
    stage::Stage,
    verdict,
};

const ROOT: &str = "root";
const USER: &str = "u";
const ROLE: &str = "r";
/// Ranges that are granted and taken at a time.
const RANGES: usize = 3;
/// Keys in each of them.
const KEYS: usize = 2;
/// What is granted, or taken; each as often as it is here.
const MAYS: [May; 6] = [May::NOTHING, May::NOTHING, May::READ, May::WRITE, May::ALL, May::ALL];
const PAUSE: Duration = Duration::from_millis(100);
/// How soon it is tried to write what was taken.
const DEFIANCE: Duration = Duration::from_millis(5);
/// Numbers of the user's clients: of those that try this and that, of those that defy what was taken, by the member that
/// they ask, and of the one that proves in the end what is served.
pub(crate) const TRYING: [u32; 2] = [602, 603];
pub(crate) const DEFYING: u32 = 610;
const PROVING: u32 = 604;

/// Who may do everything.
pub(crate) fn root() -> User {
    user(ROOT)
}

/// Whoever has this name has it for a password, too.
fn user(name: &str) -> User {
    User { name: name.to_owned(), password: Password::new(name.to_owned()) }
}

/// Has permissions count, and changes them until all is calm.
pub(crate) async fn administer(stage: Stage, who: u32) -> Ended {
    let client = stage.client(who as usize);
    let mut rng = StdRng::seed_from_u64(stage.plan().seed.rotate_left(32) ^ u64::from(who));
    while !stage.is_calm() && enable(&stage, &client).await.is_err() {
        sleep(PAUSE).await;
    }
    while !stage.is_calm() {
        let subject = choose(&stage, &mut rng);
        let may = *MAYS.choose(&mut rng).expect("there are some");
        drop(change(&stage, &client, subject, may).await);
        sleep(Duration::from_millis(rng.random_range(5..=400))).await;
    }
    Ok(())
}

/// A range, or now and then the role.
fn choose(stage: &Stage, rng: &mut StdRng) -> Subject {
    if rng.random_bool(0.1) && stage.permissions().borrow().settled(&Subject::Role).is_some() {
        return Subject::Role;
    }
    ranges(stage).choose(rng).expect("there are some").clone()
}

/// Those that are granted and taken now.
fn ranges(stage: &Stage) -> Vec<Subject> {
    stage.permissions().borrow_mut().ranges(RANGES)
}

/// Makes root, the user and the role, and has permissions count. What is there already is passed over.
async fn enable(stage: &Stage, root: &Client) -> Result<(), ClientError> {
    for name in [ROOT, USER] {
        let added = root.user_add(name, Some(&user(name).password)).await.map(drop);
        added.or_else(unless_there)?;
    }
    for name in [ROOT, ROLE] {
        root.role_add(name).await.map(drop).or_else(unless_there)?;
    }
    root.user_grant_role(ROOT, ROOT).await?;
    change(stage, root, Subject::Role, May::ALL).await?;
    root.auth_enable().await?;
    stage.permissions().borrow_mut().enable();
    Ok(())
}

fn unless_there(error: ClientError) -> Result<(), ClientError> {
    if error.to_string().ends_with("already exists") { Ok(()) } else { Err(error) }
}

/// Changes what may be, and writes it down unless it was certainly not done.
async fn change(stage: &Stage, root: &Client, subject: Subject, may: May) -> Result<(), ClientError> {
    let asked = stage.now();
    let permission = match may {
        May { read: true, write: true } => Some(PermissionKind::ReadWrite),
        May { read: true, write: false } => Some(PermissionKind::Read),
        May { read: false, write: true } => Some(PermissionKind::Write),
        May { read: false, write: false } => None,
    };
    let changed = match (&subject, permission) {
        (Subject::Role, Some(_)) => root.user_grant_role(USER, ROLE).await,
        (Subject::Role, None) => root.user_revoke_role(USER, ROLE).await,
        (Subject::Range(prefix), Some(kind)) => {
            let permission = Permission { kind, range: range(&Keys::Prefix(prefix.clone())) };
            root.role_grant_permission(ROLE, permission).await
        }
        (Subject::Range(prefix), None) => {
            root.role_revoke_permission(ROLE, &range(&Keys::Prefix(prefix.clone()))).await
        }
    };
    let may = if subject == Subject::Role && permission.is_some() { May::ALL } else { may };
    let mut book = stage.permissions().borrow_mut();
    match &changed {
        Ok(_) => book.change(subject, may, asked, Some(stage.now())),
        Err(ClientError::Uncertain { .. }) => book.change(subject, may, asked, None),
        Err(_) => {}
    }
    changed.map(drop)
}

/// Reads and writes as the user until all is calm.
pub(crate) async fn try_out(stage: Stage, who: u32) -> Ended {
    let client = Stage::client_as(user(USER), stage.hosts_from(who as usize));
    let mut tester =
        Tester { rng: StdRng::seed_from_u64(stage.plan().seed.rotate_left(32) ^ u64::from(who)), who, puts: 0 };
    while !stage.is_calm() {
        if stage.permissions().borrow().is_enabled() {
            let request = tester.request(&stage);
            drop(call(&stage, &client, who, request).await);
        }
        sleep(Duration::from_millis(tester.rng.random_range(1..=100))).await;
    }
    Ok(())
}

struct Tester {
    rng: StdRng,
    who: u32,
    puts: u32,
}

impl Tester {
    fn range(&mut self, stage: &Stage) -> String {
        match ranges(stage).choose(&mut self.rng) {
            // What other clients use is never the user's.
            Some(Subject::Range(range)) if self.rng.random_bool(0.9) => range.clone(),
            _ => "k".to_owned(),
        }
    }

    fn key(&mut self, stage: &Stage) -> String {
        format!("{}{}", self.range(stage), self.rng.random_range(0..KEYS))
    }

    fn put(&mut self, key: String) -> Request {
        self.puts += 1;
        let value = format!("{}.{}", self.who, self.puts);
        Request::Put { key, value, lease: 0, prev: self.rng.random_bool(0.3) }
    }

    fn request(&mut self, stage: &Stage) -> Request {
        let key = self.key(stage);
        match self.rng.random_range(0..10) {
            0..=1 => Request::read(Keys::One(key)),
            2 => Request::read(Keys::Prefix(self.range(stage))),
            3 => Request::Delete { keys: Keys::One(key), prev: self.rng.random_bool(0.5) },
            4 => {
                let compares = vec![Compare { key, target: Target::Version(0) }];
                let (one, other) = (self.key(stage), self.key(stage));
                Request::Txn { compares, success: vec![self.put(one)], failure: vec![self.put(other)] }
            }
            _ => self.put(key),
        }
    }
}

/// Writes what was just taken, by way of one member, which may not know yet.
pub(crate) async fn defy(stage: Stage, who: u32) -> Ended {
    let host = stage.hosts().swap_remove((who - DEFYING) as usize);
    let client = Stage::client_as(user(USER), vec![host]);
    let mut defied = 0;
    while !stage.is_calm() {
        let range = {
            let book = stage.permissions().borrow();
            let (taken, range) = book.taken();
            range.filter(|_| std::mem::replace(&mut defied, taken) < taken).map(str::to_owned)
        };
        if let Some(range) = range {
            let put =
                Request::Put { key: format!("{range}0"), value: format!("{who}.{defied}"), lease: 0, prev: false };
            drop(call(&stage, &client, who, put).await);
        }
        sleep(DEFIANCE).await;
    }
    Ok(())
}

/// In peace, what is granted is served by every member; and what was taken is served by none, which the book will say.
///
/// # Errors
/// Which member does not serve it, or that nobody could be asked by `until`.
pub(crate) async fn prove(stage: &Stage, members: &[String], until: Instant) -> Result<(), String> {
    let client = stage.client(0);
    while let Err(error) = enable(stage, &client).await {
        patience(until, &error).await?;
    }
    let fresh = stage.permissions().borrow_mut().new_range();
    let as_user = |host: &String| (host.clone(), Stage::client_as(user(USER), vec![host.clone()]));
    let mut prover = Prover { stage, members: members.iter().map(as_user).collect(), until, puts: 0 };
    for (subject, may) in [(&fresh, May::ALL), (&fresh, May::READ), (&fresh, May::NOTHING)] {
        while let Err(error) = change(stage, &client, subject.clone(), may).await {
            patience(until, &error).await?;
        }
        prover.hold_against(subject, may).await?;
    }
    for subject in ranges(stage) {
        let settled = stage.permissions().borrow().settled(&subject);
        if let Some(may) = settled {
            prover.hold_against(&subject, may).await?;
        }
    }
    Ok(())
}

async fn patience(until: Instant, error: &ClientError) -> Result<(), String> {
    if Instant::now() > until {
        return Err(format!("nobody changes permissions: {error}"));
    }
    sleep(PAUSE).await;
    Ok(())
}

/// Asks every member as the user.
struct Prover<'a> {
    stage: &'a Stage,
    members: Vec<(String, Client)>,
    until: Instant,
    puts: u32,
}

impl Prover<'_> {
    async fn hold_against(&mut self, subject: &Subject, may: May) -> Result<(), String> {
        let Subject::Range(range) = subject else { return Ok(()) };
        let key = format!("{range}0");
        for at in 0..self.members.len() {
            self.ask(at, may.write, |puts| {
                let value = format!("{PROVING}.{puts}");
                Request::Put { key: key.clone(), value, lease: 0, prev: false }
            })
            .await?;
            self.ask(at, may.read, |_| Request::read(Keys::One(key.clone()))).await?;
        }
        Ok(())
    }

    /// Asks until there is an answer.
    async fn ask(&mut self, at: usize, is_granted: bool, request: impl Fn(u32) -> Request) -> Result<(), String> {
        let (host, client) = &self.members[at];
        loop {
            self.puts += 1;
            let request = request(self.puts);
            match call(self.stage, client, PROVING, request.clone()).await {
                Err(error @ ClientError::Denied { .. }) if is_granted => {
                    return Err(format!("{host} refuses what is granted: {request:?}: {error}"));
                }
                Ok(_) | Err(ClientError::Denied { .. }) => return Ok(()),
                Err(error) => patience(self.until, &error).await?,
            }
            // Somebody may have been removed so late that they were still there.
            if !verdict::members(self.stage, self.until).await?.contains(host) {
                return Ok(());
            }
        }
    }
}

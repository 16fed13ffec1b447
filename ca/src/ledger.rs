//! The ledger: who may have, and who was given, which certificate.
//!
//! Owns: join tokens, issued certificates, and the Merkle tree over every accepted entry; all in a space of its own, so
//! that nothing here moves the store's revision.
//! In:   committed [`LedgerCommand`]s, in log order, from the apply thread.
//! Out:  an [`Outcome`] for each; a [`LedgerView`] for readers.
//!
//! - The same commands give the same rows on every member, wherever the batches are cut: no clock, no randomness, no key.
//! - A refusal changes nothing, not even the ledger's time.
//! - The ledger's time never goes back, and goes forward by at most [`JUMP_MAX`] an entry.
//! - A token is consumed by the entry that issues, and by that one only.
//! - An entry fixes every byte that is signed for it.

mod command;
mod invitation;
mod merkle;
mod prune;
mod record;
mod rows;
mod view;

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use engine::{Batch, Engine, EngineError, Space};
use sha2::{Digest, Sha256};
use types::SpiffeId;

pub use self::{
    command::{Admit, Caller, CreateToken, Genesis, Invite, Issue, LedgerCommand, Profile},
    invitation::Invitation,
    merkle::TreeHead,
    record::{IssuedRecord, Place},
    view::LedgerView,
};
use self::{
    record::{Head, RequestId, Token, key},
    rows::Rows,
};
pub use crate::codec::DecodeError;
use crate::{
    codec::Writer,
    profile::{self, Leaf},
    time::Time,
};

/// Where the ledger keeps its rows.
const SPACE: Space = Space::new("ledger");

/// The furthest that one entry moves the ledger's time. A leader whose clock runs ahead cannot drag it further.
pub(crate) const JUMP_MAX: Duration = Duration::from_hours(1);
/// How much earlier than its entry a certificate is valid, for peers whose clocks are behind.
const BACKDATE: Duration = Duration::from_mins(1);
/// The shortest and the longest life of a leaf.
const TTL_MIN: Duration = Duration::from_mins(1);
const TTL_MAX: Duration = Duration::from_hours(366 * 24);
/// Most DNS and IP names of one certificate.
const NAMES_MAX: usize = 64;
/// Longest public key, bytes of DER: RSA with 8192 bits takes 1070.
const SPKI_BYTES_MAX: usize = 1100;
/// Longest certificate of an authority, bytes of DER.
const AUTHORITY_BYTES_MAX: usize = 4096;
/// The namespace of the cluster's own members and administrators.
pub(crate) const SYSTEM_NAMESPACE: &str = "meshstore-system";

/// What a command came to.
pub type Outcome = Result<LedgerAnswer, Refusal>;

/// What an accepted command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerAnswer {
    /// The entry is recorded there.
    Recorded(Place),
    /// The certificate of that entry may be signed. A repeated request is given the place of the first.
    Issued(Place),
    /// The invitation's bearer is this member of the cluster. Whoever repeats a request is told the same again.
    Admitted(u64),
    /// The ledger's time is now this, which may be short of what was asked for.
    Time(Time),
}

/// Why a command was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is one genesis.
    #[error("the authority was founded before")]
    Founded,
    /// Nothing is issued before genesis.
    #[error("the authority is not founded yet")]
    NotFounded,
    /// More than the allowed jump ahead of the ledger's time. Time is brought forward by [`LedgerCommand::Tick`].
    #[error("the proposer's clock, {asked}, is too far ahead of the ledger's, {ledger}")]
    ClockAhead {
        /// What the command says.
        asked: Time,
        /// What the ledger says.
        ledger: Time,
    },
    /// Never made, or gone since it expired.
    #[error("unknown join token")]
    TokenUnknown,
    /// Too late.
    #[error("the join token has expired")]
    TokenExpired,
    /// It was good for one certificate.
    #[error("the join token has been used")]
    TokenUsed,
    /// Its hash is in the ledger already.
    #[error("the join token exists")]
    TokenExists,
    /// The caller's proof does not allow this identity.
    #[error("the caller may not have the identity {0}")]
    IdentityNotAllowed(SpiffeId),
    /// Only administrators and the cluster's members may ask for DNS and IP names.
    #[error("the caller may not have DNS or IP names")]
    NamesNotAllowed,
    /// The issuing key that the proposer holds is not the ledger's.
    #[error("issued by another key than the ledger's")]
    WrongIssuer,
    /// The serial number is taken: draw another.
    #[error("the serial number is taken")]
    SerialTaken,
    /// The issuing certificate ends too soon.
    #[error("the issuing certificate expires at {0}")]
    IssuerExpires(Time),
    /// A field breaks its rule.
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

/// Why the ledger cannot go on: the member must stop.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A row, or a committed command, that this version cannot read.
    #[error("ledger: {0}")]
    Decode(#[from] DecodeError),
}

/// The ledger's writer, owned by the apply thread.
pub struct Ledger {
    rows: Rows,
    head: Head,
    genesis: Option<Genesis>,
    view: LedgerView,
}

impl Ledger {
    /// The spaces that the engine must be opened with.
    pub const SPACES: &'static [Space] = &[SPACE];

    /// Reads where the ledger stands.
    pub fn open(engine: Engine) -> Result<(Self, LedgerView), LedgerError> {
        let view = LedgerView::new(engine.clone());
        let (head, genesis) = (view::head(&engine)?, view::genesis(&engine)?);
        Ok((Self { rows: Rows::new(engine), head, genesis, view: view.clone() }, view))
    }

    /// Goes on from what another engine holds: a later state of the same log. Its views see it from now on.
    ///
    /// # Errors
    /// [`LedgerError`] if it cannot be read: nothing has changed for readers then, and the member must stop.
    pub fn reopen(&mut self, engine: Engine) -> Result<(), LedgerError> {
        (self.head, self.genesis) = (view::head(&engine)?, view::genesis(&engine)?);
        self.rows = Rows::new(engine.clone());
        self.view.replace(engine);
        Ok(())
    }

    /// Whether there is a trust domain.
    pub fn is_founded(&self) -> bool {
        self.genesis.is_some()
    }

    /// Applies one committed command and adds its effects to `batch`. It sees what earlier commands of the batch did.
    /// `log_index`: where the replicated log has the command.
    ///
    /// # Errors
    /// Only what makes the member stop; what the caller can be told is in the [`Outcome`].
    pub fn apply(&mut self, batch: &mut Batch, log_index: u64, command: LedgerCommand) -> Result<Outcome, LedgerError> {
        let checked = match &command {
            LedgerCommand::Genesis(genesis) => self.check_genesis(genesis).map(Accepted::Record),
            LedgerCommand::CreateToken(token) => self.check_token(token)?.map(Accepted::Record),
            LedgerCommand::Issue(issue) => self.check_issue(issue)?,
            LedgerCommand::Invite(invite) => self.check_invite(invite)?.map(Accepted::Record),
            LedgerCommand::Admit(admit) => self.check_admit(admit)?,
            LedgerCommand::Tick { time } => return self.tick(batch, *time),
        };
        match checked {
            Err(refusal) => Ok(Err(refusal)),
            Ok(Accepted::Repeat(answer)) => Ok(Ok(answer)),
            Ok(Accepted::Record(time)) => self.record(batch, log_index, time, command).map(Ok),
        }
    }

    /// The batch was written: readers see it, and nothing of it is kept here.
    pub fn publish(&mut self) {
        self.rows.publish();
    }

    fn check_genesis(&self, genesis: &Genesis) -> Result<Time, Refusal> {
        if self.genesis.is_some() {
            return Err(Refusal::Founded);
        }
        let sized = |der: &[u8]| (1..=AUTHORITY_BYTES_MAX).contains(&der.len());
        if !sized(&genesis.root) || !sized(&genesis.issuing) {
            return Err(Refusal::Malformed("authority certificate"));
        }
        Ok(genesis.time)
    }

    fn check_token(&self, token: &CreateToken) -> Result<Result<Time, Refusal>, LedgerError> {
        let time = match self.founded(token.time) {
            Ok((_, time)) => time,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if token.expires <= time {
            return Ok(Err(Refusal::Malformed("token expiry")));
        }
        if let Err(refusal) = self.check_trust_domain(&token.spiffe_id) {
            return Ok(Err(refusal));
        }
        if is_system(&token.spiffe_id) {
            return Ok(Err(Refusal::IdentityNotAllowed(token.spiffe_id.clone())));
        }
        let exists = self.rows.get(&key::token(&token.token_hash))?.is_some();
        Ok(if exists { Err(Refusal::TokenExists) } else { Ok(time) })
    }

    fn check_issue(&self, issue: &Issue) -> Result<Result<Accepted, Refusal>, LedgerError> {
        let time = match self.founded(issue.time).and_then(|(genesis, time)| {
            check_form(issue, genesis, time)?;
            self.check_trust_domain(&issue.spiffe_id)?;
            Ok(time)
        }) {
            Ok(time) => time,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(place) = self.earlier_answer(issue, time)? {
            return Ok(Ok(Accepted::Repeat(LedgerAnswer::Issued(place))));
        }
        if let Err(refusal) = self.check_caller(issue, time)? {
            return Ok(Err(refusal));
        }
        if self.rows.get(&key::serial(&issue.serial))?.is_some() {
            return Ok(Err(Refusal::SerialTaken));
        }
        Ok(Ok(Accepted::Record(time)))
    }

    /// The place of the same request's certificate, while that has more than half of its life before it. So a reply
    /// that was lost costs neither a second certificate nor a second token.
    fn earlier_answer(&self, issue: &Issue, time: Time) -> Result<Option<Place>, LedgerError> {
        let Some(place) = self.rows.get(&key::request(&request_id(issue)))? else { return Ok(None) };
        let place = Place::decode(&place)?;
        let Some(record) = self.rows.get(&key::issued(place))? else { return Ok(None) };
        let record = IssuedRecord::decode(&record)?;
        let life = record.not_after.since(record.not_before);
        Ok((record.not_after.since(time) > life / 2).then_some(place))
    }

    fn check_caller(&self, issue: &Issue, time: Time) -> Result<Result<(), Refusal>, LedgerError> {
        let not_allowed = || Refusal::IdentityNotAllowed(issue.spiffe_id.clone());
        let allowed = match &issue.caller {
            Caller::Admin => return Ok(Ok(())),
            Caller::Svid(id) if *id == issue.spiffe_id => Ok(()),
            Caller::Svid(_) => Err(not_allowed()),
            Caller::Token(hash) => match self.token(hash)? {
                None => Err(Refusal::TokenUnknown),
                Some(token) if token.used => Err(Refusal::TokenUsed),
                Some(token) if token.expires <= time => Err(Refusal::TokenExpired),
                Some(token) if token.spiffe_id != issue.spiffe_id => Err(not_allowed()),
                Some(_) => Ok(()),
            },
        };
        let named = !issue.dns.is_empty() || !issue.ips.is_empty();
        Ok(allowed.and(if named { Err(Refusal::NamesNotAllowed) } else { Ok(()) }))
    }

    fn token(&self, hash: &[u8; 32]) -> Result<Option<Token>, LedgerError> {
        Ok(self.rows.get(&key::token(hash))?.as_deref().map(Token::decode).transpose()?)
    }

    /// The genesis, and the ledger's time at a command that was stamped with `stamped`.
    fn founded(&self, stamped: Time) -> Result<(&Genesis, Time), Refusal> {
        let genesis = self.genesis.as_ref().ok_or(Refusal::NotFounded)?;
        let ledger = self.head.time;
        if stamped > ledger.plus(JUMP_MAX) {
            return Err(Refusal::ClockAhead { asked: stamped, ledger });
        }
        Ok((genesis, stamped.max(ledger)))
    }

    fn check_trust_domain(&self, id: &SpiffeId) -> Result<(), Refusal> {
        let ours = self.genesis.as_ref().map(|genesis| &genesis.trust_domain);
        if ours == Some(id.trust_domain()) { Ok(()) } else { Err(Refusal::IdentityNotAllowed(id.clone())) }
    }

    /// Brings the time forward, and clears what has expired by it.
    fn tick(&mut self, batch: &mut Batch, asked: Time) -> Result<Outcome, LedgerError> {
        if self.genesis.is_none() {
            return Ok(Err(Refusal::NotFounded));
        }
        let ledger = self.head.time;
        self.head.time = asked.clamp(ledger, ledger.plus(JUMP_MAX));
        self.prune(batch)?;
        self.rows.put(batch, key::HEAD.to_vec(), self.head.encode());
        Ok(Ok(LedgerAnswer::Time(self.head.time)))
    }

    /// Gives an accepted command its place, its rows and its leaf.
    fn record(
        &mut self,
        batch: &mut Batch,
        log_index: u64,
        time: Time,
        command: LedgerCommand,
    ) -> Result<LedgerAnswer, LedgerError> {
        let place = Place::new(self.head.tree.size());
        let mut entry = Writer::default();
        entry.time(time).bytes(&command.encode());
        let answer = match command {
            LedgerCommand::Genesis(genesis) => {
                self.rows.put(batch, key::GENESIS.to_vec(), genesis.encode());
                self.genesis = Some(genesis);
                LedgerAnswer::Recorded(place)
            }
            LedgerCommand::CreateToken(token) => {
                self.put_token(batch, token);
                LedgerAnswer::Recorded(place)
            }
            LedgerCommand::Issue(issue) => {
                let tbs_hash = self.put_issued(batch, Position { place, log_index, time }, &issue)?;
                entry.array(&tbs_hash);
                LedgerAnswer::Issued(place)
            }
            LedgerCommand::Invite(invite) => {
                self.put_invitation(batch, invite);
                LedgerAnswer::Recorded(place)
            }
            LedgerCommand::Admit(admit) => self.put_admission(batch, &admit)?,
            LedgerCommand::Tick { .. } => LedgerAnswer::Time(time),
        };
        self.head.time = time;
        self.head.tree.append(&entry.finish());
        self.prune(batch)?;
        self.rows.put(batch, key::HEAD.to_vec(), self.head.encode());
        Ok(answer)
    }

    fn put_token(&mut self, batch: &mut Batch, token: CreateToken) {
        let CreateToken { token_hash, spiffe_id, expires, time: _ } = token;
        self.rows.put(batch, key::token_expiry(expires, &token_hash), Bytes::new());
        self.rows.put(batch, key::token(&token_hash), Token { spiffe_id, expires, used: false }.encode());
    }

    /// Writes what was issued and consumes the token; gives the hash of the bytes to be signed.
    fn put_issued(&mut self, batch: &mut Batch, position: Position, issue: &Issue) -> Result<[u8; 32], LedgerError> {
        let genesis = self.genesis.as_ref().expect("checked: nothing is issued before genesis");
        let record = build(genesis, position, issue);
        if let Caller::Token(hash) = &issue.caller {
            let token = self.token(hash)?.expect("checked: the token is there");
            self.rows.put(batch, key::token(hash), Token { used: true, ..token }.encode());
        }
        let (place, tbs_hash) = (position.place, record.tbs_hash());
        self.rows.put(batch, key::serial(&record.serial), place.encode());
        self.rows.put(batch, key::request(&record.request), place.encode());
        self.rows.put(batch, key::issued_expiry(record.not_after, place), Bytes::new());
        self.rows.put(batch, key::issued(place), record.encode());
        Ok(tbs_hash)
    }
}

/// What the checks came to, where they did not refuse.
enum Accepted {
    /// Record it, at this ledger time.
    Record(Time),
    /// It was answered before, with this.
    Repeat(LedgerAnswer),
}

/// Where and when an entry stands.
#[derive(Clone, Copy)]
struct Position {
    place: Place,
    log_index: u64,
    time: Time,
}

/// What one issued certificate says, to the last byte.
fn build(genesis: &Genesis, position: Position, issue: &Issue) -> IssuedRecord {
    let Profile::SvidV1 = issue.profile;
    let not_before = position.time.minus(BACKDATE);
    let not_after = position.time.plus(ttl(issue)).min(genesis.issuer_not_after);
    let tbs = profile::leaf_tbs(&Leaf {
        serial: &issue.serial,
        issuer: &profile::authority_name(profile::Tier::Issuing, &genesis.issuer_key),
        issuer_key: &genesis.issuer_key,
        not_before,
        not_after,
        spiffe_id: &issue.spiffe_id,
        dns: &issue.dns,
        ips: &issue.ips,
        spki: &issue.spki,
        subject_key: &profile::key_id(&issue.spki).expect("checked: a public key in DER"),
    });
    IssuedRecord {
        place: position.place,
        log_index: position.log_index,
        serial: issue.serial,
        spiffe_id: issue.spiffe_id.clone(),
        spki_hash: Sha256::digest(&issue.spki).into(),
        request: request_id(issue),
        issuer_key: issue.issuer_key,
        not_before,
        not_after,
        tbs: tbs.into(),
    }
}

/// What needs no state but the genesis.
fn check_form(issue: &Issue, genesis: &Genesis, time: Time) -> Result<(), Refusal> {
    let malformed = |what, holds: bool| if holds { Ok(()) } else { Err(Refusal::Malformed(what)) };
    if issue.issuer_key != genesis.issuer_key {
        return Err(Refusal::WrongIssuer);
    }
    malformed("serial", (0x01..0x80).contains(&issue.serial[0]))?;
    malformed("ttl", (TTL_MIN..=TTL_MAX).contains(&ttl(issue)))?;
    malformed("public key", issue.spki.len() <= SPKI_BYTES_MAX && profile::key_id(&issue.spki).is_some())?;
    malformed("names", issue.dns.len() + issue.ips.len() <= NAMES_MAX)?;
    malformed("DNS name", issue.dns.iter().all(|name| is_dns_name(name)))?;
    let distinct = issue.dns.iter().collect::<BTreeSet<_>>().len() == issue.dns.len();
    malformed("DNS names", distinct)?;
    if genesis.issuer_not_after < time.plus(TTL_MIN) {
        return Err(Refusal::IssuerExpires(genesis.issuer_not_after));
    }
    Ok(())
}

fn ttl(issue: &Issue) -> Duration {
    Duration::from_secs(issue.ttl_seconds.into())
}

fn is_system(id: &SpiffeId) -> bool {
    id.namespace().as_str() == SYSTEM_NAMESPACE
}

/// Lower-case labels of letters, digits and hyphens, without wildcards.
pub(crate) fn is_dns_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// What makes two requests the same: who asks for what, with which key.
fn request_id(issue: &Issue) -> RequestId {
    let mut writer = Writer::default();
    writer.byte(issue.profile.encode());
    issue.caller.encode(&mut writer);
    writer.text(&issue.spiffe_id).list(&issue.dns, |out, name| {
        out.text(name);
    });
    writer.list(&issue.ips, |out, ip| {
        out.ip(ip);
    });
    writer.bytes(&issue.spki);
    Sha256::digest(writer.finish()).into()
}

#[cfg(test)]
mod tests;

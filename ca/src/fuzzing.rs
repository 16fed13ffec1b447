//! What the fuzz targets in `fuzz/` call, and the tests too.
//!
//! - Whatever the bytes are, nothing panics unless what reads them is wrong.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Buf, Bytes};
use engine::{Batch, Durability, Engine, Read};
use types::{SpiffeId, TrustDomain};
use x509_parser::{certificate::TbsCertificate, prelude::FromDer};

use crate::{
    Admit, Caller, CreateToken, Genesis, Invite, Issue, Ledger, LedgerAnswer, LedgerCommand, LedgerView, Place,
    Profile, Time, csr, der,
};

/// When the ledger is founded; its issuing certificate ends 30 days later.
const START: u64 = 1_800_000_000;
const KEY: [u8; 20] = [7; 20];
/// Seconds of a step of a command's clock.
const STEP: u64 = 1_800;
/// The bit of a command that belongs to the batch of the one before it.
const SAME_BATCH: u8 = 0x80;

/// Reads `bytes` as a command of the log, which is written as it was read.
///
/// # Panics
/// If it is not.
pub fn command(bytes: &[u8]) {
    if let Ok(command) = LedgerCommand::decode(bytes) {
        assert_eq!(command.encode(), bytes);
    }
}

/// Reads `bytes` as the certificate request of a caller who is not known yet, as it is and as what its PEM holds.
pub fn request(bytes: &[u8]) {
    // A refusal is as good an answer as any.
    let _key = std::str::from_utf8(bytes).map(csr::public_key);
    let pem =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", STANDARD.encode(bytes));
    let _key = csr::public_key(&pem);
}

/// Applies the commands that `bytes` are to a ledger, in the batches that they say; and to another ledger each alone, which
/// in the end holds the same. What is issued has the identity that was asked for and a place of its own, is well formed, and a
/// token is good for one.
///
/// # Panics
/// If not.
pub fn ledger(bytes: &[u8]) {
    let commands = commands(bytes);
    let (mut batched, mut alone) = (Kept::new(), Kept::new());
    let mut group = Vec::new();
    for (place, (joins, command)) in commands.iter().enumerate() {
        group.push(command.clone());
        if commands.get(place + 1).is_none_or(|(joins, _)| !joins) {
            batched.apply(&group);
            group.clear();
        }
        alone.apply(std::slice::from_ref(command));
        if !joins && place % 5 == 4 {
            alone.reopen();
        }
    }
    assert_eq!(batched.rows(), alone.rows());
    assert_eq!(batched.view.tree_head().expect("memory"), alone.view.tree_head().expect("memory"));
    batched.view.latest(100).expect("rows of its own");
    batched.view.open_invitations().expect("rows of its own");
}

/// The commands, each with whether it belongs to the batch of the one before it.
fn commands(mut bytes: &[u8]) -> Vec<(bool, LedgerCommand)> {
    let mut commands = Vec::new();
    let mut at = START;
    while let Ok(kind) = bytes.try_get_u8() {
        let mut next = || bytes.try_get_u8().unwrap_or_default();
        at += u64::from(next() % 16) * STEP;
        if let Some(command) = one(kind & !SAME_BATCH, at, &mut next) {
            commands.push((kind & SAME_BATCH != 0, command));
        }
    }
    commands
}

fn one(kind: u8, at: u64, next: &mut impl FnMut() -> u8) -> Option<LedgerCommand> {
    let time = Time::new(at)?;
    let expires = |steps: u8| Time::new(at + u64::from(steps) * STEP).unwrap_or(time);
    Some(match kind % 6 {
        0 => LedgerCommand::Tick { time },
        1 => {
            let (token_hash, spiffe_id) = (hash(next()), account(next()));
            LedgerCommand::CreateToken(CreateToken { time, token_hash, spiffe_id, expires: expires(next()) })
        }
        2 => LedgerCommand::Issue(order(time, next)),
        3 => {
            let (token_hash, name) = (hash(next()), "m".repeat(usize::from(next())));
            LedgerCommand::Invite(Invite { time, token_hash, name, learner: next() % 2 == 1, expires: expires(next()) })
        }
        4 => {
            let (token_hash, nonce) = (hash(next()), [next() % 3; 32]);
            LedgerCommand::Admit(Admit { time, token_hash, nonce, member: next().into() })
        }
        _ => LedgerCommand::Genesis(genesis()),
    })
}

fn order(time: Time, next: &mut impl FnMut() -> u8) -> Issue {
    let (caller, asked, names) = (next(), next(), next());
    let caller = match caller % 3 {
        0 => Caller::Token(hash(caller / 3)),
        1 => Caller::Svid(account(caller / 3)),
        _ => Caller::Admin,
    };
    let mut serial = [next(); 16];
    serial[15] = next();
    let dns = (0..names % 3).map(|number| format!("{}.example", char::from(b'a' + number))).collect();
    let key = [&[4][..], &[next(); 64]].concat();
    let spki = match names / 3 % 4 {
        0 => Bytes::copy_from_slice(&key),
        _ => der::sequence(&[der::sequence(&[der::oid(&[42])]), der::bit_string(0, &key)]).into(),
    };
    Issue {
        time,
        profile: Profile::SvidV1,
        issuer_key: KEY,
        caller,
        spiffe_id: account(asked),
        dns,
        ips: vec![[127, 0, 0, 1].into(); usize::from(names / 12 % 2)],
        spki,
        serial,
        ttl_seconds: u32::from(next()) * 900,
    }
}

/// One of few, so that they meet again.
fn hash(number: u8) -> [u8; 32] {
    [number % 4; 32]
}

fn account(number: u8) -> SpiffeId {
    let ids = [
        "spiffe://cluster.local/ns/default/sa/a",
        "spiffe://cluster.local/ns/default/sa/b",
        "spiffe://cluster.local/ns/meshstore-system/sa/admin",
        "spiffe://other/ns/default/sa/a",
    ];
    SpiffeId::parse(ids[usize::from(number) % ids.len()]).expect("valid")
}

fn genesis() -> Genesis {
    Genesis {
        time: Time::new(START).expect("before the year 10000"),
        trust_domain: TrustDomain::parse("cluster.local").expect("valid"),
        root: Bytes::from_static(b"root"),
        issuing: Bytes::from_static(b"issuing"),
        issuer_key: KEY,
        issuer_not_after: Time::new(START + 30 * 86_400).expect("before the year 10000"),
    }
}

/// A ledger in memory that was founded.
struct Kept {
    engine: Engine,
    ledger: Ledger,
    view: LedgerView,
    index: u64,
    /// Where something was issued.
    places: BTreeSet<u64>,
    /// Tokens for which something was issued.
    used: BTreeSet<[u8; 32]>,
}

impl Kept {
    fn new() -> Self {
        let engine = Engine::in_memory(Ledger::SPACES);
        let (ledger, view) = Ledger::open(engine.clone()).expect("memory does not fail");
        let mut kept = Self { engine, ledger, view, index: 0, places: BTreeSet::new(), used: BTreeSet::new() };
        kept.apply(&[LedgerCommand::Genesis(genesis())]);
        kept
    }

    fn apply(&mut self, commands: &[LedgerCommand]) {
        let mut batch = Batch::new();
        let mut issued = Vec::new();
        for command in commands {
            self.index += 1;
            let read = LedgerCommand::decode(&command.encode()).expect("what was written is read");
            assert_eq!(read, *command);
            match (self.ledger.apply(&mut batch, self.index, read).expect("rows of its own"), command) {
                (Ok(LedgerAnswer::Issued(place)), LedgerCommand::Issue(issue)) => {
                    // The same request may be answered again.
                    let is_new = self.places.insert(place.get());
                    if let (true, Caller::Token(hash)) = (is_new, &issue.caller) {
                        assert!(self.used.insert(*hash), "a token is good for one");
                    }
                    issued.push((place, issue));
                }
                // One that is forgotten may be made again.
                (Ok(_), LedgerCommand::CreateToken(token)) => {
                    self.used.remove(&token.token_hash);
                }
                _ => {}
            }
        }
        self.engine.write(batch, Durability::Buffered).expect("memory does not fail");
        self.ledger.publish();
        for (place, issue) in issued {
            self.check(place, issue);
        }
    }

    fn check(&self, place: Place, issue: &Issue) {
        // Within its batch it may have expired, and been forgotten.
        let Some(record) = self.view.issued(place).expect("rows of its own") else { return };
        assert_eq!((&record.spiffe_id, record.place), (&issue.spiffe_id, place));
        let (rest, _) = TbsCertificate::from_der(&record.tbs).expect("well formed");
        assert!(rest.is_empty() && record.not_before < record.not_after);
    }

    fn reopen(&mut self) {
        (self.ledger, self.view) = Ledger::open(self.engine.clone()).expect("what it wrote");
    }

    fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.engine.rows(Ledger::SPACES[0]).expect("readable")
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    #[test]
    fn a_token_is_made_used_and_used_up() {
        // Account 0's token 1 for 4 steps; by it a certificate of key 9, twice, and one of key 8.
        let (token, order) = ([1, 0, 1, 0, 4], |key, serial| [2, 0, 3, 0, 3, serial, serial, key, 96]);
        let bytes = [&token[..], &order(9, 1), &order(9, 2), &order(8, 3)].concat();
        let commands: Vec<_> = commands(&bytes).into_iter().map(|(_, command)| command).collect();
        let mut kept = Kept::new();
        for (command, size) in commands.iter().zip([2, 3, 3, 3]) {
            kept.apply(std::slice::from_ref(command));
            assert_eq!(kept.view.tree_head().expect("memory").size, size, "{command:?}");
        }
        ledger(&bytes);
    }

    #[test]
    fn a_damaged_request_is_read_or_refused() {
        let pem = crate::testing::csr();
        assert!(csr::public_key(&pem).is_ok());
        request(pem.as_bytes());
        for at in 0..pem.len() {
            let mut damaged = pem.clone().into_bytes();
            damaged[at] ^= 1;
            request(&damaged);
        }
    }

    proptest! {
        #[test]
        fn commands_do_the_same_however_they_are_batched(bytes in vec(any::<u8>(), 0..400)) {
            ledger(&bytes);
        }

        #[test]
        fn a_damaged_command_is_one_or_an_error(bytes in vec(any::<u8>(), 1..60), at: Index, byte: u8) {
            for (_, whole) in commands(&bytes) {
                let mut damaged = whole.encode().to_vec();
                let at = at.index(damaged.len());
                damaged[at] = byte;
                command(&damaged);
            }
        }
    }
}

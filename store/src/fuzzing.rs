//! What the fuzz targets in `fuzz/` call, and the tests too.
//!
//! - Whatever the bytes are, nothing panics unless the store is wrong.

use std::num::NonZeroU64;

use bytes::{Buf, Bytes};
use types::{KeyRange, Revision};

use crate::{
    Command, Entry, Limits, Order, OrderBy, Range, Store,
    tests::{
        Rig,
        agreement::{Step, agrees},
    },
    validate,
};

/// Steps that need no command.
const REOPEN: u8 = 0;
const SWEEP: u8 = 1;
const SETTLE: u8 = 2;
/// The bit of a command that belongs to the batch of the one before it.
const SAME_BATCH: u8 = 0x80;

/// Does what `bytes` say, commands as the log has them, sweeps and reopenings, to a store and to its model, and compares
/// every answer and much of what can be read. One after another a byte for the step, and for a command two for its length,
/// and the command.
///
/// # Panics
/// If they differ.
pub fn commands(bytes: &[u8]) {
    // So little is remembered that rows are read from the engine, too.
    let limits = Limits { sweep_rows: 3, recent_bytes_max: 2 << 10, ..Limits::default() };
    agrees(Rig::with_limits(limits), steps(bytes), &ranges());
}

fn steps(bytes: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = Bytes::copy_from_slice(bytes);
    while rest.has_remaining() {
        match rest.get_u8() {
            REOPEN => steps.push(Step::Reopen),
            SWEEP => steps.push(Step::Sweep),
            SETTLE => steps.push(Step::Settle),
            kind if rest.remaining() >= 2 => {
                let length = usize::from(rest.get_u16());
                let encoded = rest.split_to(length.min(rest.len()));
                match (modelled(&encoded), steps.last_mut()) {
                    (None, _) => {}
                    (Some(command), Some(Step::Batch(batch))) if kind & SAME_BATCH != 0 => batch.push(command),
                    (Some(command), _) => steps.push(Step::Batch(vec![command])),
                }
            }
            _ => {}
        }
    }
    steps
}

/// A valid command of those that the model knows.
fn modelled(encoded: &Bytes) -> Option<Command> {
    let Entry { command, .. } = Entry::decode(encoded).ok()?;
    let is_known = !matches!(command, Command::Alarm(_) | Command::Auth(_));
    (is_known && validate(&command, &Limits::default()).is_ok()).then_some(command)
}

/// Now and then, all and some, in key order and in another.
fn ranges() -> [Range; 4] {
    let all = Range::new(KeyRange::all());
    let descending = Order { by: OrderBy::Value, descending: true };
    [
        Range { limit: NonZeroU64::new(3), order: descending, ..all.clone() },
        Range { revision: Revision::new(4), ..all.clone() },
        Range { limit: NonZeroU64::new(2), ..Range::new(KeyRange::prefix(&b"a"[..])) },
        all,
    ]
}

/// Applies the entries that `bytes` are, on behalf of whom they name: to one store in the batches that `bytes` say, to
/// another each alone, which is opened anew now and then. They answer alike and hold the same. Before each entry are a byte
/// for what is to happen before, and two for its length.
///
/// # Panics
/// If not.
pub fn entries(bytes: &[u8]) {
    let (mut batched, mut alone) = (Rig::in_memory(), Rig::in_memory());
    let mut batch: Vec<Entry> = Vec::new();
    for (kind, entry) in valid_entries(bytes).into_iter().chain([(SETTLE, None)]) {
        if kind & SAME_BATCH == 0 {
            let answers: Vec<_> = batch.iter().flat_map(|entry| alone.apply_entries(vec![entry.clone()])).collect();
            assert_eq!(batched.apply_entries(std::mem::take(&mut batch)), answers);
        }
        if kind == REOPEN {
            alone.reopen();
        }
        batch.extend(entry);
    }
    alone.reopen();
    assert_eq!(batched.view().auth(), alone.view().auth());
    assert_eq!((batched.view().leases(), batched.view().alarms()), (alone.view().leases(), alone.view().alarms()));
    for &space in Store::SPACES {
        assert_eq!(batched.rows(space), alone.rows(space), "{space:?}");
    }
}

/// What is to happen before each entry, and the entry if it is one.
fn valid_entries(bytes: &[u8]) -> Vec<(u8, Option<Entry>)> {
    let mut entries = Vec::new();
    let mut rest = Bytes::copy_from_slice(bytes);
    while rest.remaining() >= 3 {
        let (kind, length) = (rest.get_u8(), usize::from(rest.get_u16()));
        let entry = Entry::decode(&rest.split_to(length.min(rest.len()))).ok();
        entries.push((kind, entry.filter(|entry| validate(&entry.command, &Limits::default()).is_ok())));
    }
    entries
}

/// Reads `bytes` as a command of the log: it is an error, or a command that reads back from its own encoding and, if it
/// is valid, can be applied.
///
/// # Panics
/// If not.
pub fn encoded_command(bytes: &[u8]) {
    let Ok(entry) = Entry::decode(&Bytes::copy_from_slice(bytes)) else { return };
    assert_eq!(Entry::decode(&entry.encode()), Ok(entry.clone()));
    if validate(&entry.command, &Limits::default()).is_ok() {
        let _answer = Rig::in_memory().apply(vec![entry.command]);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::{
        collection::vec,
        prelude::*,
        sample::{Index, select},
    };

    use super::*;
    use crate::{
        Actor, AuthCommand, Kind, PasswordHash, Permission,
        tests::{
            properties::step,
            strategy::{command, keys},
        },
    };

    fn encode(steps: Vec<Step>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for step in steps {
            match step {
                Step::Reopen => bytes.push(REOPEN),
                Step::Sweep => bytes.push(SWEEP),
                Step::Settle => bytes.push(SETTLE),
                Step::Batch(commands) => {
                    for (number, command) in commands.into_iter().enumerate() {
                        let command = Entry::from(command).encode();
                        bytes.push(if number == 0 { SETTLE + 1 } else { SAME_BATCH });
                        bytes.extend(u16::try_from(command.len()).expect("short").to_be_bytes());
                        bytes.extend(command);
                    }
                }
            }
        }
        bytes
    }

    fn damage() -> impl Strategy<Value = Vec<(Index, u8)>> {
        vec((any::<Index>(), prop_oneof![Just(0_u8), Just(1), Just(255), any::<u8>()]), 0..8)
    }

    fn damaged(mut bytes: Vec<u8>, damage: Vec<(Index, u8)>) -> Vec<u8> {
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    }

    /// Users and roles of few names.
    fn auth() -> impl Strategy<Value = AuthCommand> {
        let name = || select(["root", "a"].as_slice()).prop_map(str::to_owned);
        let kind = select([Kind::Read, Kind::Write, Kind::ReadWrite].as_slice());
        prop_oneof![
            2 => Just(AuthCommand::Enable),
            1 => Just(AuthCommand::Disable),
            4 => name().prop_map(|name| AuthCommand::UserAdd { name, password: Some(PasswordHash::new("hash")) }),
            1 => name().prop_map(|name| AuthCommand::UserDelete { name }),
            4 => (name(), name()).prop_map(|(user, role)| AuthCommand::UserGrantRole { user, role }),
            1 => (name(), name()).prop_map(|(user, role)| AuthCommand::UserRevokeRole { user, role }),
            4 => name().prop_map(|name| AuthCommand::RoleAdd { name }),
            1 => name().prop_map(|name| AuthCommand::RoleDelete { name }),
            2 => (name(), kind, keys()).prop_map(|(role, kind, keys)| {
                AuthCommand::RoleGrantPermission { role, permission: Permission { kind, keys } }
            }),
            1 => (name(), keys()).prop_map(|(role, keys)| AuthCommand::RoleRevokePermission { role, keys }),
            1 => (name(), 0..9_u64).prop_map(|(user, checked_at)| {
                AuthCommand::Authenticate { user, checked_at, token: Some([7; 32]) }
            }),
        ]
    }

    /// An entry, and what is to happen before it.
    fn entry() -> impl Strategy<Value = Vec<u8>> {
        let user = || (select(["root", "a"].as_slice()), 0..12_u64);
        let actor = prop_oneof![
            2 => Just(Actor::Trusted),
            1 => Just(Actor::Nobody),
            3 => user().prop_map(|(name, revision)| Actor::User { name: name.into(), revision }),
        ];
        let command = prop_oneof![command(), auth().prop_map(Command::Auth)];
        let before = prop_oneof![1 => Just(REOPEN), 4 => Just(SETTLE), 4 => Just(SAME_BATCH)];
        (before, actor, command).prop_map(|(before, actor, command)| {
            let encoded = command.encode_as(&actor);
            [&[before][..], &u16::try_from(encoded.len()).expect("short").to_be_bytes(), &encoded].concat()
        })
    }

    /// Where the targets begin, by name: no bytes that are made up at random come to be commands.
    fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
        let files = fs::read_dir(folder).expect("a folder").map(|file| file.expect("readable").path());
        files.map(|file| (file.display().to_string(), fs::read(&file).expect("readable"))).collect()
    }

    #[test]
    fn the_seeds_are_commands() {
        for (name, seed) in seeds("commands") {
            let commands = |step: &Step| if let Step::Batch(commands) = step { commands.len() } else { 0 };
            assert!(steps(&seed).iter().map(commands).sum::<usize>() > 3, "{name}");
            super::commands(&seed);
        }
        for (name, seed) in seeds("entries") {
            assert!(valid_entries(&seed).iter().filter(|(_, entry)| entry.is_some()).count() > 3, "{name}");
            entries(&seed);
        }
        for (name, seed) in seeds("encoded_command") {
            assert!(Entry::decode(&seed.clone().into()).is_ok(), "{name}");
            encoded_command(&seed);
        }
    }

    proptest! {
        #[test]
        fn entries_come_to_the_same_however_they_are_batched(entries in vec(entry(), 0..30), damage in damage()) {
            let bytes = entries.concat();
            super::entries(&bytes);
            if !bytes.is_empty() {
                super::entries(&damaged(bytes, damage));
            }
        }

        #[test]
        fn any_bytes_are_a_command_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
            encoded_command(&bytes);
        }

        #[test]
        fn damaged_commands_are_commands_or_errors(command in command(), damage in damage()) {
            encoded_command(&damaged(Entry::from(command).encode().to_vec(), damage));
        }

        #[test]
        fn the_store_agrees_with_a_map_whatever_the_bytes(steps in vec(step(), 1..12), damage in damage()) {
            commands(&damaged(encode(steps), damage));
        }
    }
}

//! What the fuzz targets in `fuzz/` call, and the tests too.
//!
//! - Whatever the bytes are, nothing panics unless the store is wrong.

use std::num::NonZeroU64;

use bytes::{Buf, Bytes};
use types::{KeyRange, Revision};

use crate::{
    Command, Entry, Limits, Order, OrderBy, Range,
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
    let limits = Limits { sweep_rows: 3, ..Limits::default() };
    agrees(Rig::with_limits(limits), steps, &ranges());
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
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;
    use crate::tests::{properties::step, strategy::command};

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

    proptest! {
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

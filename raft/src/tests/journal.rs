//! A machine that writes down every command it applies, and can be held or made to fail.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use engine::{Batch, Durability, Engine, Space};
use tokio::sync::mpsc;

use crate::{Committed, Machine, MachineError};

const JOURNAL: Space = Space::new("journal");
const RECORD: Space = Space::new("record");
pub(crate) const SPACES: &[Space] = &[JOURNAL, RECORD];

/// A command's place in the journal, and the command.
pub(crate) type Answer = (u64, Bytes);

pub(crate) struct Journal {
    engine: Engine,
    next: u64,
    pub(crate) syncs: Arc<AtomicU64>,
    gate: Option<Gate>,
    fails_at: Option<Bytes>,
}

/// Holds the machine at each entry with commands.
struct Gate {
    entered: mpsc::Sender<()>,
    passes: mpsc::Receiver<()>,
}

/// The test's side of a gate. Once `passes` is dropped, all may pass.
pub(crate) struct Keeper {
    pub(crate) entered: mpsc::Receiver<()>,
    pub(crate) passes: mpsc::Sender<()>,
}

impl Journal {
    pub(crate) fn new(engine: Engine) -> Self {
        let next = read(&engine).len() as u64;
        Self { engine, next, syncs: Arc::default(), gate: None, fails_at: None }
    }

    pub(crate) fn held(mut self) -> (Self, Keeper) {
        let (entered, keeper_entered) = mpsc::channel(100);
        let (keeper_passes, passes) = mpsc::channel(100);
        self.gate = Some(Gate { entered, passes });
        (self, Keeper { entered: keeper_entered, passes: keeper_passes })
    }

    /// Fails instead of applying an entry with this command.
    pub(crate) fn failing_at(mut self, command: Bytes) -> Self {
        self.fails_at = Some(command);
        self
    }

    fn wait_at_gate(&mut self) {
        if let Some(gate) = &mut self.gate {
            let _ = gate.entered.blocking_send(());
            let _ = gate.passes.blocking_recv();
        }
    }
}

impl Machine for Journal {
    type Answer = Answer;

    fn record(&self) -> Result<Option<Bytes>, MachineError> {
        self.engine.get(RECORD, b"").map_err(MachineError::new)
    }

    fn apply(&mut self, entries: Vec<Committed>, record: Bytes) -> Result<Vec<Vec<Answer>>, MachineError> {
        if entries.iter().any(|entry| !entry.commands.is_empty()) {
            self.wait_at_gate();
        }
        let mut batch = Batch::new();
        let mut answers = Vec::new();
        for entry in entries {
            let mut answered = Vec::new();
            for command in entry.commands {
                if self.fails_at.as_ref() == Some(&command) {
                    return Err(MachineError::new("told to fail"));
                }
                batch.put(JOURNAL, Bytes::copy_from_slice(&self.next.to_be_bytes()), command.clone());
                answered.push((self.next, command));
                self.next += 1;
            }
            answers.push(answered);
        }
        batch.put(RECORD, Bytes::new(), record);
        self.engine.write(batch, Durability::Buffered).map_err(MachineError::new)?;
        Ok(answers)
    }

    fn sync(&mut self) -> Result<(), MachineError> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.engine.sync().map_err(MachineError::new)
    }
}

/// All commands in the journal, in order.
pub(crate) fn read(engine: &Engine) -> Vec<Bytes> {
    let mut cursor = engine.cursor(JOURNAL).unwrap();
    cursor.seek(b"");
    let mut commands = Vec::new();
    while let Some((_, command)) = cursor.entry() {
        commands.push(Bytes::copy_from_slice(command));
        cursor.next();
    }
    cursor.status().unwrap();
    commands
}

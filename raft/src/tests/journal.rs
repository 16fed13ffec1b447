//! A machine that writes down every command it applies, and can be held or made to fail.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use bytes::{Buf, BufMut, Bytes};
use engine::{Batch, Durability, Engine, Read, Space};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use types::Release;

use crate::{Collector, Committed, Image, Machine, MachineError, Part};

const JOURNAL: Space = Space::new("journal");
const RECORD: Space = Space::new("record");
pub(crate) const SPACES: &[Space] = &[JOURNAL, RECORD];

/// A command's place in the journal, and the command.
pub(crate) type Answer = (u64, Bytes);

pub(crate) struct Journal {
    engine: Engine,
    collections: Collections,
    next: u64,
    version: Option<Release>,
    pub(crate) syncs: Arc<AtomicU64>,
    gate: Option<Gate>,
    fails_at: Option<Bytes>,
}

/// Holds the machine at each entry with commands.
struct Gate {
    entered: mpsc::Sender<()>,
    passes: Receiver<()>,
}

/// The test's side of a gate. Once `passes` is dropped, all may pass.
pub(crate) struct Keeper {
    pub(crate) entered: mpsc::Receiver<()>,
    pub(crate) passes: SyncSender<()>,
}

impl Journal {
    pub(crate) fn new(engine: Engine) -> Self {
        let (next, version) = (read(&engine).len() as u64, version_in(&read(&engine)));
        let (collections, syncs) = (Collections::default(), Arc::default());
        Self { engine, collections, next, version, syncs, gate: None, fails_at: None }
    }

    /// Keeps what it collects of images there.
    pub(crate) fn collecting_in(self, collections: Collections) -> Self {
        Self { collections, ..self }
    }

    pub(crate) fn held(mut self) -> (Self, Keeper) {
        let (entered, keeper_entered) = mpsc::channel(100);
        let (keeper_passes, passes) = sync_channel(100);
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
            let _ = gate.entered.try_send(());
            let _ = gate.passes.recv();
        }
    }
}

impl Machine for Journal {
    type Answer = Answer;

    fn record(&self) -> Result<Option<Bytes>, MachineError> {
        self.engine.get(RECORD, b"").map_err(MachineError::new)
    }

    fn version(&self) -> Option<Release> {
        self.version
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
                self.version = self.version.max(version_in(std::slice::from_ref(&command)));
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

    fn image(&mut self) -> Result<Arc<dyn Image>, MachineError> {
        static IMAGES: AtomicU64 = AtomicU64::new(0);
        let mut commands = Vec::new();
        for command in read(&self.engine) {
            commands.put_u64(command.len() as u64);
            commands.put_slice(&command);
        }
        let parts = [("record", self.record()?.unwrap_or_default()), ("commands", commands.into())];
        let parts = parts.map(|(name, bytes)| (Part { name: name.to_owned(), bytes: bytes.len() as u64 }, bytes));
        let (parts, bytes) = parts.into_iter().unzip();
        Ok(Arc::new(Copied { id: format!("image {}", IMAGES.fetch_add(1, Ordering::Relaxed)), parts, bytes }))
    }

    fn collect(&mut self, id: &str) -> Result<Box<dyn Collector>, MachineError> {
        let mut of_images = self.collections.of_images.lock();
        of_images.retain(|collected, _| collected == id);
        let parts = Arc::clone(of_images.entry(id.to_owned()).or_default());
        Ok(Box::new(Collecting { parts, written: Arc::clone(&self.collections.written) }))
    }

    fn install(&mut self, collected: Box<dyn Collector>) -> Result<(), MachineError> {
        let collected: Box<dyn Any> = collected;
        let collected = collected.downcast::<Collecting>().map_err(|_| MachineError::new("a foreign collection"))?;
        let mut parts = collected.parts.lock();
        let mut batch = Batch::new();
        batch.delete_range(JOURNAL, Bytes::new(), Bytes::from_static(&[u8::MAX; 9]));
        let (mut commands, mut next) = (Bytes::from(parts.remove("commands").unwrap()), 0_u64);
        while !commands.is_empty() {
            let bytes = usize::try_from(commands.get_u64()).unwrap();
            batch.put(JOURNAL, Bytes::copy_from_slice(&next.to_be_bytes()), commands.split_to(bytes));
            next += 1;
        }
        batch.put(RECORD, Bytes::new(), parts.remove("record").unwrap());
        self.next = next;
        self.engine.write(batch, Durability::Synced).map_err(MachineError::new)?;
        self.version = version_in(&read(&self.engine));
        Ok(())
    }
}

/// A command after which the cluster is at a release.
pub(crate) fn version(release: Release) -> Bytes {
    [b"version ", &release.number().to_be_bytes()[..]].concat().into()
}

/// The version that commands lead to.
fn version_in(commands: &[Bytes]) -> Option<Release> {
    let number = |command: &Bytes| Some(u32::from_be_bytes(command.strip_prefix(b"version ")?.try_into().ok()?));
    commands.iter().filter_map(number).map(Release::from_number).max()
}

/// What a disk holds of images that are not complete.
#[derive(Clone, Default)]
pub(crate) struct Collections {
    of_images: Arc<Mutex<BTreeMap<String, Parts>>>,
    /// Bytes that ever came.
    pub(crate) written: Arc<AtomicU64>,
}

type Parts = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

struct Copied {
    id: String,
    parts: Vec<Part>,
    bytes: Vec<Bytes>,
}

impl Image for Copied {
    fn id(&self) -> &str {
        &self.id
    }

    fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn read(&self, part: usize, offset: u64, bytes: usize) -> Result<Bytes, MachineError> {
        let all = &self.bytes[part];
        let offset = usize::try_from(offset).unwrap();
        Ok(all.slice(offset..all.len().min(offset + bytes)))
    }
}

struct Collecting {
    parts: Parts,
    written: Arc<AtomicU64>,
}

impl Collector for Collecting {
    fn held(&self, part: &Part) -> u64 {
        self.parts.lock().get(&part.name).map_or(0, |held| held.len() as u64)
    }

    fn write(&mut self, part: &Part, offset: u64, data: Bytes) -> Result<(), MachineError> {
        assert_eq!(offset, self.held(part));
        self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.parts.lock().entry(part.name.clone()).or_default().extend_from_slice(&data);
        Ok(())
    }

    fn finish(&mut self, parts: &[Part]) -> Result<(), MachineError> {
        assert!(parts.iter().all(|part| self.held(part) == part.bytes));
        Ok(())
    }
}

/// All commands in the journal, in order.
pub(crate) fn read(engine: &Engine) -> Vec<Bytes> {
    engine.rows(JOURNAL).unwrap().into_iter().map(|(_, command)| command.into()).collect()
}

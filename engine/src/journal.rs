//! Rows in the order in which they were written, for what is written once, seldom read, and soon deleted from the oldest
//! on: a log.
//!
//! Owns: a folder of segments, and where in them each row lies.
//!
//! - A batch is one frame. It is on stable storage when `write` returns, whatever durability was asked for: space for it
//!   was made before, so that the disk has only the frame to write, and nothing to note of the file.
//! - Keys are in memory, values on the disk. Each value is checked again when it is read.
//! - The oldest segment goes as soon as little lives in it; that little is written again, at the end.
//! - After a failed write nothing is written any more: what the disk holds is known again only after a start.

mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod remover;
mod segment;

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    fs::File,
    ops::Bound::{Excluded, Included, Unbounded},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use self::{
    frame::{Frame, Row},
    remover::Remover,
    segment::{Fault, Reading, Segment},
};
use crate::{
    Batch, Cursor, EngineError, Space,
    batch::Write,
    cursor::Place,
    folder::{lock, make},
    rocks::OF_ROCKSDB,
};

/// A segment takes no further frame once it has so many bytes.
const SEGMENT_BYTES: u64 = 64 << 20;
/// How far beyond a frame the space for the next ones is made.
const ROOM_BYTES: usize = 1 << 20;
/// A segment in which no more bytes than these live is let go.
const LEFTOVER_BYTES_MAX: u64 = 64 << 10;

type Slots = BTreeMap<Bytes, Slot>;
type Spaces = BTreeMap<Space, Arc<Slots>>;

/// Where a value lies.
#[derive(Clone, Debug)]
struct Slot {
    segment: Arc<Segment>,
    offset: u64,
    bytes: usize,
    sum: u32,
}

impl Slot {
    fn read(&self) -> Result<Bytes, Fault> {
        self.segment.value(self.offset, self.bytes, self.sum)
    }
}

/// Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    spaces: RwLock<Spaces>,
    writer: Mutex<Writer>,
    /// Locked by this process.
    _lock: File,
}

impl Journal {
    /// Opens or makes the journal in the folder `dir`, and reads all of it once.
    pub(crate) fn open(dir: &Path, spaces: &[Space]) -> Result<Self, EngineError> {
        Self::with_segments(dir, spaces, SEGMENT_BYTES)
    }

    fn with_segments(dir: &Path, spaces: &[Space], segment_bytes: u64) -> Result<Self, EngineError> {
        if dir.join(OF_ROCKSDB).exists() {
            return Err(EngineError::Layout(dir.to_owned()));
        }
        make(dir)?;
        let lock = lock(dir)?;
        let mut spaces: Spaces = spaces.iter().map(|&space| (space, Arc::default())).collect();
        let writer = Writer::recover(dir, segment_bytes, &mut spaces)?;
        Ok(Self(Arc::new(Inner { spaces: RwLock::new(spaces), writer: Mutex::new(writer), _lock: lock })))
    }

    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        get(&self.0.spaces.read(), space, key)?.map(|slot| slot.read().map_err(EngineError::from)).transpose()
    }

    pub(crate) fn cursor(&self, space: Space) -> Result<Cursor<'_>, EngineError> {
        cursor(&self.0.spaces.read(), space)
    }

    pub(crate) fn pin(&self) -> PinnedJournal {
        PinnedJournal(self.0.spaces.read().clone())
    }

    pub(crate) fn write(&self, batch: Batch) -> Result<(), EngineError> {
        let mut writer = self.0.writer.lock();
        let unknown = {
            let spaces = self.0.spaces.read();
            batch.writes.iter().map(Write::space).find(|space| !spaces.contains_key(space))
        };
        if let Some(space) = unknown {
            return Err(EngineError::UnknownSpace(space));
        }
        if batch.is_empty() {
            return Ok(());
        }
        writer.write(batch.writes, &self.0.spaces)?;
        while let Some(rows) = writer.leftover(&self.0.spaces)? {
            if !rows.is_empty() {
                writer.write(rows, &self.0.spaces)?;
            }
            writer.let_go()?;
        }
        Ok(())
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.0.writer.lock().segments.iter().map(|tracked| tracked.filled).sum()
    }

    pub(crate) fn bytes_of(&self, of: &[Space]) -> u64 {
        let spaces = self.0.spaces.read();
        let slots = of.iter().filter_map(|space| spaces.get(space)).flat_map(|slots| slots.iter());
        slots.map(|(key, slot)| weight(key, slot)).sum()
    }

    pub(crate) fn key_count(&self, space: Space) -> Result<u64, EngineError> {
        let spaces = self.0.spaces.read();
        Ok(spaces.get(&space).ok_or(EngineError::UnknownSpace(space))?.len() as u64)
    }
}

fn weight(key: &Bytes, slot: &Slot) -> u64 {
    (key.len() + slot.bytes) as u64
}

fn get(spaces: &Spaces, space: Space, key: &[u8]) -> Result<Option<Slot>, EngineError> {
    Ok(spaces.get(&space).ok_or(EngineError::UnknownSpace(space))?.get(key).cloned())
}

fn cursor<'a>(spaces: &Spaces, space: Space) -> Result<Cursor<'a>, EngineError> {
    let slots = spaces.get(&space).cloned().ok_or(EngineError::UnknownSpace(space))?;
    Ok(Cursor(Place::Journal(JournalCursor { slots, here: None, fault: None })))
}

/// A segment, and what of it counts.
#[derive(Debug)]
struct Tracked {
    segment: Arc<Segment>,
    /// Bytes of the rows that live in it.
    live: u64,
    /// The file's length.
    filled: u64,
}

/// Who alone writes.
#[derive(Debug)]
struct Writer {
    dir: PathBuf,
    segment_bytes: u64,
    /// By number; the last one takes the next frame.
    segments: VecDeque<Tracked>,
    /// Where the next frame goes, and its number.
    at: u64,
    sequence: u64,
    buffer: Vec<u8>,
    has_failed: bool,
    remover: Remover,
}

impl Writer {
    /// Reads the segments of a folder, puts what they hold into `spaces`, and cuts a torn end off.
    fn recover(dir: &Path, segment_bytes: u64, spaces: &mut Spaces) -> Result<Self, EngineError> {
        let mut writer = Self {
            dir: dir.to_owned(),
            segment_bytes,
            segments: VecDeque::new(),
            at: 0,
            sequence: 1,
            buffer: Vec::new(),
            has_failed: false,
            remover: Remover::start(dir)?,
        };
        let numbers = Segment::numbers(dir)?;
        for (place, &number) in numbers.iter().enumerate() {
            let (segment, mut reading) = Segment::open(dir, number)?;
            if place > 0 && segment.first() != writer.sequence {
                return Err(segment.damaged(format!(
                    "it begins with frame {}, and the segment before it ends before frame {}",
                    segment.first(),
                    writer.sequence
                )));
            }
            let segment = Arc::new(segment);
            writer.sequence = segment.first();
            writer.segments.push_back(Tracked { segment: Arc::clone(&segment), live: 0, filled: 0 });
            while let Some(frame) = reading.next(writer.sequence)? {
                writer.replay(&segment, &frame, spaces)?;
                writer.sequence += 1;
            }
            writer.at = reading.at();
            let is_last = place + 1 == numbers.len();
            let filled = writer.end(&segment, &reading, is_last)?;
            if let Some(tracked) = writer.segments.back_mut() {
                tracked.filled = filled;
            }
        }
        if writer.segments.is_empty() {
            writer.roll()?;
        }
        Ok(writer)
    }

    /// The length of a segment's file whose frames are all read; only the last one's end may be torn.
    fn end(&self, segment: &Segment, reading: &Reading, is_last: bool) -> Result<u64, EngineError> {
        if !is_last {
            return Ok(reading.len());
        }
        reading.check_torn(self.sequence)?;
        segment.cut(reading.at())?;
        Ok(reading.at())
    }

    fn replay(&mut self, segment: &Arc<Segment>, frame: &Frame, spaces: &mut Spaces) -> Result<(), EngineError> {
        let rows = frame.rows().ok_or_else(|| segment.damaged(format!("frame {} makes no sense", self.sequence)))?;
        for row in rows {
            // A space that nobody names any more lets its rows go.
            let Some(space) = spaces.keys().find(|space| space.name().as_bytes() == row.space()).copied() else {
                continue;
            };
            let Some(slots) = spaces.get_mut(&space).map(Arc::make_mut) else { continue };
            match row {
                Row::Put { key, offset, value, .. } => {
                    let offset = frame.offset() + offset;
                    let sum = crc32c::crc32c(value);
                    let slot = Slot { segment: Arc::clone(segment), offset, bytes: value.len(), sum };
                    self.put(slots, Bytes::copy_from_slice(key), slot);
                }
                Row::Delete { key, .. } => self.delete(slots, key),
                Row::DeleteRange { from, to, .. } => self.delete_range(slots, from, to),
            }
        }
        Ok(())
    }

    /// Appends a frame, and shows its rows once it is on stable storage.
    fn write(&mut self, writes: Vec<Write>, spaces: &RwLock<Spaces>) -> Result<(), EngineError> {
        if self.has_failed {
            return Err(EngineError::Storage("an earlier write to the journal failed".to_owned()));
        }
        self.has_failed = true;
        if self.at >= self.segment_bytes {
            self.roll()?;
        }
        let (start, offsets) = (self.at, self.append(&writes)?);
        self.has_failed = false;
        let Some(segment) = self.segments.back().map(|tracked| Arc::clone(&tracked.segment)) else { return Ok(()) };
        let mut spaces = spaces.write();
        for (write, offset) in writes.into_iter().zip(offsets) {
            let Some(slots) = spaces.get_mut(&write.space()).map(Arc::make_mut) else { continue };
            match write {
                Write::Put(_, key, value) => {
                    let (bytes, sum) = (value.len(), crc32c::crc32c(&value));
                    self.put(slots, key, Slot { segment: Arc::clone(&segment), offset: start + offset, bytes, sum });
                }
                Write::Delete(_, key) => self.delete(slots, &key),
                Write::DeleteRange(_, from, to) => self.delete_range(slots, &from, &to),
            }
        }
        Ok(())
    }

    /// Writes a frame; where in it each write's value is.
    fn append(&mut self, writes: &[Write]) -> Result<Vec<u64>, EngineError> {
        let Some(tracked) = self.segments.back_mut() else { return Ok(Vec::new()) };
        let (salt, sequence) = (tracked.segment.salt(), self.sequence);
        let offsets = frame::encode(&mut self.buffer, salt, sequence, writes)?;
        let end = self.at + self.buffer.len() as u64;
        if end > tracked.filled {
            tracked.filled = end + ROOM_BYTES as u64;
            self.buffer.resize(self.buffer.len() + ROOM_BYTES, 0);
        }
        tracked.segment.write(&self.buffer, self.at)?;
        self.at = end;
        self.sequence += 1;
        Ok(offsets)
    }

    /// Begins a segment.
    fn roll(&mut self) -> Result<(), EngineError> {
        let number = self.segments.back().map_or(1, |tracked| tracked.segment.number() + 1);
        let segment = Segment::create(&self.dir, number, self.sequence)?;
        self.at = segment::HEADER_BYTES as u64;
        self.segments.push_back(Tracked { segment: Arc::new(segment), live: 0, filled: self.at });
        Ok(())
    }

    /// What still lives in the oldest segment, if that is little and it is not the one that is written.
    fn leftover(&self, spaces: &RwLock<Spaces>) -> Result<Option<Vec<Write>>, EngineError> {
        let Some(oldest) = self.segments.front().filter(|_| self.segments.len() > 1) else { return Ok(None) };
        if oldest.live > LEFTOVER_BYTES_MAX.min(self.segment_bytes / 8) {
            return Ok(None);
        }
        let mut rows = Vec::new();
        if oldest.live > 0 {
            for (&space, slots) in &*spaces.read() {
                for (key, slot) in slots.iter().filter(|(_, slot)| slot.segment.number() == oldest.segment.number()) {
                    rows.push(Write::Put(space, key.clone(), slot.read()?));
                }
            }
        }
        Ok(Some(rows))
    }

    /// Has the oldest segment removed.
    fn let_go(&mut self) -> Result<(), EngineError> {
        let Some(oldest) = self.segments.pop_front() else { return Ok(()) };
        self.remover.remove(oldest.segment)
    }

    fn put(&mut self, slots: &mut Slots, key: Bytes, slot: Slot) {
        self.weigh(&slot.segment, |live| live + weight(&key, &slot));
        match slots.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(slot);
            }
            Entry::Occupied(mut entry) => {
                let before = entry.insert(slot);
                self.weigh(&before.segment, |live| live - weight(entry.key(), &before));
            }
        }
    }

    fn delete(&mut self, slots: &mut Slots, key: &[u8]) {
        if let Some((key, before)) = slots.remove_entry(key) {
            self.weigh(&before.segment, |live| live - weight(&key, &before));
        }
    }

    fn delete_range(&mut self, slots: &mut Slots, from: &[u8], to: &[u8]) {
        if from >= to {
            return;
        }
        let keys: Vec<Bytes> =
            slots.range::<[u8], _>((Included(from), Excluded(to))).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.delete(slots, &key);
        }
    }

    fn weigh(&mut self, segment: &Segment, weight: impl FnOnce(u64) -> u64) {
        let Some(first) = self.segments.front().map(|tracked| tracked.segment.number()) else { return };
        let place = segment.number().checked_sub(first).and_then(|place| usize::try_from(place).ok());
        if let Some(tracked) = place.and_then(|place| self.segments.get_mut(place)) {
            tracked.live = weight(tracked.live);
        }
    }
}

/// The rows of one moment.
#[derive(Debug)]
pub(crate) struct PinnedJournal(Spaces);

impl PinnedJournal {
    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        get(&self.0, space, key)?.map(|slot| slot.read().map_err(EngineError::from)).transpose()
    }

    pub(crate) fn cursor(&self, space: Space) -> Result<Cursor<'_>, EngineError> {
        cursor(&self.0, space)
    }
}

/// A walk; the first write after its start copies where the rows lie.
pub(crate) struct JournalCursor {
    slots: Arc<Slots>,
    here: Option<(Bytes, Bytes)>,
    fault: Option<Fault>,
}

impl JournalCursor {
    pub(crate) fn seek(&mut self, key: &[u8]) {
        self.go(self.slots.range::<[u8], _>((Included(key), Unbounded)).next().map(owned));
    }

    pub(crate) fn seek_back(&mut self, key: &[u8]) {
        self.go(self.slots.range::<[u8], _>((Unbounded, Included(key))).next_back().map(owned));
    }

    pub(crate) fn next(&mut self) {
        if let Some((key, _)) = &self.here {
            self.go(self.slots.range::<[u8], _>((Excluded(&key[..]), Unbounded)).next().map(owned));
        }
    }

    pub(crate) fn previous(&mut self) {
        if let Some((key, _)) = &self.here {
            self.go(self.slots.range::<[u8], _>((Unbounded, Excluded(&key[..]))).next_back().map(owned));
        }
    }

    pub(crate) fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.here.as_ref().map(|(key, value)| (&key[..], &value[..]))
    }

    pub(crate) fn status(&self) -> Result<(), EngineError> {
        self.fault.clone().map_or(Ok(()), |fault| Err(fault.into()))
    }

    fn go(&mut self, to: Option<(Bytes, Slot)>) {
        let read = to.map(|(key, slot)| slot.read().map(|value| (key, value))).transpose();
        match read {
            Ok(here) => self.here = here,
            Err(fault) => (self.here, self.fault) = (None, Some(fault)),
        }
    }
}

fn owned((key, slot): (&Bytes, &Slot)) -> (Bytes, Slot) {
    (key.clone(), slot.clone())
}

#[cfg(test)]
mod tests;

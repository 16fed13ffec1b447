//! Writing down what happens, while it happens.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{
    operation::{Operation, Outcome, Request},
    watch::{Told, Watch, Watched},
};

/// When something was seen. Moments of one history are ordered by `order`, which is never equal; `ns` is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// Its place among all moments of the history.
    pub(crate) order: u64,
    /// Nanoseconds since the history began, on the recorder's clock.
    pub(crate) ns: u64,
}

/// Everything that clients saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// In the order in which they were called.
    pub(crate) operations: Vec<Operation>,
    /// In the order in which they were opened.
    pub(crate) watches: Vec<Watch>,
}

/// One line of a saved history.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Operation(Operation),
    Watch(Watch),
}

impl History {
    /// Writes it to a file, one operation or watch a line, as JSON.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        let operations = self.operations.iter().cloned().map(Line::Operation);
        for line in operations.chain(self.watches.iter().cloned().map(Line::Watch)) {
            serde_json::to_writer(&mut file, &line)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }

    /// Reads what [`save`](Self::save) wrote.
    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let mut history = Self::default();
        for line in BufReader::new(File::open(path)?).lines() {
            match serde_json::from_str(&line?)? {
                Line::Operation(operation) => history.operations.push(operation),
                Line::Watch(watch) => history.watches.push(watch),
            }
        }
        Ok(history)
    }
}

/// A call that has been made, by its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call(usize);

/// A watch that has been opened, by its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened(usize);

/// Shared by all clients of one run. Each says that it calls before it sends anything, and that a call returned after it
/// has the answer: so what is recorded to have been one after the other was.
pub(crate) struct Recorder {
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    recorded: Mutex<Recorded>,
}

#[derive(Default)]
struct Recorded {
    moments: u64,
    history: History,
}

impl Recorder {
    /// `clock` tells the nanoseconds since the run began; it may stand still, and never goes back.
    pub(crate) fn new(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), recorded: Mutex::default() }
    }

    /// A client is about to ask. Until [`returned`](Self::returned) is told, the outcome is unknown.
    pub(crate) fn call(&self, client: u32, endpoint: &str, request: Request) -> Call {
        let mut recorded = self.lock();
        let called = self.now(&mut recorded);
        let id = recorded.history.operations.len();
        let (endpoint, outcome) = (endpoint.to_owned(), Outcome::Unknown("still open".to_owned()));
        let operation = Operation { id, client, endpoint, called, returned: None, request, outcome };
        recorded.history.operations.push(operation);
        Call(id)
    }

    /// A client was answered, or gave up.
    pub(crate) fn returned(&self, call: Call, outcome: Outcome) {
        let mut recorded = self.lock();
        let now = self.now(&mut recorded);
        let operation = &mut recorded.history.operations[call.0];
        operation.returned = Some(now);
        operation.outcome = outcome;
    }

    /// A client is about to watch.
    pub(crate) fn watch(&self, client: u32, endpoint: &str, watched: Watched) -> Opened {
        let mut recorded = self.lock();
        let opened = self.now(&mut recorded);
        let id = recorded.history.watches.len();
        let endpoint = endpoint.to_owned();
        recorded.history.watches.push(Watch { id, client, endpoint, opened, watched, told: Vec::new() });
        Opened(id)
    }

    /// A watch was told something.
    pub(crate) fn told(&self, watch: Opened, told: Told) {
        let mut recorded = self.lock();
        let now = self.now(&mut recorded);
        recorded.history.watches[watch.0].told.push((now, told));
    }

    /// What was recorded so far.
    pub(crate) fn history(&self) -> History {
        self.lock().history.clone()
    }

    fn now(&self, recorded: &mut Recorded) -> Moment {
        recorded.moments += 1;
        Moment { order: recorded.moments, ns: (self.clock)() }
    }

    /// A client that panics leaves a record that is whole: each change of it is one assignment.
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The member's whole state on its way to another member, and into its place there.
//!
//! - The state is one engine: store, ledger and raft's record travel as one image, of one moment.

use std::{any::Any, sync::Arc};

use bytes::Bytes;
use engine::{Home, Image, Incoming};
use raft::{Collector, MachineError, Part};

/// An image of the state, as raft sends it.
struct Sent {
    image: Image,
    parts: Vec<Part>,
}

/// An image of another member's state, as raft receives it.
struct Received(Incoming);

/// All that was applied.
pub(super) fn make(home: &Home) -> Result<Arc<dyn raft::Image>, MachineError> {
    let image = home.image().map_err(MachineError::new)?;
    let parts = image.parts().iter().map(|part| Part { name: part.name.clone(), bytes: part.bytes }).collect();
    Ok(Arc::new(Sent { image, parts }))
}

/// Where another member's state is collected.
pub(super) fn collect(home: &Home, id: &str) -> Result<Box<dyn Collector>, MachineError> {
    Ok(Box::new(Received(home.collect(id).map_err(MachineError::new)?)))
}

/// What came of [`collect`].
pub(super) fn collected(collector: Box<dyn Collector>) -> Result<Incoming, MachineError> {
    let collector: Box<dyn Any> = collector;
    match collector.downcast::<Received>() {
        Ok(received) => Ok(received.0),
        Err(_) => Err(MachineError::new("what was collected is not this machine's")),
    }
}

impl raft::Image for Sent {
    fn id(&self) -> &str {
        self.image.id()
    }

    fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn read(&self, part: usize, offset: u64, bytes: usize) -> Result<Bytes, MachineError> {
        self.image.read(part, offset, bytes).map_err(MachineError::new)
    }
}

impl Collector for Received {
    fn held(&self, part: &Part) -> u64 {
        self.0.held(&of(part))
    }

    fn write(&mut self, part: &Part, offset: u64, data: Bytes) -> Result<(), MachineError> {
        self.0.write(&of(part), offset, &data).map_err(MachineError::new)
    }

    fn finish(&mut self, parts: &[Part]) -> Result<(), MachineError> {
        let parts: Vec<engine::Part> = parts.iter().map(of).collect();
        self.0.finish(&parts).map_err(MachineError::new)
    }
}

fn of(part: &Part) -> engine::Part {
    engine::Part { name: part.name.clone(), bytes: part.bytes }
}

//! Clusters of real processes: formed, grown, broken and shrunk.

mod formed;
mod grown;
mod refused;
mod restarted;

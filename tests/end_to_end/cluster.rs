//! Clusters of real processes: formed, grown, broken and shrunk.

mod abandoned;
mod book;
mod formed;
mod grown;
mod refused;
mod restarted;

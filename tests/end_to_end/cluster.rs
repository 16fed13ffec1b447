//! Clusters of real processes: formed, grown, upgraded, broken and shrunk.

mod abandoned;
mod book;
mod caught_up;
mod compared;
mod copied;
mod deadlines;
mod forced;
mod formed;
mod grown;
mod larger;
mod load;
mod rebuilt;
mod refused;
mod restarted;
mod upgraded;

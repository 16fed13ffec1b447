//! Clusters of real processes: formed, grown, upgraded, broken and shrunk.

mod abandoned;
mod book;
mod caught_up;
mod formed;
mod grown;
mod load;
mod refused;
mod restarted;
mod upgraded;

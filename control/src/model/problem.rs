//! What is wrong with a configuration, said so that it can be put right.

/// One thing that is wrong: where it stands, what it is, and what to write instead.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// The name of the source, as its caller gave it; empty for a resource that is already stored.
    pub(crate) source: String,
    /// From 1; 0 when unknown.
    pub(crate) line: u32,
    /// Path inside the resource: `spec.http[0].route[1].weight`.
    pub(crate) field: String,
    pub(crate) message: String,
    /// What to write instead; may be empty.
    pub(crate) suggestion: String,
    /// `VirtualService default/reviews`; empty when it has no name yet.
    pub(crate) resource: String,
}

/// How alike two words must be, 0 to 1, for one to be proposed for the other.
const ALIKE_MIN: f64 = 0.75;

/// The candidate most like `word`, when one is alike enough to be meant.
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate)
}

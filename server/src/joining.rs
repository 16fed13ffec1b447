//! How a cluster grows: who is invited, and how an invitation becomes a member.
//!
//! - An invitation is good for one member of one name, once; its secret is shown once, and kept as a hash.
//! - Who is invited is given the keys that every member has, over a connection on which only we could have been met: its
//!   certificate hangs on the hash that the invitation was carried over with.

mod directory;
mod face;

pub use directory::{JoinError, Joined, Remembered, begin, prepare, remembered};
pub(crate) use face::JoiningFace;

/// Longest name of a member, bytes.
const NAME_BYTES_MAX: usize = 253;

/// Whether a member may be called so: `--initial-cluster` has no way to spell other names.
fn is_member_name(name: &str) -> bool {
    let is_allowed =
        |character: char| !character.is_whitespace() && !character.is_control() && !"=,".contains(character);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_written_on_a_command_line() {
        for name in ["a", "node-1.example", "größer", &"x".repeat(NAME_BYTES_MAX)] {
            assert!(is_member_name(name), "{name}");
        }
        for name in ["", "a b", "a=b", "a,b", "a\n", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert!(!is_member_name(name), "{name}");
        }
    }
}

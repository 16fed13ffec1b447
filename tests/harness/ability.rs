//! What a machine must be able to do for some tests.

/// Something that not every machine can or may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ability(&'static str);

impl Ability {
    /// Faults of system calls, by strace.
    pub(crate) const STRACE: Self = Self("strace");
    /// File systems in memory, by mount.
    pub(crate) const MOUNT: Self = Self("mount");
    /// File systems on loop devices, by losetup, mkfs.ext4 and mount.
    pub(crate) const LOOP: Self = Self("loop");
    /// Network namespaces, by ip and tc.
    pub(crate) const NAMESPACES: Self = Self("namespaces");
}

/// The abilities, separated by commas, that CI may do without.
const MAY: &str = "MESHSTORE_MAY_PASS_OVER";

/// Says why a test does not run here. In CI it fails instead, unless CI was told that it may do without.
pub(crate) fn pass_over(ability: Ability, why: &str) {
    let is_ci = std::env::var("CI").is_ok_and(|ci| !matches!(ci.as_str(), "" | "0" | "false"));
    let may = std::env::var(MAY).unwrap_or_default();
    let Ability(name) = ability;
    assert!(
        !is_ci || allows(&may, ability),
        "CI passes over nothing: this test needs {name}, and {why}; {MAY}={name} has it passed over"
    );
    #[expect(clippy::print_stderr, reason = "whoever runs the tests is told what they did not test")]
    {
        eprintln!("passed over: it needs {name}, and {why}");
    }
}

fn allows(may: &str, Ability(name): Ability) -> bool {
    may.split(',').any(|allowed| allowed.trim() == name)
}

#[test]
fn ci_does_without_what_it_was_told_alone() {
    let cases = [("", false), ("loop", true), ("strace, loop", true), ("loops", false), ("all", false)];
    for (may, expected) in cases {
        assert_eq!(allows(may, Ability("loop")), expected, "{may:?}");
    }
}

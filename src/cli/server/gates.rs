//! etcd's feature gates, and the switches that they were in etcd 3.5.
//!
//! - As with every flag nothing is taken and ignored: a gate that asks for nothing is taken; one whose purpose is served
//!   otherwise is taken, and that is told in the log; any other one is refused. None of them is needed shut.

use clap::{Arg, ArgAction, ArgMatches, Command, error::Error};
use tracing::warn;

use super::{absent::NO_COMPARISON, variable};

/// A gate of etcd's.
struct Gate {
    name: &'static str,
    /// The switch that it was in etcd 3.5; empty for one that is newer.
    switch: &'static str,
    opened: Opened,
}

/// What comes of it when a gate is to be open.
#[derive(Clone, Copy)]
enum Opened {
    /// It is as asked for, or there is nothing to be otherwise.
    Done,
    /// It is as this says, which serves the same purpose.
    Told(&'static str),
    /// It is not, and this may be done.
    Refused(&'static str),
}

use Opened::{Done, Refused, Told};

const fn gate(name: &'static str, switch: &'static str, opened: Opened) -> Gate {
    Gate { name, switch, opened }
}

const CHECKED_OTHERWISE: &str = "members are not compared before this one serves: all that it reads from its disk is checked \
     by checksums, always, and 'meshstore endpoint hashkv --cluster' compares members";

const GATES: &[Gate] = &[
    gate("InitialCorruptCheck", "experimental-initial-corrupt-check", Told(CHECKED_OTHERWISE)),
    gate("CompactHashCheck", "experimental-compact-hash-check-enabled", Refused(NO_COMPARISON)),
    gate("LeaseCheckpoint", "experimental-enable-lease-checkpoint", Done),
    gate("LeaseCheckpointPersist", "experimental-enable-lease-checkpoint-persist", Done),
    gate("StopGRPCServiceOnDefrag", "experimental-stop-grpc-service-on-defrag", Done),
    gate("TxnModeWriteWithSharedBuffer", "experimental-txn-mode-write-with-shared-buffer", Done),
    gate("FastLeaseKeepAlive", "", Done),
    gate("PriorityRequest", "", Refused("requests have no ranks: leave it out")),
    gate("SetMemberLocalAddr", "", Refused("members connect from the address that the system chooses: leave it out")),
    gate("AllBeta", "", Done),
    gate("AllAlpha", "", Refused("say which gates are meant, one by one")),
];

/// The gates that must not be open, each with what to do instead.
#[cfg(test)]
pub(super) fn refused() -> impl Iterator<Item = (&'static str, &'static str)> {
    GATES.iter().filter_map(|gate| match gate.opened {
        Refused(advice) => Some((gate.name, advice)),
        Done | Told(_) => None,
    })
}

/// What the gates that are to be open come to.
#[derive(Debug, Default)]
pub(super) struct GateFlags {
    told: Vec<&'static str>,
}

impl GateFlags {
    /// Logs what is done in place of what was asked for.
    pub(super) fn tell(&self) {
        self.told.iter().for_each(|text| warn!("{text}"));
    }

    #[cfg(test)]
    pub(super) fn told(&self) -> &[&'static str] {
        &self.told
    }
}

/// The list of gates.
const LIST: &str = "feature-gates";

impl clap::FromArgMatches for GateFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let flags = GATES.iter().map(|gate| gate.switch).filter(|switch| !switch.is_empty()).chain([LIST]);
        let settings = flags.filter_map(|flag| matches.get_many::<Setting>(flag)).flatten();
        let mut told: Vec<_> = settings.filter_map(|setting| setting.told).collect();
        told.dedup();
        Ok(Self { told })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for GateFlags {
    fn augment_args(command: Command) -> Command {
        let list = hidden(LIST).value_name("GATE=BOOL,…").value_delimiter(',').value_parser(set);
        let switches = GATES.iter().filter(|gate| !gate.switch.is_empty()).map(|gate| {
            let switch = hidden(gate.switch).num_args(0..=1).require_equals(true).default_missing_value("true");
            switch.value_name("BOOL").value_parser(move |text: &str| gate.set(text))
        });
        command.arg(list).args(switches)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn hidden(flag: &'static str) -> Arg {
    Arg::new(flag).long(flag).hide(true).action(ArgAction::Append).env(variable(flag))
}

/// One gate as it is asked for.
#[derive(Clone, Copy, Debug)]
struct Setting {
    told: Option<&'static str>,
}

/// Reads `GATE=BOOL`.
fn set(text: &str) -> Result<Setting, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not written as GATE=true"))?;
    let gate = GATES.iter().find(|gate| gate.name == name.trim());
    gate.ok_or_else(|| format!("there is no gate {name:?}: leave it out"))?.set(value.trim())
}

impl Gate {
    fn set(&self, value: &str) -> Result<Setting, String> {
        let is_open = switch(value)?;
        match self.opened {
            Refused(advice) if is_open => Err(advice.to_owned()),
            Told(text) if is_open => Ok(Setting { told: Some(text) }),
            Done | Told(_) | Refused(_) => Ok(Setting { told: None }),
        }
    }
}

/// Reads a switch as Go does.
fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn told(words: &[&str]) -> Result<Vec<&'static str>, String> {
        let command = GateFlags::augment_args(Command::new("server")).no_binary_name(true);
        let matches = command.try_get_matches_from(words);
        matches
            .and_then(|matches| GateFlags::from_arg_matches(&matches))
            .map(|flags| flags.told)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_gate_asks_for_nothing_is_told_or_is_refused() {
        let cases: [(&[&str], usize); 7] = [
            (&[], 0),
            (&["--feature-gates=InitialCorruptCheck=false,CompactHashCheck=false,AllAlpha=false"], 0),
            (&["--feature-gates", "InitialCorruptCheck=true"], 1),
            (&["--experimental-initial-corrupt-check"], 1),
            (&["--experimental-initial-corrupt-check=true", "--feature-gates=InitialCorruptCheck=true"], 1),
            (&["--experimental-txn-mode-write-with-shared-buffer=false", "--feature-gates=FastLeaseKeepAlive=true"], 0),
            (&["--experimental-stop-grpc-service-on-defrag=true", "--experimental-enable-lease-checkpoint"], 0),
        ];
        for (words, expected) in cases {
            assert_eq!(told(words).map(|told| told.len()), Ok(expected), "{words:?}");
        }
        for (word, advice) in [
            ("--feature-gates=CompactHashCheck=true", "--corrupt-check-time"),
            ("--experimental-compact-hash-check-enabled", "--corrupt-check-time"),
            ("--feature-gates=AllAlpha=true", "one by one"),
            ("--feature-gates=Xyzzy=true", "no gate \"Xyzzy\""),
            ("--feature-gates=InitialCorruptCheck", "GATE=true"),
            ("--feature-gates=InitialCorruptCheck=maybe", "neither true nor false"),
        ] {
            let text = told(&[word]).unwrap_err();
            assert!(text.contains(advice), "{word}: {text}");
        }
    }
}

//! Commands as the log has them: whose they are, and since which release there are such.
//!
//! Owns: the first byte of a command, which says whose it is, and the commands of the cluster itself.
//!
//! - Nothing is proposed but a [`Proposal`], which knows what release every member must run to read it.
//! - A command that a release cannot read is never run, in part or otherwise. The log's own checksums are right by then: a
//!   later release has written it.
//! - Numbers are never reused.

use bytes::{BufMut, Bytes, BytesMut};
use ca::LedgerCommand;
use store::{Actor, Entry};
use types::Release;

/// An [`Entry`] of the store.
const STORE: u8 = b'S';
/// A [`LedgerCommand`].
const LEDGER: u8 = b'L';
/// The store's, if the entry is of the term whose number follows, 8 bytes.
const STORE_IN_TERM: u8 = b'T';
/// A [`ClusterCommand`].
const CLUSTER: u8 = b'C';

const VERSION: u8 = 1;
const PROBE: u8 = 2;

/// An encoded command, on its way into the log.
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    since: Release,
    bytes: Bytes,
    /// Where what is addressed begins.
    start: usize,
}

impl Proposal {
    /// A command of the store's, as the actor's.
    pub(crate) fn store(command: &store::Command, actor: &Actor) -> Self {
        Self::addressed(STORE, &[], &command.encode_as(actor), command.since())
    }

    /// The same for the log of one term alone: what a leader decides by its own clock does not count any more once another
    /// leads.
    pub(crate) fn store_in_term(command: &store::Command, actor: &Actor, term: u64) -> Self {
        Self::addressed(STORE_IN_TERM, &term.to_be_bytes(), &command.encode_as(actor), command.since())
    }

    /// A command of the ledger's.
    pub(crate) fn ledger(command: &LedgerCommand) -> Self {
        Self::addressed(LEDGER, &[], &command.encode(), command.since())
    }

    /// A command of the cluster's own.
    pub(crate) fn cluster(command: ClusterCommand) -> Self {
        Self::addressed(CLUSTER, &[], &command.encode(), command.since())
    }

    fn addressed(whose: u8, term: &[u8], encoded: &[u8], since: Release) -> Self {
        let start = 1 + term.len();
        let mut bytes = BytesMut::with_capacity(start + encoded.len());
        bytes.put_u8(whose);
        bytes.put_slice(term);
        bytes.put_slice(encoded);
        Self { since, bytes: bytes.freeze(), start }
    }

    /// The least release that reads it.
    pub(crate) fn since(&self) -> Release {
        self.since
    }

    /// The command without its address, which is what a limit on commands counts.
    pub(crate) fn encoded(&self) -> Bytes {
        self.bytes.slice(self.start..)
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// A command out of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Store(Entry),
    /// To be run in this term, or never.
    StoreInTerm(u64, Entry),
    Ledger(LedgerCommand),
    Cluster(ClusterCommand),
}

/// What the cluster agrees on about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClusterCommand {
    /// All members run this release or a later one, and may write what it knows. A lower one than there is changes nothing.
    Version(Release),
    /// Changes nothing: it shows that the log moves.
    Probe,
}

/// A command that this member must not run.
#[derive(Debug, thiserror::Error)]
#[error(
    "the log has a command that release {release} does not understand ({reason}): start this member with the release \
     that the others run"
)]
pub(crate) struct Unreadable {
    release: Release,
    reason: String,
}

impl Command {
    /// Reads a command as a member of `release`, which refuses what is of a later one.
    pub(crate) fn decode(bytes: &Bytes, release: Release) -> Result<Self, Unreadable> {
        let command = Self::read(bytes).map_err(|reason| Unreadable { release, reason })?;
        let since = command.since();
        if since > release {
            let reason = format!("there are such since release {since}");
            return Err(Unreadable { release, reason });
        }
        Ok(command)
    }

    fn read(bytes: &Bytes) -> Result<Self, String> {
        let (&whose, rest) = bytes.split_first().ok_or("it is empty")?;
        let entry = |encoded: &[u8]| Entry::decode(&bytes.slice_ref(encoded)).map_err(|error| error.to_string());
        match whose {
            STORE => entry(rest).map(Self::Store),
            STORE_IN_TERM => {
                let (term, encoded) = rest.split_first_chunk().ok_or("it has no term")?;
                Ok(Self::StoreInTerm(u64::from_be_bytes(*term), entry(encoded)?))
            }
            LEDGER => LedgerCommand::decode(rest).map(Self::Ledger).map_err(|error| error.to_string()),
            CLUSTER => ClusterCommand::decode(rest).map(Self::Cluster),
            other => Err(format!("it is for {other:#04x}")),
        }
    }

    /// The first release that has it.
    fn since(&self) -> Release {
        match self {
            Self::Store(entry) | Self::StoreInTerm(_, entry) => entry.command.since(),
            Self::Ledger(command) => command.since(),
            Self::Cluster(command) => command.since(),
        }
    }
}

impl ClusterCommand {
    /// The first release that has it. Who reads that the cluster is at a version must be of it.
    pub(crate) fn since(self) -> Release {
        match self {
            Self::Version(version) => version.max(Release::WITH_CLUSTER_VERSION),
            Self::Probe => Release::WITH_CLUSTER_VERSION,
        }
    }

    fn encode(self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Version(version) => {
                out.put_u8(VERSION);
                out.put_u32(version.number());
            }
            Self::Probe => out.put_u8(PROBE),
        }
        out.freeze()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes {
            [VERSION, number @ ..] => {
                let number = number.try_into().map_err(|_| "a version is 4 bytes")?;
                Ok(Self::Version(Release::from_number(u32::from_be_bytes(number))))
            }
            [PROBE] => Ok(Self::Probe),
            _ => Err("a command of the cluster is not known".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::{collection::vec, prelude::*};
    use store::{Compact, LeaseGrant};
    use types::LeaseId;

    use super::*;

    fn any_release() -> impl Strategy<Value = Release> {
        (1..=u32::MAX).prop_map(Release::from_number)
    }

    fn any_cluster_command() -> impl Strategy<Value = ClusterCommand> {
        prop_oneof![any_release().prop_map(ClusterCommand::Version), Just(ClusterCommand::Probe)]
    }

    fn any_store_command() -> impl Strategy<Value = store::Command> {
        let grant = |(id, ttl)| Some(LeaseGrant { id: LeaseId::new(id)?, ttl: Duration::from_secs(ttl) });
        prop_oneof![
            any::<i64>().prop_map(|revision| store::Command::Compact(Compact { revision })),
            (any::<i64>(), any::<u64>()).prop_filter_map("0 is no lease", grant).prop_map(store::Command::LeaseGrant),
            Just(store::Command::Settle),
        ]
    }

    fn of_nobody(command: store::Command) -> Entry {
        Entry { actor: Actor::Nobody, command }
    }

    proptest! {
        #[test]
        fn each_release_reads_what_those_up_to_it_wrote(command in any_store_command(), term: u64, release in any_release()) {
            let release = release.max(Release::FIRST);
            let plain = Proposal::store(&command, &Actor::Nobody);
            let in_term = Proposal::store_in_term(&command, &Actor::Nobody, term);
            prop_assert_eq!(plain.encoded(), in_term.encoded());
            prop_assert_eq!(plain.encoded(), of_nobody(command.clone()).encode());
            prop_assert!(plain.since() == Release::FIRST && in_term.since() == Release::FIRST);
            let read = Command::decode(&plain.into_bytes(), release).map_err(|error| error.to_string());
            prop_assert_eq!(read, Ok(Command::Store(of_nobody(command.clone()))));
            let read = Command::decode(&in_term.into_bytes(), release).map_err(|error| error.to_string());
            prop_assert_eq!(read, Ok(Command::StoreInTerm(term, of_nobody(command))));
        }

        #[test]
        fn a_command_is_read_by_its_release_and_later_ones_and_by_no_earlier(
            command in any_cluster_command(),
            release in any_release(),
        ) {
            let proposal = Proposal::cluster(command);
            let since = proposal.since();
            let read = Command::decode(&proposal.into_bytes(), release);
            if release >= since {
                prop_assert_eq!(read.unwrap(), Command::Cluster(command));
            } else {
                let told = read.unwrap_err().to_string();
                prop_assert!(told.contains(&since.to_string()) && told.contains("start this member with"), "{}", told);
            }
        }

        #[test]
        fn whatever_bytes_are_there_they_are_a_command_or_refused(whose: u8, mut bytes in vec(any::<u8>(), 0..40)) {
            bytes.insert(0, whose);
            let bytes = Bytes::from(bytes);
            if let Ok(Command::Cluster(command)) = Command::decode(&bytes, Release::THIS) {
                prop_assert_eq!(Proposal::cluster(command).into_bytes(), bytes);
            }
        }
    }

    #[test]
    fn what_the_first_release_wrote_is_still_read() {
        let written = Bytes::from_static(b"S\x01\x22");
        let settle = Command::Store(of_nobody(store::Command::Settle));
        for release in [Release::FIRST, Release::THIS] {
            assert_eq!(Command::decode(&written, release).expect("readable"), settle);
        }
        let version = ClusterCommand::Version(Release::THIS);
        assert_eq!(Proposal::cluster(version).into_bytes(), Bytes::from_static(b"C\x01\0\0\0\x02"));
        assert_eq!(Proposal::cluster(ClusterCommand::Probe).into_bytes(), Bytes::from_static(b"C\x02"));
    }

    #[test]
    fn what_a_later_release_wrote_is_refused_with_what_to_do() {
        for written in [&b"X\x01"[..], b"C\x7f", b"C\x02\x01", b"S\x01\x7f", b"S\x09\x01", b"L\x63", b"T\x01", b""] {
            let told = Command::decode(&Bytes::from_static(written), Release::THIS).expect_err("unknown").to_string();
            assert!(told.contains("start this member with the release that the others run"), "{told}");
        }
    }
}

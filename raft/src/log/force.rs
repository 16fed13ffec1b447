//! How a member is made the only one of its cluster, when the quorum of the others is lost for good.
//!
//! - One write makes it so: a crash leaves the membership that was there, or this member alone.
//! - Nothing of the log is taken back: what is not known to be committed may have been acknowledged all the same.
//! - It is done in a term of its own, which no other member's vote, as far as this one knows, belongs to.
//! - It is done once: who has joined since is not removed by a flag that was left where it stood. A start that is not
//!   told to do it makes it possible again.

use std::collections::{BTreeMap, BTreeSet};

use engine::{Batch, Durability, Engine};
use openraft::{EntryPayload, log_id::LogIdOptionExt};
use tracing::{info, warn};

use super::{
    disk::{self, Recovered},
    tail::Tail,
};
use crate::{
    Config, MemberId, Node, RaftError,
    codec::Record,
    types::{Entry, LogId, Membership, StoredMembership, Vote, log_id},
};

/// Makes this member the only one, if `config` says so. `record` is what the state machine has applied.
///
/// # Errors
/// [`RaftError::NotForced`] if it is no member by what it has, or the start before did it and others have joined.
pub(crate) fn force(
    engine: &Engine,
    config: &Config,
    record: &Record,
    recovered: &mut Recovered,
) -> Result<(), RaftError> {
    let was_forced = disk::was_forced(engine)?;
    let mut batch = Batch::new();
    disk::put_forced(&mut batch, config.force_new_cluster);
    if config.force_new_cluster {
        let (member, before) = (config.member, latest(recovered, record));
        let own = before.get_node(&member.0).cloned().ok_or_else(|| refused(NO_MEMBER))?;
        if !is_alone(&before, member) {
            if was_forced {
                return Err(refused(DONE));
            }
            fill_hole(&mut batch, config, record, recovered)?;
            remove_others(&mut batch, member, own, recovered)?;
            engine.write(batch, Durability::Synced)?;
            tell(member, &before, record, recovered);
            return Ok(());
        }
        info!(%member, "this member is the only one of its cluster already: nothing is forced");
    }
    if was_forced != config.force_new_cluster {
        engine.write(batch, Durability::Synced)?;
    }
    Ok(())
}

const NO_MEMBER: &str = "by what it has it is no member: it was removed, or never got so far; \
    'meshstore snapshot export' saves what it has";
const DONE: &str = "that was done at its last start, and others have joined since: start it without \
    --force-new-cluster; if their quorum is lost too, do so once, and then with it again";

fn refused(reason: &str) -> RaftError {
    RaftError::NotForced { reason: reason.to_owned() }
}

/// The membership that is in effect, be it committed or not.
fn latest(recovered: &Recovered, record: &Record) -> StoredMembership {
    let applied = &record.roster.membership;
    let in_log = recovered.membership.as_ref().filter(|in_log| in_log.log_id() > applied.log_id());
    in_log.unwrap_or(applied).clone()
}

fn is_alone(membership: &StoredMembership, member: MemberId) -> bool {
    membership.nodes().all(|(id, _)| *id == member.0) && membership.voter_ids().eq([member.0])
}

/// An image may be installed, and the log not yet be cut for it.
fn fill_hole(batch: &mut Batch, config: &Config, record: &Record, recovered: &mut Recovered) -> Result<(), RaftError> {
    let Some(applied) = record.applied.filter(|applied| Some(*applied) > recovered.last) else { return Ok(()) };
    if recovered.last.next_index() > applied.index {
        let reason = format!("it is of an older term than what is applied, which ends at entry {}", applied.index);
        return Err(disk::corrupt("log", reason));
    }
    disk::purge(batch, &applied);
    (recovered.purged, recovered.last) = (Some(applied), Some(applied));
    recovered.tail = Tail::new(applied.index + 1, config.cache_bytes_max);
    Ok(())
}

/// Appends the membership of this member alone, as the leader of a new term.
fn remove_others(batch: &mut Batch, member: MemberId, own: Node, recovered: &mut Recovered) -> Result<(), RaftError> {
    let voted = recovered.vote.map_or(0, |vote| vote.leader_id.term);
    let term = voted.max(recovered.last.map_or(0, |last| last.leader_id.term)) + 1;
    let own = Node { wants_vote: false, ..own };
    let alone = Membership::new(vec![BTreeSet::from([member.0])], BTreeMap::from([(member.0, own)]));
    let alone = alone.map_err(|error| disk::corrupt("membership", error.to_string()))?;
    let index = recovered.last.next_index();
    let entry = Entry { log_id: log_id(term, index), payload: EntryPayload::Membership(alone) };
    let vote = Vote::new_committed(term, member.0);
    disk::put_entry(batch, &entry);
    disk::put_vote(batch, &vote);
    (recovered.vote, recovered.last) = (Some(vote), Some(entry.log_id));
    recovered.tail.push(entry).map_err(|error| disk::corrupt("log", error.to_string()))?;
    recovered.tail.written(index + 1);
    Ok(())
}

fn tell(member: MemberId, before: &StoredMembership, record: &Record, recovered: &Recovered) {
    let others = before.nodes().filter(|(id, _)| **id != member.0);
    let removed: Vec<_> = others.map(|(id, node)| format!("{} ({})", MemberId(*id), node.name)).collect();
    let log_end = recovered.last.map_or(0, |last| last.index);
    let committed = recovered.committed.max(record.applied).map_or(0, |committed: LogId| committed.index);
    warn!(
        %member,
        removed = removed.join(", "),
        term = recovered.vote.map_or(0, |vote| vote.leader_id.term),
        index = log_end,
        kept_uncommitted = log_end.saturating_sub(committed + 1),
        "forced to go on as the only member: the others are members no more, and must not be started again; what was \
         acknowledged and is not in this member's log is lost; start this one without --force-new-cluster from now on"
    );
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        log::{SPACES, recover, tests},
        node::Roster,
    };

    const ME: u64 = 1;
    const SECTOR_BYTES: usize = 512;

    fn forced() -> Config {
        Config { force_new_cluster: true, ..tests::config() }
    }

    fn node(member: u64) -> Node {
        Node { name: format!("m{member}"), wants_vote: true, ..Node::default() }
    }

    fn membership(voters: &[&[u64]], members: &[u64]) -> Membership {
        let nodes: BTreeMap<_, _> = members.iter().map(|member| (*member, node(*member))).collect();
        Membership::new(voters.iter().map(|set| set.iter().copied().collect()).collect(), nodes).unwrap()
    }

    fn changed(term: u64, index: u64, membership: Membership) -> Entry {
        Entry { log_id: log_id(term, index), payload: EntryPayload::Membership(membership) }
    }

    fn alone() -> Membership {
        let own = Node { wants_vote: false, ..node(ME) };
        Membership::new(vec![BTreeSet::from([ME])], BTreeMap::from([(ME, own)])).unwrap()
    }

    fn applied(log_id: LogId, membership: StoredMembership) -> Record {
        Record { applied: Some(log_id), roster: Roster { membership, ..Roster::default() } }
    }

    /// Writes a log, which is this member's from here on.
    fn write(engine: &Engine, entries: &[Entry], vote: &Vote) {
        recover(engine, &tests::config(), None).unwrap();
        let mut batch = Batch::new();
        for entry in entries {
            disk::put_entry(&mut batch, entry);
        }
        disk::put_vote(&mut batch, vote);
        engine.write(batch, Durability::Synced).unwrap();
    }

    /// What a start makes of the log: the entries, the membership in effect, and the vote.
    fn started(engine: &Engine, config: &Config, record: &Record) -> Result<(Vec<Entry>, Membership, Vote), RaftError> {
        let mut recovered = recover(engine, config, record.applied.as_ref())?;
        force(engine, config, record, &mut recovered)?;
        let again = recover(engine, config, record.applied.as_ref())?;
        let ends = |recovered: &Recovered| (recovered.purged, recovered.last, recovered.vote);
        assert_eq!(ends(&recovered), ends(&again), "what is known is what is on the disk");
        let entries = disk::read(engine, super::super::tail::Span { start: 0, end: u64::MAX }, usize::MAX)?;
        Ok((entries, latest(&again, record).membership().clone(), recovered.vote.unwrap()))
    }

    fn refusal(engine: &Engine, record: &Record) -> String {
        match started(engine, &forced(), record) {
            Err(RaftError::NotForced { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Changes of the members, each with how many entries follow and how many terms later it is made.
    fn any_changes() -> impl Strategy<Value = Vec<(Vec<Vec<u64>>, u64, u64)>> {
        let voters = vec(prop::collection::btree_set(1..6_u64, 1..4), 1..3);
        let voters = voters.prop_map(|sets| sets.into_iter().map(|set| set.into_iter().collect()).collect());
        vec((voters, 0..5_u64, 0..3_u64), 1..5)
    }

    proptest! {
        #[test]
        fn nothing_of_the_log_is_lost_and_nobody_else_is_a_member(
            changes in any_changes(), voted in 0..20_u64, applied_part in 0..=100_u64, purges: bool,
        ) {
            let (mut entries, mut term) = (Vec::new(), 1);
            for (sets, more, terms) in changes {
                term += terms;
                let sets: Vec<&[u64]> = sets.iter().map(Vec::as_slice).collect();
                entries.push(changed(term, entries.len() as u64, membership(&sets, &[1, 2, 3, 4, 5])));
                let first = entries.len() as u64;
                entries.extend((first..first + more).map(|index| tests::entry(term, index)));
            }
            let engine = Engine::in_memory(SPACES);
            write(&engine, &entries, &Vote::new(voted.max(term), 2));
            let at = usize::try_from(applied_part * (entries.len() as u64 - 1) / 100).unwrap();
            let in_effect = entries[..=at].iter().rev().find_map(|entry| match &entry.payload {
                EntryPayload::Membership(one) => Some(StoredMembership::new(Some(entry.log_id), one.clone())),
                _ => None,
            });
            let record = applied(entries[at].log_id, in_effect.unwrap());
            let kept = if purges {
                let mut batch = Batch::new();
                disk::purge(&mut batch, &entries[at].log_id);
                engine.write(batch, Durability::Synced).unwrap();
                entries.split_off(at + 1)
            } else {
                entries
            };

            let (now, members, vote) = started(&engine, &forced(), &record).unwrap();
            prop_assert_eq!(&now[..kept.len()], &kept[..]);
            prop_assert_eq!(now.len(), kept.len() + 1);
            prop_assert_eq!(&members, &alone());
            let led = now.last().unwrap().log_id.leader_id.term;
            prop_assert!(led > term && led > voted && vote == Vote::new_committed(led, ME));
            let again = started(&engine, &forced(), &record).unwrap();
            prop_assert_eq!(&again.0, &now, "it is done once");
            prop_assert_eq!(&started(&engine, &tests::config(), &record).unwrap().0, &now);
        }
    }

    #[test]
    fn a_log_that_was_not_cut_for_an_image_yet_goes_on_after_it() {
        let engine = Engine::in_memory(SPACES);
        write(&engine, &[changed(1, 0, membership(&[&[2]], &[2])), tests::entry(1, 1)], &Vote::new(1, 2));
        let members = StoredMembership::new(Some(log_id(2, 30)), membership(&[&[2, 3]], &[1, 2, 3]));
        let record = applied(log_id(2, 40), members.clone());
        let (entries, now, _) = started(&engine, &forced(), &record).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.log_id).collect::<Vec<_>>(), [log_id(3, 41)]);
        assert_eq!(now, alone());

        let engine = Engine::in_memory(SPACES);
        write(&engine, &[changed(1, 0, membership(&[&[1]], &[1])), tests::entry(1, 1)], &Vote::new(1, 2));
        let conflicting = started(&engine, &forced(), &applied(log_id(2, 1), members));
        assert!(matches!(conflicting, Err(RaftError::Corrupt { .. })), "{conflicting:?}");
    }

    #[test]
    fn who_is_no_member_is_not_forced() {
        let engine = Engine::in_memory(SPACES);
        assert!(refusal(&engine, &Record::default()).contains("it is no member"));
        let entries = [changed(1, 0, membership(&[&[1, 2]], &[1, 2])), changed(1, 1, membership(&[&[2]], &[2]))];
        write(&engine, &entries, &Vote::new(1, 2));
        assert!(refusal(&engine, &Record::default()).contains("it is no member"));
        assert_eq!(started(&engine, &tests::config(), &Record::default()).unwrap().0, entries);
    }

    #[test]
    fn who_has_joined_since_is_not_removed_by_a_flag_that_was_left() {
        for entries in
            [vec![changed(1, 0, membership(&[&[1, 2]], &[1, 2]))], vec![changed(1, 0, membership(&[&[1]], &[1]))]]
        {
            let (engine, record) = (Engine::in_memory(SPACES), Record::default());
            write(&engine, &entries, &Vote::new(1, 1));
            let (mut entries, ..) = started(&engine, &forced(), &record).unwrap();
            let vote = Vote::new_committed(9, 1);
            entries.push(changed(9, entries.len() as u64, membership(&[&[1, 3]], &[1, 3])));
            write(&engine, &entries, &vote);
            for _ in 0..2 {
                assert!(refusal(&engine, &record).contains("others have joined since"));
            }
            assert_eq!(started(&engine, &tests::config(), &record).unwrap().0, entries);
            assert_eq!(started(&engine, &forced(), &record).unwrap().1, alone());
        }
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir(to).unwrap();
        for file in fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }

    /// A crash leaves some of the sectors that were written, each of them whole.
    #[test]
    fn a_crash_finds_it_not_begun_or_done() {
        let folder = tempfile::tempdir().unwrap();
        let [before, after] = ["before", "after"].map(|name| folder.path().join(name));
        let open = |at: &Path| Engine::journal(at, SPACES).unwrap();
        let entries = [changed(1, 0, membership(&[&[1, 2, 3]], &[1, 2, 3])), tests::entry(1, 1)];
        let engine = open(&before);
        write(&engine, &entries, &Vote::new(1, 2));
        let mut recovered = recover(&engine, &forced(), None).unwrap();
        drop(engine);
        copy(&before, &after);
        force(&open(&after), &forced(), &Record::default(), &mut recovered).unwrap();
        let name = fs::read_dir(&before).unwrap().map(|file| file.unwrap().file_name());
        let name = name.filter(|name| Path::new(name).extension().is_some_and(|is| is == "journal")).max().unwrap();
        let [mut old, new] = [&before, &after].map(|folder| fs::read(folder.join(&name)).unwrap());
        // A frame is written into zeros.
        old.resize(new.len(), 0);
        let pairs = old.chunks(SECTOR_BYTES).zip(new.chunks(SECTOR_BYTES));
        let changed: Vec<_> =
            pairs.enumerate().filter(|(_, (from, to))| from != to).map(|(sector, _)| sector).collect();

        let mut seen = BTreeSet::new();
        for sector in changed[0]..=changed[changed.len() - 1] + 1 {
            let cut = (sector * SECTOR_BYTES).min(new.len());
            let torn = folder.path().join(format!("torn-{sector}"));
            copy(&before, &torn);
            fs::write(torn.join(&name), [&new[..cut], &old[cut..]].concat()).unwrap();
            let (now, members, _) = started(&open(&torn), &tests::config(), &Record::default()).unwrap();
            assert_eq!(now[..2], entries);
            assert_eq!(members == alone(), now.len() == 3, "{members:?}");
            seen.insert(now.len());
            fs::remove_dir_all(torn).unwrap();
        }
        assert_eq!(seen, BTreeSet::from([2, 3]));
    }
}

use proptest::{collection::vec, prelude::*};

use super::*;

fn any_count() -> impl Strategy<Value = u64> {
    prop_oneof![0..9_u64, 0..=COUNT_MAX]
}

fn any_log_id() -> impl Strategy<Value = LogId> {
    (any_count(), any_count()).prop_map(|(term, index)| log_id(term, index))
}

fn any_node() -> impl Strategy<Value = Node> {
    let urls = || vec(".{0,9}", 0..3);
    (".{0,5}", urls(), urls(), any::<bool>()).prop_map(|(name, peer_urls, client_urls, wants_vote)| Node {
        name,
        peer_urls,
        client_urls,
        wants_vote,
    })
}

fn any_members() -> impl Strategy<Value = BTreeSet<u64>> {
    proptest::collection::btree_set(any::<u64>(), 0..5)
}

fn any_membership() -> impl Strategy<Value = Membership> {
    let nodes = proptest::collection::btree_map(any::<u64>(), any_node(), 0..5);
    let voters = proptest::collection::btree_set(any::<u64>(), 1..5);
    (vec(voters, 0..3), nodes).prop_map(|(configs, mut nodes)| {
        for voter in configs.iter().flatten() {
            nodes.entry(*voter).or_default();
        }
        Membership::new(configs, nodes).unwrap()
    })
}

fn any_proposal() -> impl Strategy<Value = Proposal> {
    let commands = vec(vec(any::<u8>(), 0..40).prop_map(Bytes::from), 0..10);
    (any::<[u64; 3]>(), commands).prop_map(|([member, session, sequence], commands)| Proposal {
        tag: Tag { member, session, sequence },
        commands: commands.into(),
    })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let payload = prop_oneof![
        Just(EntryPayload::Blank),
        any_proposal().prop_map(EntryPayload::Normal),
        any_membership().prop_map(EntryPayload::Membership),
    ];
    (any_log_id(), payload).prop_map(|(log_id, payload)| Entry { log_id, payload })
}

fn any_record() -> impl Strategy<Value = Record> {
    let log_ids = (proptest::option::of(any_log_id()), proptest::option::of(any_log_id()));
    (log_ids, any_membership(), any_members()).prop_map(|((applied, changed_at), membership, removed)| Record {
        applied,
        roster: Roster { membership: StoredMembership::new(changed_at, membership), removed },
    })
}

/// Bytes with a valid checksum and format, so that the fields behind them are reached.
fn any_sealed() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(|fields| seal(fields.len(), |out| out.put_slice(&fields)))
}

proptest! {
    #[test]
    fn what_was_written_reads_the_same(entry in any_entry(), record in any_record(), at in any_log_id(), ids in any::<[u64; 2]>(), flag: bool) {
        let term = at.leader_id.term;
        let vote = if flag { Vote::new_committed(term, ids[1]) } else { Vote::new(term, ids[1]) };
        let disk = Disk { incarnation: ids[0], starts: at.index };
        let held = flag.then_some(Held { starts: term, log_id: at });
        let known = Known { disk, session: ids[1], held };
        let sessions = Sessions { starts: at.index, sessions: ids.to_vec() };
        let identity = Identity { cluster: ids[0], member: ids[1], disk };
        if let EntryPayload::Normal(proposal) = &entry.payload {
            prop_assert_eq!(&decode_proposal(encode_proposal(proposal)).unwrap(), proposal);
        }
        prop_assert_eq!(decode_entry(encode_entry(&entry)), Ok(entry));
        prop_assert_eq!(decode_disk(encode_disk(&disk)), Ok(disk));
        prop_assert_eq!(decode_known(encode_known(&known)), Ok(known));
        prop_assert_eq!(decode_sessions(encode_sessions(&sessions)), Ok(sessions));
        prop_assert_eq!(decode_record(encode_record(&record)), Ok(record));
        prop_assert_eq!(decode_vote(encode_vote(&vote)), Ok(vote));
        prop_assert_eq!(decode_identity(encode_identity(&identity)), Ok(identity));
        prop_assert_eq!(decode_log_id(encode_log_id(&at)), Ok(at));
    }

    #[test]
    fn one_changed_bit_is_noticed(entry in any_entry(), at: proptest::sample::Index, bit in 0..8u8) {
        let mut bytes = encode_entry(&entry).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        prop_assert!(decode_entry(bytes.into()).is_err());
    }

    #[test]
    fn a_cut_record_is_noticed(entry in any_entry(), at: proptest::sample::Index) {
        let bytes = encode_entry(&entry);
        let at = at.index(bytes.len());
        prop_assert!(decode_entry(bytes.slice(..at)).is_err());
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in prop_oneof![any_sealed(), vec(any::<u8>(), 0..200).prop_map(Bytes::from)]) {
        if let Ok(proposal) = decode_proposal(bytes.clone()) {
            prop_assert_eq!(encode_proposal(&proposal), bytes.clone());
        }
        if let Ok(entry) = decode_entry(bytes.clone()) {
            prop_assert_eq!(encode_entry(&entry), bytes.clone());
        }
        if let Ok(record) = decode_record(bytes.clone()) {
            prop_assert_eq!(encode_record(&record), bytes.clone());
        }
        if let Ok(vote) = decode_vote(bytes.clone()) {
            prop_assert_eq!(encode_vote(&vote), bytes.clone());
        }
        if let Ok(identity) = decode_identity(bytes.clone()) {
            prop_assert_eq!(encode_identity(&identity), bytes.clone());
        }
        if let Ok(sessions) = decode_sessions(bytes.clone()) {
            prop_assert_eq!(encode_sessions(&sessions), bytes.clone());
        }
        if let Ok(disk) = decode_disk(bytes.clone()) {
            prop_assert_eq!(encode_disk(&disk), bytes.clone());
        }
        if let Ok(known) = decode_known(bytes.clone()) {
            prop_assert_eq!(encode_known(&known), bytes.clone());
        }
        if let Ok(log_id) = decode_log_id(bytes.clone()) {
            prop_assert_eq!(encode_log_id(&log_id), bytes);
        }
    }
}

#[test]
fn nothing_is_held_in_a_start_without_an_entry() {
    let bytes = seal(64, |out| {
        for number in [7, 2, 9, 1] {
            out.put_u64(number);
        }
        put_optional_log_id(out, None);
    });
    assert_eq!(decode_known(bytes), Err(Damage::Value("starts")));
}

#[test]
fn a_count_beyond_the_record_is_refused_before_anything_is_allocated() {
    let bytes = seal(64, |out| {
        put_log_id(out, &log_id(1, 2));
        out.put_u8(1);
        out.put_slice(&[0; 24]);
        out.put_u32(u32::MAX);
    });
    assert_eq!(decode_entry(bytes), Err(Damage::Short));
}

#[test]
fn a_number_to_which_nothing_counts_is_refused() {
    for far in [COUNT_MAX + 1, u64::MAX] {
        assert_eq!(decode_log_id(encode_log_id(&log_id(far, 1))), Err(Damage::Value("term")));
        assert_eq!(decode_log_id(encode_log_id(&log_id(1, far))), Err(Damage::Value("index")));
        assert_eq!(decode_vote(encode_vote(&Vote::new(far, 1))), Err(Damage::Value("term")));
        let identity = Identity { cluster: 1, member: 1, disk: Disk { incarnation: 1, starts: far } };
        assert_eq!(decode_identity(encode_identity(&identity)), Err(Damage::Value("starts")));
        let applied = Record { applied: Some(log_id(1, far)), ..Record::default() };
        assert_eq!(decode_record(encode_record(&applied)), Err(Damage::Value("index")));
    }
}

fn sealed_as(format: u8, fields: &[u8]) -> Bytes {
    let mut bytes = [&[format], fields].concat();
    let checksum = crc32fast::hash(&bytes);
    bytes.put_u32(checksum);
    bytes.into()
}

#[test]
fn an_unknown_format_is_named() {
    assert_eq!(decode_vote(sealed_as(9, &[0, 0])), Err(Damage::Format(9)));
    assert_eq!(decode_vote(sealed_as(0, &[0, 0])), Err(Damage::Format(0)));
}

#[test]
fn the_first_format_is_still_read() {
    let mut fields = BytesMut::new();
    put_optional_log_id(&mut fields, Some(&log_id(3, 9)));
    put_optional_log_id(&mut fields, Some(&log_id(0, 0)));
    put_count(&mut fields, 1);
    put_members(&mut fields, &BTreeSet::from([7]));
    put_members(&mut fields, &BTreeSet::from([7]));
    let record = decode_record(sealed_as(1, &fields)).unwrap();
    assert_eq!(record.applied, Some(log_id(3, 9)));
    assert_eq!(record.roster.membership.voter_ids().collect::<Vec<_>>(), [7]);
    assert_eq!(record.roster.membership.get_node(&7), Some(&Node::default()));

    let identity = decode_identity(sealed_as(1, &[[0, 0, 0, 0, 0, 0, 0, 5]; 3].concat())).unwrap();
    assert_eq!(identity, Identity { cluster: 5, member: 5, disk: Disk { incarnation: 0, starts: 5 } });
}

#[test]
fn a_proposal_shows_no_command() {
    let tag = Tag { member: 10, session: 2, sequence: 3 };
    let proposal = Proposal { tag, commands: [Bytes::from_static(b"secret")].into() };
    assert_eq!(format!("{proposal} {proposal:?}"), "1 commands of a.2.3 1 commands of a.2.3");
}

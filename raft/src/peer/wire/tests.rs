use openraft::EntryPayload;
use proptest::{collection::vec, prelude::*};

use super::*;

fn blank(term: u64, index: u64) -> Entry {
    Entry { log_id: log_id(term, index), payload: EntryPayload::Blank }
}

fn request(previous: Option<LogId>, entries: Vec<Entry>) -> AppendEntriesRequest<Types> {
    AppendEntriesRequest { vote: Vote::new_committed(5, 1), prev_log_id: previous, entries, leader_commit: previous }
}

#[test]
fn entries_that_follow_each_other_arrive_as_they_were_sent() {
    let cases = [
        request(None, vec![blank(0, 0), blank(2, 1)]),
        request(Some(log_id(2, 7)), vec![blank(2, 8), blank(5, 9)]),
        request(Some(log_id(2, 7)), Vec::new()),
    ];
    for sent in cases {
        let arrived = append_in(append_out(None, &sent)).unwrap();
        assert_eq!(format!("{arrived:?}"), format!("{sent:?}"));
    }
}

#[test]
fn entries_that_openraft_could_not_bear_are_refused() {
    let cases = [
        ("a hole", request(Some(log_id(2, 7)), vec![blank(2, 9)])),
        ("a hole at the start", request(None, vec![blank(0, 1)])),
        ("a hole inside", request(None, vec![blank(0, 0), blank(2, 2)])),
        ("an older term", request(Some(log_id(3, 7)), vec![blank(2, 8)])),
        ("a term beyond the leader's", request(Some(log_id(2, 7)), vec![blank(6, 8)])),
        ("no leader", AppendEntriesRequest { vote: Vote::new(5, 1), ..request(None, Vec::new()) }),
        (
            "a commit beyond the leader",
            AppendEntriesRequest { leader_commit: Some(log_id(6, 1)), ..request(None, Vec::new()) },
        ),
    ];
    for (case, bad) in cases {
        assert!(matches!(append_in(append_out(None, &bad)), Err(Fault::Contradiction(_))), "{case}");
    }
    let damaged =
        pb::AppendRequest { entries: vec![Bytes::from_static(&[1, 2])], ..append_out(None, &request(None, vec![])) };
    assert!(matches!(append_in(damaged), Err(Fault::Damaged("entry", _))));
    assert_eq!(append_in(pb::AppendRequest::default()).unwrap_err(), Fault::Missing("vote"));
}

#[test]
fn numbers_to_which_nothing_counts_are_refused() {
    let at = |term, index| Some(pb::LogId { term, index });
    let vote = |term| Some(pb::Vote { term, member: 1, committed: true });
    for far in [COUNT_MAX + 1, u64::MAX] {
        let append = pb::AppendRequest { vote: vote(5), previous: at(5, far), ..pb::AppendRequest::default() };
        assert_eq!(append_in(append).unwrap_err(), Fault::Impossible("index"));
        let append = pb::AppendRequest { vote: vote(5), committed: at(5, far), ..pb::AppendRequest::default() };
        assert_eq!(append_in(append).unwrap_err(), Fault::Impossible("index"));
        let asked = pb::VoteRequest { vote: vote(far), ..pb::VoteRequest::default() };
        assert_eq!(vote_request_in(&asked).unwrap_err(), Fault::Impossible("term"));
        let asked = pb::VoteRequest { vote: vote(5), last_log_id: at(far, 1), ..pb::VoteRequest::default() };
        assert_eq!(vote_request_in(&asked).unwrap_err(), Fault::Impossible("term"));
        let answer = pb::VoteResponse { vote: vote(5), last_log_id: at(5, far), granted: true };
        assert_eq!(vote_response_in(answer).unwrap_err(), Fault::Impossible("index"));
        let outcome = Some(pb::append_response::Outcome::Conflict(pb::LogId { term: 1, index: far }));
        assert_eq!(
            append_result_in(pb::AppendResponse { outcome, starts: 1 }).unwrap_err(),
            Fault::Impossible("index")
        );
        let transfer = pb::TransferRequest { vote: vote(5), last_log_id: at(5, far), ..pb::TransferRequest::default() };
        assert_eq!(transfer_in(&transfer).unwrap_err(), Fault::Impossible("index"));
    }
}

#[test]
fn a_refused_change_is_told_as_it_was() {
    let member = MemberId(7);
    let refusals = [
        ChangeError::Unknown,
        ChangeError::InProgress,
        ChangeError::Exists(member),
        ChangeError::NameTaken { name: "a".to_owned(), by: member },
        ChangeError::Removed(member),
        ChangeError::NotFound(member),
        ChangeError::NotLearner(member),
        ChangeError::NotVoter(member),
        ChangeError::NotReady { member, matched: 3, last: 9 },
        ChangeError::WouldLoseQuorum,
        ChangeError::Invalid("why".to_owned()),
        ChangeError::NoLeader,
    ];
    for refusal in refusals {
        assert_eq!(refusal_in(refusal_out(&refusal)), refusal);
    }
    assert_eq!(refusal_in(refusal_out(&ChangeError::Stopped)), ChangeError::NoLeader);
}

#[test]
fn a_time_counts_from_when_the_stream_was_opened() {
    let (opened, seen) = (Instant::now(), Instant::now() + Duration::from_secs(5));
    for us in [1, 300_000, 3_600_000_000] {
        let until_us = until_out(opened, opened + Duration::from_micros(us));
        assert_eq!(until_in(seen, until_us), Some(seen + Duration::from_micros(us)));
    }
    assert_eq!(until_out(seen, opened), 1, "it was over before");
    assert_eq!(until_in(seen, 0), None, "an earlier release tells none");
    assert!(until_in(seen, u64::MAX).is_none_or(|until| until > seen));
}

fn any_at() -> impl Strategy<Value = Option<pb::LogId>> {
    proptest::option::of(
        (0..9_u64, prop_oneof![0..9_u64, Just(u64::MAX)]).prop_map(|(term, index)| pb::LogId { term, index }),
    )
}

proptest! {
    #[test]
    fn whatever_arrives_is_a_request_or_an_error(
        previous in any_at(),
        committed in any_at(),
        ids in vec((0..9_u64, 0..9_u64), 0..4),
        noise in proptest::option::of(vec(any::<u8>(), 0..40)),
    ) {
        let vote = Some(pb::Vote { term: 5, member: 1, committed: true });
        let entries = ids.iter().map(|(term, index)| codec::encode_entry(&blank(*term, *index)));
        let entries = entries.chain(noise.map(Bytes::from)).collect();
        let arrived = append_in(pb::AppendRequest { header: None, vote, previous, committed, entries });
        if let Ok(request) = arrived {
            let mut last = request.prev_log_id;
            for entry in &request.entries {
                prop_assert!(last < Some(entry.log_id));
                prop_assert_eq!(last.map_or(0, |last| last.index + 1), entry.log_id.index);
                last = Some(entry.log_id);
            }
        }
    }
}

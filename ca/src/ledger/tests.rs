use std::net::IpAddr;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::testing::{START, Twin, genesis, id, spki, time};

const HASH: [u8; 32] = [9; 32];

fn founded() -> (Twin, LedgerView) {
    let (log, view) = Twin::new();
    assert_eq!(log.apply_one(LedgerCommand::Genesis(genesis())), Ok(LedgerAnswer::Recorded(Place::new(0))));
    (log, view)
}

fn with_token() -> (Twin, LedgerView) {
    let (log, view) = founded();
    log.apply_one(create_token()).unwrap();
    (log, view)
}

fn create_token() -> LedgerCommand {
    let (time, expires) = (time(START), time(START + 3600));
    LedgerCommand::CreateToken(CreateToken { time, token_hash: HASH, spiffe_id: id("default", "reviews"), expires })
}

/// An order for `default/reviews`; `number` makes its key and its serial.
fn order(caller: Caller, number: u8, at: u64) -> Issue {
    let mut serial = [0x40; 16];
    serial[15] = number;
    Issue {
        time: time(at),
        profile: Profile::SvidV1,
        issuer_key: [7; 20],
        caller,
        spiffe_id: id("default", "reviews"),
        dns: vec![],
        ips: vec![],
        spki: spki(number),
        serial,
        ttl_seconds: 24 * 3600,
    }
}

fn by_token(number: u8, at: u64) -> LedgerCommand {
    LedgerCommand::Issue(order(Caller::Token(HASH), number, at))
}

fn by_svid(number: u8, at: u64) -> LedgerCommand {
    LedgerCommand::Issue(order(Caller::Svid(id("default", "reviews")), number, at))
}

#[expect(clippy::unnecessary_wraps, reason = "compared with outcomes, which may be refusals")]
fn issued(place: u64) -> Outcome {
    Ok(LedgerAnswer::Issued(Place::new(place)))
}

/// Ticks until the ledger's time is `at`.
fn wait_until(log: &Twin, at: u64) {
    while log.apply_one(LedgerCommand::Tick { time: time(at) }) != Ok(LedgerAnswer::Time(time(at))) {}
}

#[test]
fn a_token_is_good_for_one_certificate() {
    let (log, view) = with_token();
    assert_eq!(log.apply_one(by_token(1, START)), issued(2));
    assert_eq!(log.apply_one(by_token(2, START)), Err(Refusal::TokenUsed));
    assert_eq!(view.latest(10).unwrap().len(), 1);
}

#[test]
fn a_token_is_good_for_one_certificate_even_within_one_batch() {
    let (log, view) = founded();
    let outcomes = log.apply(vec![create_token(), by_token(1, START), by_token(2, START), by_token(1, START)]);
    let recorded = Ok(LedgerAnswer::Recorded(Place::new(1)));
    assert_eq!(outcomes, [recorded, issued(2), Err(Refusal::TokenUsed), issued(2)]);
    assert_eq!(view.latest(10).unwrap().len(), 1);
}

#[test]
fn a_repeated_request_is_given_the_first_certificate_for_half_its_life() {
    let (log, _) = with_token();
    assert_eq!(log.apply_one(by_token(1, START)), issued(2));
    let Outcome::Ok(_) = log.apply_one(by_svid(2, START)) else { panic!("a workload renews") };
    wait_until(&log, START + 12 * 3600 - 60);
    // A new serial does not make it another request; a new key does.
    let again = |caller| {
        let first = order(caller, 1, START + 12 * 3600 - 60);
        LedgerCommand::Issue(Issue { serial: [0x41; 16], ..first })
    };
    assert_eq!(log.apply_one(again(Caller::Token(HASH))), issued(2));
    wait_until(&log, START + 12 * 3600);
    assert_eq!(log.apply_one(again(Caller::Token(HASH))), Err(Refusal::TokenUnknown), "pruned since it expired");
    assert_eq!(log.apply_one(by_svid(2, START)), Err(Refusal::SerialTaken), "a new certificate needs a new serial");
    assert_eq!(log.apply_one(again(Caller::Svid(id("default", "reviews")))), issued(4));
}

#[test]
fn what_is_not_allowed_is_refused_and_changes_nothing() {
    let reviews = || Caller::Svid(id("default", "reviews"));
    let base = || order(reviews(), 1, START);
    let token = |spiffe_id, expires| {
        let token_hash = [1; 32];
        LedgerCommand::CreateToken(CreateToken { time: time(START), token_hash, spiffe_id, expires: time(expires) })
    };
    let admin = id(SYSTEM_NAMESPACE, "admin");
    let foreign = SpiffeId::parse("spiffe://other/ns/default/sa/reviews").unwrap();
    let not_allowed = |id: &SpiffeId| Refusal::IdentityNotAllowed(id.clone());
    let issue = LedgerCommand::Issue;
    let cases = [
        (LedgerCommand::Genesis(genesis()), Refusal::Founded),
        (token(admin.clone(), START + 1), not_allowed(&admin)),
        (token(foreign.clone(), START + 1), not_allowed(&foreign)),
        (token(id("default", "a"), START), Refusal::Malformed("token expiry")),
        (create_token(), Refusal::TokenExists),
        (issue(Issue { spiffe_id: id("default", "ratings"), ..base() }), not_allowed(&id("default", "ratings"))),
        (issue(Issue { spiffe_id: admin.clone(), ..base() }), not_allowed(&admin)),
        (
            issue(Issue { spiffe_id: id("default", "ratings"), ..order(Caller::Token(HASH), 1, START) }),
            not_allowed(&id("default", "ratings")),
        ),
        (issue(order(Caller::Token([8; 32]), 1, START)), Refusal::TokenUnknown),
        (issue(Issue { caller: Caller::Admin, spiffe_id: foreign.clone(), ..base() }), not_allowed(&foreign)),
        (issue(Issue { dns: vec!["a.b".into()], ..base() }), Refusal::NamesNotAllowed),
        (issue(Issue { ips: vec![IpAddr::from([127, 0, 0, 1])], ..base() }), Refusal::NamesNotAllowed),
        (issue(Issue { issuer_key: [8; 20], ..base() }), Refusal::WrongIssuer),
        (issue(Issue { serial: [0; 16], ..base() }), Refusal::Malformed("serial")),
        (issue(Issue { serial: [0xff; 16], ..base() }), Refusal::Malformed("serial")),
        (issue(Issue { ttl_seconds: 59, ..base() }), Refusal::Malformed("ttl")),
        (issue(Issue { ttl_seconds: u32::MAX, ..base() }), Refusal::Malformed("ttl")),
        (issue(Issue { spki: Bytes::from_static(b"no key"), ..base() }), Refusal::Malformed("public key")),
        (issue(Issue { caller: Caller::Admin, dns: vec!["*.b".into()], ..base() }), Refusal::Malformed("DNS name")),
        (
            issue(Issue { caller: Caller::Admin, dns: vec!["a".into(), "a".into()], ..base() }),
            Refusal::Malformed("DNS names"),
        ),
        (
            issue(order(reviews(), 1, START + 3601)),
            Refusal::ClockAhead { asked: time(START + 3601), ledger: time(START) },
        ),
    ];
    let (log, _) = with_token();
    let before = log.rows();
    for (command, expected) in cases {
        assert_eq!(log.apply_one(command.clone()), Err(expected), "{command:?}");
        assert_eq!(log.rows(), before, "{command:?}");
    }
}

#[test]
fn nothing_happens_before_genesis() {
    let (log, view) = Twin::new();
    for command in [create_token(), by_svid(1, START), LedgerCommand::Tick { time: time(START) }] {
        assert_eq!(log.apply_one(command), Err(Refusal::NotFounded));
    }
    assert_eq!(log.rows(), []);
    assert_eq!(view.genesis().unwrap(), None);
}

#[test]
fn an_expired_token_is_refused() {
    let (log, _) = with_token();
    assert_eq!(log.apply_one(by_token(1, START + 3600)), Err(Refusal::TokenExpired));
    assert_eq!(log.apply_one(by_token(1, START + 3599)), issued(2));
}

#[test]
fn administrators_and_members_may_have_system_identities_and_names() {
    let (log, view) = founded();
    let server = Issue {
        spiffe_id: id(SYSTEM_NAMESPACE, "server"),
        dns: vec!["node-1.example".into()],
        ips: vec![IpAddr::from([10, 0, 0, 1]), "::1".parse().unwrap()],
        ..order(Caller::Admin, 1, START)
    };
    assert_eq!(log.apply_one(LedgerCommand::Issue(server)), issued(1));
    let tbs = view.issued(Place::new(1)).unwrap().unwrap().tbs;
    for name in [&b"node-1.example"[..], &[0x87, 4, 10, 0, 0, 1], b"/ns/meshstore-system/sa/server"] {
        assert!(tbs.windows(name.len()).any(|window| window == name));
    }
}

#[test]
fn no_leaf_outlives_the_issuing_certificate() {
    let (log, view) = founded();
    let end = START + 30 * 86_400;
    let greedy = Issue { ttl_seconds: 60 * 86_400, ..order(Caller::Admin, 1, START) };
    assert_eq!(log.apply_one(LedgerCommand::Issue(greedy)), issued(1));
    assert_eq!(view.issued(Place::new(1)).unwrap().unwrap().not_after, time(end));
    wait_until(&log, end - 59);
    assert_eq!(log.apply_one(by_svid(2, end - 59)), Err(Refusal::IssuerExpires(time(end))));
}

#[test]
fn time_never_goes_back_and_is_never_dragged_far() {
    let (log, view) = founded();
    assert_eq!(log.apply_one(by_svid(1, START + 3600)), issued(1));
    assert_eq!(log.apply_one(by_svid(2, 5)), issued(2));
    let record = view.issued(Place::new(2)).unwrap().unwrap();
    assert_eq!((record.not_before, record.not_after), (time(START + 3540), time(START + 3600 + 24 * 3600)));
    let tick = |at| log.apply_one(LedgerCommand::Tick { time: time(at) });
    assert_eq!(tick(5), Ok(LedgerAnswer::Time(time(START + 3600))));
    assert_eq!(tick(START * 2), Ok(LedgerAnswer::Time(time(START + 7200))));
    assert_eq!(view.time().unwrap(), time(START + 7200));
}

#[test]
fn what_has_expired_is_forgotten_a_few_rows_at_a_time() {
    let (log, view) = with_token();
    for number in 0..40 {
        log.apply_one(by_svid(number, START)).unwrap();
    }
    let full = log.rows().len();
    wait_until(&log, START + 24 * 3600);
    assert_eq!(view.latest(100).unwrap().len(), 40);
    assert_eq!(log.rows().len(), full - 2, "the token is gone");
    wait_until(&log, START + 24 * 3600 + 1);
    assert_eq!(view.latest(100).unwrap(), [], "expired, and within the grace");
    assert_eq!(log.rows().len(), full - 2);
    wait_until(&log, START + 25 * 3600 + 1);
    assert_eq!(log.rows().len(), full - 2 - 8 * 4);
    for _ in 0..4 {
        log.apply_one(LedgerCommand::Tick { time: time(START) }).unwrap();
    }
    let left: Vec<_> = log.rows().into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, [b"g".to_vec(), b"h".to_vec()]);
    assert_eq!(view.tree_head().unwrap().size, 42, "the tree remembers");
}

#[test]
fn the_latest_come_first() {
    let (log, view) = founded();
    assert_eq!(view.latest(3).unwrap(), []);
    for number in 0..5 {
        log.apply_one(by_svid(number, START)).unwrap();
    }
    let places: Vec<_> = view.latest(3).unwrap().iter().map(|record| record.place.get()).collect();
    assert_eq!(places, [5, 4, 3]);
}

#[test]
fn a_reopened_ledger_goes_on_where_it_stood() {
    let (log, view) = with_token();
    log.apply_one(by_token(1, START)).unwrap();
    let (mut ledger, _) = Ledger::open(log.engine.clone()).unwrap();
    let outcome = ledger.apply(&mut Batch::new(), 9, by_token(2, START)).unwrap();
    assert_eq!(outcome, Err(Refusal::TokenUsed));
    let outcome = ledger.apply(&mut Batch::new(), 9, by_svid(2, START)).unwrap();
    assert_eq!(outcome, issued(3));
    assert_eq!(view.tree_head().unwrap().size, 3);
}

fn invite(hash: u8, at: u64, expires: u64) -> LedgerCommand {
    let (time, expires) = (time(at), time(expires));
    LedgerCommand::Invite(Invite { time, token_hash: [hash; 32], name: "b".to_owned(), learner: false, expires })
}

fn admit(hash: u8, nonce: u8, member: u64, at: u64) -> LedgerCommand {
    LedgerCommand::Admit(Admit { time: time(at), token_hash: [hash; 32], nonce: [nonce; 32], member })
}

#[test]
fn an_invitation_admits_one_member() {
    let (log, view) = founded();
    log.apply_one(invite(1, START, START + 3600)).unwrap();
    assert_eq!(log.apply_one(invite(1, START, START + 3600)), Err(Refusal::TokenExists));
    assert_eq!(view.open_invitations().unwrap().len(), 1);
    assert_eq!(log.apply_one(admit(2, 1, 7, START)), Err(Refusal::TokenUnknown));
    assert_eq!(log.apply_one(admit(1, 1, 7, START)), Ok(LedgerAnswer::Admitted(7)));
    assert_eq!(log.apply_one(admit(1, 1, 8, START)), Ok(LedgerAnswer::Admitted(7)), "the reply was lost");
    assert_eq!(log.apply_one(admit(1, 2, 8, START)), Err(Refusal::TokenUsed));
    assert_eq!(view.open_invitations().unwrap(), []);
    wait_until(&log, START + 3601);
    assert_eq!(log.apply_one(admit(1, 1, 7, START)), Err(Refusal::TokenUnknown), "pruned since it expired");
}

#[test]
fn an_expired_or_nameless_invitation_is_none() {
    let (log, view) = founded();
    log.apply_one(invite(1, START, START + 60)).unwrap();
    assert_eq!(log.apply_one(admit(1, 1, 7, START + 60)), Err(Refusal::TokenExpired));
    assert_eq!(log.apply_one(invite(2, START, START)), Err(Refusal::Malformed("invitation expiry")));
    let LedgerCommand::Invite(nameless) = invite(3, START, START + 60) else { panic!("an invitation") };
    let nameless = LedgerCommand::Invite(Invite { name: String::new(), ..nameless });
    assert_eq!(log.apply_one(nameless), Err(Refusal::Malformed("member name")));
    wait_until(&log, START + 60);
    assert_eq!(view.open_invitations().unwrap(), []);
}

fn any_time() -> impl Strategy<Value = Time> {
    prop_oneof![(START..START + 200_000).prop_map(time), (0..=253_402_300_799_u64).prop_map(time)]
}

fn any_id() -> impl Strategy<Value = SpiffeId> {
    prop_oneof![Just(id("default", "reviews")), Just(id("default", "ratings")), Just(id(SYSTEM_NAMESPACE, "server"))]
}

fn any_caller() -> impl Strategy<Value = Caller> {
    prop_oneof![(0..4_u8).prop_map(|n| Caller::Token([n; 32])), any_id().prop_map(Caller::Svid), Just(Caller::Admin)]
}

fn any_invitation() -> impl Strategy<Value = LedgerCommand> {
    let invite = (any_time(), 0..4_u8, "[a-z]{0,3}", any::<bool>(), any_time());
    let invite = invite.prop_map(|(time, hash, name, learner, expires)| {
        LedgerCommand::Invite(Invite { time, token_hash: [hash; 32], name, learner, expires })
    });
    let admit = (any_time(), 0..4_u8, 0..3_u8, any::<u64>()).prop_map(|(time, hash, nonce, member)| {
        LedgerCommand::Admit(Admit { time, token_hash: [hash; 32], nonce: [nonce; 32], member })
    });
    prop_oneof![invite, admit]
}

fn any_command() -> impl Strategy<Value = LedgerCommand> {
    let token = (any_time(), 0..4_u8, any_id(), any_time()).prop_map(|(time, hash, spiffe_id, expires)| {
        LedgerCommand::CreateToken(CreateToken { time, token_hash: [hash; 32], spiffe_id, expires })
    });
    let names = (vec("[a-z*]{1,3}(\\.[a-z]{1,3})?", 0..3), vec(any::<IpAddr>(), 0..3));
    let issue = (any_time(), any_caller(), any_id(), 0..6_u8, names, 0..200_000_u32);
    let issue = issue.prop_map(|(time, caller, spiffe_id, number, (dns, ips), ttl_seconds)| {
        LedgerCommand::Issue(Issue { time, spiffe_id, dns, ips, ttl_seconds, ..order(caller, number, START) })
    });
    prop_oneof![
        1 => Just(LedgerCommand::Genesis(genesis())),
        4 => token,
        8 => issue,
        4 => any_time().prop_map(|time| LedgerCommand::Tick { time }),
        4 => any_invitation(),
    ]
}

proptest! {
    #[test]
    fn the_same_commands_give_the_same_rows_wherever_batches_are_cut(
        commands in vec(any_command(), 0..60),
        cuts in vec(1..8_usize, 60),
    ) {
        let (one_by_one, in_batches) = (founded().0, founded().0);
        let expected: Vec<_> = commands.iter().cloned().map(|command| one_by_one.apply_one(command)).collect();
        let (mut rest, mut outcomes) = (&commands[..], Vec::new());
        for cut in cuts {
            let (batch, later) = rest.split_at(cut.min(rest.len()));
            outcomes.extend(in_batches.apply(batch.to_vec()));
            rest = later;
        }
        prop_assert_eq!(outcomes, expected);
        prop_assert_eq!(in_batches.rows(), one_by_one.rows());
    }

    #[test]
    fn a_command_is_read_as_it_was_written(command in any_command()) {
        prop_assert_eq!(LedgerCommand::decode(&command.encode()), Ok(command));
    }

    #[test]
    fn arbitrary_bytes_have_one_spelling_or_none(bytes: Vec<u8>, known in any::<bool>(), kind in 0..7_u8) {
        let bytes = if known { [&[1, kind], &bytes[..]].concat() } else { bytes };
        if let Ok(command) = LedgerCommand::decode(&bytes) {
            prop_assert_eq!(&command.encode()[..], &bytes[..]);
        }
    }

    #[test]
    fn a_damaged_command_never_panics(command in any_command(), at: prop::sample::Index, byte: u8) {
        let mut bytes = command.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(command) = LedgerCommand::decode(&bytes) {
            prop_assert_eq!(&command.encode()[..], &bytes[..]);
            let _outcome = founded().0.apply_one(command);
        }
        prop_assert!(LedgerCommand::decode(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn damaged_rows_are_errors(bytes: Vec<u8>) {
        prop_assert!(IssuedRecord::decode(&bytes).is_err());
        let _either = (Token::decode(&bytes), Invitation::decode(&bytes), Head::decode(&bytes), Genesis::decode(&bytes), Place::decode(&bytes));
    }
}

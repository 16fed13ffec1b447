use super::*;

fn environment(name: &str) -> Option<String> {
    let pairs = [
        ("ETCDCTL_ENDPOINTS", "a:1,b:2"),
        ("ETCDCTL_CACERT", "/ca"),
        ("ETCDCTL_COMMAND_TIMEOUT", "9s"),
        ("ETCDCTL_KEEPALIVE_TIME", "2s"),
        ("ETCDCTL_WRITE_OUT", "json"),
        ("ETCDCTL_USER", "root"),
        ("ETCDCTL_PASSWORD", "a:b"),
        ("ETCDCTL_HEX", "true"),
        ("ETCDCTL_CERT", ""),
    ];
    pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
}

#[tokio::test]
async fn nothing_said_is_the_defaults() {
    let connection = Flags::default().resolve(Flags::default(), |_| None).await.unwrap();
    assert_eq!(connection, Connection::default());
    assert_eq!(connection.endpoints, ["127.0.0.1:2379"]);
    assert_eq!((connection.dial_timeout.as_secs(), connection.command_timeout.as_secs()), (2, 5));
    assert_eq!((connection.keepalive_time.as_secs(), connection.keepalive_timeout.as_secs()), (10, 5));
}

#[tokio::test]
async fn the_verb_s_flags_win_over_those_before_it_and_those_over_the_environment() {
    let verb = Flags { endpoints: Some(vec!["verb:1".into()]), ..Flags::default() };
    let before = Flags {
        endpoints: Some(vec!["before:1".into()]),
        command_timeout: Some(Duration::from_secs(7)),
        hex: Some(false),
        ..Flags::default()
    };
    let connection = verb.resolve(before, environment).await.unwrap();
    assert_eq!(connection.endpoints, ["verb:1"]);
    assert_eq!(connection.command_timeout, Duration::from_secs(7));
    assert_eq!(connection.trust, Some(Trust::File("/ca".into())));
    assert_eq!(connection.printer, Printer { format: Format::Json, hex: false });
    let connection = Flags::default().resolve(Flags::default(), environment).await.unwrap();
    assert_eq!(connection.endpoints, ["a:1", "b:2"]);
    assert_eq!(connection.command_timeout, Duration::from_secs(9));
    assert_eq!(connection.keepalive_time, KEEPALIVE_TIME_MIN);
    assert!(connection.printer.hex);
    assert_eq!(connection.user, Some(User { name: "root".into(), password: Password::new("a:b".into()) }));
}

#[tokio::test]
async fn tls_is_spoken_where_something_asks_for_it() {
    let endpoint = |url: &str| Flags { endpoints: Some(vec![url.into()]), ..Flags::default() };
    let identity = Flags { cert: Some("c".into()), key: Some("k".into()), ..Flags::default() };
    let cases = [
        (endpoint("127.0.0.1:1"), None),
        (endpoint("http://127.0.0.1:1"), None),
        (endpoint("https://127.0.0.1:1"), Some(Trust::System)),
        (identity, Some(Trust::System)),
        (Flags { insecure_transport: Some(false), ..Flags::default() }, Some(Trust::System)),
        (Flags { insecure_transport: Some(true), ..Flags::default() }, None),
        (Flags { insecure_skip_tls_verify: Some(true), ..Flags::default() }, Some(Trust::Anybody)),
        (Flags { cacert: Some("/ca".into()), ..Flags::default() }, Some(Trust::File("/ca".into()))),
    ];
    for (flags, expected) in cases {
        let shown = format!("{flags:?}");
        assert_eq!(flags.resolve(Flags::default(), |_| None).await.unwrap().trust, expected, "{shown}");
    }
}

#[tokio::test]
async fn a_certificate_needs_its_key() {
    let half = Flags { cert: Some("c".into()), ..Flags::default() };
    assert!(half.resolve(Flags::default(), |_| None).await.is_err());
}

#[tokio::test]
async fn a_user_has_a_password_of_its_own_or_after_a_colon() {
    let read = async |name: &str, password: Option<&str>| {
        let user = user(Some(Secret(name.into())), password.map(|one| Secret(one.into())), "").await.unwrap();
        user.unwrap()
    };
    let expected = |name: &str, password: &str| User { name: name.into(), password: Password::new(password.into()) };
    assert_eq!(read("a:b:c", None).await, expected("a", "b:c"));
    assert_eq!(read("a:b", Some("c")).await, expected("a:b", "c"));
    assert_eq!(read("a", Some("c")).await, expected("a", "c"));
    assert_eq!(user(None, Some(Secret("c".into())), "").await.unwrap(), None);
}

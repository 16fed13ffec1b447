//! Users: when a client logs in, and what it does when its token is refused.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod fake;

use bytes::Bytes;
use fake::Fake;
use futures_util::StreamExt;
use meshstore_client::{Client, ClientError, Config, Get, Password, Put, User, WatchOptions};
use proto::etcdserverpb::{AuthenticateRequest, AuthenticateResponse, kv_server::KvServer, watch_server::WatchServer};
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::http,
    server::{Grpc, NamedService},
    service::Routes,
};
use types::{KeyRange, Revision};

/// Whom the server lets in.
#[derive(Default)]
struct Door {
    /// `None` lets everybody in.
    token: Option<String>,
    logins: usize,
}

/// The login of a server whose tokens can be changed under its clients.
#[derive(Clone, Default)]
struct Doorman(Arc<Mutex<Door>>);

impl Doorman {
    fn demand(&self, token: &str) {
        self.0.lock().unwrap().token = Some(token.to_owned());
    }

    fn logins(&self) -> usize {
        self.0.lock().unwrap().logins
    }

    fn authenticate(&self, request: &AuthenticateRequest) -> Result<Response<AuthenticateResponse>, Status> {
        let mut door = self.0.lock().unwrap();
        door.logins += 1;
        match &door.token {
            None => Err(Status::failed_precondition("etcdserver: authentication is not enabled")),
            Some(_) if (request.name.as_str(), request.password.as_str()) != ("root", "secret") => {
                Err(Status::invalid_argument("etcdserver: authentication failed, invalid user ID or password"))
            }
            Some(token) => Ok(Response::new(AuthenticateResponse { header: None, token: token.clone() })),
        }
    }

    fn check(&self, request: Request<()>) -> Result<Request<()>, Status> {
        let shown = request.metadata().get("token").map(|token| token.to_str().unwrap().to_owned());
        match (&self.0.lock().unwrap().token, shown) {
            (Some(_), None) => Err(Status::invalid_argument("etcdserver: user name is empty")),
            (Some(token), Some(shown)) if *token != shown => {
                Err(Status::unauthenticated("etcdserver: invalid auth token"))
            }
            _ => Ok(request),
        }
    }
}

impl NamedService for Doorman {
    const NAME: &'static str = "etcdserverpb.Auth";
}

impl tower::Service<http::Request<Body>> for Doorman {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let doorman = self.clone();
        let answer = tower::service_fn(move |request: Request<AuthenticateRequest>| {
            std::future::ready(doorman.authenticate(request.get_ref()))
        });
        Box::pin(async { Ok(Grpc::new(tonic_prost::ProstCodec::default()).unary(answer, request).await) })
    }
}

/// A server with a doorman; its endpoint.
async fn serve(fake: &Fake, doorman: &Doorman) -> String {
    let (kv, watch) = (doorman.clone(), doorman.clone());
    let routes = Routes::new(KvServer::with_interceptor(fake.clone(), move |request| kv.check(request)))
        .add_service(WatchServer::with_interceptor(fake.clone(), move |request| watch.check(request)))
        .add_service(doorman.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming));
    endpoint
}

fn client(endpoint: String, password: &str) -> Client {
    let user = User { name: "root".into(), password: Password::new(password.into()) };
    Client::connect(&Config { user: Some(user), ..Config::new([endpoint]) }).unwrap()
}

#[tokio::test]
async fn a_token_is_obtained_once_and_again_when_it_is_refused() {
    let (fake, doorman) = (Fake::new(), Doorman::default());
    doorman.demand("one");
    let client = client(serve(&fake, &doorman).await, "secret");
    client.put(Put::new("a", "1")).await.unwrap();
    client.get(Get::key("a")).await.unwrap();
    assert_eq!(doorman.logins(), 1);
    doorman.demand("two");
    let calls = (0..8).map(|_| client.get(Get::key("a")));
    assert!(futures_util::future::join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(doorman.logins(), 2, "whoever is refused first logs in for all");
    doorman.demand("three");
    client.put(Put::new("b", "2")).await.unwrap();
    assert_eq!((doorman.logins(), fake.state().revision), (3, 3), "a refused write is made once");
}

#[tokio::test]
async fn a_cluster_that_demands_no_users_is_asked_once_until_it_does() {
    let (fake, doorman) = (Fake::new(), Doorman::default());
    let client = client(serve(&fake, &doorman).await, "secret");
    client.put(Put::new("a", "1")).await.unwrap();
    client.put(Put::new("a", "2")).await.unwrap();
    assert_eq!(doorman.logins(), 1);
    doorman.demand("one");
    client.put(Put::new("a", "3")).await.unwrap();
    assert_eq!(doorman.logins(), 2);
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_tried_again() {
    let (fake, doorman) = (Fake::new(), Doorman::default());
    doorman.demand("one");
    let client = client(serve(&fake, &doorman).await, "wrong");
    let refused = client.put(Put::new("a", "1")).await;
    let text = "etcdserver: authentication failed, invalid user ID or password";
    assert!(matches!(&refused, Err(ClientError::Refused { text: told, .. }) if told == text), "{refused:?}");
    assert_eq!((doorman.logins(), fake.state().revision), (1, 1));
}

#[tokio::test]
async fn a_watch_is_opened_with_a_new_token_too() {
    let (fake, doorman) = (Fake::new(), Doorman::default());
    doorman.demand("one");
    let client = client(serve(&fake, &doorman).await, "secret");
    client.get(Get::key("a")).await.unwrap();
    doorman.demand("two");
    let options = WatchOptions { start: Revision::new(1), ..WatchOptions::default() };
    let mut watch = client.watch(KeyRange::One(Bytes::from("a")), options).await.unwrap();
    fake.write(&["a"]);
    assert_eq!(watch.next().await.unwrap().unwrap().events.len(), 1);
    assert_eq!(doorman.logins(), 2);
}

//! Who a client is: its token, obtained by name and password, sent with each request, renewed when it is refused.
//!
//! Owns: the token in use.
//!
//! - Whoever sees a token refused first renews it, once, for everybody.
//! - A cluster that demands no users is asked once, and again only when it refuses a request for having none.
//! - Neither token nor password is printed or logged.

use crate::transport::Link;
use arc_swap::ArcSwap;
use proto::etcdserverpb::{AuthenticateRequest, auth_client::AuthClient};
use std::{fmt, sync::Arc};
use tokio::sync::Mutex;
use tonic::{
    Status,
    codegen::http::{HeaderMap, HeaderName, HeaderValue},
};
use zeroize::Zeroizing;

/// Where etcd's clients carry the token.
const TOKEN: HeaderName = HeaderName::from_static("token");
/// etcd's words where users are not demanded.
const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";
/// etcd's words for a token that is no longer good, and for one that is missing.
const REFUSED: [&str; 3] =
    ["etcdserver: invalid auth token", "etcdserver: revision of auth store is old", "etcdserver: user name is empty"];

/// A password. Never printed, and wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes a password over.
    pub fn new(password: String) -> Self {
        Self(Zeroizing::new(password))
    }

    /// Whether it is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For the wire alone.
    pub(crate) fn reveal(&self) -> String {
        self.0.to_string()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A user of a cluster that demands them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: Password,
}

/// What requests carry.
enum Pass {
    /// Nothing yet.
    Unknown,
    /// Nothing: the cluster demands no users.
    NotDemanded,
    Token(HeaderValue),
}

/// The login of one client; its clones share it.
pub(crate) struct Login {
    user: User,
    pass: ArcSwap<Pass>,
    /// Held by whoever logs in, so that the others wait for the outcome.
    renewing: Mutex<()>,
}

/// The pass that a request was sent with.
pub(crate) struct Used(Arc<Pass>);

impl Login {
    pub(crate) fn new(user: User) -> Self {
        Self { user, pass: ArcSwap::from_pointee(Pass::Unknown), renewing: Mutex::new(()) }
    }

    /// Adds the token to a request.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        if let Pass::Token(token) = &**self.pass.load() {
            headers.insert(TOKEN, token.clone());
        }
    }

    /// Logs in by `link` where that was not done.
    pub(crate) async fn ensure(&self, link: Link) -> Result<Used, Status> {
        let pass = self.pass.load_full();
        if !matches!(*pass, Pass::Unknown) {
            return Ok(Used(pass));
        }
        let _renewing = self.renewing.lock().await;
        let pass = self.pass.load_full();
        if !matches!(*pass, Pass::Unknown) {
            return Ok(Used(pass));
        }
        let pass = Arc::new(self.log_in(link).await?);
        self.pass.store(pass.clone());
        Ok(Used(pass))
    }

    async fn log_in(&self, link: Link) -> Result<Pass, Status> {
        let request = AuthenticateRequest { name: self.user.name.clone(), password: self.user.password.reveal() };
        match AuthClient::new(link.without_login()).authenticate(request).await {
            Ok(answer) => {
                let mut token = HeaderValue::try_from(answer.into_inner().token)
                    .map_err(|_| Status::internal("the server gave a token that no header can carry"))?;
                token.set_sensitive(true);
                tracing::debug!(user = %self.user.name, "logged in");
                Ok(Pass::Token(token))
            }
            Err(status) if status.message() == NOT_ENABLED => Ok(Pass::NotDemanded),
            Err(status) => Err(status),
        }
    }

    /// Forgets a pass that was refused, unless somebody has renewed it already.
    pub(crate) fn forget(&self, used: &Used) {
        self.pass.compare_and_swap(&used.0, Arc::new(Pass::Unknown));
    }
}

/// Whether these words of a server's ask for another login.
pub(crate) fn is_refused(text: &str) -> bool {
    REFUSED.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_printed() {
        let user = User { name: "root".into(), password: Password::new("secret".into()) };
        let shown = format!("{user:?}");
        assert!(shown.contains("root") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_pass_is_forgotten_once() {
        let login = Login::new(User { name: "a".into(), password: Password::new("b".into()) });
        let first = Arc::new(Pass::Token(HeaderValue::from_static("first")));
        login.pass.store(first.clone());
        let mut headers = HeaderMap::new();
        login.mark(&mut headers);
        assert_eq!(headers["token"], "first");
        login.pass.store(Arc::new(Pass::Token(HeaderValue::from_static("second"))));
        login.forget(&Used(first));
        login.mark(&mut headers);
        assert_eq!(headers["token"], "second");
        let second = login.pass.load_full();
        login.forget(&Used(second));
        assert!(matches!(**login.pass.load(), Pass::Unknown));
    }
}

//! Tunnels after a protocol switch: bytes both ways, unread.

use http::{
    HeaderValue, Response,
    header::{CONNECTION, UPGRADE},
};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;

use crate::upstream::Lease;

/// Joins client and endpoint once both have switched. The task belongs to the worker's runtime.
pub(crate) fn tunnel(client: OnUpgrade, response: &mut Response<Incoming>, lease: Lease) {
    let endpoint = hyper::upgrade::on(response);
    tokio::spawn(async move {
        // The lease keeps the endpoint's counts until the tunnel ends.
        let _lease = lease;
        let (client, endpoint) = match tokio::try_join!(client, endpoint) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "no tunnel"),
        };
        let (mut client, mut endpoint) = (TokioIo::new(client), TokioIo::new(endpoint));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut endpoint).await {
            tracing::debug!(%error, "tunnel ended");
        }
    });
}

/// The headers of a message that switches protocols.
pub(crate) fn mark(headers: &mut http::HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

//! What a connection's requests are for.
//!
//! - gRPC goes straight to its services; everything else goes to the HTTP face.
//! - Services find out who is at the other end by the [`PeerInfo`] among a request's extensions.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, service::Service};
use server::{Answer, Answering, GrpcFace, HttpFace};
use tls::PeerInfo;
use tonic::{Status, body::Body};

/// What a listener serves.
#[derive(Clone, Debug)]
pub(super) struct Faces {
    pub(super) grpc: Option<GrpcFace>,
    pub(super) http: Option<HttpFace>,
}

impl Faces {
    /// The same for one serving thread.
    pub(super) fn for_thread(&self) -> Self {
        let grpc = self.grpc.as_ref().map(GrpcFace::for_thread);
        Self { grpc, http: self.http.as_ref().map(HttpFace::for_thread) }
    }
}

/// One connection's way to the faces.
#[derive(Clone, Debug)]
pub(super) struct Door {
    faces: Faces,
    peer: PeerInfo,
    secure: bool,
}

impl Door {
    /// `secure`: the connection is TLS.
    pub(super) fn new(faces: Faces, peer: PeerInfo, secure: bool) -> Self {
        Self { faces, peer, secure }
    }
}

impl Service<Request<Incoming>> for Door {
    type Response = Response<Outgoing>;
    type Error = Infallible;
    type Future = Opening;

    fn call(&self, mut request: Request<Incoming>) -> Opening {
        request.extensions_mut().insert(self.peer.clone());
        match (&self.faces.grpc, &self.faces.http) {
            (Some(grpc), _) if is_grpc(&request) => Opening::Grpc(grpc.answer(request)),
            (_, Some(http)) => {
                let (http, request, secure) = (http.clone(), request.map(Body::new), self.secure);
                Opening::Http(Box::pin(async move { http.answer(request, secure).await }))
            }
            (_, None) => Opening::Closed,
        }
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let speaks = |content: &HeaderValue| content.as_bytes().starts_with(b"application/grpc");
    request.version() == Version::HTTP_2 && request.headers().get(header::CONTENT_TYPE).is_some_and(speaks)
}

/// A request on its way.
#[expect(clippy::large_enum_variant, reason = "nearly every request is gRPC, and a box would cost it an allocation")]
pub(super) enum Opening {
    Grpc(Answering),
    Http(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
    /// The listener has no face for it.
    Closed,
}

impl Future for Opening {
    type Output = Result<Response<Outgoing>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match &mut *self {
            Self::Grpc(answer) => {
                let Ok(response) = ready!(Pin::new(answer).poll(cx));
                response.map(Outgoing::Grpc)
            }
            Self::Http(answer) => ready!(answer.as_mut().poll(cx)).map(Outgoing::Http),
            Self::Closed => {
                let mut response = Response::new(Outgoing::Http(Body::empty()));
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }))
    }
}

/// The body of an answer.
pub(super) enum Outgoing {
    Grpc(Answer),
    Http(Body),
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut *self {
            Self::Grpc(body) => Pin::new(body).poll_frame(cx),
            Self::Http(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Grpc(body) => body.is_end_stream(),
            Self::Http(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Grpc(body) => body.size_hint(),
            Self::Http(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_its_content_type_on_http_2() {
        let cases = [
            (Version::HTTP_2, Some("application/grpc"), true),
            (Version::HTTP_2, Some("application/grpc+proto"), true),
            (Version::HTTP_2, Some("application/json"), false),
            (Version::HTTP_2, None, false),
            (Version::HTTP_11, Some("application/grpc"), false),
        ];
        for (version, content, expected) in cases {
            let mut request = Request::builder().version(version);
            if let Some(content) = content {
                request = request.header("content-type", content);
            }
            assert_eq!(is_grpc(&request.body(()).unwrap()), expected, "{version:?} {content:?}");
        }
    }
}

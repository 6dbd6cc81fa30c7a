//! What every request passes: authorization on the way in; on the way out a panic
//! becomes INTERNAL, and tonic's code for a message that is too large the
//! contract's.
//!
//! Deliberately absent: deadlines of unary calls (a wait has its own), tracing.

use std::{
    any::Any,
    convert::Infallible,
    future::{self, Ready},
    panic::AssertUnwindSafe,
    task::{Context, Poll},
};

use futures_util::{
    FutureExt,
    future::{CatchUnwind, Either, Map},
};
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use super::REQUEST_BYTES_MAX;

use crate::grpc::{
    auth::{self, Peer},
    status::{self, Reason},
};

/// Makes a [`Front`].
#[derive(Debug, Clone, Copy)]
pub(super) struct FrontLayer {
    /// User the daemon runs as.
    pub(super) own_uid: u32,
}

/// Stands before the routes.
#[derive(Debug, Clone)]
pub(super) struct Front<S> {
    inner: S,
    own_uid: u32,
}

type Answer = Result<Response<Body>, Infallible>;
type Caught = Result<Answer, Box<dyn Any + Send>>;

impl<S> Layer<S> for FrontLayer {
    type Service = Front<S>;

    fn layer(&self, inner: S) -> Front<S> {
        Front {
            inner,
            own_uid: self.own_uid,
        }
    }
}

impl<S> Service<Request<Body>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        Either<Ready<Answer>, Map<CatchUnwind<AssertUnwindSafe<S::Future>>, fn(Caught) -> Answer>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        match auth::authorize(peer, self.own_uid, request.uri().path()) {
            Err(status) => Either::Left(future::ready(Ok(status.into_http()))),
            Ok(principal) => {
                request.extensions_mut().insert(principal);
                // A handler that panicked is not called again; what it shares is
                // behind locks that ignore poison, or not touched under a lock.
                let handling = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
                Either::Right(handling.map(finish as fn(Caught) -> Answer))
            }
        }
    }
}

fn finish(caught: Caught) -> Answer {
    match caught {
        Ok(Ok(response)) if is_too_large(&response) => Ok(too_large().into_http()),
        Ok(answer) => answer,
        Err(_) => {
            tracing::error!("a handler panicked");
            Ok(status::internal("").into_http())
        }
    }
}

/// Whether tonic refused to decode the request for its size.
fn is_too_large(response: &Response<Body>) -> bool {
    let header = |name| response.headers().get(name).map(|value| value.as_bytes());
    header("grpc-status") == Some(b"11")
        && header("grpc-message").is_some_and(|text| {
            // tonic's text, percent-encoded.
            let mark: &[u8] = b"length%20too%20large";
            text.windows(mark.len()).any(|part| part == mark)
        })
}

fn too_large() -> tonic::Status {
    status::plain(
        Reason::MessageTooLarge,
        format!("the request is larger than {REQUEST_BYTES_MAX} bytes"),
        [("limit", REQUEST_BYTES_MAX.to_string())],
    )
}

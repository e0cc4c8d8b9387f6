//! The hub's HTTP: who asks is known already, by the key of the connection. One group of paths per file; `bosco_wire::api` has
//! the list.

mod builds;
mod closures;
mod host;
mod join;
mod operator;
mod paths;
mod publish;
mod secrets;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use bosco_model::{HostName, Selector};
use bosco_secrets::MAX_BUNDLE;
use bosco_wire::api::{LONGEST_BODY, LONGEST_CLOSURE, LONGEST_DOCUMENT, LONGEST_WAIT, Problem};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_blocking;
use tower_service::Service;

use crate::Error;
use crate::authority::Publisher;
use crate::hub::{Host, Hub, Who};

/// How much of a request's head is read, in bytes.
const HEAD: usize = 16 * 1024;

/// From which address somebody comes.
#[derive(Debug, Clone, Copy)]
struct From(IpAddr);

/// Answers whoever is at the other end of a stream, until they have no more questions.
pub(crate) async fn serve(
    hub: Arc<Hub>,
    who: Who,
    from: IpAddr,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) {
    let router = router(hub);
    let control = host::Control::default();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(who.clone());
        request.extensions_mut().insert(From(from));
        request.extensions_mut().insert(control.clone());
        router.clone().call(request)
    });
    let server = hyper::server::conn::http1::Builder::new()
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // How it ended is the other side's business.
    let _ = server.await;
}

fn router(hub: Arc<Hub>) -> Router {
    let documents = DefaultBodyLimit::max(LONGEST_DOCUMENT);
    Router::new()
        .route("/v1/host/hello", post(host::hello))
        .route("/v1/host/orders", get(host::orders))
        .route("/v1/host/standing", post(host::standing))
        .route("/v1/host/reports", post(host::report))
        .route("/v1/host/closures/{digest}", get(closures::own))
        .route("/v1/host/paths", post(paths::send))
        .route("/v1/host/secrets/{digest}", get(secrets::own))
        .route("/v1/join", post(join::join))
        .route("/v1/joins", get(join::list))
        .route("/v1/joins/approve", post(join::approve))
        .route("/v1/status", get(operator::status))
        .route("/v1/next", get(publish::next))
        .route("/v1/releases", get(operator::releases).post(publish::publish).layer(documents))
        .route("/v1/releases/draft", post(publish::draft).layer(documents))
        .route("/v1/releases/{number}", get(operator::release))
        .route("/v1/closures/missing", post(closures::missing))
        .route("/v1/closures", post(closures::keep).layer(DefaultBodyLimit::max(LONGEST_CLOSURE)))
        .route("/v1/builds", post(builds::build))
        .route("/v1/paths/missing", post(paths::missing))
        .route("/v1/closures/{digest}", get(closures::any))
        .route("/v1/paths", post(paths::take).layer(DefaultBodyLimit::disable()))
        .route("/v1/secrets/missing", post(secrets::missing))
        .route("/v1/secrets/{digest}", put(secrets::keep).layer(DefaultBodyLimit::max(MAX_BUNDLE)))
        .route("/v1/hosts/{host}", put(operator::enroll).delete(operator::forget))
        .route("/v1/hosts/{host}/reports", get(operator::reports))
        .route("/v1/hosts/{host}/trigger", post(operator::trigger))
        .route("/v1/hosts/{host}/hold", post(operator::hold))
        .route("/v1/hosts/{host}/resume", post(operator::resume))
        .fallback(async || Refused::new(StatusCode::NOT_FOUND, "there is nothing by this name"))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(hub)
}

/// Something was not done.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    error: String,
    /// When to ask again.
    again: Option<Duration>,
}

type Answer<T> = Result<T, Refused>;

impl Refused {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), again: None }
    }

    /// There is no place for this just now.
    fn busy(again: Duration) -> Self {
        let why = "as many are served as can be; again later";
        Self { again: Some(again), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, why) }
    }

    fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "this key may not do that")
    }

    /// What is not somebody's own is not told from what is not there.
    fn not_there(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no {what} of that name"))
    }

    fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Problem { error: self.error })).into_response();
        if let Some(again) = self.again {
            response.headers_mut().insert(RETRY_AFTER, again.as_secs().into());
        }
        response
    }
}

impl<E: Into<Error>> std::convert::From<E> for Refused {
    fn from(error: E) -> Self {
        let error = error.into();
        // What exactly is the business of who looks after the hub.
        crate::say(&format!("bosco hub: {error}"));
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the hub could not do it; its log says why")
    }
}

/// The host that asks.
struct AsHost(Arc<Host>);

/// The operator who asks.
struct AsOperator {
    name: String,
    grant: Selector,
}

impl FromRequestParts<Arc<Hub>> for AsHost {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Answer<Self> {
        match parts.extensions.get() {
            Some(Who::Host(name)) => {
                let host = hub.host(name).filter(|host| host.now().gone.is_none());
                host.map(Self).ok_or_else(Refused::forbidden)
            }
            _ => Err(Refused::forbidden()),
        }
    }
}

impl FromRequestParts<Arc<Hub>> for AsOperator {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _hub: &Arc<Hub>) -> Answer<Self> {
        match parts.extensions.get() {
            Some(Who::Operator(name, grant)) => Ok(Self { name: name.clone(), grant: grant.clone() }),
            _ => Err(Refused::forbidden()),
        }
    }
}

impl AsOperator {
    /// Who they are to the decision about a release.
    fn publisher(&self) -> Publisher<'_> {
        Publisher { name: &self.name, grant: &self.grant }
    }

    /// A host that they are granted and that is let in.
    fn host(&self, hub: &Hub, name: &str) -> Answer<Arc<Host>> {
        let name = HostName::parse(name).map_err(|error| Refused::bad(error.to_string()))?;
        let host = hub.host(&name).filter(|host| host.now().gone.is_none());
        host.filter(|_| hub.grants(&self.grant, &name)).ok_or_else(|| Refused::not_there("host"))
    }
}

/// Does what takes long, where it holds up nobody.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    let ends = |_| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the hub ends");
    spawn_blocking(work).await.map_err(ends)?
}

/// Does what must not be left half done, on the disk and nowhere else, to its end: whoever hangs up meanwhile.
async fn whole<T: Send + 'static>(work: impl Future<Output = Answer<T>> + Send + 'static) -> Answer<T> {
    let ends = |_| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the hub ends");
    tokio::spawn(work).await.map_err(ends)?
}

/// Reads a document that may be long.
async fn read<T: DeserializeOwned + Send + 'static>(body: Bytes) -> Answer<T> {
    aside(move || serde_json::from_slice(&body).map_err(|error| Refused::bad(error.to_string()))).await
}

/// A document that is written already.
fn json(text: impl IntoResponse) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}

/// How long somebody wants to wait, as far as they may.
fn wait(seconds: Option<u64>) -> Duration {
    Duration::from_secs(seconds.unwrap_or_default().min(LONGEST_WAIT))
}

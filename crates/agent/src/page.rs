//! The page on the host itself: what runs, what should, and a button to update now.
//!
//! It is on the loopback only, which says nothing of who asks: every user of the machine can, and every web page that a browser
//! there shows would like to. So it shows no logs, and changes nothing but when the host looks for an update: by a word that the
//! page itself has, from that page, and not often.

mod guard;
mod html;

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use guard::{Asked, Verdict};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use crate::agent::Agent;
use crate::machine;

/// How many connections there may be at once.
const MOST: usize = 8;
/// How long one may last.
const LASTS: Duration = Duration::from_secs(10);
/// How long it takes from one update to the next.
const PAUSE: Duration = Duration::from_secs(10);
/// The longest form, in bytes.
const FORM: usize = 1024;
/// The longest head of a request, in bytes.
const HEAD: usize = 16 * 1024;

/// The page of an agent.
struct Page {
    agent: Arc<Agent>,
    port: u16,
    /// What the page's own button brings.
    token: String,
    last: Mutex<Option<Instant>>,
}

/// Serves the page, without end. Where it can't be, the agent does without.
pub(crate) async fn serve(agent: &Arc<Agent>, port: u16) {
    let token = format!("{:016x}{:016x}", machine::random(), machine::random());
    let page = Arc::new(Page { agent: Arc::clone(agent), port, token, last: Mutex::new(None) });
    let places = Arc::new(Semaphore::new(MOST));
    let (four, six) =
        (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    tokio::join!(listen(&page, &places, four), listen(&page, &places, six));
}

async fn listen(page: &Arc<Page>, places: &Arc<Semaphore>, at: SocketAddr) {
    let listener = match TcpListener::bind(at).await {
        Ok(listener) => listener,
        Err(error) => {
            // A machine without IPv6 is none that anybody wants to hear of.
            if at.is_ipv4() {
                page.agent.say(&format!("there is no page on {at}: {error}"));
            }
            return;
        }
    };
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Of open files there may be none left.
            sleep(Duration::from_secs(1)).await;
            continue;
        };
        let page = Arc::clone(page);
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| page.answer(request));
            let mut builder = hyper::server::conn::http1::Builder::new();
            let connection =
                builder.keep_alive(false).max_buf_size(HEAD).serve_connection(TokioIo::new(stream), service);
            let _ = timeout(LASTS, connection).await;
        });
    }
}

impl Page {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let asked = Asked {
            host: text(&head.headers, "host"),
            origin: text(&head.headers, "origin"),
            site: text(&head.headers, "sec-fetch-site"),
            changes: head.method == Method::POST,
        };
        if let Verdict::No(why) = guard::check(&asked, self.port) {
            return Ok(plain(StatusCode::FORBIDDEN, why));
        }
        Ok(match (head.method.as_str(), head.uri.path()) {
            ("GET", "/") => {
                let standing = self.agent.core().standing();
                let (should, profiles) = {
                    let core = self.agent.core();
                    (core.should().cloned(), core.profiles().clone())
                };
                let (host, token) = (&self.agent.config.host, &self.token);
                let html = html::page(host, &standing, should.as_ref(), &profiles, token);
                respond(StatusCode::OK, "text/html; charset=utf-8", html)
            }
            ("GET", "/style.css") => {
                respond(StatusCode::OK, "text/css; charset=utf-8", html::STYLE.to_owned())
            }
            ("POST", "/update") => self.update(body).await,
            ("GET" | "POST", _) => plain(StatusCode::NOT_FOUND, "there is no such page"),
            _ => plain(StatusCode::METHOD_NOT_ALLOWED, "nothing else can be done here"),
        })
    }

    async fn update(&self, body: Incoming) -> Response<Full<Bytes>> {
        let Ok(form) = Limited::new(body, FORM).collect().await else {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "that is no form of this page");
        };
        if !guard::has_token(&form.to_bytes(), &self.token) {
            return plain(StatusCode::FORBIDDEN, "the page is out of date; load it again");
        }
        if !self.is_time() {
            return plain(StatusCode::TOO_MANY_REQUESTS, "it is at it already");
        }
        self.agent.say("somebody at the machine wants it to update now");
        self.agent.core().nudge();
        self.agent.changed.notify_one();
        let mut response = plain(StatusCode::SEE_OTHER, "");
        response.headers_mut().insert("location", HeaderValue::from_static("/"));
        response
    }

    fn is_time(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = last.is_none_or(|last| last.elapsed() >= PAUSE);
        if is_time {
            *last = Some(Instant::now());
        }
        is_time
    }
}

/// A header that is there once.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    // What is there twice, or is no text, is as good as something else.
    Some(if all.next().is_some() { "" } else { first.to_str().unwrap_or_default() })
}

fn plain(status: StatusCode, words: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", words.to_owned())
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    const HEADERS: [(&str, &str); 5] = [
        ("content-security-policy", guard::POLICY),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
        // With none at all, a browser would not say that a form is the page's own.
        ("referrer-policy", "same-origin"),
        ("x-frame-options", "DENY"),
    ];
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

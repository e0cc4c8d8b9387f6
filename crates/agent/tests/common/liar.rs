//! A hub that speaks the protocol and is not honest: what it answers is up to the test.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bosco_release::Digest;
use bosco_wire::api::{Hello, Orders, Standing, Welcome};
use bosco_wire::pack::Head;
use bosco_wire::stream::Stream;
use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey, run_stream};
use russh::{Channel, MethodKind, MethodSet};
use simulated::identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::sleep;

/// Where the hub says nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silent {
    Never,
    /// It takes the connection, and that is all.
    FromTheStart,
    /// It says that it speaks SSH, and leaves it at that.
    AtTheKeys,
    /// Nobody gets a channel.
    AfterTheLogin,
    /// The hello is not answered.
    AtTheHello,
    /// Nothing is answered behind the hello.
    AfterTheHello,
    /// Nobody hears of any orders.
    AtTheOrders,
}

/// What is answered.
#[derive(Clone)]
pub(crate) enum Answer {
    /// Nothing, ever.
    Nothing,
    This(Bytes),
    /// By the archives that were asked for.
    Asked(Arc<dyn Fn(Vec<Digest>) -> Bytes + Send + Sync>),
    /// Pieces, each when the one before is gone and this time has passed.
    Pieces(Arc<dyn Fn() -> Pieces + Send + Sync>, Duration),
    /// The first of it, and then nothing.
    Half(Bytes),
    /// That there is no place, and to come back in a second.
    Busy,
}

pub(crate) type Pieces = Box<dyn Iterator<Item = Bytes> + Send>;

/// What is said and what was seen.
pub(crate) struct Script {
    pub(crate) silent: Mutex<Silent>,
    pub(crate) welcome: Mutex<Welcome>,
    /// The next answers to those who ask for orders; behind them there is nothing new.
    pub(crate) orders: Mutex<Vec<Answer>>,
    pub(crate) contents: Mutex<Answer>,
    pub(crate) paths: Mutex<Answer>,
    pub(crate) secrets: Mutex<Answer>,
    pub(crate) standings: Mutex<Vec<Standing>>,
    /// How many have logged in as whom.
    pub(crate) logins: Mutex<HashMap<String, usize>>,
    pub(crate) visits: Mutex<Vec<String>>,
    pub(crate) connections: AtomicUsize,
    pub(crate) open: AtomicUsize,
    pub(crate) most_open: AtomicUsize,
    /// How many were told that there is no place.
    pub(crate) busy: AtomicUsize,
    /// How many bytes of pieces were taken.
    pub(crate) taken: AtomicU64,
}

pub(crate) struct Liar {
    pub(crate) address: String,
    pub(crate) script: Arc<Script>,
}

impl Liar {
    pub(crate) async fn start(silent: Silent) -> Self {
        let script = Arc::new(Script {
            silent: Mutex::new(silent),
            welcome: Mutex::new(Welcome { ratchet: "x".into(), alarm: None }),
            orders: Mutex::default(),
            contents: Mutex::new(Answer::Nothing),
            paths: Mutex::new(Answer::Nothing),
            secrets: Mutex::new(Answer::Nothing),
            standings: Mutex::default(),
            logins: Mutex::default(),
            visits: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(accept(listener, Arc::clone(&script)));
        Self { address, script }
    }

    /// The next orders.
    pub(crate) fn order(&self, orders: &Orders) {
        let text = serde_json::to_vec(orders).unwrap();
        self.script.orders.lock().unwrap().insert(0, Answer::This(text.into()));
    }

    /// What the host has said last.
    pub(crate) fn heard(&self) -> Standing {
        self.script.standings.lock().unwrap().last().cloned().unwrap_or_default()
    }

    pub(crate) fn logins(&self, user: &str) -> usize {
        self.script.logins.lock().unwrap().get(user).copied().unwrap_or_default()
    }
}

/// Archives as they are sent.
pub(crate) fn pack<'a>(archives: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let mut pack = Vec::new();
    for archive in archives {
        let stored = zstd::encode_all(archive, 3).unwrap();
        let hash = Digest::of(&[archive]);
        let head = Head { hash, size: archive.len() as u64, stored: stored.len() as u64 };
        pack.extend_from_slice(&head.to_bytes());
        pack.extend_from_slice(&stored);
    }
    pack.into()
}

async fn accept(listener: TcpListener, script: Arc<Script>) {
    let config = Arc::new(Config {
        keys: vec![identity("hub")],
        methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
        nodelay: true,
        ..Config::default()
    });
    while let Ok((stream, _)) = listener.accept().await {
        let (config, script) = (Arc::clone(&config), Arc::clone(&script));
        tokio::spawn(async move {
            script.connections.fetch_add(1, Ordering::Relaxed);
            let open = script.open.fetch_add(1, Ordering::Relaxed) + 1;
            script.most_open.fetch_max(open, Ordering::Relaxed);
            let silent = *script.silent.lock().unwrap();
            if matches!(silent, Silent::FromTheStart | Silent::AtTheKeys) {
                let (mut stream, mut buffer) = (stream, vec![0; 1024]);
                if silent == Silent::AtTheKeys {
                    let _ = stream.write_all(b"SSH-2.0-none\r\n").await;
                }
                while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
            } else if let Ok(session) = run_stream(config, stream, Door { script: Arc::clone(&script) }).await
            {
                let _ = session.await;
            }
            script.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

struct Door {
    script: Arc<Script>,
}

impl Handler for Door {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, user: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        *self.script.logins.lock().unwrap().entry(user.to_owned()).or_default() += 1;
        Ok(Auth::Accept)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        _port: u32,
        _from: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if *self.script.silent.lock().unwrap() == Silent::AfterTheLogin {
            std::mem::forget(reply);
            return Ok(());
        }
        reply.accept().await;
        if host != "bosco" {
            self.script.visits.lock().unwrap().push(host.to_owned());
            tokio::spawn(async move {
                let _stream = Stream::new(channel);
                std::future::pending::<()>().await;
            });
            return Ok(());
        }
        let script = Arc::clone(&self.script);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&script), request));
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(Stream::new(channel)), service).await;
        });
        Ok(())
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

async fn answer(script: Arc<Script>, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    let silent = *script.silent.lock().unwrap();
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    let nothing = |status: u16| Ok(Response::builder().status(status).body(full("")).unwrap());
    match path.as_str() {
        "/v1/host/hello" => {
            if silent == Silent::AtTheHello {
                std::future::pending::<()>().await;
            }
            let hello: Hello = serde_json::from_slice(&body).unwrap();
            script.standings.lock().unwrap().push(hello.standing);
            let welcome = serde_json::to_vec(&*script.welcome.lock().unwrap()).unwrap();
            Ok(Response::new(full(welcome)))
        }
        _ if silent == Silent::AfterTheHello => std::future::pending().await,
        "/v1/host/standing" => {
            script.standings.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            nothing(204)
        }
        "/v1/host/orders" => {
            if silent == Silent::AtTheOrders {
                std::future::pending::<()>().await;
            }
            let orders = script.orders.lock().unwrap().pop();
            match orders {
                Some(orders) => give(script, orders).await,
                None => {
                    sleep(Duration::from_millis(300)).await;
                    nothing(204)
                }
            }
        }
        "/v1/host/paths" => {
            let mut paths = script.paths.lock().unwrap().clone();
            if let Answer::Asked(by) = paths {
                paths = Answer::This(by(serde_json::from_slice(&body).unwrap()));
            }
            give(script, paths).await
        }
        path if path.starts_with("/v1/host/secrets/") => {
            let secrets = script.secrets.lock().unwrap().clone();
            give(script, secrets).await
        }
        path if path.starts_with("/v1/host/closures/") => {
            let contents = script.contents.lock().unwrap().clone();
            give(script, contents).await
        }
        _ => nothing(404),
    }
}

async fn give(script: Arc<Script>, answer: Answer) -> Result<Response<Body>, std::io::Error> {
    let (pieces, pause, ends): (Pieces, Duration, bool) = match answer {
        Answer::Nothing | Answer::Asked(_) => std::future::pending().await,
        Answer::Busy => {
            script.busy.fetch_add(1, Ordering::Relaxed);
            return Ok(Response::builder().status(503).header("retry-after", "1").body(full("")).unwrap());
        }
        Answer::This(bytes) => return Ok(Response::new(full(bytes))),
        Answer::Half(bytes) => (Box::new(std::iter::once(bytes)), Duration::ZERO, false),
        Answer::Pieces(pieces, pause) => (pieces(), pause, true),
    };
    let stream = unfold((pieces, script), move |(mut pieces, script)| async move {
        sleep(pause).await;
        let Some(piece) = pieces.next() else {
            if !ends {
                std::future::pending::<()>().await;
            }
            return None;
        };
        script.taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Some((Ok(Frame::data(piece)), (pieces, script)))
    });
    Ok(Response::new(BodyExt::boxed(StreamBody::new(SyncStream(Mutex::new(Box::pin(stream)))))))
}

/// A stream that several threads may hold, as hyper's boxed body wants it; one of them reads it.
struct SyncStream<S>(Mutex<std::pin::Pin<Box<S>>>);

impl<S: futures_util::Stream> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.0.lock().unwrap().as_mut().poll_next(context)
    }
}

//! A client of the hub's HTTP, over any stream: an agent's channel, or an operator's `ssh -W`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::RETRY_AFTER;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::api::{LONGEST_BODY, LONGEST_DOCUMENT, LONGEST_WAIT, Problem};

/// How long an answer may take to begin, beyond what was asked to wait for.
pub const ANSWER: Duration = Duration::from_secs(60);
/// How many pieces of a body may be under way.
const PIECES: usize = 16;

type Body = BoxBody<Bytes, std::io::Error>;

/// A connection to the hub's HTTP. One request at a time.
pub struct Http {
    sender: SendRequest<Body>,
    answer: Duration,
    most: usize,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The hub said no.
    #[error("{error}")]
    Refused {
        /// The status.
        status: u16,
        /// In words.
        error: String,
    },
    /// The hub has no place for this just now, and says when to ask again.
    #[error("the hub is busy")]
    Busy(Duration),
    /// It did not answer in time.
    #[error("the hub does not answer")]
    Silent,
    /// The connection broke.
    #[error("the connection to the hub broke: {0}")]
    Broken(String),
    /// It answered something else.
    #[error("the hub's answer can't be read: {0}")]
    Unreadable(String),
}

fn broken(error: impl std::fmt::Display) -> HttpError {
    HttpError::Broken(error.to_string())
}

impl Http {
    /// Speaks HTTP over a stream.
    ///
    /// # Errors
    /// [`HttpError::Broken`].
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, HttpError> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(16 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // It ends with the sender, or with the stream.
        tokio::spawn(connection);
        Ok(Self { sender, answer: ANSWER, most: LONGEST_DOCUMENT })
    }

    /// The same, where an answer may take only so long to begin, and have only so many bytes.
    #[must_use]
    pub fn limited(self, answer: Duration, most: usize) -> Self {
        Self { answer, most, ..self }
    }

    /// Whether no more can be asked.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, HttpError> {
        let response = self.ask(Method::GET, path, empty(), self.answer).await?;
        self.read(response).await
    }

    /// The same, where there may be nothing new for that long.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn wait<T: DeserializeOwned>(
        &mut self,
        path: &str,
        wait: Duration,
    ) -> Result<Option<T>, HttpError> {
        let response = self.ask(Method::GET, path, empty(), self.answer + wait).await?;
        if response.status() == StatusCode::NO_CONTENT {
            self.drain(response).await?;
            return Ok(None);
        }
        self.read(response).await.map(Some)
    }

    /// Asks for bytes, at most so many.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn bytes(&mut self, path: &str, most: usize) -> Result<Bytes, HttpError> {
        let response = self.ask(Method::GET, path, empty(), self.answer).await?;
        self.whole(response, most).await
    }

    /// Sends a document and asks for another one.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
        wait: Duration,
    ) -> Result<T, HttpError> {
        let response = self.ask(Method::POST, path, json(body)?, self.answer + wait).await?;
        self.read(response).await
    }

    /// Sends a document, where nothing comes back but that it was taken.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn send(&mut self, method: Method, path: &str, body: &impl Serialize) -> Result<(), HttpError> {
        let response = self.ask(method, path, json(body)?, self.answer).await?;
        self.drain(response).await
    }

    /// Sends bytes as they are, which may take so long, where nothing comes back but that they were taken.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn put(&mut self, path: &str, bytes: Vec<u8>, wait: Duration) -> Result<(), HttpError> {
        let body = Full::from(bytes).map_err(|never| match never {}).boxed();
        let response = self.ask(Method::PUT, path, body, self.answer + wait).await?;
        self.drain(response).await
    }

    /// Sends a document and gets a stream.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn stream(&mut self, path: &str, body: &impl Serialize) -> Result<Incoming, HttpError> {
        let response = self.ask(Method::POST, path, json(body)?, self.answer).await?;
        Ok(response.into_body())
    }

    /// Sends a stream: what is given to the sender. The second one is to be awaited at the same time; it ends with the stream.
    pub fn upload(
        &mut self,
        path: &str,
    ) -> (mpsc::Sender<Bytes>, impl Future<Output = Result<(), HttpError>> + use<'_>) {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(PIECES);
        let stream = futures_util::stream::poll_fn(move |context| {
            receiver.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        });
        let body = BodyExt::boxed(StreamBody::new(stream));
        let path = path.to_owned();
        let answer = async move {
            // As long as it moves, it may take its time; the sender's side sees when it does not.
            let response = self.request(Method::POST, &path, body).await?;
            self.drain(response).await
        };
        (sender, answer)
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Body,
        limit: Duration,
    ) -> Result<Response<Incoming>, HttpError> {
        timeout(limit, self.request(method, path, body)).await.map_err(|_| HttpError::Silent)?
    }

    async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Response<Incoming>, HttpError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", crate::api::HTTP.0)
            .header("content-type", "application/json")
            .body(body)
            .map_err(broken)?;
        self.sender.ready().await.map_err(broken)?;
        let response = self.sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let wait = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        let said = self.whole(response, LONGEST_BODY).await?;
        let error = serde_json::from_slice(&said).map_or_else(
            |_| format!("the hub answered {status}"),
            |problem: Problem| problem.error.chars().filter(|c| !c.is_control()).collect(),
        );
        if let Some(seconds) = wait.filter(|_| status == StatusCode::SERVICE_UNAVAILABLE) {
            return Err(HttpError::Busy(Duration::from_secs(u64::clamp(seconds, 1, LONGEST_WAIT))));
        }
        Err(HttpError::Refused { status: status.as_u16(), error })
    }

    async fn whole(&self, response: Response<Incoming>, most: usize) -> Result<Bytes, HttpError> {
        let body = Limited::new(response.into_body(), most).collect();
        let body = timeout(self.answer * 5, body).await.map_err(|_| HttpError::Silent)?;
        Ok(body.map_err(broken)?.to_bytes())
    }

    async fn read<T: DeserializeOwned>(&self, response: Response<Incoming>) -> Result<T, HttpError> {
        let body = self.whole(response, self.most).await?;
        serde_json::from_slice(&body).map_err(|error| HttpError::Unreadable(error.to_string()))
    }

    async fn drain(&self, response: Response<Incoming>) -> Result<(), HttpError> {
        self.whole(response, LONGEST_BODY).await.map(drop)
    }
}

fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed()
}

fn json(value: &impl Serialize) -> Result<Body, HttpError> {
    let text = serde_json::to_vec(value).map_err(broken)?;
    Ok(Full::from(text).map_err(|never| match never {}).boxed())
}

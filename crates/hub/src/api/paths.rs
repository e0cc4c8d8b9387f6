//! Archives, in and out.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bosco_release::Digest;
use bosco_wire::pack::{HEAD, Head};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{StreamExt, poll_fn};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Answer, AsHost, AsOperator, Refused};
use crate::hub::{Hub, RELEASES, now};
use crate::objects::Unkept;

/// How much is read from the disk at once.
const PIECE: usize = 256 * 1024;
/// How long who asks waits for a place among those who are sent something. Then they are told when to come back, well before they
/// think that nobody answers.
const QUEUE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(5);
/// How long a piece may wait to be taken: an agent gives up on less than this.
const STALLED: Duration = Duration::from_secs(300);
/// How much longer than an archive its compressed form may be: zstd's own bound is less.
const OVERHEAD: u64 = 64 * 1024;

/// `POST /v1/host/paths`
pub(super) async fn send(
    State(hub): State<Arc<Hub>>,
    AsHost(host): AsHost,
    Json(asked): Json<Vec<Digest>>,
) -> Answer<Response> {
    let own = hub.store.objects_of(&host.name, &asked, RELEASES).await?;
    let mut queue = Vec::with_capacity(asked.len());
    for hash in asked {
        let (size, stored) = *own.get(&hash).ok_or_else(|| Refused::not_there("path"))?;
        queue.push(Head { hash, size, stored });
    }
    // Its own first: who asks for more than it may have at once keeps nobody else waiting.
    let places = async {
        let own = Arc::clone(&host.bulk).acquire_owned().await;
        (own, Arc::clone(&hub.bulk).acquire_owned().await)
    };
    let (Ok(own), Ok(place)) = timeout(QUEUE, places).await.map_err(|_| Refused::busy(AGAIN))? else {
        return Err(Refused::busy(AGAIN));
    };
    let (sender, mut pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        let _places = (own, place);
        tokio::select! {
            () = give(&hub, queue, &sender) => {}
            // Whoever it was for is gone.
            () = sender.closed() => {}
        }
    });
    Ok(Body::from_stream(poll_fn(move |context| pieces.poll_recv(context))).into_response())
}

type Piece = std::io::Result<Bytes>;

/// Sends archives, one after the other. Who takes nothing for too long has lost their place.
async fn give(hub: &Hub, queue: Vec<Head>, sender: &mpsc::Sender<Piece>) {
    let pass = async |piece: Piece| matches!(timeout(STALLED, sender.send(piece)).await, Ok(Ok(())));
    for head in queue {
        let mut file = match tokio::fs::File::open(hub.objects.place(&head.hash)).await {
            Ok(file) => file,
            Err(error) => {
                crate::say(&format!("bosco hub: the archive {} can't be read: {error}", head.hash));
                pass(Err(error)).await;
                return;
            }
        };
        file.set_max_buf_size(PIECE);
        if !pass(Ok(Bytes::copy_from_slice(&head.to_bytes()))).await {
            return;
        }
        let mut left = head.stored;
        while left > 0 {
            let mut piece = BytesMut::with_capacity(PIECE);
            let read = (&mut file).take(left).read_buf(&mut piece).await;
            let piece = read.and_then(|read| {
                left -= read as u64;
                if read == 0 {
                    Err(std::io::Error::other("an archive is shorter than it was"))
                } else {
                    Ok(piece.freeze())
                }
            });
            let broke = piece.is_err();
            if !pass(piece).await || broke {
                return;
            }
        }
    }
}

/// `POST /v1/paths/missing`
pub(super) async fn missing(
    State(hub): State<Arc<Hub>>,
    _operator: AsOperator,
    Json(asked): Json<Vec<Digest>>,
) -> Answer<Json<Vec<Digest>>> {
    // Whoever asks is about to publish what needs them.
    let there = hub.store.want_objects(&asked, now()).await?;
    Ok(Json(asked.into_iter().filter(|hash| !there.contains(hash)).collect()))
}

/// `POST /v1/paths`
pub(super) async fn take(
    State(hub): State<Arc<Hub>>,
    _operator: AsOperator,
    body: Body,
) -> Answer<StatusCode> {
    let mut reader = Reader { body: body.into_data_stream(), piece: Bytes::new() };
    while let Some(head) = reader.head().await? {
        if !hub.objects.has_room(head.stored) {
            return Err(Refused::new(StatusCode::INSUFFICIENT_STORAGE, "the hub's disk is full"));
        }
        if head.stored > head.size.saturating_add(head.size / 64).saturating_add(OVERHEAD) {
            return Err(Refused::bad("an archive is sent longer than it is"));
        }
        let disk = |error: std::io::Error| crate::Error::disk(&hub.state, &error);
        let ends = || Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the hub ends");
        let mut incoming = hub.objects.incoming(head.hash, head.size).map_err(disk)?;
        let mut left = head.stored;
        while left > 0 {
            // A disk may take its time, and others are not to wait for it.
            let pieces = reader.pieces(left).await?;
            left -= pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
            let write =
                move || pieces.iter().try_for_each(|piece| incoming.write_all(piece)).map(|()| incoming);
            incoming = spawn_blocking(write).await.map_err(|_| ends())?.map_err(disk)?;
        }
        // To its end, whoever hangs up meanwhile: its row and its file are one.
        let kept = tokio::spawn({
            let hub = Arc::clone(&hub);
            async move { hub.keep_archive(incoming).await }
        });
        kept.await.map_err(|_| ends())?.map_err(|unkept| match unkept {
            Unkept::Other(_) => Refused::bad(unkept.to_string()),
            Unkept::Disk(error) => disk(error).into(),
            Unkept::Store(error) => error.into(),
        })?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// A stream in pieces, as they come.
struct Reader {
    body: BodyDataStream,
    piece: Bytes,
}

impl Reader {
    /// Has a piece with something in it; `false` at the end.
    async fn fill(&mut self) -> Answer<bool> {
        while self.piece.is_empty() {
            match self.body.next().await {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => return Err(Refused::bad(format!("the stream broke: {error}"))),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// At least one byte, at most so many.
    async fn piece(&mut self, most: u64) -> Answer<Bytes> {
        if !self.fill().await? {
            return Err(Refused::bad("the stream ends in the middle of an archive"));
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.piece.len());
        Ok(self.piece.split_to(most))
    }

    /// What comes until there is enough for the disk, or all of it.
    async fn pieces(&mut self, most: u64) -> Answer<Vec<Bytes>> {
        let most = most.min(PIECE as u64);
        let (mut pieces, mut size) = (Vec::new(), 0);
        while size < most {
            let piece = self.piece(most - size).await?;
            size += piece.len() as u64;
            pieces.push(piece);
        }
        Ok(pieces)
    }

    /// What stands before the next archive; none at the end.
    async fn head(&mut self) -> Answer<Option<Head>> {
        if !self.fill().await? {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(HEAD);
        while bytes.len() < HEAD {
            bytes.extend_from_slice(&self.piece((HEAD - bytes.len()) as u64).await?);
        }
        Ok(bytes.first_chunk().map(Head::read))
    }
}

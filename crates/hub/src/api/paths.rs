//! Archives, in and out.

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
use crate::hub::{Host, Hub, RELEASES, now};
use crate::objects::Unkept;

/// How much is read from the disk at once.
const PIECE: usize = 256 * 1024;
/// How long a piece may wait to be taken: an agent gives up on less than this.
const STALLED: Duration = Duration::from_secs(300);
/// How much of the disk stays free, for what hosts and operators have to say.
const RESERVE: u64 = 512 * 1024 * 1024;
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
    let (sender, mut pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = give(&hub, &host, queue, &sender) => {}
            // Whoever it was for is gone.
            () = sender.closed() => {}
        }
    });
    Ok(Body::from_stream(poll_fn(move |context| pieces.poll_recv(context))).into_response())
}

type Piece = std::io::Result<Bytes>;

/// Sends archives, one after the other, once there is a place among those who are sent something. Who takes nothing for too
/// long loses it.
async fn give(hub: &Hub, host: &Host, queue: Vec<Head>, sender: &mpsc::Sender<Piece>) {
    // Its own first: who asks for more than it may have at once keeps nobody else waiting.
    let (Ok(_own), Ok(_place)) = (host.bulk.acquire().await, hub.bulk.acquire().await) else { return };
    let pass = async |piece: Piece| matches!(timeout(STALLED, sender.send(piece)).await, Ok(Ok(())));
    for head in queue {
        let mut file = match hub.objects.read(&head.hash) {
            Ok(file) => tokio::fs::File::from_std(file),
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

/// How much room there is on the hub's disk, in bytes.
fn room(state: &std::path::Path) -> u64 {
    rustix::fs::statvfs(state).map_or(u64::MAX, |of| of.f_bavail.saturating_mul(of.f_frsize))
}

/// `POST /v1/paths`
pub(super) async fn take(
    State(hub): State<Arc<Hub>>,
    _operator: AsOperator,
    body: Body,
) -> Answer<StatusCode> {
    let mut reader = Reader { body: body.into_data_stream(), piece: Bytes::new() };
    while let Some(head) = reader.head().await? {
        if room(&hub.state) < RESERVE.saturating_add(head.stored) {
            return Err(Refused::new(StatusCode::INSUFFICIENT_STORAGE, "the hub's disk is full"));
        }
        if head.stored > head.size.saturating_add(head.size / 64).saturating_add(OVERHEAD) {
            return Err(Refused::bad("an archive is sent longer than it is"));
        }
        let disk = |error: std::io::Error| crate::Error::disk(&hub.state, &error);
        let mut incoming = hub.objects.incoming(head.hash, head.size).map_err(disk)?;
        let mut left = head.stored;
        while left > 0 {
            let piece = reader.piece(left).await?;
            left -= piece.len() as u64;
            incoming.write(&piece).map_err(disk)?;
        }
        let ends = || Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the hub ends");
        let verified = spawn_blocking(move || incoming.verify().map(|()| incoming)).await;
        let incoming = match verified.map_err(|_| ends())? {
            Ok(incoming) => incoming,
            Err(other @ Unkept::Other(_)) => return Err(Refused::bad(other.to_string())),
            Err(Unkept::Disk(error)) => return Err(disk(error).into()),
        };
        let _storing = hub.storing.lock().await;
        if hub.store.want_objects(&[head.hash], now()).await?.is_empty() {
            spawn_blocking(move || incoming.keep()).await.map_err(|_| ends())?.map_err(disk)?;
            hub.store.object(&head.hash, (head.size, head.stored), now()).await?;
        }
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

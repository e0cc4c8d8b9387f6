//! A channel of russh as a stream of bytes.
//!
//! russh has one of its own, which waits for its reader with everything that comes over the connection, the other side's leave
//! to send more among it: who only writes for a while waits for ever. Here a task takes what comes, always, and keeps data
//! only; and who writes learns that nobody reads any more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use russh::{Channel, ChannelId, ChannelMsg};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};

/// How many pieces are kept for a reader; each has at most 32 kB.
const PIECES: usize = 16;

/// A channel. It is closed when this is dropped.
pub struct Stream {
    pieces: mpsc::Receiver<Bytes>,
    /// What is left of the last piece.
    piece: Bytes,
    writer: Pin<Box<dyn AsyncWrite + Send>>,
    /// Comes when the channel is gone.
    gone: oneshot::Receiver<()>,
}

impl Stream {
    /// Makes a stream of a channel. It needs a runtime.
    pub fn new<S>(channel: Channel<S>) -> Self
    where
        S: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
    {
        let (mut read, write) = channel.split();
        let writer: Pin<Box<dyn AsyncWrite + Send>> = Box::pin(write.make_writer());
        let (sender, pieces) = mpsc::channel(PIECES);
        let (mut tell, gone) = oneshot::channel();
        tokio::spawn(async move {
            let mut sender = Some(sender);
            loop {
                let message = tokio::select! {
                    message = read.wait() => message,
                    () = tell.closed() => {
                        let _ = write.close().await;
                        return;
                    }
                };
                match message {
                    Some(ChannelMsg::Data { data }) => {
                        if let Some(sender) = &sender {
                            tokio::select! {
                                // Where nobody wants it any more, the next round closes the channel.
                                _ = sender.send(data) => {}
                                () = tell.closed() => {}
                            }
                        }
                    }
                    Some(ChannelMsg::Eof) => sender = None,
                    Some(ChannelMsg::Close) | None => return,
                    Some(_) => {}
                }
            }
        });
        Self { pieces, piece: Bytes::new(), writer, gone }
    }

    /// Whether the channel is gone: what is written goes nowhere.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match Pin::new(&mut self.gone).poll(context) {
            Poll::Ready(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            match ready!(self.pieces.poll_recv(context)) {
                Some(piece) => self.piece = piece,
                None => return Poll::Ready(Ok(())),
            }
        }
        let most = buffer.remaining().min(self.piece.len());
        buffer.put_slice(&self.piece.split_to(most));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // Asked once, it must not be asked again when it has said so.
        if self.gone.is_terminated() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.check(context)?;
        self.writer.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_shutdown(context)
    }
}

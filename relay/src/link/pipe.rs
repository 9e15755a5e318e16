//! Links over an inherited stream socket pair: between endpoint-net and its Secure process.

use std::io;

use bytes::Bytes;
use proto::FrameDecoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::{Sink, Source};

/// Bytes read at once, at most.
const READ_BYTES: usize = 64 * 1024;

/// The reading half.
pub struct PipeSource {
    half: OwnedReadHalf,
    buffer: Vec<u8>,
}

/// The writing half.
pub struct PipeSink(OwnedWriteHalf);

/// Both halves of a pipe.
pub fn halves(stream: UnixStream) -> (PipeSource, PipeSink) {
    let (read, write) = stream.into_split();
    (
        PipeSource {
            half: read,
            buffer: vec![0; READ_BYTES],
        },
        PipeSink(write),
    )
}

impl Source for PipeSource {
    async fn read(&mut self, into: &mut FrameDecoder) -> io::Result<bool> {
        let count = self.half.read(&mut self.buffer).await?;
        into.push(&self.buffer[..count]);
        Ok(count > 0)
    }
}

impl Sink for PipeSink {
    async fn write(&mut self, frames: &mut [Bytes]) -> io::Result<()> {
        for frame in frames {
            self.0.write_all(frame).await?;
        }
        Ok(())
    }

    async fn finish(&mut self) {
        let _ = self.0.shutdown().await;
    }
}

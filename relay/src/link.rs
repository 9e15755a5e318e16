//! A link: frames over a transport, between a peer and the node. It decides nothing: what is read
//! becomes an event, what the node wants sent is written, in order.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use proto::{Frame, FrameDecoder, Hello, Misbehaved};
use relay_core::{Event, LinkId, Role};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::driver::{Handle, Stopped};

pub mod admission;
pub mod choice;
pub mod connect;
pub mod listen;
pub mod offers;
pub mod pipe;
pub mod quic;
pub mod settings;
pub mod tcp;

/// Frames written at once, at most.
const FRAMES_PER_WRITE: usize = 64;
/// How long what is left to be written may take when a link ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The half that bytes come from.
pub trait Source: Send {
    /// The next bytes, into the decoder; `false` at the end.
    fn read(&mut self, into: &mut FrameDecoder) -> impl Future<Output = io::Result<bool>> + Send;

    /// After our last words: reads and drops what still comes, where closing would lose them.
    fn linger(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// The half that bytes go to.
pub trait Sink: Send {
    /// Writes all of these, in order, and may empty them.
    fn write(&mut self, frames: &mut [Bytes]) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits until the peer has what was written, as far as the transport can tell, and ends.
    fn finish(&mut self) -> impl Future<Output = ()> + Send;
}

/// A link on which both sides have said HELLO, and which the node does not have yet: a parent that
/// stands by. Its peer waits for what we ask; we have heard where it stands.
pub struct Greeted<R, W> {
    source: R,
    decoder: FrameDecoder,
    sink: W,
    hello: Hello,
    reach: Option<Frame>,
}

impl<R: Source, W: Sink> Greeted<R, W> {
    /// Says HELLO, and waits for the peer's.
    ///
    /// # Errors
    /// When the link ends before, or begins with something else.
    pub async fn greet(source: R, mut sink: W, own: Hello) -> io::Result<Self> {
        sink.write(&mut [Frame::Hello(own).to_bytes()]).await?;
        let mut frames = Frames::new(source);
        match frames.next().await {
            Some(Frame::Hello(hello)) if hello.version_in_force().is_none() => {
                Err(io::Error::other(Misbehaved::NoCommonVersion))
            }
            Some(Frame::Hello(hello)) => Ok(Self {
                source: frames.source,
                decoder: frames.decoder,
                sink,
                hello,
                reach: None,
            }),
            Some(Frame::Close { reason }) => Err(io::Error::other(reason)),
            _ => Err(io::Error::other("it did not greet")),
        }
    }

    /// Says why we do not want this link, and ends it.
    pub async fn refuse(mut self, reason: String) {
        let close = Frame::Close { reason }.to_bytes();
        // Whoever does not hear it sees the end all the same.
        let _ = timeout(LAST_WORDS, self.sink.write(&mut [close])).await;
        end(&mut self.source, &mut self.sink).await;
    }

    /// What the peer has said.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Waits until the peer ends the link; where its tree reaches is remembered meanwhile. Dropping
    /// the future loses nothing.
    pub async fn ended(&mut self) {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(reach @ Frame::Reach { .. })) => {
                    self.reach = Some(reach);
                    continue;
                }
                // Nothing was asked for, so nothing else comes.
                Ok(Some(_)) | Err(_) => return,
                Ok(None) => {}
            }
            if !self.source.read(&mut self.decoder).await.unwrap_or(false) {
                return;
            }
        }
    }

    /// Hands the link to the node, and runs it until either side ends it. The node's own HELLO is
    /// not sent: the peer has it.
    ///
    /// # Errors
    /// [`Stopped`] when there is no node any more.
    pub async fn run(self, handle: &Handle, who: (Role, String)) -> Result<(), Stopped> {
        let (link, mut writes) = handle.attach(who.0, who.1).await?;
        let gone = Gone { handle, link };
        if let Some(hello) = writes.recv().await {
            let (sends, bytes) = (1, hello.len());
            handle.drained(link, sends, bytes);
        }
        for frame in [Some(Frame::Hello(self.hello)), self.reach]
            .into_iter()
            .flatten()
        {
            handle.send(Event::Received { link, frame }).await?;
        }
        carry(&gone, (self.source, self.decoder), self.sink, writes).await
    }
}

/// Runs a link until either side ends it. `place` is where its peer is, for people.
///
/// # Errors
/// [`Stopped`] when there is no node any more.
pub async fn run(
    handle: &Handle,
    (role, place): (Role, String),
    source: impl Source,
    sink: impl Sink,
) -> Result<(), Stopped> {
    let (link, writes) = handle.attach(role, place).await?;
    let gone = Gone { handle, link };
    carry(&gone, (source, FrameDecoder::default()), sink, writes).await
}

async fn carry(
    Gone { handle, link }: &Gone<'_>,
    (mut source, decoder): (impl Source, FrameDecoder),
    mut sink: impl Sink,
    writes: mpsc::Receiver<Bytes>,
) -> Result<(), Stopped> {
    let link = *link;
    let mut gone = Ok(());
    {
        let write = write_frames(handle, link, &mut sink, writes);
        tokio::pin!(write);
        tokio::select! {
            () = read_frames(handle, link, &mut source, decoder) => {
                gone = handle.send(Event::Disconnected { link }).await;
                // Also a node that has stopped has left its last words.
                let _ = timeout(LAST_WORDS, write).await;
            }
            () = &mut write => {}
        }
    }
    end(&mut source, &mut sink).await;
    gone
}

/// Sees to it that the peer gets what was written.
pub(crate) async fn end(source: &mut impl Source, sink: &mut impl Sink) {
    let said = async {
        sink.finish().await;
        source.linger().await;
    };
    let _ = timeout(LAST_WORDS, said).await;
}

/// Tells the node that a link is gone when it is, also when its task is aborted.
struct Gone<'a> {
    handle: &'a Handle,
    link: LinkId,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let (handle, link) = (self.handle.clone(), self.link);
        handle.ended();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // Without a node there is nobody to tell.
                let _ = handle.send(Event::Disconnected { link }).await;
            });
        }
    }
}

async fn read_frames(
    handle: &Handle,
    link: LinkId,
    source: &mut impl Source,
    mut decoder: FrameDecoder,
) {
    loop {
        loop {
            let event = match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => Event::Received { link, frame },
                Err(misbehaved) => return malformed(handle, link, misbehaved).await,
            };
            if handle.send(event).await.is_err() {
                return;
            }
        }
        if !source.read(&mut decoder).await.unwrap_or(false) {
            return;
        }
    }
}

/// Leaves it to the node to close the link: it may have a last word.
async fn malformed(handle: &Handle, link: LinkId, misbehaved: Misbehaved) {
    let _ = handle.send(Event::Malformed { link, misbehaved }).await;
    tokio::time::sleep(LAST_WORDS).await;
}

/// Writes until the node closes the link or the peer is gone.
async fn write_frames(
    handle: &Handle,
    link: LinkId,
    sink: &mut impl Sink,
    mut writes: mpsc::Receiver<Bytes>,
) {
    let mut frames = Vec::with_capacity(FRAMES_PER_WRITE);
    while writes.recv_many(&mut frames, FRAMES_PER_WRITE).await > 0 {
        let (sends, bytes) = (frames.len(), frames.iter().map(Bytes::len).sum());
        if sink.write(&mut frames).await.is_err() {
            return;
        }
        frames.clear();
        handle.drained(link, sends, bytes);
    }
}

/// Frames one by one, for those who are no node: a client.
pub(crate) struct Frames<R> {
    pub(crate) source: R,
    decoder: FrameDecoder,
}

impl<R: Source> Frames<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            decoder: FrameDecoder::default(),
        }
    }

    /// The next frame; `None` at the end of the link or when the peer misbehaves.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(_) => return None,
            }
            if !self.source.read(&mut self.decoder).await.unwrap_or(false) {
                return None;
            }
        }
    }
}

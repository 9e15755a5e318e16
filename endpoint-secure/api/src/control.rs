//! The control socket between a starter and the processes it starts (docs/architecture.md, "Starting
//! and wiring"): a SOCK_SEQPACKET pair whose packets may carry one descriptor.
//!
//! It is descriptor 0 of a child. A packet is a tag byte and at most [`Control::BODY_BYTES`] of body.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::process::{Pid, getppid};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
    recvmsg, sendmsg, shutdown, socketpair,
};

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Tag {
    /// Starter to Secure, starter to front end: an end of a new door. Terminal front end to starter,
    /// without a descriptor: the newest door has closed.
    Door = b'D',
    /// Starter to Secure, starter to Net: an end of a new link.
    Link = b'N',
    /// Secure to starter to Net: the network configuration, JSON.
    Configuration = b'C',
    /// Net to starter to Secure: relays that were found and that somebody has to judge, JSON.
    Relays = b'R',
    /// Child to starter: `ready`, or why it ends. Starter to terminal front end: why it ends.
    Line = b'L',
    /// Child or front end to starter: how it is confined. Starter to Secure: the same behind a part's name.
    Isolation = b'I',
}

/// One packet.
#[derive(Debug)]
pub struct Packet {
    /// What it is.
    pub tag: Tag,
    /// Text, or nothing.
    pub body: Vec<u8>,
    /// The descriptor that came with it, closed on exec.
    pub descriptor: Option<OwnedFd>,
}

/// One end of a control socket.
#[derive(Debug)]
pub struct Control {
    socket: OwnedFd,
    /// The only process that may have made what comes over it; `None`: nobody is looked at.
    maker: Option<Pid>,
}

impl Control {
    /// The longest body, in bytes.
    pub const BODY_BYTES: usize = 32 * 1024;

    /// A new pair: our end, and the one that becomes a child's descriptor 0.
    ///
    /// # Errors
    /// What the system says.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self::ours(ours), theirs))
    }

    fn ours(socket: OwnedFd) -> Self {
        let maker = None;
        Self { socket, maker }
    }

    /// From now on only descriptors that this process made are accepted: the child at the other end.
    #[must_use]
    pub fn only_from(self, child: u32) -> Self {
        let maker = Pid::from_raw(child.cast_signed());
        Self { maker, ..self }
    }

    /// Takes this process's descriptor 0, which must be the end that the starter gave it.
    ///
    /// # Errors
    /// If it is not a socket, or not one that the process made which started us.
    pub fn inherited() -> io::Result<Self> {
        let own = std::io::stdin().as_fd().try_clone_to_owned()?;
        let maker = getppid();
        match rustix::net::sockopt::socket_type(&own) {
            Ok(SocketType::SEQPACKET) if made_by(&own, maker) => Ok(Self { socket: own, maker }),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "descriptor 0 is no control socket: this program is started by treeline or treeline-chat",
            )),
        }
    }

    /// A second handle to the same end, for another thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn try_clone(&self) -> io::Result<Self> {
        let maker = self.maker;
        let socket = self.socket.try_clone()?;
        Ok(Self { socket, maker })
    }

    /// Sends nothing more: the other side reads the end, and may still answer.
    pub fn finish(&self) {
        // The other side may have gone first.
        shutdown(&self.socket, Shutdown::Write).ok();
    }

    /// Ends the socket for every handle to it: both sides read its end. Dropping one handle does not,
    /// while another thread waits on its own.
    pub fn close(&self) {
        // The other side may have gone first.
        shutdown(&self.socket, Shutdown::Both).ok();
    }

    /// Sends one packet.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for an over-long body; else what the system says, above all
    /// that the other end is gone.
    pub fn send(&self, tag: Tag, body: &[u8], attached: Option<BorrowedFd<'_>>) -> io::Result<()> {
        if body.len() > Self::BODY_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a control packet is too long",
            ));
        }
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let attached = attached.as_slice();
        if !attached.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(attached));
        }
        let head = [tag as u8];
        let parts = [IoSlice::new(&head), IoSlice::new(body)];
        sendmsg(&self.socket, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for a packet. `None` when the other end is gone.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a packet that is none, or whose descriptor somebody else made
    /// than who may; else what the system says.
    pub fn receive(&self) -> io::Result<Option<Packet>> {
        let mut bytes = vec![0; 1 + Self::BODY_BYTES];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let mut receive = || {
            let flags = RecvFlags::CMSG_CLOEXEC;
            recvmsg(&self.socket, &mut parts, &mut ancillary, flags)
        };
        // The other end has gone without reading all; its own last words may still be here.
        let got = match receive() {
            Err(rustix::io::Errno::CONNRESET) => receive(),
            other => other,
        }?;
        let descriptor = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
                _ => None,
            })
            .next();
        if got.bytes == 0 {
            return Ok(None);
        }
        let foreign = descriptor
            .as_ref()
            .is_some_and(|one| self.maker.is_some() && !made_by(one, self.maker));
        let cut = got.flags.contains(ReturnFlags::TRUNC) || got.flags.contains(ReturnFlags::CTRUNC);
        let tag = match bytes[0] {
            b'D' => Some(Tag::Door),
            b'N' => Some(Tag::Link),
            b'C' => Some(Tag::Configuration),
            b'R' => Some(Tag::Relays),
            b'L' => Some(Tag::Line),
            b'I' => Some(Tag::Isolation),
            _ => None,
        };
        match tag {
            Some(tag) if !cut && !foreign => Ok(Some(Packet {
                tag,
                body: bytes[1..got.bytes].to_vec(),
                descriptor,
            })),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a control packet cannot be read",
            )),
        }
    }
}

/// Whether a process made this socket: of a pair the system says the same of both ends.
fn made_by(socket: &OwnedFd, maker: Option<Pid>) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(socket);
    peer.is_ok_and(|peer| Some(peer.pid) == maker)
}

/// A new stream pair for a door or a link, both ends closed on exec.
///
/// # Errors
/// What the system says.
pub fn stream_pair() -> io::Result<(UnixStream, UnixStream)> {
    UnixStream::pair()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_packet_arrives_with_its_descriptor() {
        let (ours, theirs) = Control::pair().unwrap();
        let theirs = Control::ours(theirs);
        let (mut near, far) = stream_pair().unwrap();
        ours.send(Tag::Door, b"", Some(far.as_fd())).unwrap();
        drop(far);
        ours.send(Tag::Line, b"ready", None).unwrap();

        let door = theirs.receive().unwrap().unwrap();
        assert_eq!((door.tag, door.body.len()), (Tag::Door, 0));
        let mut far = UnixStream::from(door.descriptor.unwrap());
        near.write_all(b"x").unwrap();
        let mut byte = [0];
        far.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");

        let line = theirs.receive().unwrap().unwrap();
        assert_eq!(
            (line.tag, line.body, line.descriptor.is_none()),
            (Tag::Line, b"ready".to_vec(), true)
        );
        drop(ours);
        assert!(theirs.receive().unwrap().is_none());
    }

    #[test]
    fn the_last_words_of_one_who_has_not_listened_are_heard() {
        let (ours, theirs) = Control::pair().unwrap();
        let theirs = Control::ours(theirs);
        ours.send(Tag::Isolation, b"full", None).unwrap();
        theirs.send(Tag::Line, b"in use", None).unwrap();
        drop(theirs);
        assert_eq!(ours.receive().unwrap().unwrap().body, b"in use");
        assert!(ours.receive().unwrap().is_none());
    }

    #[test]
    fn closing_is_seen_although_another_handle_is_open() {
        let (ours, theirs) = Control::pair().unwrap();
        let _reader = ours.try_clone().unwrap();
        ours.close();
        assert!(Control::ours(theirs).receive().unwrap().is_none());
    }

    #[test]
    fn a_pipe_that_another_process_made_is_refused() {
        let receive = |maker| {
            let (ours, theirs) = Control::pair().unwrap();
            let (_near, far) = stream_pair().unwrap();
            ours.send(Tag::Link, b"", Some(far.as_fd())).unwrap();
            let socket = theirs;
            Control { socket, maker }.receive()
        };
        let own = rustix::process::getpid();
        assert!(receive(Some(own)).unwrap().is_some());
        // Of its starter, so this process thinks, it comes not.
        let error = receive(getppid()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn who_has_finished_still_hears() {
        let (ours, theirs) = Control::pair().unwrap();
        let theirs = Control::ours(theirs);
        ours.finish();
        assert!(theirs.receive().unwrap().is_none());
        theirs.send(Tag::Line, b"last words", None).unwrap();
        assert_eq!(ours.receive().unwrap().unwrap().body, b"last words");
    }

    #[test]
    fn a_foreign_packet_is_an_error_and_a_long_one_is_not_sent() {
        let (ours, theirs) = Control::pair().unwrap();
        rustix::io::write(&ours.socket, b"?what").unwrap();
        assert!(Control::ours(theirs).receive().is_err());
        let (ours, _theirs) = Control::pair().unwrap();
        assert!(
            ours.send(Tag::Line, &vec![0; Control::BODY_BYTES + 1], None)
                .is_err()
        );
    }
}

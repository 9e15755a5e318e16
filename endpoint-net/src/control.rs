//! The control socket, descriptor 0: packets from the starter (docs/architecture.md, "Starting and
//! wiring"). This end accepts a configuration and links, says how it is confined, and one line at a time;
//! nothing else.
//!
//! It does what `endpoint_secure_api::control` does for the others, without the words of the door: Net
//! may not know them.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use confinement::Isolation;
use rustix::net::sockopt::{socket_peercred, socket_type};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketType,
    recvmsg, send,
};
use rustix::process::{Pid, getppid};

/// The longest body of a packet, in bytes.
const BODY_BYTES: usize = 32 * 1024;

/// What the starter may tell us.
#[derive(Debug)]
pub enum Packet {
    /// The network configuration, JSON.
    Config(Vec<u8>),
    /// An end of a new link to Secure.
    Link(UnixStream),
}

/// Our end of the control socket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Control {
    socket: Arc<OwnedFd>,
    /// Who has started us: nobody else may have made this socket, or a link that comes over it.
    starter: Option<Pid>,
}

impl Control {
    /// Takes descriptor 0.
    ///
    /// # Errors
    /// If it is not a packet socket that the process made which started us.
    pub fn inherited() -> io::Result<Self> {
        Self::new(io::stdin().as_fd().try_clone_to_owned()?, getppid())
    }

    fn new(socket: OwnedFd, starter: Option<Pid>) -> io::Result<Self> {
        match socket_type(&socket) {
            Ok(SocketType::SEQPACKET) if made_by(&socket, starter) => Ok(Self {
                socket: Arc::new(socket),
                starter,
            }),
            _ => Err(io::Error::other(
                "descriptor 0 is no control socket: this program is started by treeline or \
                 treeline-chat, not by hand",
            )),
        }
    }

    /// Says a line: `ready`, or why we cannot go on.
    ///
    /// # Errors
    /// When the starter is gone.
    pub fn say(&self, line: &str) -> io::Result<()> {
        self.send(b'L', line)
    }

    /// Tells which relays were found that somebody has to judge, as JSON, for Secure.
    ///
    /// # Errors
    /// When the starter is gone.
    pub fn tell_strangers(&self, json: &str) -> io::Result<()> {
        self.send(b'R', json)
    }

    /// Says how this process is confined.
    ///
    /// # Errors
    /// When the starter is gone.
    pub fn tell_isolation(&self, isolation: &Isolation) -> io::Result<()> {
        self.send(b'I', &isolation.to_string())
    }

    fn send(&self, tag: u8, text: &str) -> io::Result<()> {
        let mut packet = vec![tag];
        packet.extend(text.bytes().take(BODY_BYTES));
        send(&*self.socket, &packet, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for a packet; `None` when the starter is gone.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a packet that is not for us, or whose link somebody else made
    /// than our starter; else what the system says.
    pub fn receive(&self) -> io::Result<Option<Packet>> {
        let mut bytes = vec![0; 1 + BODY_BYTES];
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let got = match recvmsg(&*self.socket, &mut parts, &mut ancillary, flags) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                other => other?,
            };
            let attached = ancillary.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
                _ => None,
            });
            if got.bytes == 0 {
                return Ok(None);
            }
            let cut = got
                .flags
                .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
            return match (bytes[0], attached) {
                (b'C', None) if !cut => Ok(Some(Packet::Config(bytes[1..got.bytes].to_vec()))),
                (b'N', Some(link)) if !cut && made_by(&link, self.starter) => {
                    Ok(Some(Packet::Link(link.into())))
                }
                _ => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the starter has sent a packet that is not for treeline-net; are all programs of \
                     one version?",
                )),
            };
        }
    }
}

/// Whether a process made this socket: of a pair the system says the same of both ends.
fn made_by(socket: &OwnedFd, maker: Option<Pid>) -> bool {
    let peer = socket_peercred(socket);
    peer.is_ok_and(|peer| Some(peer.pid) == maker)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SocketFlags, sendmsg, socketpair,
    };
    use std::io::{IoSlice, Read, Write};

    fn pair() -> (OwnedFd, OwnedFd) {
        let family = AddressFamily::UNIX;
        socketpair(family, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    /// The test in the starter's place.
    fn started() -> (OwnedFd, Control) {
        let (ours, theirs) = pair();
        let own = rustix::process::getpid();
        (ours, Control::new(theirs, Some(own)).unwrap())
    }

    fn send_with(starter: &OwnedFd, packet: &[u8], end: &UnixStream) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [end.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let parts = [IoSlice::new(packet)];
        sendmsg(starter, &parts, &mut ancillary, SendFlags::empty()).unwrap();
    }

    #[test]
    fn configurations_and_links_come_in_order() {
        let (starter, control) = started();
        let (mut near, far) = UnixStream::pair().unwrap();
        send(&starter, b"C{}", SendFlags::empty()).unwrap();
        send_with(&starter, b"N", &far);
        let Some(Packet::Config(text)) = control.receive().unwrap() else {
            panic!("no C")
        };
        assert_eq!(text, b"{}");
        let Some(Packet::Link(mut link)) = control.receive().unwrap() else {
            panic!("no N")
        };
        near.write_all(b"hello").unwrap();
        let mut got = [0; 5];
        link.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        control.say("ready").unwrap();
        drop(starter);
        assert!(control.receive().unwrap().is_none());
    }

    #[test]
    fn everything_else_is_an_error() {
        let (_near, far) = UnixStream::pair().unwrap();
        let long = [b"C", vec![b'x'; BODY_BYTES + 1].as_slice()].concat();
        for (packet, end) in [
            (b"Xwhat".as_slice(), None),
            (b"N", None),
            (b"C{}", Some(&far)),
            (&long, None),
        ] {
            let (starter, control) = started();
            match end {
                Some(end) => send_with(&starter, packet, end),
                None => drop(send(&starter, packet, SendFlags::empty()).unwrap()),
            }
            let error = control.receive().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{packet:?}");
        }
    }

    #[test]
    fn what_another_process_made_is_refused() {
        let (_ours, theirs) = pair();
        assert!(Control::new(theirs, getppid()).is_err());
        let (starter, control) = started();
        let (_near, far) = UnixStream::pair().unwrap();
        send_with(&starter, b"N", &far);
        let control = Control {
            starter: getppid(),
            ..control
        };
        assert!(control.receive().is_err());
    }

    #[test]
    fn another_kind_of_socket_is_refused() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let own = rustix::process::getpid();
        assert!(Control::new(stream.into(), Some(own)).is_err());
    }
}

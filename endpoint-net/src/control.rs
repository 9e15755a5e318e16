//! The control socket, descriptor 0: packets from the starter (docs/architecture.md, "Starting and
//! wiring"). This end accepts a configuration and links, says how it is confined, and one line at a time; nothing else.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use confinement::Isolation;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketType,
    recvmsg, send, sockopt::socket_type,
};

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
pub struct Control(Arc<OwnedFd>);

impl Control {
    /// Takes descriptor 0.
    ///
    /// # Errors
    /// If it is not a packet socket: nobody who knows us started us.
    pub fn inherited() -> io::Result<Self> {
        Self::new(io::stdin().as_fd().try_clone_to_owned()?)
    }

    /// Takes a descriptor.
    ///
    /// # Errors
    /// If it is not a packet socket.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        match socket_type(&socket) {
            Ok(SocketType::SEQPACKET) => Ok(Self(Arc::new(socket))),
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
        send(&*self.0, &packet, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for a packet; `None` when the starter is gone. Packets that are not for us are skipped.
    ///
    /// # Errors
    /// What the system says.
    pub fn receive(&self) -> io::Result<Option<Packet>> {
        let mut bytes = vec![0; 1 + BODY_BYTES];
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let got = match recvmsg(&*self.0, &mut parts, &mut ancillary, flags) {
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
            match (bytes[0], attached) {
                (b'C', None) if !cut => {
                    return Ok(Some(Packet::Config(bytes[1..got.bytes].to_vec())));
                }
                (b'N', Some(link)) if !cut => return Ok(Some(Packet::Link(link.into()))),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SocketFlags, sendmsg, socketpair,
    };
    use std::io::{IoSlice, Read, Write};

    fn pair() -> (OwnedFd, Control) {
        let family = AddressFamily::UNIX;
        let (ours, theirs) =
            socketpair(family, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        (ours, Control::new(theirs).unwrap())
    }

    #[test]
    fn configurations_and_links_come_in_order_and_the_rest_is_skipped() {
        let (starter, control) = pair();
        let (mut near, far) = UnixStream::pair().unwrap();
        send(&starter, b"Xwhat", SendFlags::empty()).unwrap();
        send(&starter, b"N", SendFlags::empty()).unwrap();
        send(&starter, b"C{}", SendFlags::empty()).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [far.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let parts = [IoSlice::new(b"N")];
        sendmsg(&starter, &parts, &mut ancillary, SendFlags::empty()).unwrap();
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
    fn another_kind_of_socket_is_refused() {
        let (stream, _other) = UnixStream::pair().unwrap();
        assert!(Control::new(stream.into()).is_err());
    }
}

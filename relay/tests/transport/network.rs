//! A network of our own on loopback: forwards TCP and UDP to a relay under another port, and can be
//! told to lose either.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

pub const HERE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// One port in front of a relay.
pub struct Network {
    pub place: SocketAddr,
    state: Arc<State>,
    tasks: JoinSet<()>,
}

struct State {
    relay: SocketAddr,
    udp_works: AtomicBool,
    tcp_works: AtomicBool,
    tcp_links: AtomicUsize,
    /// The first byte of each datagram that came from the relay.
    from_relay: Mutex<Vec<u8>>,
}

impl Network {
    /// UDP is lost at first; TCP works.
    pub async fn before(relay: SocketAddr) -> Self {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind(HERE).await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, udp);
            }
        };
        let place = tcp.local_addr().unwrap();
        let state = Arc::new(State {
            relay,
            udp_works: AtomicBool::new(false),
            tcp_works: AtomicBool::new(true),
            tcp_links: AtomicUsize::new(0),
            from_relay: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(forward_tcp(tcp, state.clone()));
        tasks.spawn(forward_udp(udp, state.clone()));
        Self {
            place,
            state,
            tasks,
        }
    }

    pub fn set_udp(&self, works: bool) {
        self.state.udp_works.store(works, Ordering::SeqCst);
    }

    /// Loses everything that runs over TCP from now on, without a word to either side.
    pub fn lose_tcp(&self) {
        self.state.tcp_works.store(false, Ordering::SeqCst);
    }

    pub fn tcp_links(&self) -> usize {
        self.state.tcp_links.load(Ordering::SeqCst)
    }

    pub fn first_bytes_from_relay(&self) -> Vec<u8> {
        self.state.from_relay.lock().unwrap().clone()
    }
}

async fn forward_tcp(listener: TcpListener, state: Arc<State>) {
    let mut links = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let state = state.clone();
        links.spawn(async move {
            let mut far = TcpStream::connect(state.relay).await.unwrap();
            state.tcp_links.fetch_add(1, Ordering::SeqCst);
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                () = lost(&state) => std::future::pending().await,
            }
            state.tcp_links.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn lost(state: &State) {
    while state.tcp_works.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn forward_udp(near: UdpSocket, state: Arc<State>) {
    let near = Arc::new(near);
    let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let (count, from) = near.recv_from(&mut buffer).await.unwrap();
        if !state.udp_works.load(Ordering::SeqCst) {
            continue;
        }
        let far = match ways.get(&from) {
            Some(far) => far.clone(),
            None => {
                let far = Arc::new(UdpSocket::bind(HERE).await.unwrap());
                far.connect(state.relay).await.unwrap();
                ways.insert(from, far.clone());
                tasks.spawn(back(near.clone(), (far.clone(), from), state.clone()));
                far
            }
        };
        let _ = far.send(&buffer[..count]).await;
    }
}

async fn back(near: Arc<UdpSocket>, (far, to): (Arc<UdpSocket>, SocketAddr), state: Arc<State>) {
    let mut buffer = vec![0; 65_536];
    while let Ok(count) = far.recv(&mut buffer).await {
        state.from_relay.lock().unwrap().push(buffer[0]);
        if state.udp_works.load(Ordering::SeqCst) {
            let _ = near.send_to(&buffer[..count], to).await;
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

//! A UDP proxy that delays each datagram by another time, so that they overtake each other.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, oneshot};

/// Datagrams under way at a time; more are lost, as on a real path.
const UNDER_WAY: usize = 4096;
/// Those who are served at a time.
const CLIENTS: usize = 256;
/// The shortest delay, and how many more milliseconds there may be.
const DELAY_MS: (u64, u64) = (20, 30);

/// Runs until it is dropped.
pub struct Proxy {
    carried: Arc<AtomicU64>,
    overtook: Arc<AtomicU64>,
    _stop: oneshot::Sender<()>,
}

impl Proxy {
    /// Begins to carry datagrams between whoever writes to `here` and `there`, in the network
    /// namespace of this thread.
    pub fn start(here: SocketAddr, there: SocketAddr) -> Self {
        let (stop, stopped) = oneshot::channel();
        let path = Path {
            there,
            room: Arc::new(Semaphore::new(UNDER_WAY)),
            carried: Arc::default(),
            overtook: Arc::default(),
            last: Arc::default(),
        };
        let (carried, overtook) = (path.carried.clone(), path.overtook.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let socket = runtime.block_on(UdpSocket::bind(here)).unwrap();
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = path.serve(Arc::new(socket)) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            carried,
            overtook,
            _stop: stop,
        }
    }

    /// How many datagrams it has carried, and how many of them overtook another.
    pub fn carried(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.carried), read(&self.overtook))
    }
}

#[derive(Clone)]
struct Path {
    there: SocketAddr,
    room: Arc<Semaphore>,
    carried: Arc<AtomicU64>,
    overtook: Arc<AtomicU64>,
    /// The number of the newest datagram that has arrived.
    last: Arc<AtomicU64>,
}

impl Path {
    async fn serve(self, socket: Arc<UdpSocket>) {
        let mut clients: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
        let mut bytes = vec![0; 65_536];
        loop {
            // An error is that of an earlier datagram which found nobody.
            let Ok((count, from)) = socket.recv_from(&mut bytes).await else {
                continue;
            };
            if !clients.contains_key(&from) {
                if clients.len() == CLIENTS {
                    clients.pop_first();
                }
                let any = (Ipv4Addr::UNSPECIFIED, 0);
                let own = Arc::new(UdpSocket::bind(any).await.unwrap());
                tokio::spawn(self.clone().back(own.clone(), socket.clone(), from));
                clients.insert(from, own);
            }
            self.later(&bytes[..count], clients[&from].clone(), self.there);
        }
    }

    async fn back(self, own: Arc<UdpSocket>, socket: Arc<UdpSocket>, to: SocketAddr) {
        let mut bytes = vec![0; 65_536];
        loop {
            if let Ok((count, _)) = own.recv_from(&mut bytes).await {
                self.later(&bytes[..count], socket.clone(), to);
            }
        }
    }

    /// Sends the datagram after a delay that follows from its number.
    fn later(&self, bytes: &[u8], socket: Arc<UdpSocket>, to: SocketAddr) {
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            return;
        };
        let (bytes, path) = (bytes.to_vec(), self.clone());
        tokio::spawn(async move {
            let number = path.carried.fetch_add(1, Ordering::Relaxed) + 1;
            let (shortest, more) = DELAY_MS;
            let delay = shortest + number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (more + 1);
            tokio::time::sleep(Duration::from_millis(delay)).await;
            if path.last.fetch_max(number, Ordering::Relaxed) > number {
                path.overtook.fetch_add(1, Ordering::Relaxed);
            }
            // The network may be cut: then the datagram is lost.
            let _ = socket.send_to(&bytes, to).await;
            drop(room);
        });
    }
}

//! A link to a relay that does not wait for ever.

use std::time::Duration;

use proto::{Chunk, Name, Order, Prefix, Start, Tier};
use relay::address::RelayAddress;
use relay::client::{Client, ClientError, Said};
use relay::tls::random_signer;
use tokio::time::timeout;

use crate::failure::Failure;

/// How long a relay that owes an answer may be silent.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A connected client.
pub struct Link {
    client: Client,
    place: String,
}

impl Link {
    /// Connects. Which key we show means nothing to a relay: it is made for this run.
    ///
    /// # Errors
    /// [`Failure::Unreachable`], [`Failure::WrongKey`].
    pub async fn open(relay: &RelayAddress) -> Result<Self, Failure> {
        let own = random_signer().map_err(|error| Failure::General(error.to_string()))?;
        let connected = timeout(PATIENCE, Client::connect(relay, &own)).await;
        let client = connected.map_err(|_| silent(&relay.place))??;
        Ok(Self {
            client,
            place: relay.place.clone(),
        })
    }

    /// Where the relay stands.
    pub fn tier(&self) -> Tier {
        self.client.hello().tier
    }

    /// `HOST:PORT`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Subscribes, oldest first.
    ///
    /// # Errors
    /// [`Failure::Unreachable`].
    pub async fn subscribe(&mut self, prefix: Prefix, start: Start) -> Result<u32, Failure> {
        let subscribed = self.client.subscribe(prefix, start, Order::OldestFirst);
        within(&self.place, subscribed).await
    }

    /// Which of these chunks the tree has under these names; at most 512.
    ///
    /// # Errors
    /// [`Failure::Unreachable`].
    pub async fn fetch(&mut self, names: &[Name]) -> Result<Vec<Chunk>, Failure> {
        within(&self.place, self.client.fetch(names)).await
    }

    /// Shows a chain of grants.
    ///
    /// # Errors
    /// [`Failure::Unreachable`].
    pub async fn grant(&mut self, chain: &[Chunk]) -> Result<(), Failure> {
        within(&self.place, self.client.grant(chain)).await
    }

    /// Publishes.
    ///
    /// # Errors
    /// [`Failure::Unreachable`].
    pub async fn publish(&mut self, chunks: &[Chunk]) -> Result<(), Failure> {
        within(&self.place, self.client.publish(chunks)).await
    }

    /// The next thing that the relay says; `None` if it says nothing for so long.
    ///
    /// # Errors
    /// [`Failure::Unreachable`].
    pub async fn next(&mut self, patience: Duration) -> Result<Option<Said>, Failure> {
        match timeout(patience, self.client.next()).await {
            Ok(said) => Ok(Some(said?)),
            Err(_) => Ok(None),
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        // What matters has been acknowledged: a relay that is gone by now is no failure.
        let _ = timeout(Duration::from_secs(5), self.client.close()).await;
    }
}

/// The failure of a relay that does not answer.
pub fn silent(place: &str) -> Failure {
    Failure::Unreachable(format!(
        "the relay {place} has not answered for {} seconds; run the same command again to go on",
        PATIENCE.as_secs()
    ))
}

/// A relay's address as it is typed.
///
/// # Errors
/// [`Failure::General`].
pub fn address(text: &str) -> Result<RelayAddress, Failure> {
    text.parse()
        .map_err(|error| Failure::General(format!("{error}")))
}

async fn within<T>(
    place: &str,
    what: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, Failure> {
    let done = timeout(PATIENCE, what).await;
    Ok(done.map_err(|_| silent(place))??)
}

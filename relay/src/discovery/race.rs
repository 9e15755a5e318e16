//! Staggered attempts: the first that succeeds is taken, the others are dropped (RFC 8305, section 5).

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long an attempt has for itself before the next begins (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);
/// Attempts at most: whoever gives more addresses gets no more of our time.
const ATTEMPTS: usize = 16;

/// Tries these in their order, each a moment after the one before or when that has failed.
///
/// # Errors
/// The first failure, when all have failed; `None` when there was nothing to try.
pub async fn race<I, T, E, F>(items: Vec<I>, attempt: impl Fn(I) -> F) -> Result<T, Option<E>>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let mut items = items.into_iter().take(ATTEMPTS);
    let mut running = JoinSet::new();
    let mut first = None;
    let mut more = true;
    loop {
        if more {
            match items.next() {
                Some(item) => drop(running.spawn(attempt(item))),
                None => more = false,
            }
        }
        tokio::select! {
            done = running.join_next() => match done {
                Some(Ok(Ok(winner))) => return Ok(winner),
                Some(Ok(Err(error))) => {
                    first.get_or_insert(error);
                }
                Some(Err(_)) => {}
                None if !more => return Err(first),
                None => {}
            },
            () = sleep(STAGGER), if more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    }

    #[test]
    fn a_silent_address_does_not_hold_up_the_next_and_a_failed_one_is_passed_at_once() {
        let begun = Arc::new(Mutex::new(Vec::new()));
        let attempt = |number: u32| {
            begun.lock().unwrap().push(number);
            async move {
                match number {
                    0 => std::future::pending().await,
                    1 => Err("refused"),
                    _ => Ok(number),
                }
            }
        };
        let won = runtime().block_on(race(vec![0, 1, 2, 3], attempt));
        assert_eq!(won, Ok(2));
        assert_eq!(*begun.lock().unwrap(), [0, 1, 2]);
    }

    #[test]
    fn the_first_failure_is_told_and_nothing_is_nothing() {
        let fail = |number: u32| async move { Err::<(), _>(number) };
        assert_eq!(runtime().block_on(race(vec![4, 5], fail)), Err(Some(4)));
        assert_eq!(runtime().block_on(race(vec![], fail)), Err(None));
    }
}

//! The admin listener: health, metrics and status over HTTP/1.1, to programs on this machine. It
//! reads one short request per connection, answers, and closes; it changes nothing.
//!
//! It is no web server: what it does not know is refused, and every step has a bound. On loopback it
//! answers only requests that name it by address, so that a web page in a browser on this machine
//! cannot read it through a name of its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::metrics;
use crate::status::{Status, View};

/// Requests served at the same time, at most.
const REQUESTS: usize = 8;
/// Bytes of a request's head, at most.
const HEAD_BYTES: usize = 8 * 1024;
/// How long a request and its answer may take together.
const REQUEST: Duration = Duration::from_secs(5);
/// Pause after the system could not accept a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// An answer: code with its words, media type, body.
type Answer = (&'static str, &'static str, String);

const TEXT: &str = "text/plain; charset=utf-8";

/// Serves until the task is aborted.
pub async fn serve(listener: TcpListener, view: watch::Receiver<View>) {
    let places = Arc::new(Semaphore::new(REQUESTS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let view = view.borrow().clone();
                tokio::spawn(async move {
                    // Whoever asked and left needs no answer.
                    let _ = timeout(REQUEST, exchange(stream, &view)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("the admin listener cannot accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn exchange(mut stream: TcpStream, view: &View) -> io::Result<()> {
    let own = stream.local_addr()?;
    let (code, media, body) = match head(&mut stream).await? {
        None => ("431 Request Header Fields Too Large", TEXT, String::new()),
        Some(head) => match request(&head, own) {
            Ok(path) => answer(path, view).await,
            Err(code) => (code, TEXT, String::new()),
        },
    };
    let head = format!(
        "HTTP/1.1 {code}\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await
}

/// The request up to its empty line; `None` if it is too long or no text.
async fn head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut stream = BufReader::new(stream);
    let mut bytes = Vec::with_capacity(1024);
    while !bytes.ends_with(b"\r\n\r\n") {
        if bytes.len() >= HEAD_BYTES {
            return Ok(None);
        }
        bytes.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(bytes).ok())
}

/// The path that a request is for, or the code that refuses it.
fn request(head: &str, own: SocketAddr) -> Result<&str, &'static str> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) = (target, version, words.next())
    else {
        return Err("400 Bad Request");
    };
    if method != Some("GET") {
        return Err("405 Method Not Allowed");
    }
    let host = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("host"))
        .map(|(_, value)| value.trim());
    if own.ip().is_loopback() && !host.is_none_or(is_address) {
        return Err("403 Forbidden");
    }
    Ok(target.split('?').next().unwrap_or_default())
}

fn is_address(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || host.parse::<SocketAddr>().is_ok()
        || bare.parse::<IpAddr>().is_ok()
}

async fn answer(path: &str, view: &View) -> Answer {
    if !matches!(path, "/healthz" | "/readyz" | "/metrics" | "/status") {
        let known = "try /healthz, /readyz, /metrics or /status\n";
        return ("404 Not Found", TEXT, known.into());
    }
    let Ok(status) = view.status().await else {
        let gone = "the node has stopped\n";
        return ("503 Service Unavailable", TEXT, gone.into());
    };
    match path {
        "/metrics" => ("200 OK", metrics::MEDIA_TYPE, metrics::render(&status)),
        "/status" => json(&status),
        "/readyz" if !status.ready => ("503 Service Unavailable", TEXT, unready(&status)),
        _ => ("200 OK", TEXT, "ok\n".into()),
    }
}

fn json(status: &Status) -> Answer {
    match serde_json::to_string(status) {
        Ok(text) => ("200 OK", "application/json", text + "\n"),
        Err(error) => ("500 Internal Server Error", TEXT, format!("{error}\n")),
    }
}

fn unready(status: &Status) -> String {
    if status.store.failed {
        "the store cannot be written\n".into()
    } else {
        "no parent is connected\n".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_requests_by_address_are_answered() {
        let own = "127.0.0.1:14470".parse().unwrap();
        let ask = |line: &str, host: &str| {
            request(&format!("{line}\r\nhost: {host}\r\n\r\n"), own).map(str::to_owned)
        };
        assert_eq!(
            ask("GET /metrics?x HTTP/1.1", "127.0.0.1:14470").unwrap(),
            "/metrics"
        );
        assert!(ask("GET / HTTP/1.0", "localhost:1").is_ok());
        assert!(ask("GET / HTTP/1.1", "[::1]:14470").is_ok());
        for host in ["relay.example.org", "127.0.0.1.example.org:80", ""] {
            assert_eq!(ask("GET / HTTP/1.1", host).unwrap_err(), "403 Forbidden");
        }
        assert!(ask("POST / HTTP/1.1", "127.0.0.1").is_err());
        for line in ["", "GET", "GET /", "GET / HTTP/2", "GET / HTTP/1.1 x"] {
            assert!(ask(line, "127.0.0.1").is_err(), "{line}");
        }
    }
}

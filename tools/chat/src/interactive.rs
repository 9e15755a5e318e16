//! Chatting in a terminal, line by line: what is typed is sent, what comes is printed.

use std::io::BufRead;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use endpoint_secure_api::{Anchor, Channel, Command, Delivery, Event, Message, MessageId, Reach};
use endpoint_secure_client::Endpoint;
use endpoint_secure_client::output::say;
use endpoint_secure_client::terminal::{Failure, departed};

use crate::channel::{Reader, channels, find, page, teams};
use crate::{output, relays, send};

const HELP: &str = "/channels          lists the channels
/join TEAM/CHANNEL reads and writes there
/devices TEAM      lists a team's devices
/quit              ends
//text             sends text that begins with a slash";

struct Session<'a> {
    endpoint: &'a Endpoint,
    channel: Option<Channel>,
    reader: Reader,
    /// The newest own message, and the delivery that was last printed for it.
    newest: Option<(MessageId, Delivery)>,
    /// When Secure was last told that a person is here.
    present: Option<Instant>,
}

/// Runs until `/quit` or the end of the input.
pub fn run(endpoint: &Endpoint) -> Result<(), Failure> {
    let lines = typed();
    let mut session = Session {
        endpoint,
        channel: None,
        reader: Reader::default(),
        newest: None,
        present: None,
    };
    session.open_first()?;
    loop {
        match lines.try_recv() {
            Ok(line) if line.trim() == "/quit" => return leave(endpoint),
            // What cannot be done is told, and the session goes on.
            Ok(line) => session
                .line(&line)
                .unwrap_or_else(|failure| say(format_args!("! {failure}"))),
            Err(TryRecvError::Disconnected) => return leave(endpoint),
            Err(TryRecvError::Empty) => session.listen()?,
        }
    }
}

/// What was just said gets a moment to leave.
fn leave(endpoint: &Endpoint) -> Result<(), Failure> {
    if !departed(endpoint, Duration::from_secs(3))? {
        say("-- no relay has all of it yet; it leaves the next time that one can be reached");
    }
    Ok(())
}

/// The lines that are typed; the thread ends with the process.
fn typed() -> Receiver<String> {
    let (sender, lines) = sync_channel(16);
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

impl Session<'_> {
    fn open_first(&mut self) -> Result<(), Failure> {
        output::channels(self.endpoint, false)?;
        for team in teams(self.endpoint)? {
            if let Some(channel) = channels(self.endpoint, team.id)?.into_iter().next() {
                return self.open(channel);
            }
        }
        say(
            "No channel yet: `treeline-chat join INVITE` asks to join a team. /help lists what can be typed.",
        );
        Ok(())
    }

    fn open(&mut self, channel: Channel) -> Result<(), Failure> {
        say(format_args!(
            "-- {} (/help lists what can be typed)",
            channel.name
        ));
        self.reader = Reader::default();
        self.newest = None;
        let fresh = self.reader.fresh(self.endpoint, &channel)?;
        let skip = fresh.len().saturating_sub(20);
        if skip == 0 {
            let first = page(self.endpoint, &channel, Anchor::Oldest)?;
            output::earlier(false, first.earlier.as_ref());
        }
        fresh[skip..]
            .iter()
            .for_each(|message| output::message(false, message));
        self.channel = Some(channel);
        Ok(())
    }

    /// Whatever is typed, and be it an empty line.
    fn is_present(&mut self) -> Result<(), Failure> {
        let often = Duration::from_millis(Command::PRESENCE_MS);
        if self.present.is_none_or(|at| at.elapsed() >= often) {
            self.endpoint.call(&Command::Present)?;
            self.present = Some(Instant::now());
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.is_present()?;
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" if rest.is_empty() => Ok(()),
            "/help" => {
                say(HELP);
                Ok(())
            }
            "/channels" => output::channels(self.endpoint, false),
            "/devices" => output::devices(self.endpoint, false, rest.trim()),
            "/join" => {
                let channel = find(self.endpoint, rest.trim())?;
                self.open(channel)
            }
            _ if line.starts_with('/') && !line.starts_with("//") => {
                say(format_args!(
                    "! {word} is nothing that can be typed here\n{HELP}"
                ));
                Ok(())
            }
            _ => self.say(line.strip_prefix('/').unwrap_or(line)),
        }
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        let Some(channel) = &self.channel else {
            say("! no channel is open: /join TEAM/CHANNEL");
            return Ok(());
        };
        let id = send::send_one(self.endpoint, channel, text)?;
        self.newest = Some((id, Delivery::Queued));
        Ok(())
    }

    /// Waits a moment for a hint, and prints what it is about.
    fn listen(&mut self) -> Result<(), Failure> {
        match self.endpoint.next_event(Duration::from_millis(100)) {
            // Unlocked again after a restart of Secure: hints may have been missed.
            Some(Event::Messages(_) | Event::Lock(_)) => self.show(),
            Some(Event::Connectivity(state)) => {
                let reach = match state.reach {
                    Reach::Offline => "offline",
                    Reach::Lan => "LAN only",
                    Reach::Cloud => "cloud",
                };
                say(format_args!("-- {reach}, {} queued", state.queued));
                Ok(())
            }
            Some(Event::Relays) => {
                relays::tell(self.endpoint)?;
                Ok(())
            }
            Some(Event::Notice(line)) => {
                say(format_args!("-- {line}"));
                Ok(())
            }
            Some(Event::Channels(_)) if self.channel.is_none() => self.open_first(),
            _ => Ok(()),
        }
    }

    fn show(&mut self) -> Result<(), Failure> {
        let Some(channel) = &self.channel else {
            return Ok(());
        };
        for message in self.reader.fresh(self.endpoint, channel)? {
            output::message(false, &message);
        }
        let Some((id, shown)) = self.newest else {
            return Ok(());
        };
        let page = page(self.endpoint, channel, Anchor::Newest)?;
        let own = page
            .messages
            .iter()
            .find(|message: &&Message| message.id == id);
        if let Some(own) = own.filter(|own| own.delivery != shown) {
            say(format_args!(
                "   your message is {}",
                output::delivery(own.delivery)
            ));
            self.newest = Some((id, own.delivery));
        }
        Ok(())
    }
}

//! Two terminal clients that chat: a few lines to look at, or a whole file to compare.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::people::{CHANNEL, Person};
use crate::process::{Process, child_of, signal};
use crate::tree::Tree;

const LINES: &[&str] = &[
    "Morning. The link to the mainland is down again.",
    "Seen it. Everything in the building still works, I am on the LAN relay.",
    "Good. Bed 12 needs the 9 o'clock dose, can you confirm?",
    "Confirmed and signed: 9:02.",
    "Merci à toute l'équipe, das Protokoll liegt bei. ✔",
];
const LIMIT: Duration = Duration::from_secs(900);

/// A short conversation, printed with each message's delivery state and every process's id.
pub fn short(directory: &Path, tree: &Tree, people: &[Person; 2]) -> Result<()> {
    for (turn, line) in LINES.iter().enumerate() {
        people[turn % 2].tool(
            "treeline-chat",
            &["send", "--channel", CHANNEL, line, "--wait", "origin"],
        )?;
    }
    let count = LINES.len().to_string();
    let mut clients = Vec::new();
    for person in people {
        let out = directory.join(format!("{}.out", person.name));
        // One more than there are: the client stays, so that its processes can be seen.
        let more = (LINES.len() + 1).to_string();
        let tail = [
            "tail",
            "--channel",
            CHANNEL,
            "--from-oldest",
            "--count",
            &more,
        ];
        clients.push(person.client(&out, &tail)?);
        wait_for_lines(&out, LINES.len())?;
    }
    processes(tree, people, &clients);
    drop(clients);
    for person in people {
        println!("\nas {} sees it:", person.user);
        print!(
            "{}",
            person.tool(
                "treeline-chat",
                &["history", "--channel", CHANNEL, "--count", &count]
            )?
        );
    }
    Ok(())
}

fn wait_for_lines(out: &Path, count: usize) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    while fs::read_to_string(out).unwrap_or_default().lines().count() < count {
        ensure!(
            Instant::now() < until,
            "{} has not shown {count} messages",
            out.display()
        );
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Every line of a file from Alice to Bob, then from Bob to Alice; what arrived must equal it.
pub fn file(
    directory: &Path,
    tree: &Tree,
    people: &[Person; 2],
    input: &Path,
    kill: &[String],
) -> Result<()> {
    let [alice, bob] = people;
    for (from, to) in [(alice, bob), (bob, alice)] {
        direction(directory, tree, (from, to), input, kill)?;
    }
    println!("equal in both directions");
    none_met_its_filter(tree, people)
}

/// The signal with which a filter ends a process that makes another system call than it may.
const BY_FILTER: &str = "SIGSYS";

/// Relays are watched by us, Secure and Net by their starter, which writes how they ended.
fn none_met_its_filter(tree: &Tree, people: &[Person; 2]) -> Result<()> {
    for relay in &tree.relays {
        ensure!(relay.pid().is_some(), "{} has ended", relay.name());
    }
    for person in people {
        for part in ["secure.log", "net.log"] {
            let log = person.directory.join(part);
            let text = fs::read(&log).map_or_else(
                |_| String::new(),
                |log| String::from_utf8_lossy(&log).into_owned(),
            );
            ensure!(!text.contains(BY_FILTER), "{}: {text}", log.display());
        }
    }
    println!("no process was ended by its filter ({BY_FILTER})");
    Ok(())
}

fn direction(
    directory: &Path,
    tree: &Tree,
    (from, to): (&Person, &Person),
    input: &Path,
    kill: &[String],
) -> Result<()> {
    let sent = fs::read(input)?;
    let lines = sent.split_inclusive(|b| *b == b'\n').count();
    let start = Instant::now();
    let received = directory.join(format!("from-{}-to-{}.txt", from.name, to.name));
    let (count, path) = (lines.to_string(), input.to_string_lossy());
    let tail = [
        "tail",
        "--channel",
        CHANNEL,
        "--from-oldest",
        "--author",
        from.user,
        "--raw",
        "--count",
        &count,
    ];
    let send = [
        "send",
        "--channel",
        CHANNEL,
        "--lines",
        &path,
        "--batch",
        "1",
        "--wait",
        "origin",
    ];
    let clients = [
        from.client(&directory.join(format!("send-{}.out", from.name)), &send)?,
        to.client(&received, &tail)?,
    ];
    let people = [from, to].map(|person| person.name);
    // All within the first quarter, and the sender's first: it must not be done before its turn.
    let mut kill: Vec<&String> = kill.iter().collect();
    kill.sort_by_key(|name| (!name.ends_with(from.name), !name.ends_with(to.name)));
    let share = sent.len() / (4 * (kill.len() + 1));
    wait_for_share(&received, share)?;
    show(tree, &people, &clients);
    for (count, victim) in kill.into_iter().enumerate() {
        wait_for_share(&received, share * (count + 1))?;
        kill_one(tree, &people, &clients, victim)?;
    }
    for client in &clients {
        client
            .wait(LIMIT)
            .with_context(|| format!("{lines} lines from {} to {}", from.user, to.user))?;
    }
    equal(&received, &sent)?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{lines} lines, {} bytes from {} to {}: equal, in {seconds:.1} s",
        sent.len(),
        from.user,
        to.user
    );
    Ok(())
}

fn equal(received: &Path, sent: &[u8]) -> Result<()> {
    let got = fs::read(received)?;
    let same = got.iter().zip(sent).take_while(|(a, b)| a == b).count();
    ensure!(
        got == sent,
        "{} differs from what was sent behind byte {same}",
        received.display()
    );
    Ok(())
}

/// Waits until so many bytes have arrived, so that what follows happens in the middle.
fn wait_for_share(received: &Path, bytes: usize) -> Result<()> {
    let until = Instant::now() + LIMIT;
    while fs::metadata(received).map_or(0, |file| file.len()) < bytes as u64 {
        ensure!(
            Instant::now() < until,
            "only {:?} bytes arrived",
            fs::metadata(received).map(|f| f.len())
        );
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Every process of the run: name and id, if it runs at this moment.
fn pids(tree: &Tree, people: &[&str; 2], clients: &[Process]) -> Vec<(String, Option<u32>)> {
    let mut rows: Vec<_> = tree
        .relays
        .iter()
        .map(|r| (r.name().to_owned(), r.pid()))
        .collect();
    for (person, client) in people.iter().zip(clients) {
        let pid = client.pid();
        rows.push((client.name().to_owned(), pid));
        for part in ["secure", "net"] {
            let child = pid.and_then(|pid| child_of(pid, &format!("treeline-{part}")));
            rows.push((format!("{part}-{person}"), child));
        }
    }
    rows
}

fn processes(tree: &Tree, people: &[Person; 2], clients: &[Process]) {
    show(tree, &[people[0].name, people[1].name], clients);
}

fn show(tree: &Tree, people: &[&str; 2], clients: &[Process]) {
    println!("processes:");
    for (name, pid) in pids(tree, people, clients) {
        println!(
            "  {name:<14} {}",
            pid.map_or_else(
                || "ended".into(),
                |pid| format!("pid {pid:<8} {}", filter(pid))
            )
        );
    }
}

/// Whether the kernel filters its system calls.
fn filter(pid: u32) -> &'static str {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    if status.lines().any(|line| line == "Seccomp:\t2") {
        "filtered"
    } else {
        "not filtered"
    }
}

fn kill_one(tree: &Tree, people: &[&str; 2], clients: &[Process], victim: &str) -> Result<()> {
    let rows = pids(tree, people, clients);
    let found = rows.iter().find(|(name, _)| name == victim);
    let Some((name, pid)) = found else {
        let names: Vec<_> = rows.iter().map(|(name, _)| name.as_str()).collect();
        bail!("--kill {victim}: there is {}", names.join(", "));
    };
    let pid = pid.with_context(|| format!("{name} had ended before it could be killed"))?;
    println!("kill -9 {pid} ({name})");
    signal(pid, "KILL");
    Ok(())
}

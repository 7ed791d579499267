//! Clients that open one connection after another while something changes, and keep the ones that fail.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lab::Answer;
use crate::private_net::Space;

/// Pause of a client between two connections.
const PAUSE: Duration = Duration::from_millis(2);
/// Less than the second after which a lost first packet is sent again: what a client's kernel mends counts as failed.
const PATIENCE: Duration = Duration::from_millis(900);
/// Failures that one client remembers; more say nothing new.
const REMEMBERED: usize = 10;

/// Clients at work, one thread each.
pub struct Clients {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Report>>,
}

/// What clients met.
#[derive(Debug, Default)]
pub struct Report {
    /// Connections that were answered.
    pub answered: usize,
    /// Connections that were not, with the moment since the start; the first of each client.
    pub failed: Vec<String>,
}

impl Clients {
    /// One client in each space; each takes the addresses of its space in turn.
    pub fn start(places: &[(&Space, Vec<String>)]) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let client = |(space, addresses): &(&Space, Vec<String>)| {
            let (end, addresses) = (end.clone(), addresses.clone());
            space.run(move || std::thread::spawn(move || ask(&addresses, &end)))
        };
        let threads = places.iter().map(client).collect();
        Self { end, threads }
    }

    /// Lets them finish, and tells what they met.
    pub fn stop(self) -> Report {
        self.end.store(true, Ordering::Relaxed);
        let mut all = Report::default();
        for thread in self.threads {
            let one = thread.join().expect("a client does not panic");
            all.answered += one.answered;
            all.failed.extend(one.failed);
        }
        all
    }
}

fn ask(addresses: &[String], end: &AtomicBool) -> Report {
    let (began, mut report) = (Instant::now(), Report::default());
    for address in addresses.iter().cycle() {
        if end.load(Ordering::Relaxed) {
            break;
        }
        let opened = began.elapsed();
        match get(address) {
            Ok(_answer) => report.answered += 1,
            Err(error) if report.failed.len() < REMEMBERED => {
                report.failed.push(format!("{address} at {opened:?}: {error}"));
            }
            Err(_more) => {}
        }
        std::thread::sleep(PAUSE);
    }
    report
}

/// One request over a new connection, from where the calling thread is.
fn get(address: &str) -> std::io::Result<Answer> {
    let to: SocketAddr = address.parse().expect("a socket address");
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(super::lab::PATIENCE))?;
    let mut line = String::new();
    match BufReader::new(stream).read_line(&mut line)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(Answer::parse(&line)),
    }
}

//! `health`: a program asks the one that runs with the same settings how it is, over its management listener. Images have no other
//! program that could ask.

use std::{
    ffi::OsString,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _},
    time::{Duration, Instant},
};

use thiserror::Error;

/// Connecting, asking and reading together; container runtimes allow a health check 30 s.
const TIMEOUT: Duration = Duration::from_secs(3);

/// An answer to a probe has a few hundred bytes.
const LONGEST_ANSWER: u64 = 16 * 1024;

/// The subcommand's name.
const SUBCOMMAND: &str = "health";

/// Asks for readiness instead of life.
const READY: &str = "--ready";

/// What is asked of the running program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// `/livez`: the process runs and answers.
    Live,
    /// `/readyz`: load balancers should send clients.
    Ready,
}

/// Why the program is not healthy; one line for stderr.
#[derive(Debug, Error)]
pub enum HealthError {
    /// Port 0 is another one at each start.
    #[error(
        "health needs to know the management port: set --admin-port to the one that the running program has"
    )]
    AnyPort,
    /// Nothing listens there, or nothing answers in time.
    #[error("no answer from http://{address}{path}: {source}")]
    NoAnswer {
        /// Host and port.
        address: String,
        /// What was asked for.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It answers that it is not.
    #[error("http://{address}{path} answered: {answer}")]
    Unhealthy {
        /// Host and port.
        address: String,
        /// What was asked for.
        path: &'static str,
        /// Its status line and body.
        answer: String,
    },
}

/// Whether the arguments (the program's name first) ask for the subcommand. Its own words are taken from them; the rest are settings.
pub fn take_subcommand(arguments: &mut Vec<OsString>) -> Option<Probe> {
    if arguments.get(1).is_none_or(|word| word != SUBCOMMAND) {
        return None;
    }
    arguments.remove(1);
    let Some(place) = arguments.iter().position(|word| word == READY) else { return Some(Probe::Live) };
    arguments.remove(place);
    Some(Probe::Ready)
}

/// Asks the management listener at `host` and `port`, as the settings name them: where the program listens on all addresses, this asks its
/// own machine. Takes at most 3 s.
///
/// # Errors
/// Anything but an answer with status 200.
pub fn check(host: &str, port: u16, probe: Probe) -> Result<(), HealthError> {
    if port == 0 {
        return Err(HealthError::AnyPort);
    }
    let path = match probe {
        Probe::Live => "/livez",
        Probe::Ready => "/readyz",
    };
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let answer = ask(host, port, &address, path).map_err(|source| HealthError::NoAnswer {
        address: address.clone(),
        path,
        source,
    })?;
    let mut words = answer.split_ascii_whitespace();
    if words.next().is_some_and(|version| version.starts_with("HTTP/1.")) && words.next() == Some("200") {
        return Ok(());
    }
    Err(HealthError::Unhealthy { address, path, answer: one_line(&answer) })
}

fn ask(host: &str, port: u16, address: &str, path: &str) -> io::Result<String> {
    let deadline = Instant::now() + TIMEOUT;
    let remaining = || match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = connect(host, port, &remaining)?;
    stream.set_write_timeout(Some(remaining()?))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut limited = stream.take(LONGEST_ANSWER);
    let mut piece = [0; 1024];
    loop {
        limited.get_ref().set_read_timeout(Some(remaining()?))?;
        match limited.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // How a read's time-out is called differs between systems.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A connection to the first of the host's addresses that takes one.
fn connect(host: &str, port: u16, remaining: &impl Fn() -> io::Result<Duration>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&own_machine(address), remaining()?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// "All addresses" is an address to listen on, and none to connect to.
fn own_machine(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The status line and the body, without what could make a second line of it.
fn one_line(answer: &str) -> String {
    let status = answer.lines().next().unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let text = format!("{status} {body}");
    let printable = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.trim().chars().take(300).map(printable).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers one request, and gives what it was.
    fn serve(answer: &'static str) -> (u16, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // All of it: what is left unread would cut the answer off.
            let mut request = Vec::new();
            let mut piece = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                let length = stream.read(&mut piece).unwrap();
                request.extend_from_slice(&piece[..length]);
                assert!(length > 0, "the request ends early");
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request).into_owned()
        });
        (port, server)
    }

    #[test]
    fn only_status_200_is_healthy() {
        let (port, server) = serve("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        check("0.0.0.0", port, Probe::Live).expect("healthy, asked on the machine's own address");
        assert!(server.join().unwrap().starts_with("GET /livez HTTP/1.1\r\nHost: 0.0.0.0:"));

        let (port, server) =
            serve("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"draining\"}\n\u{1b}[m");
        let error = check("127.0.0.1", port, Probe::Ready).unwrap_err().to_string();
        assert!(
            error.contains("/readyz answered: HTTP/1.1 503 Service Unavailable {\"status\":\"draining\"}")
        );
        assert!(!error.contains('\n') && !error.contains('\u{1b}'), "{error}");
        assert!(server.join().unwrap().starts_with("GET /readyz "));

        let (port, _server) = serve("SSH-2.0-OpenSSH 200\r\n");
        assert!(matches!(check("127.0.0.1", port, Probe::Live), Err(HealthError::Unhealthy { .. })));
    }

    #[test]
    fn silence_is_an_error_in_time() {
        let started = Instant::now();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(matches!(check("127.0.0.1", port, Probe::Live), Err(HealthError::NoAnswer { .. })));
        assert!(started.elapsed() < 3 * TIMEOUT);
        assert!(matches!(check("127.0.0.1", 0, Probe::Live), Err(HealthError::AnyPort)));
    }

    #[test]
    fn its_words_are_no_settings() {
        let arguments = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let mut given = arguments(&["program", "health", "--admin-port", "1", "--ready"]);
        assert_eq!(take_subcommand(&mut given), Some(Probe::Ready));
        assert_eq!(given, arguments(&["program", "--admin-port", "1"]));
        let mut given = arguments(&["program", "health"]);
        assert_eq!(take_subcommand(&mut given), Some(Probe::Live));
        let mut given = arguments(&["program", "--path", "health"]);
        assert_eq!(take_subcommand(&mut given), None);
        assert_eq!(given.len(), 3);
    }
}

//! Where clients connect from: an address has few ports, and a process may have few files open.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

use anyhow::{Context as _, Result, bail};
use mio::net::TcpStream;
use rand::RngExt as _;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

/// Files of a process beside its connections.
const OTHER_FILES: u64 = 32;

/// Below those that the system gives out itself. It could choose one for us, but looks at most of them to find it, which
/// soon costs more than the connection. Below them, tests have servers listen.
const PORTS: Range<u16> = 20_000..32_768;

/// Addresses of 127.0.0.0/8 with their ports, taken in turns.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    addresses: u8,
    /// Of all pairs of a port and an address.
    next: u32,
}

impl Sources {
    /// 127.0.0.1 and those that follow. Where it begins is left to chance, since other processes do the same.
    pub(crate) fn new(addresses: u8) -> Self {
        let addresses = addresses.max(1);
        let first = rand::rng().random_range(0..PORTS.len() as u32);
        Self { addresses, next: first * u32::from(addresses) }
    }

    fn pairs(&self) -> u32 {
        PORTS.len() as u32 * u32::from(self.addresses)
    }

    fn next(&mut self) -> SocketAddr {
        let (port, address) = (self.next / u32::from(self.addresses), self.next % u32::from(self.addresses));
        self.next = (self.next + 1) % self.pairs();
        SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1 + address as u8), PORTS.start + port as u16))
    }

    /// Begins a connection. Only one to this machine can come from a loopback address.
    pub(super) fn connect(&mut self, server: SocketAddr) -> Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))
            .context("cannot open a socket (raise the open files limit, or use more --processes)")?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if matches!(server.ip(), IpAddr::V4(address) if address.is_loopback()) {
            self.bind(&socket)?;
        }
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error)
                .with_context(|| {
                    format!("cannot connect to {server} (raise --sources if no address is left)")
                }),
            _ => Ok(TcpStream::from_std(socket.into())),
        }
    }

    fn bind(&mut self, socket: &Socket) -> Result<()> {
        // A port whose last connection has ended may be taken again at once.
        socket.set_reuse_address(true)?;
        for _ in 0..self.pairs() {
            let source = self.next();
            match socket.bind(&source.into()) {
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                outcome => return outcome.with_context(|| format!("cannot connect from {source}")),
            }
        }
        bail!("no port of {} addresses is free (raise --sources)", self.addresses)
    }
}

/// Takes what open files the process may have, and says so when that is too few.
pub(super) fn raise_open_files(connections: usize) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let needed = connections as u64 + OTHER_FILES;
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < needed) {
        bail!(
            "{connections} connections need {needed} open files, and a process may have {maximum} (use more --processes, or raise the limit: ulimit -Hn)"
        );
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum })
        .with_context(|| format!("cannot raise the open files limit to {needed}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_pair_of_an_address_and_a_port_comes_once_a_turn() {
        let mut sources = Sources::new(3);
        let turn: HashSet<_> = (0..sources.pairs()).map(|_| sources.next()).collect();
        assert_eq!(turn.len(), 3 * PORTS.len());
        assert!(turn.contains(&sources.next()));
        assert!(turn.iter().all(|source| PORTS.contains(&source.port())));
    }
}

//! Where clients connect from: one address has ports for some 28,000 connections to a server, and a process may have
//! few files open.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use mio::net::TcpStream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Files of a process beside its connections.
const OTHER_FILES: u64 = 32;

/// Addresses of 127.0.0.0/8, taken in turns.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    count: u8,
    next: u8,
}

impl Sources {
    /// 127.0.0.1 and those that follow.
    pub(crate) fn new(count: u8) -> Self {
        Self { count: count.max(1), next: 0 }
    }

    /// Begins a connection. Only one to this machine can come from a loopback address.
    pub(super) fn connect(&mut self, server: SocketAddr) -> Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))
            .context("cannot open a socket (raise the open files limit, or use more --processes)")?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if matches!(server.ip(), IpAddr::V4(address) if address.is_loopback()) {
            let address = Ipv4Addr::new(127, 0, 0, 1 + self.next);
            self.next = (self.next + 1) % self.count;
            // A port in TIME_WAIT may be taken again.
            socket.set_reuse_address(true)?;
            socket
                .bind(&SockAddr::from(SocketAddr::from((address, 0))))
                .with_context(|| format!("no port of {address} is free (raise --sources)"))?;
        }
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                Err(error).with_context(|| format!("cannot connect to {server}"))
            }
            _ => Ok(TcpStream::from_std(socket.into())),
        }
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

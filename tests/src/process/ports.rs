//! Addresses that nobody listens on.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Finds `count` different free addresses on 127.0.0.1.
///
/// All are held until the last is found, so they differ from each other. Somebody else on the machine may still take one
/// before it is used, which the process that wanted it then says.
///
/// # Errors
///
/// When the machine has no ports left.
pub fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let listeners: io::Result<Vec<_>> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect();
    listeners?.iter().map(TcpListener::local_addr).collect()
}

//! Calls of our own to an endpoint of the platform, as they are told to whoever records them.

use std::net::SocketAddr;
use std::time::Duration;

use super::KeysError;

/// A call that is about to be made. There is no path (a container's names its keys), and no field of a head.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub address: SocketAddr,
    pub method: &'a str,
}

/// What came of it, as far as it came.
#[derive(Debug, Default)]
pub struct Seen {
    /// Of the answer; 0 where there was none.
    pub status: u16,
    /// Of the answer's body.
    pub bytes: u64,
    /// From the request's first byte to the answer's last.
    pub waited: Duration,
    /// The endpoint took the connection.
    pub connected: bool,
}

/// Makes the call once, and says what it saw.
pub type Make<'m> = &'m mut dyn FnMut(&mut Seen) -> Result<(), KeysError>;

/// Where our own calls are recorded.
pub trait Ledger: Send + Sync {
    /// Records that the call is about to be made, makes it, and records what came of it. Where the first can't be
    /// recorded it is not made.
    fn record(&self, call: Call<'_>, make: Make<'_>) -> Result<(), KeysError>;
}

/// For those that ask no endpoint, and tests.
#[cfg(test)]
pub struct Nowhere;

#[cfg(test)]
impl Ledger for Nowhere {
    fn record(&self, _: Call<'_>, make: Make<'_>) -> Result<(), KeysError> {
        make(&mut Seen::default())
    }
}

//! Accepts: each worker takes from the same socket, serves on its own thread, and stops when told to drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Worker;
use super::connection;

/// Between two sweeps of idle origin connections.
const SWEEP: Duration = Duration::from_secs(15);
/// After an accept that failed for want of descriptors: the next would fail too.
const SHORTAGE: Duration = Duration::from_millis(50);
/// A shortage lasts; it is told of so often.
const SHORTAGE_TOLD: Duration = Duration::from_secs(10);
/// Connections turned away that are still being told so. More than these are just closed.
const TURNED_AWAY: usize = 64;

/// Takes the address, and lets nobody in yet.
pub fn bind(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Opens the door; clones of the socket are shared by the workers.
pub fn open(socket: socket2::Socket) -> io::Result<std::net::TcpListener> {
    socket.listen(1024)?;
    Ok(socket.into())
}

/// Accepts until told to drain, then waits for what is under way, at most for `grace`.
pub async fn run(worker: Worker, listener: std::net::TcpListener, grace: Duration) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut draining = worker.draining.clone();
    let mut connections = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP);
    let turned_away = Arc::new(Semaphore::new(TURNED_AWAY));
    let mut told: Option<Instant> = None;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    connections.spawn(serve(worker.clone(), socket, peer, Arc::clone(&turned_away)));
                }
                Err(error) => {
                    worker.recorder.metrics().accept_failures.inc();
                    if told.is_none_or(|told| told.elapsed() > SHORTAGE_TOLD) {
                        told = Some(Instant::now());
                        tracing::warn!(%error, "accept failed");
                    }
                    tokio::time::sleep(SHORTAGE).await;
                }
            },
            // Finished tasks are collected as they end; a panic costs its connection and nothing else.
            Some(ended) = connections.join_next() => if let Err(error) = ended && error.is_panic() {
                tracing::error!(%error, "a connection's task panicked");
            },
            _ = sweep.tick() => {
                worker.pool.sweep();
                worker.streams.sweep();
            }
            () = super::drained(&mut draining) => break,
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, drained).await.is_err() {
        tracing::warn!(open = connections.len(), "drain time is over; connections are cut");
    }
    Ok(())
}

/// Serves a connection if there is a place for it.
async fn serve(worker: Worker, socket: TcpStream, peer: SocketAddr, turned_away: Arc<Semaphore>) {
    match worker.shared.gate.enter(peer) {
        Ok(_place) => connection::serve(worker, socket, peer).await,
        Err(full) => {
            let telling = turned_away.try_acquire();
            connection::turn_away(&worker, socket, peer, full, telling.is_ok()).await;
        }
    }
}

//! Both ways of moving bytes keep the same promises.

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// Never by the kernel, as soon as something has passed, and as it is.
const WAYS: [usize; 3] = [usize::MAX, 1, BULK];

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

/// One way between two sockets: its sender, its receiver, and what becomes of it.
async fn one_way(bulk: usize, most: u64) -> (TcpStream, TcpStream, JoinHandle<(Result<(), Cut>, u64)>) {
    let (sender, mut from) = pair().await;
    let (mut to, receiver) = pair().await;
    let carried = tokio::spawn(async move {
        let passed = Passed::default();
        let ended =
            pump(from.split().0, to.split().1, Meter { mine: &passed.up, passed: &passed, most }, bulk).await;
        (ended, passed.total())
    });
    (sender, receiver, carried)
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[tokio::test]
async fn every_byte_arrives_in_its_order_and_a_half_close_goes_on() {
    for bulk in WAYS {
        let (mut sender, mut receiver, carried) = one_way(bulk, u64::MAX).await;
        let sent = noise(3_000_001);
        let (pieces, mut got) = (sent.clone(), Vec::new());
        let sending = tokio::spawn(async move {
            // Small pieces and large ones in turn.
            for piece in pieces[..200_000].chunks(777).chain(pieces[200_000..].chunks(400_000)) {
                sender.write_all(piece).await.unwrap();
            }
            sender.shutdown().await.unwrap();
            sender
        });
        receiver.read_to_end(&mut got).await.unwrap();
        assert!(got == sent, "{bulk}: {} of {} bytes", got.len(), sent.len());
        let (ended, counted) = carried.await.unwrap();
        assert_eq!((ended.is_ok(), counted), (true, sent.len() as u64), "{bulk}");
        drop(sending.await.unwrap());
        // A pipe that this thread keeps shows which way they went.
        #[cfg(target_os = "linux")]
        assert_eq!(pipe::kept(), usize::from(bulk < usize::MAX), "{bulk}");
    }
}

#[tokio::test]
async fn the_cap_is_met_to_the_byte() {
    const MOST: usize = 1_000_003;
    for bulk in WAYS {
        for (sent, over) in [(MOST, false), (MOST + 1, true), (3 * MOST, true)] {
            let (mut sender, mut receiver, carried) = one_way(bulk, MOST as u64).await;
            let sending = tokio::spawn(async move {
                let _ = sender.write_all(&noise(sent)).await;
                let _ = sender.shutdown().await;
                sender
            });
            let mut got = Vec::new();
            receiver.read_to_end(&mut got).await.unwrap();
            assert!(got == noise(MOST), "{bulk}: {sent}: {}", got.len());
            let (ended, counted) = carried.await.unwrap();
            assert_eq!((matches!(ended, Err(Cut::Cap)), counted), (over, MOST as u64), "{bulk}: {sent}");
            drop(sending.await);
        }
    }
}

#[tokio::test]
async fn a_reset_ends_the_way_and_leaves_nothing_behind() {
    for bulk in WAYS {
        // By the receiver, with bytes under way.
        let (mut sender, mut receiver, carried) = one_way(bulk, u64::MAX).await;
        socket2::SockRef::from(&receiver).set_linger(Some(Duration::ZERO)).unwrap();
        let sending = tokio::spawn(async move { while sender.write_all(&[1; 100_000]).await.is_ok() {} });
        let mut piece = [0; 1000];
        assert!(receiver.read(&mut piece).await.unwrap() > 0);
        drop(receiver);
        assert!(matches!(carried.await.unwrap().0, Err(Cut::Lost)), "{bulk}");
        sending.await.unwrap();
        // By the sender.
        let (mut sender, mut receiver, carried) = one_way(bulk, u64::MAX).await;
        sender.write_all(&[1; 100]).await.unwrap();
        receiver.read_exact(&mut [0; 100]).await.unwrap();
        socket2::SockRef::from(&sender).set_linger(Some(Duration::ZERO)).unwrap();
        drop(sender);
        assert!(matches!(carried.await.unwrap().0, Err(Cut::Lost)), "{bulk}");
        assert_eq!(receiver.read(&mut piece).await.unwrap(), 0);
    }
}

/// A receiver that takes nothing holds its sender back: what is under way is bounded, and none of it is lost.
#[tokio::test]
async fn a_slow_receiver_holds_the_sender_back() {
    for bulk in WAYS {
        let (mut sender, mut receiver, carried) = one_way(bulk, u64::MAX).await;
        let filled = tokio::spawn(async move {
            let mut sent = 0_usize;
            // Ends when the sockets and what is between them are full.
            while tokio::time::timeout(Duration::from_millis(300), sender.writable()).await.is_ok() {
                sent += sender.try_write(&[7; 65_536]).unwrap_or(0);
                assert!(sent < 200_000_000, "{bulk}: nothing holds it back");
            }
            sender.shutdown().await.unwrap();
            sent
        });
        let sent = filled.await.unwrap();
        let mut got = Vec::new();
        receiver.read_to_end(&mut got).await.unwrap();
        assert_eq!((got.len(), carried.await.unwrap().1), (sent, sent as u64), "{bulk}");
    }
}

//! A server's first bytes: no bytes panic, how they were cut never changes what is read, and both readers agree on the
//! floor. So for what a TLS 1.2 server shows behind its hello.
#![no_main]

use exeat_fuzz::engine::hello::server::{Answer, ServerFirst, first, read};
use exeat_fuzz::engine::hello::{FLOOR, flight};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    match whole {
        Answer::NeedMore { at_least } => assert!(at_least > bytes.len()),
        Answer::Hello(hello) => {
            assert_eq!(hello.below_floor(), hello.version < FLOOR);
            // Eleven bytes in one record tell the legacy version; only `supported_versions` may say another.
            if let ServerFirst::Chose(legacy) = first(bytes) {
                assert!(hello.version == legacy || bytes.len() > 47);
            }
        }
        Answer::Sslv2 => assert!(bytes[0] >= 0x80),
        _ => {}
    }
    let step = (bytes.len() / 16).max(1);
    for cut in (0..bytes.len()).step_by(step) {
        let part = read(&bytes[..cut]);
        assert!(
            matches!(part, Answer::NeedMore { .. }) || part == whole,
            "{cut}: {part:?}, whole: {whole:?}"
        );
        if let Some(flight) = flight::read(&bytes[..cut]) {
            assert_eq!(flight::read(bytes), Some(flight), "{cut}");
        }
    }
});

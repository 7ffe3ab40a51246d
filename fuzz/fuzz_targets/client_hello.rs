//! A client's first bytes: no bytes panic, and how they were cut never changes what is read.
#![no_main]

use exeat_fuzz::engine::hello::{Hello, MAX_HELLO, after_ccs, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    match &whole {
        Hello::NeedMore { at_least } => {
            // What is still asked for is bounded, whatever the records wasted on the way.
            assert!(
                *at_least > bytes.len() && at_least - bytes.len() <= MAX_HELLO,
                "{at_least} of {}",
                bytes.len()
            );
        }
        Hello::Client(hello) => {
            assert_eq!(hello.below_floor(), hello.max_version < 0x0303);
        }
        _ => {}
    }
    // Each prefix is undecided or decides the same.
    let step = (bytes.len() / 16).max(1);
    for cut in (0..bytes.len()).step_by(step) {
        let part = read(&bytes[..cut]);
        assert!(matches!(part, Hello::NeedMore { .. }) || part == whole, "{cut}: {part:?}, whole: {whole:?}");
    }
    assert!(bytes.ends_with(after_ccs(bytes)));
});

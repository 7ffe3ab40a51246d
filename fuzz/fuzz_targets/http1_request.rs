//! A client's bytes as a request: head, framing and body, and what goes on of them.
#![no_main]

use exeat_fuzz::law;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    law::request(bytes);
});

//! Any bytes in front of a connection: a header of the PROXY protocol, or none, and never more of them than a header may have.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../node/src/edge/proxy_protocol.rs"]
mod proxy_protocol;

use proxy_protocol::{Step, parse};

const MAX_HEADER: usize = 16 + 4096;

fuzz_target!(|bytes: &[u8]| {
    let mut len = 0;
    loop {
        match parse(&bytes[..len]) {
            Ok(Step::Read(more)) => {
                assert!(more > 0 && len + more <= MAX_HEADER);
                len += more;
                if len > bytes.len() {
                    return;
                }
            }
            Ok(Step::Done(_)) => return,
            Err(_) => return,
        }
    }
});

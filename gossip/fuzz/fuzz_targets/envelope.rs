//! Transactions from a peer: any bytes. What decodes says the same when it is encoded again.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run envelope` in `gossip/`.
#![no_main]

use gossip::{Envelope, Received};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(received) = Received::decode(data.into()) {
        assert_eq!(received.bytes.as_ref(), data);
        let again = received.envelope.encode();
        // Indefinite lengths and long integers may shrink; nothing may grow past the limit unseen.
        assert_eq!(Envelope::decode(&again), Ok(received.envelope));
    }
});

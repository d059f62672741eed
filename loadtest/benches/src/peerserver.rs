//! PeerServer messages: what comes is read, and relayed with its true sender.

use std::hint::black_box;

use signalbox_peerserver::message::{Incoming, read};

use crate::{Case, counted::count};

pub(crate) const CASES: &[Case] = &[
    ("peerserver: read a heartbeat", || count(|| br#"{"type":"HEARTBEAT"}"#.to_vec(), |json| relay(json))),
    ("peerserver: relay an OFFER of 2 KiB", || count(offer, |json| relay(json))),
    ("peerserver: relay a CANDIDATE", || count(candidate, |json| relay(json))),
];

const SENDER: &str = "2f1c9d0e-5b7a-4c3e-9a51-6f0de1b8c274";
const ADDRESSEE: &str = "b87a4f60-0c1d-4f0e-8f5e-93d2a7c6e115";

fn relay(json: &[u8]) {
    match read(json) {
        Incoming::Relay(relay) => {
            black_box(relay.frame(SENDER));
        }
        other => {
            black_box(other);
        }
    }
}

/// A session description as browsers make it: lines, each ended by an escaped CR and LF.
fn offer() -> Vec<u8> {
    let line = r"a=rtpmap:111 opus/48000/2\r\n";
    let sdp = line.repeat(2048 / line.len());
    let payload = format!(
        r#"{{"sdp":{{"type":"offer","sdp":"{sdp}"}},"type":"data","connectionId":"dc_x1","label":"dc_x1","reliable":false,"serialization":"binary"}}"#
    );
    format!(r#"{{"type":"OFFER","payload":{payload},"dst":"{ADDRESSEE}"}}"#).into_bytes()
}

fn candidate() -> Vec<u8> {
    let candidate = "candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr 0.0.0.0 rport 0 generation 0 ufrag EEtu network-cost 999";
    let payload = format!(
        r#"{{"candidate":{{"candidate":"{candidate}","sdpMLineIndex":0,"sdpMid":"0"}},"type":"data","connectionId":"dc_x1"}}"#
    );
    format!(r#"{{"type":"CANDIDATE","payload":{payload},"dst":"{ADDRESSEE}"}}"#).into_bytes()
}

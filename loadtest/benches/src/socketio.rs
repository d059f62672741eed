//! Socket.IO packets: what comes is checked and split, what goes is written once.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::Bytes;
use signalbox_socketio::{Connection, Message};

use crate::{Case, counted::count};

pub(crate) const CASES: &[Case] = &[
    ("socketio: read an event with 64 bytes of data", read_event),
    ("socketio: read an event with an attachment", read_binary_event),
    ("socketio: write an event with 64 bytes of data", write_event),
    ("socketio: write an event with an attachment", write_binary_event),
    ("socketio: write an ack", write_ack),
];

/// A connection in the namespace `/`.
fn connection() -> Connection<()> {
    let mut connection = Connection::new(Instant::now(), Duration::from_secs(45));
    connection.join("/".into(), ());
    connection
}

fn data() -> String {
    format!("\"{}\"", "x".repeat(62))
}

fn read_event() {
    let mut connection = connection();
    let text = || format!("2[\"message\",\"room-17\",{}]", data());
    count(text, |text| {
        let _ = black_box(connection.receive_text(text));
    });
}

fn read_binary_event() {
    let mut connection = connection();
    let text = "51-[\"message\",\"room-17\",{\"_placeholder\":true,\"num\":0}]";
    let attachment = Bytes::from(vec![0xA5; 64]);
    count(
        || attachment.clone(),
        |attachment| {
            let _ = black_box(connection.receive_text(text));
            if let Ok(Some(packet)) = connection.receive_attachment(attachment.clone()) {
                let _ = black_box(connection.interpret_binary(&packet));
            }
        },
    );
}

/// What stands behind the data of a `message`.
const FROM: &str = ",{\"room\":\"room-17\",\"from\":\"PfLHjB5WaeYYwhKJAAAB\"}";

fn write_event() {
    count(data, |data| {
        black_box(Message::event("/", None, "message", &[data, FROM], &[]));
    });
}

fn write_binary_event() {
    let attachment = [Bytes::from(vec![0xA5; 64])];
    count(
        || "{\"_placeholder\":true,\"num\":0}",
        |data| {
            black_box(Message::event("/", None, "message", &[data, FROM], &attachment));
        },
    );
}

fn write_ack() {
    count(
        || 17,
        |id| {
            black_box(Message::ack("/", *id, &["{\"ok\":true}"], &[]));
        },
    );
}
